"""Two ways to have Airflow sync a connection of edfisync every night. Keep one of them.

1. sync_with_the_command runs the program itself: the worker needs the binary and the configuration.
2. sync_with_the_service asks `edfisync serve` for a run over its API and follows it: the worker needs an address and a key of role operator, in the
   Airflow variables EDFISYNC_URL and EDFISYNC_KEY. The standard library is enough.

Exit codes of the command: 0 done, 1 failed (try again, it goes on where it stopped), 2 wrong configuration, 3 done but some records were held,
4 a safeguard waits for a person. 3 and 4 are not failures of the sync: they are reported and not tried again.
"""

import json
import subprocess
import time
import urllib.request
from datetime import datetime, timedelta

from airflow.decorators import dag, task
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.models import Variable

CONNECTION = "lincoln"
CONFIG = "/etc/edfisync/edfisync.yaml"
NEEDS_PEOPLE = {3: "some records were held: edfisync issues", 4: "a safeguard held something: edfisync holds"}


@task(retries=3, retry_delay=timedelta(minutes=10))
def sync_with_the_command() -> dict:
    done = subprocess.run(
        ["edfisync", "run", "--config", CONFIG, "--connection", CONNECTION, "--wait", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        raise AirflowFailException("wrong usage or configuration: edfisync check says what")
    if done.returncode not in (0, 3, 4):
        raise AirflowException(f"the run failed (exit code {done.returncode}); the next try goes on where it stopped")
    summary = json.loads(done.stdout)
    return {
        "created": summary["created"],
        "updated": summary["updated"],
        "deleted": summary["deleted"],
        "attention": NEEDS_PEOPLE.get(done.returncode, ""),
    }


def call(method: str, path: str, headers: dict | None = None) -> dict:
    request = urllib.request.Request(
        Variable.get("EDFISYNC_URL") + path,
        method=method,
        headers={"Authorization": "Bearer " + Variable.get("EDFISYNC_KEY"), **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@task(retries=3, retry_delay=timedelta(minutes=10))
def sync_with_the_service(run_id: str | None = None) -> dict:
    # The key makes a try that got no answer safe to repeat: it gets the same run.
    asked = call("POST", f"/api/v1/connections/{CONNECTION}/runs", {"Idempotency-Key": f"airflow {run_id}"})
    path = f"/api/v1/runs/{asked['run']['id']}"
    while True:
        run = call("GET", path)
        if run["state"] == "done":
            return run.get("totals", {})
        if run["state"] in ("failed", "canceled"):
            raise AirflowException(f"run {run['id']} is {run['state']}: {run.get('error', '')}")
        time.sleep(15)


@dag(schedule="0 2 * * *", start_date=datetime(2026, 8, 1), catchup=False, max_active_runs=1, tags=["edfisync"])
def edfisync_nightly():
    sync_with_the_command()


edfisync_nightly()
