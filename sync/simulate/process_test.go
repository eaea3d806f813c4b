package simulate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// process is one life of a program that syncs one connection: it has its own client, its own way to the ledger, and it may die.
type process struct {
	w    *world
	conn *connection
	name string // "3.0": event and process of it; faults are drawn from it
	trouble
	approved bool // an operator lets all deletes through
	resync   bool // the run reads the whole target first
	scope    syncdb.RunScope
	schools  sync.Schools
	rival    bool // of another process of the connection

	cancel context.CancelCauseFunc // what a death does to the program's goroutines

	mu       gosync.Mutex
	ops      int // calls and transactions so far
	dead     bool
	attempts map[[3]string]int
	intents  map[string]int         // durable and without a result, by what they announce
	byOp     map[uint64]string      // the same by op
	met      map[string]*known      // what creates met, by what announced them; under world.mu
	held     map[string]syncdb.Hash // ids of records whose deletes wait in an open hold when the run begins → their keys
	scan     *scan                  // snapshot of the run
	broken   bool                   // its scan broke
	stopAt   time.Time              // when somebody asked for the end of the run
	writes   int                    // that arrived at the target
	respelt  bool                   // a PUT was refused for the spelling of its key: what it would have let go of stays until the next run; under world.mu
	tokens   int
	troubled bool // something was done to it
	ends     bool // somebody told the program to end, not only the run
}

// trouble is what one run has to expect. The zero value is none.
type trouble struct {
	calls    float64 // share of calls that go wrong
	database float64 // share of transactions that fail
	dieAt    int     // dies at this call or transaction; 0 = does not
	dieLate  bool    // after it took effect
	cutFrom  time.Duration
	cutFor   time.Duration // cannot reach the ledger for so long
	crawl    bool          // the target takes long for each call
	eventual bool          // the target shows new records late
}

var (
	errDead = errors.New("the process is dead")
	errCut  = errors.New("ledger: connection refused")
)

// enter counts an operation of the process. It fails when the process is dead, or dies before the operation takes effect; late reports
// that it dies right after.
func (p *process) enter() (late bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return false, errDead
	}
	p.ops++
	if p.dieAt == 0 || p.ops != p.dieAt {
		return false, nil
	}
	p.troubled = true
	if p.dieLate {
		return true, nil
	}
	p.die()
	return false, errDead
}

// die is called with p.mu held. Nothing the process does has an effect from now on.
func (p *process) die() {
	p.dead = true
	p.w.note("%s dies at operation %d", p.name, p.ops)
	p.cancel(errDead)
}

func (p *process) dieNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die()
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// attempt counts how often the process did something.
func (p *process) attempt(about, what, of string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := [3]string{about, what, of}
	n := p.attempts[at] + 1
	p.attempts[at] = n
	return n
}

func (p *process) hit() {
	p.mu.Lock()
	p.troubled = true
	p.mu.Unlock()
}

func newProcess(w *world, c *connection, name string, t trouble) *process {
	return &process{w: w, conn: c, name: name, trouble: t, attempts: make(map[[3]string]int, 100), intents: map[string]int{}, byOp: map[uint64]string{}, met: map[string]*known{}}
}

// run does one run of the connection, as a program would from its start. It returns what the program could tell: nothing when it died.
func (p *process) run(parent context.Context, approve []string) (*sync.Summary, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	p.cancel = cancel
	c := p.conn
	client, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if p.cutFor > 0 {
		p.cutFrom += time.Duration(began.UnixNano()) // an instant from here on
	}
	e := &sync.Engine{
		Model: p.w.u.model, Dependencies: p.w.u.order, Source: &reader{p: p}, Ledger: &ledger{Ledger: p.w.ledger, p: p}, Keys: c.ring, Connection: c.Connection,
		Options: sync.Options{
			WorkDir: p.w.dir, Holder: p.name, Workers: p.w.workers, Mappers: 1, Rules: p.w.rules, FoldEvery: p.w.foldEvery,
			Safeguards: sync.Safeguards{ApproveDeletes: approve}, Resync: p.resync, Scope: p.scope, Schools: p.schools,
		},
		Reader: client,
		Target: func(check func() error) sync.Target { return turns{client.Guarded(check), p} },
	}
	s, err := e.Run(ctx)
	p.mu.Lock()
	dead, ends, troubled, scan := p.dead, p.ends, p.troubled, p.scan
	p.mu.Unlock()
	if err == nil && !dead && scan != nil {
		p.w.mu.Lock()
		c.had(c.ever, scan, func(*row) bool { return true })
		p.w.mu.Unlock()
	}
	if !p.rival {
		if c.shaken = troubled; dead || ends || !p.w.plan.daemon {
			c.line = nil
		}
	}
	if dead {
		return nil, errDead
	}
	return s, err
}

// line is a program's way to the target: its client outlives a run when the program does.
type line struct {
	client *edfi.Client
	mu     gosync.Mutex
	p      *process // that has the line now
}

// RoundTrip carries a call of the process that has the line: http.RoundTripper.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	l.mu.Lock()
	p := l.p
	l.mu.Unlock()
	return p.RoundTrip(req)
}

// connect returns the client of the program: a new one, or the one of its last run when it lives on.
func (p *process) connect(ctx context.Context) (*edfi.Client, error) {
	if !p.rival && p.conn.line != nil { // a rival is another program beside it
		l := p.conn.line
		if p.conn.shaken && p.w.forgot { // a token that replaced one and was never proven is not replaced for a while
			p.hit()
		}
		l.mu.Lock()
		l.p = p
		l.mu.Unlock()
		return l.client, nil
	}
	l := &line{p: p}
	var err error
	// The client's own limit is out of the way: who gets a place first would be a race.
	l.client, err = edfi.Connect(ctx, edfi.Config{
		BaseURL: "http://target.example", ClientID: "id", ClientSecret: "secret", Timeout: 30 * time.Second,
		MaxConcurrency: 256, MinConcurrency: 256, MaxRetries: p.w.retries, Transport: l,
	})
	if err == nil && !p.rival {
		p.conn.line = l
	}
	return l.client, err
}

// seeHolds notes what a safeguard held and nobody has decided about.
func (p *process) seeHolds(ctx context.Context) error {
	p.held = nil
	db, conn := p.w.ledger, p.conn.ID
	holds, err := db.Plans(ctx, conn, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanOpen}})
	if err != nil || len(holds) == 0 {
		return err
	}
	waiting := map[string][]syncdb.PlanOp{}
	for _, h := range holds {
		if h.Rule == string(sync.RuleOutOfScope) {
			continue // what is in the scope again waits no longer, and judgeDelete sees what is outside
		}
		err := db.PlanOps(ctx, conn, h.ID, func(o syncdb.PlanOp) error {
			if o.Verb == syncdb.Delete {
				waiting[o.Resource] = append(waiting[o.Resource], o)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	p.held = map[string]syncdb.Hash{}
	for resource, ops := range waiting {
		for _, o := range ops {
			found, err := db.Lookup(ctx, conn, resource, []syncdb.Hash{o.KeyHash})
			if err != nil {
				return err
			}
			// A hold is of the record it was made for: one that has been made anew under the same key since is judged anew.
			same := o.RecordID.IsZero() || o.RecordID == p.conn.hash([]byte(found[o.KeyHash].EdfiID))
			if e := found[o.KeyHash]; same && e.EdfiID != "" && e.RecordHash == o.OldRecord && e.SourceHash == o.SourceHash {
				p.held[e.EdfiID] = o.KeyHash
			}
		}
	}
	return nil
}

// check compares what a run says with what it did.
func (p *process) check(s *sync.Summary, err error) {
	p.mu.Lock()
	scan, broken, writes := p.scan, p.broken, p.writes
	p.mu.Unlock()
	if broken && writes > 0 {
		p.w.violate("I5", "%s made %d write calls after a scan that broke", p.name, writes)
	}
	if s == nil || scan == nil || broken {
		return
	}
	rows, invalid, twins := 0, 0, 0
	for k, records := range scan.records {
		rows += len(records)
		for _, x := range records {
			if !x.valid {
				invalid++
			}
		}
		for _, group := range scan.keys[k] {
			if len(group) > 1 {
				twins += len(group)
				invalid += len(group) - 1
			}
		}
	}
	t := s.Totals
	if len(s.Resources) == 0 {
		return // it ended before the scan was complete
	}
	if t.Rows != int64(rows) {
		p.w.violate("I11", "%s read %d rows, there are %d", p.name, t.Rows, rows)
	}
	if t.WithRow != t.Rows {
		p.w.violate("I11", "%s gave %d outcomes to %d rows: %+v", p.name, t.WithRow, t.Rows, t)
	}
	whole := s.Scope.All() && p.schools.All()
	if err == nil && (whole && t.Invalid < int64(invalid) || t.Invalid > int64(invalid+twins)) {
		p.w.violate("I11", "%s says %d rows are invalid, there are %d (and %d with keys of others)", p.name, t.Invalid, invalid, twins)
	}
}

func (p *process) String() string { return fmt.Sprintf("%s of connection %s", p.name, p.conn.d.tag) }
