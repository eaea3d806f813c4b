package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plan is what a seed says about a world. Everything in it can be read, and left out one by one.
type plan struct {
	seed      uint64
	fold      bool // the target compares keys without case
	workers   int
	retries   int
	foldEvery int
	tokenLife time.Duration
	heal      bool // in the end every row is made valid
	sqlite    bool // the ledger is a SQLite file
	strangers bool // the target has people before we do, and wants an association first
	daemon    bool // a process lives on from run to run, and its client with it
	kinds     [][]int
	events    []event
	scoped    bool // runs are asked for parts, too
	narrowed  bool // connections are of some schools for a while

	verbose bool // tells the story
	tracing bool // tells every operation too
}

// event is one thing that happens in a world. Its own seed decides the details, so that leaving others out changes it as little as possible.
type event struct {
	id   int
	conn int
	what eventKind
	edit edit
	n    int
	seed uint64
	run  runKind
	trouble
	approved bool
	resync   bool
	pause    time.Duration
}

type eventKind uint8

const (
	eventFill      eventKind = iota // n rows
	eventEdit                       // one edit of the source
	eventRun                        // one run of the connection
	eventForeign                    // another client writes to the target
	eventForget                     // the target forgets the tokens it gave out
	eventStrangers                  // another client makes people before we do
)

type runKind uint8

const (
	runPlain  runKind = iota
	runCrash          // the process dies on the way
	runCancel         // somebody asks for its end
	runPair           // a second process wants the connection meanwhile
	runCut            // the process loses the ledger for a while, another one takes over
	runBroken         // the scan breaks
	runBeside         // together with a run of the next connection
)

func (r runKind) String() string {
	return []string{"run", "run that dies", "run that is canceled", "two processes", "run cut off from the ledger", "run with a broken scan", "runs side by side"}[r]
}

func (e event) String() string {
	switch e.what {
	case eventFill:
		return fmt.Sprintf("event %d: %c gets %d rows", e.id, 'a'+e.conn, e.n)
	case eventEdit:
		return fmt.Sprintf("event %d: %c: %s", e.id, 'a'+e.conn, e.edit)
	case eventForeign:
		return fmt.Sprintf("event %d: another client meddles with the records of %c", e.id, 'a'+e.conn)
	case eventStrangers:
		return fmt.Sprintf("event %d: another client makes people of %c", e.id, 'a'+e.conn)
	case eventForget:
		return fmt.Sprintf("event %d: the target forgets its tokens", e.id)
	}
	return fmt.Sprintf("event %d: %c: %s (calls %.2f, ledger %.3f, dies at %d)", e.id, 'a'+e.conn, e.run, e.calls, e.database, e.dieAt)
}

// newPlan draws a plan.
func newPlan(u *universe, seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	p := &plan{
		seed: seed, fold: rng.IntN(10) < 3, workers: []int{1, 2, 4, 4, 8, 16}[rng.IntN(6)], retries: 1 + rng.IntN(3), foldEvery: 250_000,
		heal: rng.IntN(10) < 6, sqlite: seed%50 == 0,
	}
	if rng.IntN(5) == 0 {
		p.foldEvery = 3 + rng.IntN(10)
	}
	p.tokenLife = []time.Duration{30 * time.Minute, 30 * time.Minute, 30 * time.Minute, 20 * time.Second}[rng.IntN(4)]
	conns := []int{2, 2, 2, 2, 2, 3, 3, 4}[rng.IntN(8)]
	for range conns {
		p.kinds = append(p.kinds, drawKinds(u, rng))
	}
	syncs := 4 + min(rng.IntN(17), rng.IntN(17))
	rowSyncs := math.Min(150*math.Exp(rng.NormFloat64()*1.28), 4000)
	perConn := max(4, int(rowSyncs)/syncs)
	calls, database := 0.0, 0.0
	if rng.IntN(5) > 0 {
		calls = rng.Float64() * 0.3
	}
	if rng.IntN(5) < 2 {
		database = rng.Float64() * 0.02
	}
	meddled := rng.IntN(7) == 0
	add := func(e event) {
		e.id, e.seed = len(p.events), rng.Uint64()
		p.events = append(p.events, e)
	}
	for c := range conns {
		add(event{conn: c, what: eventFill, n: perConn})
	}
	operations := 30 + 4*perConn
	for range syncs {
		c := rng.IntN(conns)
		for range rng.IntN(7) {
			e := drawEdit(rng)
			add(event{conn: c, what: eventEdit, edit: e})
		}
		if meddled && rng.IntN(2) == 0 {
			add(event{conn: c, what: eventForeign})
		}
		e := event{conn: c, what: eventRun, approved: rng.IntN(5) == 0, pause: time.Duration(1+rng.IntN(90)) * time.Minute}
		e.calls, e.database, e.eventual = calls, database, rng.IntN(4) == 0
		if rng.IntN(3) == 0 {
			e.calls, e.database = 0, 0
		}
		switch d := rng.IntN(20); {
		case d < 5:
			e.run, e.dieAt, e.dieLate = runCrash, 1+rng.IntN(operations), rng.IntN(2) == 0
		case d < 7:
			e.run = runCancel
		case d < 8:
			e.run = runPair
		case d < 10:
			e.run, e.cutFrom, e.cutFor = runCut, time.Duration(rng.IntN(4000))*time.Millisecond, time.Duration(20+rng.IntN(200))*time.Second
		case d < 11:
			e.run = runBroken
		case d < 13:
			e.run = runBeside
		}
		add(e)
		if rng.IntN(3) == 0 { // back to what it was, while the answer may still be out
			add(event{conn: c, what: eventEdit, edit: editRevert})
		}
	}
	p.enrich(operations)
	return p
}

// enrich adds to some worlds what has numbers of its own, so that the others are what they would be without it: processes that live on from run to
// run and meet a target that forgot their tokens; keys that pass from row to row; people whom the target has
// before we do; rows that go or change before a run, die with it, and are what they were after it; runs that
// are cut off from the ledger in the middle of a batch.
func (p *plan) enrich(operations int) {
	rng := rand.New(rand.NewPCG(p.seed, 0xe57a))
	p.daemon = rng.IntN(4) == 0
	returns, cuts, passes := rng.IntN(4) == 0, rng.IntN(8) == 0, rng.IntN(8) == 0
	p.strangers = rng.IntN(8) == 0
	var all []event
	more := 0
	add := func(e event) {
		more++
		e.id, e.seed = 10_000+more, rng.Uint64()
		all = append(all, e)
	}
	for _, e := range p.events {
		if e.what != eventRun {
			all = append(all, e)
			continue
		}
		if p.daemon && rng.IntN(4) == 0 {
			add(event{conn: e.conn, what: eventForget})
		}
		if p.strangers && rng.IntN(3) == 0 {
			add(event{conn: e.conn, what: eventStrangers})
		}
		if passes && rng.IntN(2) == 0 {
			add(event{conn: e.conn, what: eventEdit, edit: editPass})
		}
		if returns {
			for range rng.IntN(4) {
				add(event{conn: e.conn, what: eventEdit, edit: []edit{editDelete, editChange}[rng.IntN(2)]})
			}
			if e.run == runPlain && rng.IntN(2) == 0 {
				e.run, e.dieAt, e.dieLate = runCrash, 1+rng.IntN(operations), true
			}
		}
		if cuts && e.run == runPlain && rng.IntN(2) == 0 {
			e.run, e.cutFrom, e.cutFor = runCut, time.Duration(rng.IntN(60_000))*time.Millisecond, time.Duration(100+rng.IntN(120))*time.Second
			e.seed &^= 1 // slow calls
		}
		all = append(all, e)
		if returns && rng.IntN(2) == 0 {
			add(event{conn: e.conn, what: eventEdit, edit: editReturn})
		}
	}
	p.events = all
	p.cascade()
	p.namesakes()
}

// cascade adds keys that pass to what is below them while rows there go, or cannot be sent, to some worlds.
func (p *plan) cascade() {
	rng := rand.New(rand.NewPCG(p.seed, 0xca5cade))
	if rng.IntN(6) > 0 {
		return
	}
	var all []event
	for _, e := range p.events {
		if e.what == eventRun && rng.IntN(2) == 0 {
			all = append(all, event{id: 20_000 + len(all), seed: rng.Uint64(), conn: e.conn, what: eventEdit, edit: editCascade})
		}
		all = append(all, e)
	}
	p.events = all
}

// namesakes gives keys that rows had before to new rows, in some worlds.
func (p *plan) namesakes() {
	rng := rand.New(rand.NewPCG(p.seed, 0x5a3e))
	if rng.IntN(4) > 0 {
		return
	}
	var all []event
	for _, e := range p.events {
		if e.what == eventRun && rng.IntN(3) == 0 {
			all = append(all, event{id: 30_000 + len(all), seed: rng.Uint64(), conn: e.conn, what: eventEdit, edit: editNamesake})
		}
		all = append(all, e)
	}
	p.events = all
}

func drawEdit(rng *rand.Rand) edit {
	weights := [edits]int{
		editInsert: 14, editDelete: 12, editDeleteAlone: 4, editBack: 6, editChange: 20, editRevert: 10, editHurt: 6, editHeal: 6, editKey: 7, editSwap: 3,
		editCase: 5, editTwin: 3, editMove: 5, editRemade: 4, editEmpty: 1, editRefill: 4,
	}
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := rng.IntN(sum)
	for e, w := range weights {
		if n -= w; n < 0 {
			return edit(e)
		}
	}
	return editInsert
}

// drawKinds picks 3 to 12 resources, with what they refer to.
func drawKinds(u *universe, rng *rand.Rand) []int {
	chosen := map[int]bool{}
	var add func(k int)
	add = func(k int) {
		if chosen[k] {
			return
		}
		chosen[k] = true
		for _, p := range u.kinds[k].parent {
			add(p)
		}
	}
	want := 3 + rng.IntN(8)
	for len(chosen) < want {
		add(rng.IntN(len(u.kinds)))
	}
	var out []int
	for k := range chosen {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// without returns the plan without the events at [from, to).
func (p *plan) without(from, to int) *plan {
	q := *p
	q.events = append(slices.Clone(p.events[:from]), p.events[to:]...)
	return &q
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: keys without case %v, workers %d, retries %d, healed in the end %v, ledger on SQLite %v, processes live on %v\n", p.seed, p.fold, p.workers, p.retries,
		p.heal, p.sqlite, p.daemon)
	for _, e := range p.events {
		fmt.Fprintln(&b, " ", e)
	}
	return b.String()
}
