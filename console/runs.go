package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// runJSON is a run as the API shows it.
type runJSON struct {
	ID         int64           `json:"id"`
	Connection string          `json:"connection"`
	State      string          `json:"state" enum:"waiting,running,done,failed,canceled"`
	Reason     string          `json:"reason" doc:"Who asked: cron, api, console, cli, feed, recovery; or what a person did himself: adopt, apply, sync-one, undo."`
	Scope      []scopeJSON     `json:"scope,omitempty" doc:"What of the changes it sends: what any of these means. Left out when it sends all."`
	CreatedAt  time.Time       `json:"createdAt"`
	StartedAt  time.Time       `json:"startedAt,omitzero"`
	EndedAt    time.Time       `json:"endedAt,omitzero"`
	Totals     json.RawMessage `json:"totals,omitempty" doc:"Counts by outcome."`
	Warnings   []warningJSON   `json:"warnings,omitempty" doc:"What the connection's schools or the scope name and is not there: the run did less than somebody meant. They change neither state nor totals."`
	Error      string          `json:"error,omitempty" doc:"Why it failed. Folders of the server are left out; the log has them."`
	Wait       *waitJSON       `json:"wait,omitempty" doc:"Why it waits; left out when it does not, or when no worker has looked yet."`
	Failure    string          `json:"failure,omitempty" doc:"Of a failed run: target-unreachable, source-unreachable, credentials-refused, ledger-restored, target-reset, no-progress, plan-stale, process-lost; left out: anything else."`
	Remedy     string          `json:"remedy,omitempty" doc:"What to do about the failure."`
	Next       *jobs.Next      `json:"next,omitempty" doc:"Where one run is shown: when it begins, of one that waits; when the connection is run next, of a failed one that is its last."`
	Progress   json.RawMessage `json:"progress,omitempty" doc:"How far it is: phase, resource, done, total, since when, rate (records a second over the last half minute), and secondsLeft of the phase at that rate; left out: nobody knows."`
	ProgressAt time.Time       `json:"progressAt,omitzero"`
}

// waitJSON says why a run waits.
type waitJSON struct {
	For   string    `json:"for" enum:"run,pause,quarantine,target,source,configuration" doc:"run: another run of the connection is in progress. target, source: as many runs at once as its limit allows. configuration: no process that has the connection's configuration has taken it yet."`
	Until time.Time `json:"until,omitzero" doc:"When that is over, if anybody knows."`
	Text  string    `json:"text"`
}

func waitOf(w *syncdb.Wait) *waitJSON {
	if w == nil {
		return nil
	}
	return &waitJSON{w.For, w.Until, w.String()}
}

// warningJSON is a warning of a run.
type warningJSON struct {
	Code          string `json:"code" enum:"school-not-in-source,school-not-synced,record-not-found,resource-not-synced"`
	From          string `json:"from" enum:"schools,exceptSchools,scope" doc:"What names it: schools or exceptSchools of the connection, scope of the run."`
	Text          string `json:"text"`
	Hint          string `json:"hint" doc:"What to do."`
	School        int64  `json:"school,omitempty"`
	Resource      string `json:"resource,omitempty"`
	KeyHash       string `json:"keyHash,omitempty" doc:"Keyed hash of the natural key of a record."`
	SourceRowHash string `json:"sourceRowHash,omitempty" doc:"Keyed hash of the key of a row in the SIS."`
	More          int    `json:"more,omitempty" doc:"In place of one: so many others of the same code and origin. Twenty are told one by one."`
}

func warningsOf(ws []sync.Warning) (out []warningJSON) {
	for _, w := range ws {
		out = append(out, warningJSON(w))
	}
	return out
}

func runOf(r syncdb.Run, connection string) runJSON {
	warnings, totals := sync.WarningsOf(r.Totals)
	return runJSON{
		Warnings: warningsOf(warnings),

		Wait: waitOf(r.Wait), Scope: scopeOf(r.Scope),

		ID: r.ID, Connection: connection, State: string(r.State), Reason: r.Reason, CreatedAt: r.CreatedAt, StartedAt: r.StartedAt, EndedAt: r.EndedAt, Totals: totals, Failure: r.Failure,
		Remedy: sync.FailureHints()[r.Failure], Error: withoutPaths(r.Error),
	}
}

func progressOf(r syncdb.RunProgress, connection string) runJSON {
	out := runOf(r.Run, connection)
	if r.State == syncdb.RunRunning {
		out.Progress, out.ProgressAt = r.Progress, r.ProgressAt
	}
	return out
}

// missingAs answers as not found what the ledger does not have.
func missingAs(err error, what string) error {
	if errors.Is(err, syncdb.ErrNotFound) || errors.Is(err, syncdb.ErrNoRun) {
		return notFound(what)
	}
	return err
}

// run finds a run that the principal of a request sees.
func (s *Console) run(ctx context.Context, id int64) (syncdb.RunProgress, syncdb.Connection, error) {
	r, err := s.c.Ledger.FindProgress(ctx, id)
	if err != nil {
		return r, syncdb.Connection{}, missingAs(err, "run")
	}
	c, err := s.owner(ctx, r.ConnectionID, "run")
	return r, c, err
}

type askInput struct {
	ConnectionPath
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" doc:"A request that is sent again with the same key gets the same run, for a day."`
	Body           *struct {
		Why   string     `json:"why,omitempty" required:"false" maxLength:"500" doc:"Kept in the audit trail. No student data, please."`
		Scope *askedJSON `json:"scope,omitempty" required:"false" doc:"Send only this of what changed, and what must go along with it. A run that waits already sends what others asked for, too."`
	} `required:"false"`
}

// askOutput is the answer to who asks for a run.
type askOutput struct {
	Location string `header:"Location"`
	Body     struct {
		Run    runJSON `json:"run"`
		Joined bool    `json:"joined" doc:"The run waited already, or was asked for with the same Idempotency-Key: nothing new was asked for."`
	}
}

// ask asks for a run, for a program. However many ask at once, one run waits at most (F60).
func (s *Console) ask(ctx context.Context, in *askInput) (*askOutput, error) {
	return s.askAs(ctx, in, "api")
}

// askAs asks with the reason that says whether a program or a person asked.
func (s *Console) askAs(ctx context.Context, in *askInput, reason string) (*askOutput, error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	scope, err := s.scope(ctx, c, in)
	if err != nil {
		return nil, err
	}
	p, fingerprint := httpd.PrincipalOf(ctx), fmt.Sprintf("run %d", c.ID)
	if err := said("Idempotency-Key", in.IdempotencyKey); err != nil {
		return nil, err
	}
	if !scope.All() {
		text, err := json.Marshal(scope)
		if err != nil {
			return nil, err
		}
		fingerprint += " " + string(text)
	}
	if in.IdempotencyKey != "" {
		earlier, err := s.c.Ledger.Asked(ctx, p.ID, in.IdempotencyKey)
		if err == nil {
			return s.asked(ctx, earlier, fingerprint, c)
		}
		if !errors.Is(err, syncdb.ErrNotFound) {
			return nil, err
		}
	}
	asks, err := askAct(ctx, c, in, scope)
	if err != nil {
		return nil, err
	}
	run, joined, err := s.c.Runs.AskAs(ctx, c.ID, reason, scope, asks)
	if err != nil {
		return nil, err
	}
	if in.IdempotencyKey != "" {
		kept, err := s.c.Ledger.KeepAsked(ctx, syncdb.AskedRun{Owner: p.ID, Key: in.IdempotencyKey, Fingerprint: fingerprint, RunID: run.ID})
		if err != nil {
			return nil, err
		}
		if kept.RunID != run.ID || kept.Fingerprint != fingerprint {
			return s.asked(ctx, kept, fingerprint, c)
		}
	}
	out := askAnswer(runOf(run, nameOf(c.Tenant, c.Name)), joined)
	return out, s.sayPaused(ctx, c, &out.Body.Run)
}

// sayPaused says at once that a run waits for the end of a pause, before a worker has looked.
func (s *Console) sayPaused(ctx context.Context, c Connection, run *runJSON) error {
	p, paused, err := s.c.Ledger.PauseOf(ctx, c.ID)
	if err != nil || !paused || run.State != string(syncdb.RunWaiting) {
		return err
	}
	run.Wait = waitOf(&syncdb.Wait{For: syncdb.WaitPause, Until: p.Until})
	return nil
}

// askAct says who asks for a run, and why.
func askAct(ctx context.Context, c Connection, in *askInput, scope syncdb.RunScope) (syncdb.AuditRow, error) {
	detail := map[string]any{"why": ""}
	if in.Body != nil {
		if err := said("why", in.Body.Why); err != nil {
			return syncdb.AuditRow{}, err
		}
		detail["why"] = in.Body.Why
	}
	if !scope.All() {
		detail["scope"] = scope
	}
	return act(ctx, "run.ask", c.Tenant, c.Name, "", detail), nil
}

// asked answers a request that was answered before.
func (s *Console) asked(ctx context.Context, earlier syncdb.AskedRun, fingerprint string, c Connection) (*askOutput, error) {
	if earlier.Fingerprint != fingerprint {
		return nil, refuse(http.StatusUnprocessableEntity, "idempotency-key", "this Idempotency-Key was used for another request; use a new one for each")
	}
	r, err := s.c.Ledger.FindProgress(ctx, earlier.RunID)
	if err != nil {
		return nil, missingAs(err, "run")
	}
	return askAnswer(progressOf(r, nameOf(c.Tenant, c.Name)), true), nil
}

func askAnswer(run runJSON, joined bool) *askOutput {
	out := &askOutput{Location: fmt.Sprintf("%s/runs/%d", base, run.ID)}
	out.Body.Run, out.Body.Joined = run, joined
	return out
}

type runsInput struct {
	Paging
	Connection string `query:"connection" maxLength:"200" doc:"Only runs of this connection."`
	State      string `query:"state" enum:"waiting,running,done,failed,canceled" doc:"Only runs in this state."`
}

func (s *Console) listRuns(ctx context.Context, in *runsInput) (*list[runJSON], error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	f := syncdb.RunFilter{Tenant: httpd.PrincipalOf(ctx).Tenant, State: syncdb.RunState(in.State), Before: before, Limit: in.Limit + 1}
	if in.Connection != "" {
		c, err := s.connection(ctx, in.Connection)
		if err != nil {
			return nil, err
		}
		f.Connection = c.ID
	}
	runs, err := s.c.Ledger.FindRuns(ctx, f)
	if err != nil {
		return nil, err
	}
	names, err := s.names(ctx)
	if err != nil {
		return nil, err
	}
	return newList(runs, in.Limit, func(r syncdb.Run) int64 { return r.ID }, func(r syncdb.Run) runJSON { return runOf(r, names[r.ConnectionID]) }), nil
}

// names are those of all connections of the ledger.
func (s *Console) names(ctx context.Context) (map[int64]string, error) {
	all, err := s.c.Ledger.Connections(ctx)
	names := make(map[int64]string, len(all))
	for _, c := range all {
		names[c.ID] = nameOf(c.Tenant, c.Name)
	}
	return names, err
}

func (s *Console) showRun(ctx context.Context, in *IDPath) (*one[runJSON], error) {
	r, c, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := progressOf(r, nameOf(c.Tenant, c.Name))
	if out.Next, err = s.nextAfter(ctx, &r.Run, out.Connection); err != nil {
		return nil, err
	}
	return &one[runJSON]{out}, nil
}

// nextAfter says when a run that waits begins, and when the connection of one that failed is run next; nil of any other run, and when another run of the
// connection began since.
func (s *Console) nextAfter(ctx context.Context, r *syncdb.Run, connection string) (*jobs.Next, error) {
	if r.State != syncdb.RunWaiting && r.State != syncdb.RunFailed {
		return nil, nil //nolint:nilnil // there is none
	}
	c, err := s.connection(ctx, connection)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // it is in the configuration no more, and never run again
	}
	prospects, err := s.c.Ledger.Prospects(ctx)
	if p := prospects[c.ID]; err != nil || p.Waiting != r.ID && p.Failed != r.ID {
		return nil, err
	}
	return around{prospects: prospects, quarantine: s.c.Quarantine, retry: s.c.Retry}.next(c, time.Now()), nil
}

// stepJSON is one step of a run.
type stepJSON struct {
	Position int             `json:"position"`
	Resource string          `json:"resource"`
	Verb     string          `json:"verb" enum:"create,update,delete"`
	State    string          `json:"state"`
	Totals   json.RawMessage `json:"totals,omitempty"`
}

func (s *Console) listSteps(ctx context.Context, in *IDPath) (*list[stepJSON], error) {
	if _, _, err := s.run(ctx, in.ID); err != nil {
		return nil, err
	}
	steps, err := s.c.Ledger.Steps(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &list[stepJSON]{}
	out.Body.Items = make([]stepJSON, len(steps))
	for i, st := range steps {
		verb, err := st.Verb.MarshalText()
		if err != nil {
			return nil, err
		}
		out.Body.Items[i] = stepJSON{st.Position, st.Resource, string(verb), st.State, st.Totals}
	}
	return out, nil
}

func (s *Console) cancel(ctx context.Context, in *IDPath) (*one[runJSON], error) {
	_, c, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.c.Ledger.CancelRun(ctx, in.ID, act(ctx, "run.cancel", c.Tenant, c.Name, fmt.Sprintf("run %d", in.ID), nil))
	var state *syncdb.RunStateError
	if errors.As(err, &state) {
		return nil, refuse(http.StatusConflict, "run-ended", "run %d is %s: there is nothing to cancel", in.ID, state.State)
	}
	if err != nil {
		return nil, missingAs(err, "run")
	}
	return &one[runJSON]{runOf(r, nameOf(c.Tenant, c.Name))}, nil
}

// receiptJSON is a receipt: the document as it was signed.
type receiptJSON struct {
	Run      int64           `json:"run"`
	At       time.Time       `json:"at"`
	Document json.RawMessage `json:"document" doc:"The signed statement, as it was signed."`
}

func receiptOf(r syncdb.Receipt) receiptJSON { return receiptJSON{r.RunID, r.At, r.Document} }

type receiptsInput struct {
	ConnectionPath
	Paging
}

func (s *Console) listReceipts(ctx context.Context, in *receiptsInput) (*list[receiptJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	kept, err := s.c.Ledger.ReceiptsBefore(ctx, c.ID, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return newList(kept, in.Limit, func(r syncdb.Receipt) int64 { return r.RunID }, receiptOf), nil
}

func (s *Console) showReceipt(ctx context.Context, in *IDPath) (*one[receiptJSON], error) {
	_, c, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.c.Ledger.ReceiptOf(ctx, c.ID, in.ID)
	if err != nil {
		return nil, missingAs(err, "receipt")
	}
	return &one[receiptJSON]{receiptOf(r)}, nil
}
