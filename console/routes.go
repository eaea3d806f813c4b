package console

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
)

// routes registers everything there is. What each role may do is here and nowhere else.
func (s *Console) routes() {
	var (
		reads    = httpd.Rule{Least: httpd.Viewer}
		steers   = httpd.Rule{Least: httpd.Operator}
		asks     = httpd.Rule{Least: httpd.Operator, Unlimited: true} // requests coalesce: a thousand at once make one run (F60)
		decides  = httpd.Rule{Least: httpd.Approver}
		admins   = httpd.Rule{Least: httpd.Admin}
		audits   = httpd.Rule{Least: httpd.Admin, Auditor: true}
		verifies = httpd.Rule{Least: httpd.Admin, Auditor: true, EveryTenant: true} // the chain is one, of all tenants
		listens  = httpd.Rule{Least: httpd.Viewer, Stream: true}
		health   = httpd.Rule{Public: true, Anywhere: true}
		measures = httpd.Rule{Least: httpd.Viewer, EveryTenant: true} // figures of all tenants
	)
	register(s, reads, get("/connections", "listConnections", "connections", "List connections: state, freshness, last run, pause, next scheduled run"), s.listConnections)
	register(s, reads, get("/connections/{connection}", "showConnection", "connections", "Show a connection"), s.showConnection)
	register(s, steers, post("/connections/{connection}/pause", "pauseConnection", "connections", "Start no run until it is resumed; one under way goes on", http.StatusOK), s.pause)
	register(s, steers, post("/connections/{connection}/resume", "resumeConnection", "connections", "End a pause", http.StatusOK), s.resume)

	s.definitionRoutes(reads, steers, admins)

	register(s, asks, post("/connections/{connection}/runs", "askRun", "runs", "Ask for a run: sync now", http.StatusAccepted), s.ask)
	register(s, reads, get("/runs", "listRuns", "runs", "List runs, the newest first"), s.listRuns)
	register(s, reads, get("/runs/{id}", "showRun", "runs", "Show a run, with how far it is"), s.showRun)
	register(s, reads, get("/runs/{id}/steps", "listSteps", "runs", "List the steps of a run in load order"), s.listSteps)
	register(s, steers, post("/runs/{id}/cancel", "cancelRun", "runs", "End a run that waits or runs; what it did stays, and the next run goes on from there", http.StatusAccepted), s.cancel)
	register(s, reads, get("/runs/{id}/receipt", "showReceipt", "receipts", "Show the signed statement of a run"), s.showReceipt)
	register(s, reads, get("/connections/{connection}/receipts", "listReceipts", "receipts", "List the signed statements of runs, the newest first"), s.listReceipts)

	register(s, reads, get("/connections/{connection}/issues", "listIssues", "issues", "List what keeps records out of the target, by cause"), s.listIssues)
	register(s, reads, get("/issues/{id}", "showIssue", "issues", "Show an issue, without its rows"), s.showIssue)

	register(s, reads, get("/connections/{connection}/holds", "listHolds", "holds", "List what safeguards hold back and what was undone, the newest first"), s.listHolds)
	register(s, reads, get("/holds/{id}", "showHold", "holds", "Show a hold"), s.showHold)
	register(s, decides, post("/holds/{id}/approve", "approveHold", "holds", "Let the next run make exactly these calls", http.StatusOK), s.approve)
	register(s, decides, post("/holds/{id}/discard", "discardHold", "holds", "Have no run make these calls", http.StatusOK), s.discard)
	register(s, decides, post("/holds/{id}/reopen", "reopenHold", "holds", "Take a decision back: the next run asks again", http.StatusOK), s.reopen)
	register(s, reads, get("/connections/{connection}/plans", "listPlans", "holds", "List saved plans, the newest first"), s.listPlans)
	register(s, reads, get("/plans/{id}", "showPlan", "holds", "Show a saved plan"), s.showPlan)

	register(s, reads, get("/alerts", "listAlerts", "alerts", "List what is wrong with connections, and what was"), s.listAlerts)
	register(s, reads, get("/alerts/mutes", "listMutes", "alerts", "List what nobody is told of, the newest first"), s.listMutes)
	register(s, steers, post("/alerts/mutes", "muteAlerts", "alerts", "Tell nobody of alerts for a while", http.StatusCreated), s.mute)
	register(s, steers, huma.Operation{
		Method: http.MethodDelete, Path: "/alerts/mutes/{id}", OperationID: "unmuteAlerts", Tags: []string{"alerts"}, Summary: "End a mute",
	}, s.unmute)
	if s.c.TryReceivers != nil {
		everyTenant := httpd.Rule{Least: httpd.Admin, EveryTenant: true} // receivers are of all of them
		register(s, everyTenant, post("/alerts/test", "testAlerts", "alerts", "Send every receiver a test notice", http.StatusOK), s.testAlerts)
	}

	register(s, audits, get("/audit", "listAudit", "audit", "List what people and programs did, the newest first"), s.listAudit)
	register(s, verifies, get("/audit/verify", "verifyAudit", "audit", "Check that no row of the audit trail was changed, dropped, moved or cut off"), s.verifyAudit)

	register(s, admins, get("/keys", "listKeys", "keys", "List keys, revoked ones too"), s.listKeys)
	register(s, admins, post("/keys", "createKey", "keys", "Make a key, and show it this once", http.StatusCreated), s.createKey)
	register(s, admins, get("/keys/{id}", "showKey", "keys", "Show a key, without its secret"), s.showKey)
	register(s, admins, post("/keys/{id}/rotate", "rotateKey", "keys", "Give a key a new secret, and show it this once", http.StatusOK), s.rotateKey)
	register(s, admins, huma.Operation{
		Method: http.MethodDelete, Path: "/keys/{id}", OperationID: "revokeKey", Tags: []string{"keys"}, Summary: "End a key for good, and sessions that were opened with it",
	}, s.revokeKey)
	register(s, reads, get("/me", "showMe", "keys", "Show whose key this is and what it may"), s.me)

	s.router.Handle("POST "+base+"/session", httpd.Rule{Public: true}, http.HandlerFunc(s.logIn))
	s.router.Handle("DELETE "+base+"/session", reads, http.HandlerFunc(s.logOut))
	s.router.Handle("GET "+base+"/events", listens, http.HandlerFunc(s.events))
	s.router.Handle("GET "+base+"/runs/{id}/events", listens, http.HandlerFunc(s.runEvents))
	s.router.Handle("GET /healthz", health, http.HandlerFunc(s.healthz))
	s.router.Handle("GET /readyz", health, http.HandlerFunc(s.readyz))
	if s.c.Support != nil {
		s.supportRoutes()
	}
	if s.c.Metrics != nil {
		s.router.Handle("GET /metrics", measures, s.c.Metrics)
	}
	s.offers = pageRules{asks: asks, steers: steers, decides: decides}
	s.pageRoutes(reads)
	if s.identity != nil {
		s.identityRoutes()
	}
	s.recordRoutes(reads, steers)
	s.statusRoutes(reads)
	s.adminRoutes(reads, admins, audits)
	s.descriptorRoutes(reads)
	s.holdRoutes(reads)
	s.runLogRoutes(reads)
	s.connectionSettingsRoutes(reads, admins)
	s.alertRoutes(reads, steers)
	s.descriptorEditRoutes(admins)
	s.pageOf("POST /connections/{connection}/test", steers, s.testForm)
}

// get describes an operation that reads.
func get(path, id, tag, summary string) huma.Operation {
	return huma.Operation{Method: http.MethodGet, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary}
}

// post describes an operation that does something.
func post(path, id, tag, summary string, status int) huma.Operation {
	return huma.Operation{Method: http.MethodPost, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary, DefaultStatus: status}
}

// pageOf registers a page, or a form, with the rule of what it shows or does.
func (s *Console) pageOf(pattern string, rule httpd.Rule, fn func(http.ResponseWriter, *http.Request) error) {
	rule.Page = true
	s.router.Handle(pattern, rule, s.page(fn))
}
