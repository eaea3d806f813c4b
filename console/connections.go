package console

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// defaultTenant needs no name in paths.
const defaultTenant = "default"

// nameOf is a connection's name in paths and answers: its name, and for another tenant than the default one "tenant~name".
func nameOf(tenant, name string) string {
	if tenant == defaultTenant {
		return name
	}
	return tenant + "~" + name
}

// split is the reverse of nameOf.
func split(text string) (tenant, name string) {
	tenant, name, found := strings.Cut(text, "~")
	if !found {
		return defaultTenant, text
	}
	return tenant, name
}

// connection finds a connection of the configuration that the principal of a request sees.
func (s *Console) connection(ctx context.Context, text string) (Connection, error) {
	tenant, name := split(text)
	all, err := s.c.Connections(ctx)
	if err != nil {
		return Connection{}, err
	}
	for _, c := range all {
		if c.Tenant == tenant && c.Name == name && httpd.PrincipalOf(ctx).Sees(tenant) {
			return c, nil
		}
	}
	return Connection{}, notFound("connection")
}

// owner finds the connection of an object of the ledger, and whether the principal of a request sees it. Connections that are no longer in the
// configuration are found too.
func (s *Console) owner(ctx context.Context, id int64, what string) (syncdb.Connection, error) {
	all, err := s.c.Ledger.Connections(ctx)
	if err != nil {
		return syncdb.Connection{}, err
	}
	for _, c := range all {
		if c.ID == id && httpd.PrincipalOf(ctx).Sees(c.Tenant) {
			return c, nil
		}
	}
	return syncdb.Connection{}, notFound(what)
}

// act is the audit row of what the principal of a request does.
func act(ctx context.Context, action string, tenant, name, object string, detail map[string]any) syncdb.AuditRow {
	all := map[string]any{"request": httpd.RequestID(ctx), "client": httpd.ClientOf(ctx).String()}
	for k, v := range detail {
		if v != "" {
			all[k] = v
		}
	}
	return syncdb.AuditRow{Who: httpd.PrincipalOf(ctx).Who(), Action: action, Connection: tenant + "/" + name, Object: object, Detail: encode(all)}
}

// connectionJSON is a connection as the API shows it.
type connectionJSON struct {
	Name       string         `json:"name" doc:"Its name in paths: the name, or tenant~name for another tenant than default."`
	Tenant     string         `json:"tenant"`
	SchoolYear int            `json:"schoolYear,omitempty"`
	State      string         `json:"state" enum:"never,ok,attention,failing,canceled,waiting,running,paused,held" doc:"Of the last run: ok, failing, canceled. attention: it was done, and holds or issues need somebody. held: everything is held until somebody has looked at the target."`
	FreshAsOf  time.Time      `json:"freshAsOf,omitzero" doc:"When the last run that was done began: the target is as the source was then, but for issues and holds."`
	LastRun    *runJSON       `json:"lastRun,omitempty" doc:"The one that is under way, else the newest."`
	Next       *jobs.Next     `json:"next,omitempty" doc:"The run that comes next when nobody asks for one; left out when none does."`
	Pause      *pauseJSON     `json:"pause,omitempty"`
	Quarantine *quarantine    `json:"quarantine,omitempty" doc:"Its runs failed time after time, and its schedule leaves it alone for a while. Asking for a run goes through."`
	Schedule   *scheduleJSON  `json:"schedule,omitempty"`
	OpenHolds  int64          `json:"openHolds" doc:"What safeguards hold until somebody decides."`
	OpenIssues int64          `json:"openIssues" doc:"Causes that keep records out of the target, but for archived ones."`
	Archived   int64          `json:"archivedIssues" doc:"Causes that somebody has archived. Their records are not at the target either."`
	Alarm      string         `json:"alarm,omitempty" doc:"Why everything is held."`
	Origin     string         `json:"origin" enum:"file,ledger" doc:"Where it is defined."`
	Version    int64          `json:"version,omitempty" doc:"Of its definition in the ledger."`
	Problem    string         `json:"problem,omitempty" doc:"Why it cannot be used as it is defined."`
	Planned    []PlannedPause `json:"plannedPauses,omitempty" doc:"Times that are not over in which its schedule starts no run."`
}

type pauseJSON struct {
	At    time.Time `json:"at"`
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	Until time.Time `json:"until,omitzero" doc:"Left out: until somebody resumes it."`
}

type quarantine struct {
	Failures    int       `json:"failures" doc:"Runs that failed one after the other."`
	FailedAt    time.Time `json:"failedAt" doc:"When the last of them ended."`
	NextAttempt time.Time `json:"nextAttempt" doc:"When it is run next, unless somebody asks before. next says more."`
}

type scheduleJSON struct {
	Cron     string    `json:"cron"`
	TimeZone string    `json:"timeZone"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty" doc:"Why the schedule cannot be read."`
}

// around is what is known of all connections at a moment.
type around struct {
	last, done map[int64]syncdb.Run
	running    map[int64]syncdb.RunProgress
	pauses     map[int64]syncdb.Pause
	prospects  map[int64]syncdb.Prospect
	quarantine jobs.Quarantine
	retry      jobs.Retry
	alarms     map[string]string
	open       map[int64]syncdb.OpenCount
	informing  map[int64]int64 // open issues that need nobody
}

func (s *Console) around(ctx context.Context) (a around, err error) {
	if a.last, a.done, err = s.c.Ledger.LastRuns(ctx); err != nil {
		return a, err
	}
	open, err := s.c.Ledger.OpenProgress(ctx, httpd.PrincipalOf(ctx).Tenant)
	if err != nil {
		return a, err
	}
	a.running = map[int64]syncdb.RunProgress{}
	for _, r := range open {
		if r.State == syncdb.RunRunning {
			a.running[r.ConnectionID] = r
		}
	}
	if a.pauses, err = s.c.Ledger.Pauses(ctx); err != nil {
		return a, err
	}
	if a.prospects, err = s.c.Ledger.Prospects(ctx); err != nil {
		return a, err
	}
	a.quarantine, a.retry = s.c.Quarantine, s.c.Retry
	if a.open, err = s.c.Ledger.OpenCounts(ctx); err != nil {
		return a, err
	}
	if a.informing, err = s.c.Ledger.CountIssues(ctx, sync.InformingCodes()); err != nil {
		return a, err
	}
	alarms, err := s.c.Ledger.Alarms(ctx)
	a.alarms = make(map[string]string, len(alarms))
	for _, alarm := range alarms {
		a.alarms[alarm.Tenant+"/"+alarm.Name] = alarm.Alarm
	}
	return a, err
}

// show describes a connection.
func (a around) show(c Connection, now time.Time) connectionJSON {
	out := connectionJSON{Name: nameOf(c.Tenant, c.Name), Tenant: c.Tenant, SchoolYear: c.SchoolYear, State: "never", Alarm: a.alarms[c.Tenant+"/"+c.Name]}
	out.Origin, out.Version, out.Problem = "file", c.Version, c.Problem
	if c.Version > 0 {
		out.Origin = "ledger"
	}
	for _, p := range c.Pauses {
		if p.To.After(now) {
			out.Planned = append(out.Planned, p)
		}
	}
	out.OpenHolds, out.OpenIssues, out.Archived = a.open[c.ID].Holds, a.open[c.ID].Issues, a.open[c.ID].Archived
	if r, ok := a.running[c.ID]; ok { // another may wait already
		shown := progressOf(r, out.Name)
		out.LastRun, out.State = &shown, string(syncdb.RunRunning)
	} else if last, ok := a.last[c.ID]; ok {
		r := runOf(last, out.Name)
		out.LastRun = &r
		switch last.State {
		case syncdb.RunWaiting, syncdb.RunRunning, syncdb.RunCanceled:
			out.State = string(last.State)
		case syncdb.RunFailed:
			out.State = "failing"
		default:
			out.State = "ok"
			if out.OpenHolds > 0 || out.OpenIssues > a.informing[c.ID] {
				out.State = "attention"
			}
		}
	}
	if out.Problem != "" && (out.State == "never" || out.State == "ok") {
		out.State = "attention"
	}
	if done, ok := a.done[c.ID]; ok {
		out.FreshAsOf = done.StartedAt
	}
	if out.Alarm != "" && out.State != string(syncdb.RunRunning) {
		out.State = "held"
	}
	if p, ok := a.pauses[c.ID]; ok {
		out.Pause = &pauseJSON{At: p.At, Who: p.Who, Why: p.Why, Until: p.Until}
		if out.State != string(syncdb.RunRunning) { // a run under way goes on
			out.State = "paused"
		}
	}
	if c.Schedule != nil {
		zone := time.UTC
		if c.Schedule.Zone != nil {
			zone = c.Schedule.Zone
		}
		out.Schedule = &scheduleJSON{Cron: c.Schedule.Cron, TimeZone: zone.String()}
		ticks, err := c.Schedule.Parse()
		if err != nil {
			out.Schedule.Error = err.Error()
		} else {
			out.Schedule.Next = ticks.Next(now)
		}
	}
	out.Next = a.next(c, now)
	out.Quarantine = a.quarantineOf(c.ID, out.Next)
	return out
}

// next says when a connection is run next without anybody asking; nil when it is not. One that cannot be used as it is defined is not.
func (a around) next(c Connection, now time.Time) *jobs.Next {
	schedule := c.Schedule
	if c.Problem != "" {
		schedule = nil
	}
	return jobs.Coming(schedule, a.prospects[c.ID], a.retry, a.quarantine, now)
}

// quarantineOf says until when the schedule leaves a connection alone that fails; nil when it does not.
func (a around) quarantineOf(id int64, next *jobs.Next) *quarantine {
	failing := a.prospects[id].Failing
	until := a.quarantine.Until(id, failing)
	if until.IsZero() {
		return nil
	}
	if next != nil && next.At.After(until) {
		until = next.At
	}
	return &quarantine{failing.Runs, failing.At, until}
}

// ConnectionPath is the connection in a path. It is exported so that huma fills it in.
type ConnectionPath struct {
	Connection string `path:"connection" maxLength:"200" doc:"Name, or tenant~name for another tenant than default."`
}

// listConnections lists the connections of the configuration that the principal sees.
func (s *Console) listConnections(ctx context.Context, in *struct{ Paging }) (*list[connectionJSON], error) {
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	all, err := s.c.Connections(ctx)
	if err != nil {
		return nil, err
	}
	a, err := s.around(ctx)
	if err != nil {
		return nil, err
	}
	p, now := httpd.PrincipalOf(ctx), time.Now()
	shown := []connectionJSON{}
	for _, c := range all {
		if p.Sees(c.Tenant) {
			shown = append(shown, a.show(c, now))
		}
	}
	return window(shown, skip, in.Limit), nil
}

// window is a page of a list that is read as a whole: its cursor is a place in it.
func window[T any](all []T, skip int64, limit int) *list[T] {
	out := &list[T]{}
	from := min(int(skip), len(all))
	to := min(from+limit, len(all))
	out.Body.Items = append([]T{}, all[from:to]...)
	if to < len(all) {
		out.Body.Next = cursor(int64(to))
	}
	return out
}

func (s *Console) showConnection(ctx context.Context, in *ConnectionPath) (*one[connectionJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	a, err := s.around(ctx)
	if err != nil {
		return nil, err
	}
	return &one[connectionJSON]{a.show(c, time.Now())}, nil
}

type pauseInput struct {
	ConnectionPath
	Body struct {
		Why   string    `json:"why" minLength:"1" maxLength:"500" doc:"For those who will ask. No student data, please."`
		Until time.Time `json:"until,omitempty" required:"false" doc:"When it goes on by itself; left out: when somebody resumes it."`
	}
}

func (s *Console) pause(ctx context.Context, in *pauseInput) (*one[connectionJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if !in.Body.Until.IsZero() && !in.Body.Until.After(time.Now()) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "until is over already")
	}
	if strings.TrimSpace(in.Body.Why) == "" {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "say why")
	}
	if err := said("why", in.Body.Why); err != nil {
		return nil, err
	}
	detail := map[string]any{"why": in.Body.Why}
	if !in.Body.Until.IsZero() {
		detail["until"] = in.Body.Until.UTC().Format(time.RFC3339)
	}
	p := syncdb.Pause{Who: httpd.PrincipalOf(ctx).Who(), Why: in.Body.Why, Until: in.Body.Until}
	if err := s.c.Ledger.SetPause(ctx, c.ID, &p, act(ctx, "connection.pause", c.Tenant, c.Name, "", detail)); err != nil {
		return nil, err
	}
	return s.showConnection(ctx, &in.ConnectionPath)
}

func (s *Console) resume(ctx context.Context, in *ConnectionPath) (*one[connectionJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	pauses, err := s.c.Ledger.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	if _, paused := pauses[c.ID]; !paused {
		return nil, refuse(http.StatusConflict, "not-paused", "the connection is not paused")
	}
	if err := s.c.Ledger.SetPause(ctx, c.ID, nil, act(ctx, "connection.resume", c.Tenant, c.Name, "", nil)); err != nil {
		return nil, err
	}
	return s.showConnection(ctx, in)
}

// issueJSON is an issue as the API shows it, without its rows.
type issueJSON struct {
	sync.Cause
	Connection string `json:"connection"`
}

type issuesInput struct {
	ConnectionPath
	Paging
	State string `query:"state" enum:"open,archived,cleared" default:"open" doc:"open: by rank, the one first whose solution lets most records through, without archived ones. archived: open ones that somebody has archived. cleared: settled ones, the last first."`
}

func (s *Console) listIssues(ctx context.Context, in *issuesInput) (*list[issueJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	causes, err := s.causes(ctx, c.ID, in.State)
	if err != nil {
		return nil, err
	}
	name := nameOf(c.Tenant, c.Name)
	shown := make([]issueJSON, len(causes))
	for i := range causes {
		shown[i] = issueJSON{causes[i], name}
	}
	return window(shown, skip, in.Limit), nil
}

// causes reads the open issues of a connection by rank, those in sight or those that are archived, or those that are settled, the last first.
func (s *Console) causes(ctx context.Context, connection int64, state string) ([]sync.Cause, error) {
	if state != stateCleared {
		open, err := s.openCauses(ctx, connection)
		if err != nil {
			return nil, err
		}
		inSight, archived := sync.PartArchived(open)
		if state == stateArchived {
			return archived, nil
		}
		return inSight, nil
	}
	issues, err := s.c.Ledger.ClearedIssues(ctx, connection)
	if err != nil {
		return nil, err
	}
	out := make([]sync.Cause, len(issues))
	for i := range issues {
		out[i].Issue = issues[i]
	}
	return out, nil
}

// IDPath is the number in a path. It is exported so that huma fills it in.
type IDPath struct {
	ID int64 `path:"id" minimum:"1"`
}

func (s *Console) showIssue(ctx context.Context, in *IDPath) (*one[issueJSON], error) {
	issue, connection, err := s.c.Ledger.FindIssue(ctx, in.ID)
	if err != nil {
		return nil, missingAs(err, "issue")
	}
	c, err := s.owner(ctx, connection, "issue")
	if err != nil {
		return nil, err
	}
	out := issueJSON{sync.Cause{Issue: issue}, nameOf(c.Tenant, c.Name)}
	if issue.ClearedRun == 0 {
		causes, err := s.openCauses(ctx, connection)
		if err != nil {
			return nil, err
		}
		for i := range causes {
			if causes[i].ID == issue.ID {
				out.Cause = causes[i]
				out.Archived = issue.Archived // as it is now: the ranking may be older
			}
		}
	} else if advice, ok := sync.AdviceOn(issue.Code); ok {
		out.Hint = advice.Hint
	}
	return &one[issueJSON]{out}, nil
}
