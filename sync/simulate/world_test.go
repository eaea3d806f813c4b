package simulate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// world is everything a seed makes: districts, their connections, one target and one ledger.
type world struct {
	u    *universe
	plan *plan
	gate *gate
	dir  string

	fold      bool
	rules     schema.Rules
	workers   int
	retries   int
	foldEvery int

	ledger  store
	handler http.Handler
	conns   []*connection

	committing gosync.Mutex // one call takes effect at a time
	token      string
	tokenBorn  time.Time
	tokens     map[string]time.Time // given to processes → when they expire
	forgot     bool                 // tokens were forgotten

	mu         gosync.Mutex
	timers     []*time.Timer     // to be used again
	records    map[string]*known // by id
	names      map[string]int
	writes     int                          // that arrived
	changed    int                          // that the target took
	ending     bool                         // the faults have stopped
	meddled    bool                         // other clients changed or deleted records
	guests     bool                         // other clients made records, which may refer to ours and keep them (F23)
	tainted    map[string]map[string]string // keys of records that other clients changed or deleted, and what they held before
	deleted    map[string]*held             // keys of records that we deleted last
	violations []violation
	notes      []string
	hash       uint64 // of the trace
	traced     int
	syncs      int
}

// violation is one broken promise.
type violation struct {
	promise string
	text    string
}

func (v violation) String() string { return v.promise + ": " + v.text }

// connection is one district with its connection and the process that may write for it.
type connection struct {
	syncdb.Connection
	d      *district
	ring   *keys.Ring
	hasher *schema.Hasher // used under world.committing
	holder *process
	line   *line // of the program that syncs it, nil when there is none
	shaken bool  // something was done to its last run
	// unclear are creates nobody knows for sure what became of, from an answer or from a durable result: nobody can tell a record with the key
	// of one from what another client has made (docs/guarantees.md, "Ambiguous creates").
	unclear map[string]bool
	ever    []map[string]map[int]bool // by kind: key → rows that had it in a scan
	seen    []map[string]map[int]bool // the same, with rows that were made again: whether they took over what others had nobody knows for sure
	noted   *scan                     // the last one that is in ever
}

// hash is what the engine calls a key by. Called with world.committing held.
func (c *connection) hash(key []byte) schema.Hash { return c.hasher.Sum(key) }

// creates names the create of a record, as announced does. Called with world.committing held.
func (c *connection) creates(k *compiledKind, key []byte) string {
	return fmt.Sprintf("POST %s %x", k.path, c.hash(key))
}

// snapshot gives a process the rows of the district.
func (c *connection) snapshot(p *process) *scan {
	s := c.d.scan(p.w.fold)
	p.mu.Lock()
	p.scan = s
	p.mu.Unlock()
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if c.noted == s {
		return s
	}
	c.noted = s
	c.had(c.ever, s, func(r *row) bool { return len(r.again) == 0 })
	c.had(c.seen, s, func(*row) bool { return true })
	return s
}

// had notes which rows have which keys. A row that was made again is what the old one was only once a run has come to its end: until then nobody can
// know. Called with world.mu held.
func (c *connection) had(by []map[string]map[int]bool, s *scan, which func(*row) bool) {
	for _, k := range c.d.kinds {
		if by[k] == nil {
			by[k] = map[string]map[int]bool{}
		}
		for key, group := range s.keys[k] {
			if by[k][key] == nil {
				by[k][key] = map[int]bool{}
			}
			for _, x := range group {
				if which(x.row) {
					by[k][key][x.row.id] = true
				}
			}
		}
	}
}

// made notes that a record was made, or updated, for the rows that have its key: what was sent for a row is that row's, whatever row it was made again
// from. Called with world.mu held.
func (c *connection) made(k *compiledKind, s *scan, body []byte, fold bool) {
	h, err := k.read(body, fold)
	if err != nil || s == nil || c.ever[k.index] == nil {
		return
	}
	for _, x := range s.keys[k.index][h.key] {
		if c.ever[k.index][h.key] == nil {
			c.ever[k.index][h.key] = map[int]bool{}
		}
		c.ever[k.index][h.key][x.row.id] = true
	}
}

const masterKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// play makes the world of a plan and lives through it, in virtual time. gated pins the order of events.
func play(t *testing.T, p *plan, gateSeed uint64, dir string) *world {
	var w *world
	if p.sqlite {
		made, err := ledgerDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(made)
		dir = made
	}
	synctest.Test(t, func(t *testing.T) {
		u, err := loadUniverse()
		if err == nil {
			w, err = newWorld(t, u, p, dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.gate = newGate(w, gateSeed)
		w.live(t.Context())
		w.gate.close()
	})
	return w
}

func newWorld(t *testing.T, u *universe, p *plan, dir string) (*world, error) {
	w := &world{
		u: u, plan: p, dir: dir, fold: p.fold, rules: schema.Rules{Version: 1, FoldKeys: p.fold}, workers: p.workers, retries: p.retries, foldEvery: p.foldEvery,
		tokens: map[string]time.Time{}, records: map[string]*known{}, names: map[string]int{}, tainted: map[string]map[string]string{}, deleted: map[string]*held{}, hash: 14695981039346656037,
	}
	target, err := sandbox.New(sandbox.Options{
		Model: u.model, ClientID: "id", ClientSecret: "secret", SchoolYears: []int{2026}, Descriptors: u.seeds, CaseInsensitiveKeys: p.fold, MaxTokens: 1000,
		TokenLifetime: p.tokenLife,
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = target.Close() })
	w.handler = target.Handler()
	master, err := keys.ParseMaster(masterKey)
	if err != nil {
		return nil, err
	}
	db, err := openLedger(t, p, dir, master)
	if err != nil {
		return nil, err
	}
	w.ledger = db
	for i, kinds := range p.kinds {
		c := &connection{d: newDistrict(u, i, kinds), ever: make([]map[string]map[int]bool, len(u.kinds)), seen: make([]map[string]map[int]bool, len(u.kinds)),
			unclear: map[string]bool{}}
		if c.Connection, c.ring, err = db.Connection(t.Context(), "default", c.d.tag); err != nil {
			return nil, err
		}
		if c.ring, err = master.Ring(dataKey(i), nil, 1); err != nil {
			return nil, err
		}
		c.hasher = schema.NewHasher(c.ring.HashMAC())
		w.conns = append(w.conns, c)
	}
	return w, nil
}

func (w *world) bound(k int) *source.Bound {
	if w.fold {
		return w.u.compile[1][k]
	}
	return w.u.compile[0][k]
}

// roll makes the random numbers of a decision about an event: a function of the seed and of what the decision is about.
func (w *world) roll(about string, n int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(newMix(w.plan.seed).text(about).number(n)), w.plan.seed))
}

// dice are random numbers to be used again: two allocations for each call of a world would be felt.
type dice struct {
	pcg rand.PCG
	*rand.Rand
}

var diceCup = gosync.Pool{New: func() any {
	d := new(dice)
	d.Rand = rand.New(&d.pcg)
	return d
}}

// rollCall is roll for what becomes of an operation of a process. of tells what it is of, "" when that is clear. The dice go back into diceCup.
func (w *world) rollCall(process, about, what, of string, n int) *dice {
	m := newMix(w.plan.seed).text(process).text(about).bytes(what)
	if of != "" {
		m = m.byte(' ').bytes(of)
	}
	d := diceCup.Get().(*dice)
	d.pcg.Seed(uint64(m.byte(0).number(n)), w.plan.seed)
	return d
}

// mix is an FNV-1a hash.
type mix uint64

func newMix(seed uint64) mix { return mix(14695981039346656037).word(seed) }

func (m mix) byte(b byte) mix { return (m ^ mix(b)) * 1099511628211 }

func (m mix) word(v uint64) mix {
	for range 8 {
		m, v = m.byte(byte(v)), v>>8
	}
	return m
}

func (m mix) number(n int) mix { return m.word(uint64(n)).byte(0) }

func (m mix) text(s string) mix { return m.bytes(s).byte(0) }

func (m mix) bytes(s string) mix {
	for i := range len(s) {
		m = m.byte(s[i])
	}
	return m
}

func (w *world) violate(promise, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violateLocked(promise, format, args...)
}

func (w *world) violateLocked(promise, format string, args ...any) {
	v := violation{promise, fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.noteLocked("VIOLATION %s", v)
}

// note adds a line to the story of the world.
func (w *world) note(format string, args ...any) {
	if !w.plan.verbose {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	if w.plan.verbose {
		w.notes = append(w.notes, time.Now().UTC().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// trace adds an operation to the hash two replays of a seed must have in common.
func (w *world) trace(parts ...string) {
	if !w.gate.on() {
		return
	}
	line := strings.Join(parts, " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range len(line) {
		w.hash = (w.hash ^ uint64(line[i])) * 1099511628211
	}
	w.traced++
	if w.plan.tracing {
		w.notes = append(w.notes, time.Now().UTC().Format("02 15:04:05.000000 ")+line)
	}
}

// hold notes which process may write for a connection from now on. What the one before left open stays unclear.
func (w *world) hold(p *process) {
	var left []string
	w.mu.Lock()
	last := p.conn.holder
	w.mu.Unlock()
	if last != nil && last != p {
		last.mu.Lock()
		left = slices.Collect(maps.Keys(last.intents))
		last.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.conn.holder = p
	for _, what := range left {
		p.conn.unclear[what] = true
	}
}

// leaveUnclear notes that nobody knows for sure what a call did.
func (w *world) leaveUnclear(c *connection, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.unclear[what] = true
}
