//go:build unix

package powerloss

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// lab is a place for lives: a target that is used again and again.
type lab struct {
	t       *testing.T
	model   *schema.Model
	deps    []schema.Dependency
	sandbox *sandbox.Server
	api     *tinysis.API
	pack    *source.Pack
	master  *keys.Master
	dir     string
	made    int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	var err error
	l.model, err = schema.Bundled("5.2")
	l.ok(err)
	l.deps, err = schema.Dependencies(l.model)
	l.ok(err)
	l.sandbox, err = sandbox.New(sandbox.Options{Model: l.model, ClientID: "id", ClientSecret: "secret", MaxTokens: 1 << 30})
	l.ok(err)
	t.Cleanup(func() { l.sandbox.Close() })
	l.api = &tinysis.API{Handler: l.sandbox.Handler(), ClientID: "id", ClientSecret: "secret"}
	l.pack, err = source.LoadPack(tinysis.Pack(), source.SQLite)
	l.ok(err)
	l.master, err = keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	l.ok(err)
	return l
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// folder makes the name of a new folder.
func (l *lab) folder(kind string) string {
	l.made++
	return filepath.Join(l.dir, fmt.Sprintf("%s%d", kind, l.made))
}

// life is a district from its first run on: its SIS, what people do there, and runs of the engine.
type life struct {
	*lab
	seed  uint64
	r     *rand.Rand
	sis   *tinysis.DB
	size  map[int]int // rows of each group that is there
	edits int
	told  []string // what happened, for who has to find out

	powered func() bool // false: this process is gone, none of its calls leaves
	onCall  func()      // before a write call reaches the target

	mu         gosync.Mutex
	violations []string
	intents    intents
	calls      int // that reached the target
}

// intents is what the ledger has acknowledged to this process.
type intents struct {
	durable    map[string]int // since its start: "POST ed-fi/students", "PUT ed-fi/students/ID"
	posted     map[string]map[[32]byte]bool
	open       int // noted and without an answer
	maybeLess  int // … of these, as many may have an answer: that was never acknowledged
	maybeMore  int // notes that were never acknowledged
	maybeGiven int // open when Recover failed
}

// newLife begins a life with an empty target and a small district.
func (l *lab) newLife(seed uint64) *life {
	l.t.Helper()
	l.ok(l.api.Wipe())
	f := &life{
		lab: l, seed: seed, r: rand.New(rand.NewPCG(seed, 4)), size: map[int]int{},
		powered: func() bool { return true }, onCall: func() {},
	}
	var err error
	f.sis, err = tinysis.Create(l.t.Context(), l.folder("sis")+".db", 2)
	l.ok(err)
	return f
}

func (f *life) tell(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

func (f *life) violation(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}

// edit is what people do at the SIS between two runs.
func (f *life) edit() {
	f.t.Helper()
	ctx := f.t.Context()
	for range 1 + f.r.IntN(2) {
		f.edits++
		group := 1 + f.r.IntN(4)
		n, there := f.size[group]
		add := func(n int) {
			f.ok(f.sis.Add(ctx, group, n))
			f.size[group] = n
		}
		switch act := f.r.IntN(5); {
		case !there:
			add([]int{2, 3, 3, 9}[f.r.IntN(4)])
			f.tell("group %d comes", group)
		case act == 0:
			f.ok(f.sis.Drop(ctx, group))
			delete(f.size, group)
			f.tell("group %d goes", group)
		case act == 1: // a lost answer must not leave the edits of before at the target
			f.ok(f.sis.Drop(ctx, group))
			add(n)
			f.tell("group %d is as it was at first", group)
		default:
			f.ok(f.sis.Change(ctx, group, f.edits))
			f.tell("group %d is edited", group)
		}
	}
}

// run syncs once with this ledger, as a process that has just started.
func (f *life) run(ledger *syncdb.DB) error {
	f.t.Helper()
	ctx := f.t.Context()
	conn, ring, err := ledger.Connection(ctx, "default", "tiny")
	if err != nil {
		return err
	}
	// A lease left behind is one of a process that is gone with all its calls: what the next one does about it is the program's part.
	if err := ledger.ExpireLease(ctx, conn.ID, "power"); err != nil {
		return err
	}
	client, err := edfi.Connect(ctx, edfi.Config{
		BaseURL: "http://target.example", ClientID: "id", ClientSecret: "secret", MaxConcurrency: 2, MinConcurrency: 2,
		RetryWait: time.Millisecond, MaxRetryWait: time.Millisecond, MaxRetries: 1, Transport: transport{f},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	db, err := source.Open(ctx, source.Config{Driver: source.SQLite, DSN: f.sis.Path})
	f.ok(err)
	defer db.Close()
	rules := schema.Rules{Version: 1}
	bound, err := db.Bind(ctx, nil, f.pack, f.model, rules, nil)
	f.ok(err)
	all := sync.Limit{Percent: 100, Count: 1 << 40}
	e := &sync.Engine{
		Model: f.model, Dependencies: f.deps, Source: sync.FromSource(db, bound), Ledger: witnessing{ledger, f}, Keys: ring, Connection: conn,
		Target: func(check func() error) sync.Target { return client.Guarded(check) },
		Options: sync.Options{
			WorkDir: f.dir, SettleDelay: time.Millisecond, Workers: 2, Mappers: 1, Rules: rules, Holder: "power", History: time.Hour,
			Safeguards: sync.Safeguards{
				ResourceSafeguards: sync.ResourceSafeguards{Deletes: all, Updates: all, ShortSource: all}, RunDeletes: all, RunUpdates: all,
			},
		},
	}
	_, err = e.Run(ctx)
	return err
}

// begin is the start of a process that finds these many intents open.
func (f *life) begin(open int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intents = intents{durable: map[string]int{}, posted: map[string]map[[32]byte]bool{}, open: open}
}

// lost compares what a process finds with what the one before had noted: every intent that was acknowledged must be there (I3).
func (f *life) lost(found int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.intents
	if least, most := i.open-i.maybeLess-i.maybeGiven, i.open+i.maybeMore; found < least || found > most {
		f.violations = append(f.violations, fmt.Sprintf("I3: %d intents are open in the ledger, of %d to %d that were noted", found, least, most))
	}
}

// converged checks I1, I2 and I22: the target equals the source after at most two runs, and one more writes nothing. run is a process of
// one run that must succeed.
func (f *life) converged(run func() error) {
	f.t.Helper()
	want, err := f.sis.Expected(f.t.Context())
	f.ok(err)
	diff := []string{"no run"}
	for n := 1; n <= 2 && len(diff) > 0; n++ {
		if err := run(); err != nil {
			f.violation("I1: run %d after the failure fails: %v", n, err)
			return
		}
		got, err := f.api.Held()
		f.ok(err)
		diff = tinysis.Diff(want, got)
	}
	for _, d := range diff {
		f.violation("I1: %s", d)
	}
	before := f.sandbox.Stats()
	if err := run(); err != nil {
		f.violation("I1: a third run fails: %v", err)
	}
	if n := f.sandbox.Stats().Writes - before.Writes; n > 0 {
		f.violation("I22: a third run made %d write calls", n)
	}
}

// mirrors checks I2: the ledger has exactly the target's records, live and under their ids.
func (f *life) mirrors(ledger *syncdb.DB, conn int64) {
	f.t.Helper()
	ctx := f.t.Context()
	held, err := f.api.Held()
	f.ok(err)
	ids := map[string]string{}
	for name, record := range held {
		ids[record.ID] = name
	}
	resources, err := ledger.Resources(ctx, conn)
	f.ok(err)
	for _, resource := range resources {
		f.ok(ledger.Each(ctx, conn, resource, func(e *syncdb.Entry) error {
			if _, ok := ids[e.EdfiID]; !ok || e.State != syncdb.Live || e.Origin != syncdb.Created {
				f.violation("I2: an entry of %s: state %d, origin %d, record at the target: %t", resource, e.State, e.Origin, ok)
			}
			delete(ids, e.EdfiID)
			return nil
		}))
	}
	for _, name := range ids {
		f.violation("I2: the ledger has no entry of %s", name)
	}
	open, err := ledger.Open(ctx, conn)
	f.ok(err)
	if open > 0 {
		f.violation("I3: %d intents are open", open)
	}
}

// transport is the target without a network, for as long as the process lives.
type transport struct{ f *life }

var errNoPower = errors.New("the machine has no power")

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	write := r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/oauth/token")
	if write && t.f.powered() {
		t.f.onCall()
		t.f.left(r, body)
	}
	if !t.f.powered() {
		return nil, errNoPower
	}
	inner := r.Clone(r.Context())
	inner.Body, inner.RequestURI = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI()
	w := httptest.NewRecorder()
	t.f.sandbox.Handler().ServeHTTP(w, inner)
	if write && (w.Code == http.StatusConflict || w.Code == http.StatusBadRequest) {
		t.f.violation("I6: %s %s was answered %d: %s", r.Method, r.URL.Path, w.Code, w.Body)
	}
	if !t.f.powered() {
		return nil, errNoPower
	}
	response := w.Result()
	response.Request = r
	return response, nil
}

// left judges a write call as it leaves: its intent must have been acknowledged by the ledger (I3).
func (f *life) left(r *http.Request, body []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/data/v3/")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	call := r.Method + " " + path
	needed := 1
	if r.Method == http.MethodPost {
		if f.intents.posted[path] == nil {
			f.intents.posted[path] = map[[32]byte]bool{}
		}
		f.intents.posted[path][sha256.Sum256(body)] = true
		needed = len(f.intents.posted[path])
	}
	if f.intents.durable[call] < needed {
		f.violations = append(f.violations, "I3: "+call+" left without a durable intent")
	}
}

// witnessing is the ledger, and remembers what it acknowledged.
type witnessing struct {
	*syncdb.DB
	f *life
}

func (w witnessing) Append(ctx context.Context, l syncdb.Lease, step int, notes []syncdb.Intent, results []syncdb.Result) error {
	w.f.mu.Lock()
	w.f.intents.maybeMore += len(notes)
	w.f.intents.maybeLess += len(results)
	w.f.mu.Unlock()
	if err := w.DB.Append(ctx, l, step, notes, results); err != nil {
		return err
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	i := &w.f.intents
	i.maybeMore -= len(notes)
	i.maybeLess -= len(results)
	i.open += len(notes) - len(results)
	for _, in := range notes {
		switch in.Verb {
		case syncdb.Create:
			i.durable["POST "+in.Resource]++
		case syncdb.Update:
			i.durable["PUT "+in.Resource+"/"+in.EdfiID]++
		case syncdb.Delete:
			i.durable["DELETE "+in.Resource+"/"+in.EdfiID]++
		}
	}
	return nil
}

func (w witnessing) Recover(ctx context.Context, l syncdb.Lease) (syncdb.RecoverStats, error) {
	w.f.mu.Lock()
	w.f.intents.maybeGiven = w.f.intents.open
	w.f.mu.Unlock()
	stats, err := w.DB.Recover(ctx, l)
	if err == nil {
		w.f.mu.Lock()
		w.f.intents.open, w.f.intents.maybeGiven = 0, 0
		w.f.mu.Unlock()
	}
	return stats, err
}
