// Keeps the page as it is now: the server says when something changed, and the parts marked data-live are taken from the page anew. Without it every
// page works, too, and loads itself again.
"use strict";

(() => {
  const phases = {
    recover: "settling what the last run left", scan: "reading the source", look: "looking at the target", read: "reading the target",
    "delete-evidence": "making sure of deletes", send: "sending", describe: "describing changes", close: "closing",
  };
  const number = new Intl.NumberFormat("en");

  // Times are written in the zone of whoever reads them.
  function localTimes(root) {
    const today = new Date().toDateString();
    for (const t of root.querySelectorAll("time[datetime]")) {
      const at = new Date(t.dateTime);
      const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
      if ("seconds" in t.dataset) {
        t.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
      } else t.textContent = at.toDateString() === today ? clock : at.toLocaleDateString([], { month: "short", day: "numeric" }) + ", " + clock;
      t.title = at.toLocaleString() + " (" + at.toISOString() + ")";
    }
  }

  // The parts of the page that change, as the server shows them now.
  let loading = false, again = false;
  async function renew() {
    if (loading) { again = true; return; }
    loading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) { location.reload(); return; } // the session has ended
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const now of page.querySelectorAll("[data-live]")) {
        const shown = document.getElementById(now.id);
        localTimes(now);
        if (!shown || shown.innerHTML === now.innerHTML) continue;
        const focused = shown.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        shown.replaceChildren(...now.childNodes);
        if (focused) shown.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
      }
      if (latest) showProgress(latest);
    } catch { /* the server is away; its next event comes when it is back */ } finally {
      loading = false;
      if (again) { again = false; setTimeout(renew, 1000); }
    }
  }

  // How far a run is, how fast it goes, and how long that takes: the server has reckoned it.
  let latest = null;
  function showProgress(run) {
    latest = run;
    const part = (name) => document.querySelector(`[data-progress="${name}"]`);
    const say = (name, text) => { const e = part(name); if (e) e.textContent = text; };
    const bar = part("bar"), p = run.progress;
    if (!bar || !p) return;
    say("phase", phases[p.phase] || p.phase);
    say("resource", (p.resource || "").replace(/^ed-fi\//, ""));
    say("done", p.done ? number.format(p.done) : "");
    say("total", p.total ? " of " + number.format(p.total) : "");
    if (p.total) bar.value = Math.min(100, 100 * p.done / p.total); else bar.removeAttribute("value");
    say("rate", p.rate > 0 ? (p.rate < 10 ? p.rate.toFixed(1) : number.format(Math.round(p.rate))) + "/s" : "not known yet");
    say("left", p.secondsLeft === undefined ? "unknown" : lasts(p.secondsLeft));
    say("why", p.total ? "" : "How long it takes is known once the source is read and the plan is made.");
  }
  function lasts(seconds) {
    if (seconds < 120) return seconds + " s";
    if (seconds < 7200) return Math.ceil(seconds / 60) + " min";
    return Math.floor(seconds / 3600) + " h " + Math.floor(seconds % 3600 / 60) + " min";
  }

  function listen(address) {
    const source = new EventSource(address), one = address.includes("/runs/");
    let shown = 0;
    source.addEventListener("run", (e) => {
      const run = JSON.parse(e.data);
      if (one) showProgress(run);
      const now = Date.now();
      if (!one || now - shown > 2000 || run.state !== latest?.state) { shown = now; renew(); }
    });
    source.addEventListener("end", () => { source.close(); renew(); });
  }

  localTimes(document);
  if (document.body.dataset.events) listen(document.body.dataset.events);
  if (document.body.dataset.renew) setInterval(renew, document.body.dataset.renew * 1000);
})();
