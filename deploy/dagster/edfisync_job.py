"""A Dagster job that syncs a connection of edfisync every night over the API of `edfisync serve`, and an op that runs the program itself instead.

EDFISYNC_URL and EDFISYNC_KEY (a key of role operator) come from the environment. The standard library is enough.
"""

import json
import os
import subprocess
import time
import urllib.request

from dagster import Definitions, Failure, OpExecutionContext, RetryPolicy, ScheduleDefinition, job, op

CONNECTION = "lincoln"
CONFIG = "/etc/edfisync/edfisync.yaml"


def call(method: str, path: str, headers: dict | None = None) -> dict:
    request = urllib.request.Request(
        os.environ["EDFISYNC_URL"] + path,
        method=method,
        headers={"Authorization": "Bearer " + os.environ["EDFISYNC_KEY"], **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@op(retry_policy=RetryPolicy(max_retries=3, delay=600))
def sync_with_the_service(context: OpExecutionContext) -> None:
    # The key makes a try that got no answer safe to repeat: it gets the same run.
    asked = call("POST", f"/api/v1/connections/{CONNECTION}/runs", {"Idempotency-Key": f"dagster {context.run_id}"})
    while True:
        run = call("GET", f"/api/v1/runs/{asked['run']['id']}")
        if run["state"] == "done":
            context.add_output_metadata({name: n for name, n in run.get("totals", {}).items() if n})
            return
        if run["state"] in ("failed", "canceled"):
            raise Failure(f"run {run['id']} is {run['state']}: {run.get('error', '')}")
        time.sleep(15)


@op(retry_policy=RetryPolicy(max_retries=3, delay=600))
def sync_with_the_command(context: OpExecutionContext) -> None:
    done = subprocess.run(
        ["edfisync", "run", "--config", CONFIG, "--connection", CONNECTION, "--wait", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        raise Failure("wrong usage or configuration: edfisync check says what", allow_retries=False)
    if done.returncode not in (0, 3, 4):  # 3: some records were held, 4: a safeguard waits for a person
        raise Failure(f"the run failed (exit code {done.returncode}); the next try goes on where it stopped")
    summary = json.loads(done.stdout)
    context.log.info("created %(created)d, updated %(updated)d, deleted %(deleted)d, held %(held)d", summary)


@job
def edfisync_nightly():
    sync_with_the_service()


defs = Definitions(
    jobs=[edfisync_nightly],
    schedules=[ScheduleDefinition(job=edfisync_nightly, cron_schedule="0 2 * * *", execution_timezone="America/Chicago")],
)
