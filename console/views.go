package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// functions are what pages call.
func functions() template.FuncMap {
	return template.FuncMap{
		"count": count, "when": when, "stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) }, "phase": phase, "clock": func(t time.Time) string { return t.UTC().Format("15:04:05 UTC") },
		"totals": totalsOf, "took": took, "progress": progressOfRun, "rate": rateOf, "left": leftOf, "percent": percent, "calls": callsOf, "held": held, "failed": failed, "resource": resourceName,
		"num": func(n int) int64 { return int64(n) }, "pretty": pretty, "withoutPaths": withoutPaths, "details": detailsOf, "pair": func(name string, n int64) namedCount { return namedCount{name, n} }, "stateWords": stateWords, "retryable": retryable, "waiting": func(c sync.Cause) bool { return c.Waiting() }, "words": words, "answered": answered, "short": short, "sum": func(a, b int64) int64 { return a + b },
	}
}

// count writes a number with commas between thousands.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// when writes a time for those whose browser does not write it in their own zone.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// phase is an engine's phase in words.
func phase(phase string) string {
	words := map[string]string{
		"": "starting", "recover": "settling what the last run left", "scan": "reading the source", "look": "looking at the target", "read": "reading the target",
		"delete-evidence": "making sure of deletes", "send": "sending", "describe": "describing changes", "close": "closing",
	}
	if w, ok := words[phase]; ok {
		return w
	}
	return phase
}

// totalsOf reads the counts of a run or of a step.
func totalsOf(text json.RawMessage) sync.Totals {
	var t sync.Totals
	_ = json.Unmarshal(text, &t) // none are no counts
	return t
}

// held are the records that a run did not send: invalid, blocked, or held by a safeguard.
func held(t sync.Totals) int64 { return t.Invalid + t.Blocked + t.Kept }

// failed are those that the target refused, or did not answer for.
func failed(t sync.Totals) int64 { return t.Rejected + t.Errors }

// progressOfRun reads how far a run is.
func progressOfRun(text json.RawMessage) sync.Progress {
	var p sync.Progress
	_ = json.Unmarshal(text, &p) // none: it has just begun
	return p
}

// rateOf writes how fast a run goes.
func rateOf(p sync.Progress) string {
	switch {
	case p.Rate <= 0:
		return "not known yet"
	case p.Rate < 10:
		return strconv.FormatFloat(p.Rate, 'f', 1, 64) + "/s"
	}
	return count(int64(math.Round(p.Rate))) + "/s"
}

// leftOf writes how long a run goes on at its rate. Before the plan is made nobody knows how much there is to do.
func leftOf(p sync.Progress) string {
	if p.Left == nil {
		return "unknown"
	}
	d := time.Duration(*p.Left) * time.Second
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", *p.Left)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(math.Ceil(d.Minutes())))
	}
	return fmt.Sprintf("%d h %d min", int64(d.Hours()), int64(d.Minutes())%60)
}

func percent(done, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return min(100*done/total, 100)
}

// took is how long a run took, or takes until now.
func took(r runJSON, now time.Time) string {
	if r.StartedAt.IsZero() {
		return "–"
	}
	end := r.EndedAt
	if end.IsZero() {
		end = now
	}
	d := end.Sub(r.StartedAt)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// resourceName is a resource without the namespace most have.
func resourceName(path string) string { return strings.TrimPrefix(path, "ed-fi/") }

// words writes "1 record", "2 records".
func words(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// answered is a status of HTTP as people read it.
func answered(status int) string {
	if status == 0 {
		return "no answer"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// namedCount is a figure with its name.
type namedCount struct {
	Name string
	N    int64
}

// detail is one part of what an audit row says.
type detail struct{ Name, Value string }

// detailsOf reads what an audit row says, by name.
func detailsOf(text json.RawMessage) (out []detail) {
	var parts map[string]any
	_ = json.Unmarshal(text, &parts) // none is no detail
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		value, ok := parts[name].(string)
		if !ok {
			value = string(encode(parts[name]))
		}
		out = append(out, detail{name, value})
	}
	return out
}

// short is the beginning of a record's id: enough to tell those of a page apart.
func short(id string) string { return id[:min(len(id), 13)] }

// callCount is how many calls of a hold are of one kind.
type callCount struct {
	Resource, Verb string
	N              int64
}

// callsOf reads the counts of a hold, the most first.
func callsOf(text json.RawMessage) (out []callCount) {
	var counts map[string]map[string]int64
	_ = json.Unmarshal(text, &counts) // none are no calls
	for _, resource := range slices.Sorted(maps.Keys(counts)) {
		for _, verb := range slices.Sorted(maps.Keys(counts[resource])) {
			out = append(out, callCount{resource, verb, counts[resource][verb]})
		}
	}
	slices.SortStableFunc(out, func(a, b callCount) int { return cmp.Compare(b.N, a.N) })
	return out
}

// overview is the page of all connections.
type overview struct {
	Connections []connectionJSON // what needs somebody first
	Tallies     []tally
	All         int
	State       string // only those in this state
	Find        string // only those with this in their name
	More        int    // are not shown
}

// connectionsShown is how many connections the overview shows: a page for people, not a list for programs.
const connectionsShown = 250

// tally is how many connections are in a state.
type tally struct {
	State string
	N     int
}

// urgency is the order of states on the overview.
func urgency() []string {
	return []string{"held", "failing", "attention", "paused", "canceled", "running", "waiting", "never", "ok"}
}

func (s *Console) overviewPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	all, err := s.c.Connections(ctx)
	if err != nil {
		return err
	}
	a, err := s.around(ctx)
	if err != nil {
		return err
	}
	page := overview{State: r.FormValue("state"), Find: strings.TrimSpace(r.FormValue("find"))}
	p, now, states, tallied := httpd.PrincipalOf(ctx), time.Now(), urgency(), map[string]int{}
	for _, c := range all {
		if !p.Sees(c.Tenant) {
			continue
		}
		shown := a.show(c, now)
		page.All++
		tallied[shown.State]++
		if (page.State == "" || page.State == shown.State) && strings.Contains(shown.Name, strings.ToLower(page.Find)) {
			page.Connections = append(page.Connections, shown)
		}
	}
	for _, state := range states {
		if tallied[state] > 0 {
			page.Tallies = append(page.Tallies, tally{state, tallied[state]})
		}
	}
	slices.SortStableFunc(page.Connections, func(a, b connectionJSON) int {
		return cmp.Or(cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)), cmp.Compare(a.Name, b.Name))
	})
	if more := len(page.Connections) - connectionsShown; more > 0 {
		page.More, page.Connections = more, page.Connections[:connectionsShown]
	}
	s.show(w, r, http.StatusOK, "overview", frame{Title: "Connections", Events: base + "/events", Page: page})
	return nil
}

// connectionView is the page of one connection.
type connectionView struct {
	connectionJSON
	Runs      []runJSON // the last of them
	Chart     chart
	Resources []resourceJSON
}

// runsShown is how many runs the page of a connection shows.
const runsShown = 12

func home() crumb { return crumb{"Connections", "/"} }

func crumbOf(connection string) crumb {
	return crumb{connection, "/connections/" + url.PathEscape(connection)}
}

func (s *Console) connectionPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, err := s.connection(ctx, r.PathValue("connection"))
	if err != nil {
		return err
	}
	a, err := s.around(ctx)
	if err != nil {
		return err
	}
	page := connectionView{connectionJSON: a.show(c, time.Now())}
	runs, err := s.c.Ledger.FindRuns(ctx, syncdb.RunFilter{Connection: c.ID, Limit: chartBars})
	if err != nil {
		return err
	}
	for _, run := range runs {
		page.Runs = append(page.Runs, runOf(run, page.Name))
	}
	page.Chart = chartOf(page.Runs)
	page.Runs = page.Runs[:min(len(page.Runs), runsShown)]
	if page.Resources, err = s.resourcesOf(ctx, c); err != nil {
		return err
	}
	slices.SortStableFunc(page.Resources, func(a, b resourceJSON) int { return -cmp.Compare(a.Waits, b.Waits) }) // what is not in sync first
	s.show(w, r, http.StatusOK, "connection", frame{Title: page.Name, Trail: []crumb{home()}, Events: base + "/events", Page: page})
	return nil
}

// runView is the page of one run.
type runView struct {
	runJSON
	Steps   []stepJSON
	Counts  sync.Totals // of the run, or of its steps so far
	Rate    string      // write calls a second
	Receipt bool        // there is a signed statement
	Open    bool        // it waits or runs
	Log     []logLineJSON
	NextLog string // of the log
}

// Took is how long the run took, or takes until now.
func (v runView) Took(now time.Time) string { return took(v.runJSON, now) }

func (s *Console) runPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := idOf(r)
	if err != nil {
		return err
	}
	run, c, err := s.run(ctx, id)
	if err != nil {
		return err
	}
	page := runView{runJSON: progressOf(run, nameOf(c.Tenant, c.Name)), Open: !run.State.Final()}
	if page.Next, err = s.nextAfter(ctx, &run.Run, page.Connection); err != nil {
		return err
	}
	steps, err := s.listSteps(ctx, &IDPath{id})
	if err != nil {
		return err
	}
	page.Steps, page.Counts = steps.Body.Items, totalsOf(run.Totals)
	if len(run.Totals) == 0 {
		for _, step := range page.Steps {
			addTotals(&page.Counts, totalsOf(step.Totals))
		}
	}
	if lasted := run.EndedAt.Sub(run.StartedAt); !page.Open && page.Counts.Calls > 0 && lasted > 0 {
		page.Rate = fmt.Sprintf("%s/s", count(int64(float64(page.Counts.Calls)/lasted.Seconds())))
	}
	if !page.Open {
		_, err := s.c.Ledger.ReceiptOf(ctx, c.ID, id)
		if err != nil && !errors.Is(err, syncdb.ErrNotFound) {
			return err
		}
		page.Receipt = err == nil
	}
	lines, err := s.listRunLog(ctx, &runLogInput{IDPath{id}, Paging{Limit: logLinesShown, Cursor: r.FormValue("log")}})
	if err != nil {
		return err
	}
	page.Log, page.NextLog = lines.Body.Items, lines.Body.Next
	f := frame{Title: fmt.Sprintf("Run %d", id), Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page}
	if page.Open {
		f.Events = fmt.Sprintf("%s/runs/%d/events", base, id)
	}
	s.show(w, r, http.StatusOK, "run", f)
	return nil
}

// addTotals adds what a page shows of the counts of a step.
func addTotals(to *sync.Totals, t sync.Totals) {
	to.Created += t.Created
	to.Updated += t.Updated
	to.Rekeyed += t.Rekeyed
	to.Deleted += t.Deleted
	to.Unchanged += t.Unchanged
	to.Invalid += t.Invalid
	to.Blocked += t.Blocked
	to.Kept += t.Kept
	to.Rejected += t.Rejected
	to.Errors += t.Errors
	to.Calls += t.Calls
}

// issuesView is the page of a connection's issues.
type issuesView struct {
	Connection string
	State      string // open, archived or cleared
	Archived   int64  // how many are
	Issues     []sync.Cause
	More       int // are not shown
}

// Cleared reports whether the page is of issues that are settled.
func (v issuesView) Cleared() bool { return v.State == stateCleared }

// Hidden reports whether the page is of issues that are archived.
func (v issuesView) Hidden() bool { return v.State == stateArchived }

// issuesMost is how many issues a page shows.
const issuesMost = 200

func (s *Console) issuesPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, err := s.connection(ctx, r.PathValue("connection"))
	if err != nil {
		return err
	}
	page := issuesView{Connection: nameOf(c.Tenant, c.Name), State: "open"}
	if state := r.FormValue("state"); state == stateCleared || state == stateArchived {
		page.State = state
	}
	if page.Issues, err = s.causes(ctx, c.ID, page.State); err != nil {
		return err
	}
	open, err := s.openCauses(ctx, c.ID)
	if err != nil {
		return err
	}
	_, archived := sync.PartArchived(open)
	page.Archived = int64(len(archived))
	if len(page.Issues) > issuesMost {
		page.More, page.Issues = len(page.Issues)-issuesMost, page.Issues[:issuesMost]
	}
	s.show(w, r, http.StatusOK, "issues", frame{Title: "Issues", Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page})
	return nil
}

// holdsView is the page of a connection's holds.
type holdsView struct {
	Connection string
	Open       []planJSON
	Decided    []planJSON // the newest first
}

// decidedMost is how many decided holds a page shows.
const decidedMost = 50

func (s *Console) holdsPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, err := s.connection(ctx, r.PathValue("connection"))
	if err != nil {
		return err
	}
	page := holdsView{Connection: nameOf(c.Tenant, c.Name)}
	all, err := s.c.Ledger.Plans(ctx, c.ID, syncdb.PlanFilter{})
	if err != nil {
		return err
	}
	for _, p := range all {
		switch {
		case p.Kind == syncdb.PlanSaved:
		case p.State == syncdb.PlanOpen:
			page.Open = append(page.Open, planOf(p, page.Connection))
		case len(page.Decided) < decidedMost:
			page.Decided = append(page.Decided, planOf(p, page.Connection))
		}
	}
	s.show(w, r, http.StatusOK, "holds", frame{Title: "Holds", Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page})
	return nil
}
