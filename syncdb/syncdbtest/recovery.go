package syncdbtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
)

func sorted(es []syncdb.Entry) []syncdb.Entry {
	es = slices.Clone(es)
	slices.SortFunc(es, func(a, b syncdb.Entry) int { return bytes.Compare(a.KeyHash[:], b.KeyHash[:]) })
	return es
}

func recovery(t *testing.T, w *world) {
	ctx := t.Context()
	other := w.connect("other")
	_, _, err := w.RequestRun(ctx, other, "cli")
	must(t, err)
	_, otherLease, err := w.StartRun(ctx, other, "process 9", 10*ttl)
	must(t, err)
	must(t, w.Append(ctx, otherLease, 1, []syncdb.Intent{create(1, live("theirs")).Intent}, nil))

	l := w.start()
	had := []string{"updated", "update open", "deleted", "delete open", "create open", "moved open"}
	for i, key := range had {
		w.do(l, 1, create(uint64(100+i), live(key)))
	}
	changed := with(live("updated"), func(e *syncdb.Entry) { e.RecordHash = hash("changed") })
	to := with(live("moved to"), func(e *syncdb.Entry) { e.EdfiID = live("moved open").EdfiID })
	w.journal(l, 2, call(1, syncdb.Update, syncdb.EffectLive, changed), lost(call(2, syncdb.Update, syncdb.EffectLive, live("update open"))),
		lost(create(3, live("create open"))), lost(create(4, live("new open"))), create(5, live("new")))
	w.journal(l, 3, call(6, syncdb.Delete, syncdb.EffectGone, live("deleted")), lost(call(7, syncdb.Delete, syncdb.EffectGone, live("delete open"))),
		lost(move(8, syncdb.EffectLive, live("moved open"), to)))
	nameless := func(e syncdb.Entry) syncdb.Entry { return unknown(with(e, func(e *syncdb.Entry) { e.EdfiID = "" })) }
	want := []syncdb.Entry{
		changed, unknown(live("update open")), nameless(live("create open")), live("new"), unknown(live("delete open")), unknown(live("moved open")),
		nameless(live("new open")),
	}

	next := w.die()
	w.journal(next, 1, create(1, live("ours"))) // the new run's own frames are not recovered
	for limit := int64(1); ; limit += limit/4 + 1 {
		stats, err := w.Recover(&failing{Context: ctx, left: limit, done: make(chan struct{})}, next)
		if err == nil {
			diff(t, "recovered", stats, syncdb.RecoverStats{Folded: 3, Open: 5})
			break
		}
	}
	w.want(students, want...)
	stats, err := w.Recover(ctx, next)
	must(t, err)
	diff(t, "recovered again", stats, syncdb.RecoverStats{})
	w.want(students, want...)
	w.fold(next, 1, 1)
	w.want(students, append(want, live("ours"))...)

	found, err := w.Lookup(ctx, other, students, []syncdb.Hash{hash("theirs")})
	must(t, err)
	if len(found) != 0 {
		t.Error("the other connection's journal was recovered")
	}
}

// crashPoints runs one script and lets the process die after each of its calls. Whatever the journal held, the next run finds: settled
// ops with their result, all others Unknown.
func crashPoints(t *testing.T, w *world) {
	ctx := t.Context()
	type stage struct {
		what string
		call func(syncdb.Lease) error
		want []syncdb.Entry // after recovery, when the process dies right after
	}
	a, b := live("a"), live("b")
	changed := with(a, func(e *syncdb.Entry) { e.RecordHash = hash("changed") })
	bare := func(e syncdb.Entry) syncdb.Entry { return unknown(with(e, func(e *syncdb.Entry) { e.EdfiID = "" })) }
	createA, createB, updateA, deleteB := create(1, a), create(2, b), call(3, syncdb.Update, syncdb.EffectLive, changed), call(4, syncdb.Delete, syncdb.EffectGone, b)
	appendTo := func(step int, ins []syncdb.Intent, rs []syncdb.Result) func(syncdb.Lease) error {
		return func(l syncdb.Lease) error { return w.Append(ctx, l, step, ins, rs) }
	}
	fold := func(step int) func(syncdb.Lease) error {
		return func(l syncdb.Lease) error {
			_, err := w.Fold(ctx, l, step)
			return err
		}
	}
	both := []syncdb.Entry{a, b}
	script := []stage{
		{"start", func(syncdb.Lease) error { return nil }, nil},
		{"intents", appendTo(1, []syncdb.Intent{createA.Intent, createB.Intent}, nil), []syncdb.Entry{bare(a), bare(b)}},
		{"first result", appendTo(1, nil, []syncdb.Result{createA.Result}), []syncdb.Entry{a, bare(b)}},
		{"second result", appendTo(1, nil, []syncdb.Result{createB.Result}), both},
		{"fold", fold(1), both},
		{"step", func(l syncdb.Lease) error {
			return w.SaveStep(ctx, l, syncdb.Step{Position: 1, Resource: students, Verb: syncdb.Create, State: "done"})
		}, both},
		{"update intent", appendTo(2, []syncdb.Intent{updateA.Intent}, nil), []syncdb.Entry{unknown(a), b}},
		{"update result, delete intent", appendTo(2, []syncdb.Intent{deleteB.Intent}, []syncdb.Result{updateA.Result}), []syncdb.Entry{changed, unknown(b)}},
		{"delete result", appendTo(2, nil, []syncdb.Result{deleteB.Result}), []syncdb.Entry{changed}},
		{"second fold", fold(2), []syncdb.Entry{changed}},
		{"problems", func(l syncdb.Lease) error {
			return w.SaveProblems(ctx, l, []syncdb.Problem{{Resource: students, SourceHash: hash("row"), Outcome: "invalid", Code: "x"}})
		}, []syncdb.Entry{changed}},
		{"finish", func(l syncdb.Lease) error { return w.FinishRun(ctx, l, syncdb.RunDone, nil, "") }, []syncdb.Entry{changed}},
	}
	for n := range script {
		l := w.start()
		for _, s := range script[:n+1] {
			if err := s.call(l); err != nil {
				t.Fatalf("%s: %v", s.what, err)
			}
		}
		next := w.die()
		_, err := w.Recover(ctx, next)
		must(t, err)
		diff(t, "entries after dying behind "+script[n].what, w.all(students), sorted(script[n].want), cmpopts.IgnoreFields(syncdb.Entry{}, "RunID"))
		// Leave nothing for the next round.
		for i, e := range w.all(students) {
			e.EdfiID = "x"
			w.do(next, 9, call(uint64(100+i), syncdb.Delete, syncdb.EffectGone, with(e, func(e *syncdb.Entry) { e.EdfiID = a.EdfiID })),
				call(uint64(200+i), syncdb.Delete, syncdb.EffectGone, with(e, func(e *syncdb.Entry) { e.EdfiID = b.EdfiID })))
		}
		w.want(students)
		w.finish(next)
	}
}

// histories plays random runs, with crashes and interrupted folds, against the ledger and the one in memory, and compares them.
func histories(t *testing.T, w *world) {
	for seed := range uint64(historySeeds) {
		twin := &world{t: t, clock: w.clock, master: w.master}
		mem := memdb.Open(syncdb.Config{Master: w.master, Clock: w.clock.Now, Grace: grace})
		twin.open = func(*testing.T, syncdb.Config) Ledger { return mem }
		twin.restart()
		w.conn, twin.conn = w.connect(fmt.Sprint(seed)), twin.connect(fmt.Sprint(seed))
		h := &history{rnd: rand.New(rand.NewPCG(seed, 0)), worlds: []*world{w, twin}, open: map[int][]op{}, entries: map[syncdb.Hash]bool{}}
		h.begin()
		for range 40 {
			h.event(t)
		}
		h.recover(t)
		got, want := w.all(students), twin.all(students)
		diff(t, fmt.Sprintf("seed %d: entries beside those in memory", seed), got, want, cmpopts.IgnoreFields(syncdb.Entry{}, "RunID"))
		for _, one := range h.worlds {
			must(t, one.FinishRun(t.Context(), h.leases[one], syncdb.RunDone, nil, ""))
		}
	}
}

type history struct {
	rnd     *rand.Rand
	worlds  []*world
	leases  map[*world]syncdb.Lease
	op      uint64
	busy    map[syncdb.Hash]bool // keys with an open call
	open    map[int][]op         // by step
	entries map[syncdb.Hash]bool
}

func (h *history) begin() {
	h.leases, h.busy, h.open = map[*world]syncdb.Lease{}, map[syncdb.Hash]bool{}, map[int][]op{}
	for _, w := range h.worlds {
		h.leases[w] = w.start()
	}
}

func (h *history) recover(t *testing.T) {
	t.Helper()
	h.worlds[0].clock.advance(ttl + grace)
	for _, w := range h.worlds {
		w.restart()
	}
	h.begin()
	for _, w := range h.worlds {
		for limit := h.rnd.Int64N(40) + 1; ; limit *= 2 {
			if _, err := w.Recover(&failing{Context: t.Context(), left: limit, done: make(chan struct{})}, h.leases[w]); err == nil {
				break
			}
		}
	}
}

func (h *history) event(t *testing.T) {
	t.Helper()
	step := 1 + h.rnd.IntN(3)
	switch n := h.rnd.IntN(100); {
	case n < 70:
		h.append(t, step)
	case n < 95:
		for len(h.open[step]) > 0 {
			h.append(t, step)
		}
		for _, w := range h.worlds {
			ctx := context.Context(t.Context())
			if h.rnd.IntN(3) == 0 {
				ctx = &failing{Context: ctx, left: h.rnd.Int64N(60) + 1, done: make(chan struct{})}
			}
			if _, err := w.Fold(ctx, h.leases[w], step); err != nil && ctx.Err() == nil {
				t.Fatalf("fold: %v", err)
			}
			if _, err := w.Fold(t.Context(), h.leases[w], step); err != nil {
				t.Fatalf("fold again: %v", err)
			}
		}
	default:
		h.recover(t)
	}
}

// append closes some of the step's open calls and opens others, on keys that are free.
func (h *history) append(t *testing.T, step int) {
	t.Helper()
	var results []syncdb.Result
	var still []op
	for _, o := range h.open[step] {
		if h.rnd.IntN(3) == 0 {
			still = append(still, o)
			continue
		}
		results = append(results, o.Result)
		delete(h.busy, o.Intent.KeyHash)
		delete(h.busy, o.Intent.OldKeyHash)
	}
	h.open[step] = still
	var intents []syncdb.Intent
	for range h.rnd.IntN(12) {
		h.op++
		from, to := live(name("k", h.rnd.IntN(40))), live(name("k", h.rnd.IntN(40)))
		from.EdfiID, to.EdfiID = fmt.Sprint(h.rnd.IntN(3)), fmt.Sprint(h.rnd.IntN(3))
		to.RecordHash = hashN("record", int(h.op))
		effect := syncdb.Effect(h.rnd.IntN(5))
		var o op
		switch h.rnd.IntN(5) {
		case 0, 1:
			if o = create(h.op, to); h.rnd.IntN(3) == 0 {
				o = call(h.op, syncdb.Create, effect, to)
			}
		case 2:
			o = call(h.op, syncdb.Update, effect, to)
		case 3:
			o = call(h.op, syncdb.Delete, effect%4, to)
			if o.Result.Effect == syncdb.EffectLive {
				o.Result.Effect = syncdb.EffectGone
			}
		default:
			o = move(h.op, effect, from, to)
		}
		if h.busy[o.Intent.KeyHash] || h.busy[o.Intent.OldKeyHash] {
			continue
		}
		h.busy[o.Intent.KeyHash] = true
		if !o.Intent.OldKeyHash.IsZero() {
			h.busy[o.Intent.OldKeyHash] = true
		}
		intents = append(intents, o.Intent)
		h.open[step] = append(h.open[step], o)
	}
	if len(intents)+len(results) == 0 {
		return
	}
	for _, w := range h.worlds {
		must(t, w.Append(t.Context(), h.leases[w], step, intents, results))
	}
}
