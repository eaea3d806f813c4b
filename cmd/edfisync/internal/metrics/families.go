package metrics

// Where a figure comes from.
const (
	// OfProcess: what this process did or does. Processes are added up.
	OfProcess = "process"
	// OfFleet: what the ledger says. Every process shows the same; take the greatest of them, and do not add them up.
	OfFleet = "fleet"
)

// Family is one metric: everything that is exposed is in Families, and docs/operations.md has the same table.
type Family struct {
	Name   string
	Type   string // counter, gauge, histogram
	Labels []string
	Where  string
	Help   string
}

// The labels. All are bounded by the configuration or by the program: none is an id, a key, or a name of a person (I14).
const (
	tenant     = "tenant"
	connection = "connection"
	resource   = "resource"
	outcome    = "outcome"
	method     = "method"
	status     = "status"
	code       = "code"
	route      = "route"
	receiver   = "receiver"
	condition  = "condition"
)

// Families lists the metrics in the order of the documentation.
func Families() []Family {
	conn := []string{tenant, connection}
	with := func(labels ...string) []string { return append([]string{tenant, connection}, labels...) }
	return []Family{
		{"edfisync_build_info", "gauge", []string{"version", "commit", "go_version"}, OfProcess, "Always 1; the labels say which program this is."},
		{"edfisync_workers", "gauge", nil, OfProcess, "Runs this process does at once at most."},
		{"edfisync_runs_in_progress", "gauge", nil, OfProcess, "Runs this process does now."},
		{"edfisync_runs_total", "counter", with(outcome), OfProcess, "Runs that ended: ok, problems (done, but records were left out), held (a safeguard held something), failed, canceled."},
		{"edfisync_run_duration_seconds", "histogram", conn, OfProcess, "How long runs took that were not cut short."},
		{"edfisync_rows_scanned_total", "counter", with(resource), OfProcess, "Rows read from the source."},
		{"edfisync_records_total", "counter", with(resource, outcome), OfProcess,
			"Outcomes of records: unchanged, created, updated, rekeyed, deleted, invalid, blocked, held, rejected, failed."},
		{"edfisync_lease_takeovers_total", "counter", conn, OfProcess, "Runs this process asked for to go on for a process that died."},
		{"edfisync_target_request_duration_seconds", "histogram", with(method, status), OfProcess,
			"Requests to the target by method and class of the answer: 2xx, 3xx, 4xx, 5xx, none. Tokens are not among them."},
		{"edfisync_target_requests_in_flight", "gauge", conn, OfProcess, "Requests to the target that wait for their answer."},
		{"edfisync_target_concurrency_limit", "gauge", conn, OfProcess, "How many requests may be in flight now: it follows what the target stands."},
		{"edfisync_target_retries_total", "counter", conn, OfProcess, "Requests that repeated one that failed."},
		{"edfisync_target_throttled_total", "counter", conn, OfProcess, "Answers 429: the target wants fewer requests."},
		{"edfisync_token_requests_total", "counter", with(outcome), OfProcess, "Requests for a token: ok, refused (wrong credentials), failed."},
		{"edfisync_http_requests_total", "counter", []string{route, code}, OfProcess, "Requests to this process by route and status; route other is for paths that are not there."},
		{"edfisync_http_request_duration_seconds", "histogram", []string{route}, OfProcess, "How long answers took. Streams of events are not among them."},
		{"edfisync_audit_failures_total", "counter", nil, OfProcess, "Acts that did not happen because their row in the audit trail could not be written."},
		{"edfisync_configuration_wrong", "gauge", nil, OfProcess, "1 while the configuration of this process is wrong and the last good one is in force."},
		{"edfisync_alert_deliveries_total", "counter", []string{receiver, outcome}, OfProcess, "Attempts to deliver a notice to a webhook or by mail: sent, failed (it is tried again), given-up."},
		{"edfisync_ledger_up", "gauge", nil, OfProcess, "1 when the ledger answered this scrape in time. When it is 0 the metrics of the fleet are missing."},
		{"edfisync_ledger_read_seconds", "gauge", nil, OfProcess, "How long the ledger took to tell the metrics of the fleet; they are kept for some seconds."},
		{"edfisync_runs_waiting", "gauge", conn, OfFleet, "1 while a run waits to be done."},
		{"edfisync_run_waiting_seconds", "gauge", conn, OfFleet, "How long the run that waits has waited; a paused connection's run waits too."},
		{"edfisync_runs_running", "gauge", conn, OfFleet, "1 while a run is under way in any process."},
		{"edfisync_last_run_failed", "gauge", conn, OfFleet, "1 when the newest run that ended has failed."},
		{"edfisync_fresh_as_of_timestamp_seconds", "gauge", conn, OfFleet, "When the last run that was done began: the target is as the source was then, but for issues and holds."},
		{"edfisync_resource_confirmed_timestamp_seconds", "gauge", with(resource), OfFleet,
			"When the last run began in which the resource was confirmed. time() minus it is how many seconds ago that was."},
		{"edfisync_issues_open", "gauge", with(code), OfFleet, "Causes that keep records out of the target, by issue code."},
		{"edfisync_holds_open", "gauge", conn, OfFleet, "Holds of safeguards that wait for a decision."},
		{"edfisync_alerts_firing", "gauge", with(condition), OfFleet, "1 while the alert fires, 0 when it has recovered; those that never fired are left out."},
		{"edfisync_connection_paused", "gauge", conn, OfFleet, "1 while the connection is paused."},
		{"edfisync_target_alarm", "gauge", conn, OfFleet, "1 while everything is held because the target was wiped or restored."},
	}
}
