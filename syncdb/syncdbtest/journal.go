package syncdbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

func effects(t *testing.T, w *world) {
	was := live("a")
	adopted := with(was, func(e *syncdb.Entry) { e.Origin = syncdb.Adopted })
	changed := with(was, func(e *syncdb.Entry) { e.RecordHash, e.SourceHash = hash("changed"), hash("another row") })
	missing := with(was, func(e *syncdb.Entry) { e.State, e.RecordHash = syncdb.Missing, syncdb.Hash{} })
	bare := unknown(with(was, func(e *syncdb.Entry) { e.EdfiID = "" }))
	met := create(1, was)
	met.Result.Origin = syncdb.Met
	nameless := create(1, was)
	nameless.Result.EdfiID = ""
	spelled := with(bare, func(e *syncdb.Entry) { e.SentKey = []byte(`["A"]`) })
	sent := func(effect syncdb.Effect) op {
		o := call(1, syncdb.Create, effect, was)
		o.Intent.SentKey = spelled.SentKey
		return o
	}
	namelessSent := sent(syncdb.EffectLive)
	namelessSent.Result.EdfiID, namelessSent.Result.Origin = "", syncdb.Created
	otherID := with(was, func(e *syncdb.Entry) { e.EdfiID = "another-id" })
	const first = "entry exists: "
	for name, c := range map[string]struct {
		had  []syncdb.Entry
		op   op
		want []syncdb.Entry
	}{
		"create answered 201":                     {op: create(1, was), want: []syncdb.Entry{was}},
		"create answered 200 met a record":        {op: met, want: []syncdb.Entry{with(was, func(e *syncdb.Entry) { e.Origin = syncdb.Met })}},
		"create answered without a Location":      {op: nameless, want: []syncdb.Entry{bare}},
		"create rejected":                         {op: call(1, syncdb.Create, syncdb.EffectNone, was)},
		"create lost":                             {op: call(1, syncdb.Create, syncdb.EffectUnknown, was), want: []syncdb.Entry{bare}},
		"create lost keeps the key as sent":       {op: sent(syncdb.EffectUnknown), want: []syncdb.Entry{spelled}},
		"create without a Location does, too":     {op: namelessSent, want: []syncdb.Entry{spelled}},
		"create answered needs no key as sent":    {op: sent(syncdb.EffectLive), want: []syncdb.Entry{was}},
		first + "create lost is as sent last":     {had: []syncdb.Entry{spelled}, op: call(1, syncdb.Create, syncdb.EffectUnknown, was), want: []syncdb.Entry{bare}},
		first + "create lost after an answer":     {had: []syncdb.Entry{was}, op: sent(syncdb.EffectUnknown), want: []syncdb.Entry{spelled}},
		first + "refused keeps the key as sent":   {had: []syncdb.Entry{spelled}, op: call(1, syncdb.Create, syncdb.EffectNone, was), want: []syncdb.Entry{spelled}},
		first + "create rejected":                 {had: []syncdb.Entry{was}, op: call(1, syncdb.Create, syncdb.EffectNone, changed), want: []syncdb.Entry{was}},
		first + "create lost forgets the id":      {had: []syncdb.Entry{was}, op: call(1, syncdb.Create, syncdb.EffectUnknown, was), want: []syncdb.Entry{bare}},
		first + "create again keeps the origin":   {had: []syncdb.Entry{adopted}, op: call(1, syncdb.Create, syncdb.EffectLive, changed), want: []syncdb.Entry{with(changed, func(e *syncdb.Entry) { e.Origin = syncdb.Adopted })}},
		first + "create says its origin":          {had: []syncdb.Entry{adopted}, op: create(1, changed), want: []syncdb.Entry{changed}},
		"update":                                  {had: []syncdb.Entry{was}, op: call(1, syncdb.Update, syncdb.EffectLive, changed), want: []syncdb.Entry{changed}},
		"update keeps the origin":                 {had: []syncdb.Entry{adopted}, op: call(1, syncdb.Update, syncdb.EffectLive, changed), want: []syncdb.Entry{with(changed, func(e *syncdb.Entry) { e.Origin = syncdb.Adopted })}},
		"update rejected":                         {had: []syncdb.Entry{was}, op: call(1, syncdb.Update, syncdb.EffectNone, changed), want: []syncdb.Entry{was}},
		"update lost":                             {had: []syncdb.Entry{was}, op: call(1, syncdb.Update, syncdb.EffectUnknown, changed), want: []syncdb.Entry{unknown(was)}},
		"update answered 404":                     {had: []syncdb.Entry{was}, op: call(1, syncdb.Update, syncdb.EffectMissing, changed), want: []syncdb.Entry{missing}},
		"update of a record the target lost":      {had: []syncdb.Entry{was}, op: call(1, syncdb.Update, syncdb.EffectGone, changed)},
		"update of what we have no entry of":      {op: call(1, syncdb.Update, syncdb.EffectLive, was), want: []syncdb.Entry{with(was, func(e *syncdb.Entry) { e.Origin = syncdb.Met })}},
		"update of a missing record brings it":    {had: []syncdb.Entry{missing}, op: call(1, syncdb.Update, syncdb.EffectLive, changed), want: []syncdb.Entry{changed}},
		"delete":                                  {had: []syncdb.Entry{was}, op: call(1, syncdb.Delete, syncdb.EffectGone, was)},
		"delete refused":                          {had: []syncdb.Entry{was}, op: call(1, syncdb.Delete, syncdb.EffectNone, was), want: []syncdb.Entry{was}},
		"delete lost":                             {had: []syncdb.Entry{was}, op: call(1, syncdb.Delete, syncdb.EffectUnknown, was), want: []syncdb.Entry{unknown(was)}},
		"delete of what we have no entry of":      {op: call(1, syncdb.Delete, syncdb.EffectGone, was)},
		"delete of another record under that key": {had: []syncdb.Entry{otherID}, op: call(1, syncdb.Delete, syncdb.EffectGone, was), want: []syncdb.Entry{otherID}},
		"delete lost of another record":           {had: []syncdb.Entry{otherID}, op: call(1, syncdb.Delete, syncdb.EffectUnknown, was), want: []syncdb.Entry{otherID}},
		"delete of an entry without an id":        {had: []syncdb.Entry{bare}, op: call(1, syncdb.Delete, syncdb.EffectGone, was)},
	} {
		// Each case has its own step and resource, so that all can share a run.
		resource := "case/" + name
		l := w.start()
		in := func(e syncdb.Entry) syncdb.Entry { e.Resource = resource; return e }
		var had []op
		for i, e := range c.had {
			had = append(had, w.make(uint64(100+i), in(e))...)
		}
		w.do(l, 1, had...)
		c.op.Intent.Resource = resource
		w.do(l, 2, c.op)
		for i := range c.want {
			c.want[i] = in(c.want[i])
		}
		t.Run(name, func(*testing.T) { w.want(resource, c.want...) })
		w.finish(l)
	}
}

// make returns ops that lead to the entry, whatever its state and origin.
func (w *world) make(n uint64, e syncdb.Entry) []op {
	o := create(n, e)
	o.Result.Origin = e.Origin
	o.Intent.RecordHash = hash("as first made")
	switch e.State {
	case syncdb.Unknown:
		o.Result.Effect = syncdb.EffectUnknown
		return []op{o}
	case syncdb.Missing:
		gone := call(n+50, syncdb.Update, syncdb.EffectMissing, e)
		return []op{o, gone}
	default:
		o.Intent.RecordHash = e.RecordHash
		return []op{o}
	}
}

func foldOrder(t *testing.T, w *world) {
	l := w.start()
	a, b := live("a"), live("b")
	again := with(a, func(e *syncdb.Entry) { e.EdfiID, e.RecordHash = "second-id", hash("second") })
	w.do(l, 1, create(1, a), call(2, syncdb.Delete, syncdb.EffectGone, a))
	w.want(students)
	w.do(l, 2, create(3, a), create(4, b), call(5, syncdb.Delete, syncdb.EffectGone, a), create(6, again))
	w.want(students, again, b)
	w.fold(l, 2, 0)

	// A key freed in one step and taken in another, whichever is folded first.
	w.journal(l, 3, call(7, syncdb.Delete, syncdb.EffectGone, again))
	w.journal(l, 4, create(8, a))
	w.fold(l, 4, 1)
	w.fold(l, 3, 1)
	w.want(students, a, b)
	w.journal(l, 5, call(9, syncdb.Delete, syncdb.EffectGone, b))
	w.journal(l, 6, create(10, with(b, func(e *syncdb.Entry) { e.EdfiID = "new" })))
	w.fold(l, 5, 1)
	w.fold(l, 6, 1)
	w.want(students, a, with(b, func(e *syncdb.Entry) { e.EdfiID = "new" }))

	// An intent and its result in one frame: a change of the ledger alone, without a call.
	o := call(11, syncdb.Update, syncdb.EffectLive, again)
	o.Intent.EdfiID, o.Result.EdfiID = a.EdfiID, ""
	must(t, w.Append(t.Context(), l, 7, []syncdb.Intent{o.Intent}, []syncdb.Result{o.Result}))
	w.fold(l, 7, 1)
	w.want(students, with(again, func(e *syncdb.Entry) { e.EdfiID = a.EdfiID }), with(b, func(e *syncdb.Entry) { e.EdfiID = "new" }))
	if bad := w.Append(t.Context(), l, 8, []syncdb.Intent{{Op: 1, Verb: syncdb.Create, Resource: students}}, nil); bad == nil {
		t.Error("an intent without a key was taken")
	}
}

// move is an Update that takes the entry from one key to another.
func move(n uint64, effect syncdb.Effect, from, to syncdb.Entry) op {
	o := call(n, syncdb.Update, effect, to)
	o.Intent.OldKeyHash = from.KeyHash
	return o
}

// anew is a Create in the place of a record that had another key and is not there any more.
func anew(n uint64, effect syncdb.Effect, from, to syncdb.Entry) op {
	o := call(n, syncdb.Create, effect, to)
	o.Intent.OldKeyHash = from.KeyHash
	return o
}

func moves(t *testing.T, w *world) {
	at := func(key, id string) syncdb.Entry { return with(live(key), func(e *syncdb.Entry) { e.EdfiID = id }) }
	a, b, c := at("a", "1"), at("b", "2"), at("c", "3")
	adopted := with(a, func(e *syncdb.Entry) { e.Origin = syncdb.Adopted })
	for name, test := range map[string]struct {
		had  []syncdb.Entry
		ops  []op
		want []syncdb.Entry
	}{
		"to a free key":              {[]syncdb.Entry{a, c}, []op{move(1, syncdb.EffectLive, a, at("b", "1"))}, []syncdb.Entry{at("b", "1"), c}},
		"keeps the origin":           {[]syncdb.Entry{adopted}, []op{move(1, syncdb.EffectLive, a, at("b", "1"))}, []syncdb.Entry{with(at("b", "1"), func(e *syncdb.Entry) { e.Origin = syncdb.Adopted })}},
		"to a key just freed":        {[]syncdb.Entry{a, b}, []op{call(1, syncdb.Delete, syncdb.EffectGone, b), move(2, syncdb.EffectLive, a, at("b", "1"))}, []syncdb.Entry{at("b", "1")}},
		"in a chain":                 {[]syncdb.Entry{a, b}, []op{move(1, syncdb.EffectLive, b, at("c", "2")), move(2, syncdb.EffectLive, a, at("b", "1"))}, []syncdb.Entry{at("b", "1"), at("c", "2")}},
		"swap":                       {[]syncdb.Entry{a, b}, []op{move(1, syncdb.EffectLive, a, at("b", "1")), move(2, syncdb.EffectLive, b, at("a", "2"))}, []syncdb.Entry{with(at("a", "2"), func(e *syncdb.Entry) { e.Origin = syncdb.Met }), at("b", "1")}},
		"there and back":             {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectLive, a, at("b", "1")), move(2, syncdb.EffectLive, at("b", "1"), a)}, []syncdb.Entry{a}},
		"then another takes the key": {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectLive, a, at("b", "1")), create(2, at("a", "9"))}, []syncdb.Entry{at("a", "9"), at("b", "1")}},
		"rejected":                   {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectNone, a, at("b", "1"))}, []syncdb.Entry{a}},
		"lost":                       {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectUnknown, a, at("b", "1"))}, []syncdb.Entry{unknown(a)}},
		"answered 404":               {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectMissing, a, at("b", "1"))}, []syncdb.Entry{with(unknown(a), func(e *syncdb.Entry) { e.State = syncdb.Missing })}},
		"made anew, lost":            {[]syncdb.Entry{adopted}, []op{move(1, syncdb.EffectMissing, a, at("b", "1")), anew(2, syncdb.EffectUnknown, a, at("b", ""))}, []syncdb.Entry{unknown(at("b", ""))}},
		"made anew, lost twice":      {[]syncdb.Entry{a}, []op{anew(1, syncdb.EffectUnknown, a, at("b", "")), anew(2, syncdb.EffectUnknown, a, at("b", ""))}, []syncdb.Entry{unknown(at("b", ""))}},
		"made anew, refused":         {[]syncdb.Entry{a}, []op{move(1, syncdb.EffectMissing, a, at("b", "1")), anew(2, syncdb.EffectNone, a, at("b", ""))}, []syncdb.Entry{with(unknown(a), func(e *syncdb.Entry) { e.State = syncdb.Missing })}},
		"of what we have no entry":   {nil, []op{move(1, syncdb.EffectUnknown, a, at("b", "1"))}, []syncdb.Entry{with(unknown(at("b", "1")), func(e *syncdb.Entry) { e.Origin = syncdb.Met })}},
	} {
		l := w.start()
		resource := "move/" + name
		for i := range test.had {
			test.had[i].Resource = resource
			w.do(l, 1, w.make(uint64(100+i), test.had[i])...)
		}
		for i := range test.ops {
			test.ops[i].Intent.Resource = resource
		}
		w.do(l, 2, test.ops...)
		for i := range test.want {
			test.want[i].Resource = resource
		}
		t.Run(name, func(*testing.T) { w.want(resource, test.want...) })
		w.finish(l)
	}
}

func unsettled(t *testing.T, w *world) {
	l := w.start()
	w.do(l, 1, create(1, live("b")))
	w.journal(l, 2, create(2, live("a")), lost(call(3, syncdb.Update, syncdb.EffectLive, live("b"))), lost(create(4, live("c"))))
	_, err := w.Fold(t.Context(), l, 2)
	wantErr(t, "fold", err, syncdb.ErrUnsettled)
	open, err := w.Open(t.Context(), w.conn)
	must(t, err)
	if open != 2 {
		t.Errorf("%d intents are open, want 2", open)
	}
	next := w.die()
	stats, err := w.Recover(t.Context(), next)
	must(t, err)
	diff(t, "recovered", stats, syncdb.RecoverStats{Folded: 1, Open: 2})
	w.want(students, live("a"), unknown(live("b")), unknown(with(live("c"), func(e *syncdb.Entry) { e.EdfiID = "" })))
}

func bigFold(t *testing.T, w *world) {
	const n, batch = bigEntries, 500
	l := w.start()
	op, want := uint64(0), map[syncdb.Hash]syncdb.Entry{}
	for from := 0; from < n; from += batch {
		var intents []syncdb.Intent
		var results []syncdb.Result
		for i := from; i < from+batch; i++ {
			op++
			o := create(op, live(name("student", i)))
			intents, results = append(intents, o.Intent), append(results, o.Result)
			want[o.Intent.KeyHash] = live(name("student", i))
		}
		must(t, w.Append(t.Context(), l, 1, intents, nil))
		must(t, w.Append(t.Context(), l, 1, nil, results))
	}
	w.fold(l, 1, n)
	check := func() {
		t.Helper()
		if got := len(w.all(students)); got != len(want) {
			t.Fatalf("%d entries, want %d", got, len(want))
		}
		seen := map[syncdb.Hash]bool{}
		must(t, w.Hashes(t.Context(), w.conn, students, func(key, record, source syncdb.Hash, state syncdb.State) error {
			if e := want[key]; seen[key] || e.RecordHash != record || e.SourceHash != source || e.State != state {
				return fmt.Errorf("key %x has record %x, source %x, state %d; want %+v", key, record, source, state, e)
			}
			seen[key] = true
			return nil
		}))
		if len(seen) != len(want) {
			t.Errorf("Hashes gave %d entries, want %d", len(seen), len(want))
		}
	}
	check()

	// Every fifth gone, every third changed, every seventh created over again, all in one step.
	var intents []syncdb.Intent
	var results []syncdb.Result
	for i := range n {
		e := live(name("student", i))
		op++
		o := call(op, syncdb.Delete, syncdb.EffectGone, e)
		switch {
		case i%5 == 0:
			delete(want, e.KeyHash)
		case i%3 == 0:
			e.RecordHash = hashN("changed", i)
			o = call(op, syncdb.Update, syncdb.EffectLive, e)
			want[e.KeyHash] = e
		case i%7 == 0:
			o = create(op, e)
		default:
			continue
		}
		intents, results = append(intents, o.Intent), append(results, o.Result)
	}
	must(t, w.Append(t.Context(), l, 2, intents, nil))
	must(t, w.Append(t.Context(), l, 2, nil, results))
	w.fold(l, 2, len(intents))
	check()
}

func interruptedFold(t *testing.T, w *world) {
	const n = interruptedEntries
	l := w.start()
	var ops []op
	for i := range n {
		ops = append(ops, create(uint64(i+1), live(name("student", i))))
	}
	w.bulk(l, 1, ops)
	w.fold(l, 1, n)
	// A second step with every kind of op; wherever its fold is interrupted, repeating it ends the same.
	ops = nil
	var want []syncdb.Entry
	for i := range n {
		e, op := live(name("student", i)), uint64(n+10*i+1)
		moved := with(live(name("moved", i)), func(m *syncdb.Entry) { m.EdfiID = e.EdfiID })
		switch i % 4 {
		case 0:
			ops = append(ops, call(op, syncdb.Delete, syncdb.EffectGone, e))
		case 1:
			e.RecordHash = hashN("changed", i)
			ops = append(ops, call(op, syncdb.Update, syncdb.EffectLive, e))
			want = append(want, e)
		case 2:
			ops = append(ops, move(op, syncdb.EffectLive, e, moved))
			want = append(want, moved)
		case 3:
			again := with(e, func(e *syncdb.Entry) { e.EdfiID = "again" })
			ops = append(ops, call(op, syncdb.Delete, syncdb.EffectGone, e), create(op+1, again))
			want = append(want, again)
		}
	}
	w.bulk(l, 2, ops)
	interrupted := 0
	for limit := int64(1); ; limit += limit/2 + 1 {
		ctx := &failing{Context: t.Context(), left: limit, done: make(chan struct{})}
		_, err := w.Fold(ctx, l, 2)
		if err == nil {
			break
		}
		if interrupted++; !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			t.Fatalf("fold: %v", err)
		}
		w.restart()
	}
	if interrupted == 0 {
		t.Error("the fold was never interrupted")
	}
	w.fold(l, 2, 0)
	w.want(students, want...)
}

// bulk appends many ops in frames of a few hundred, results one frame after their intents.
func (w *world) bulk(l syncdb.Lease, step int, ops []op) {
	w.t.Helper()
	const batch = 300
	var results []syncdb.Result
	for from := 0; from < len(ops); from += batch {
		var intents []syncdb.Intent
		var next []syncdb.Result
		for _, o := range ops[from:min(from+batch, len(ops))] {
			intents, next = append(intents, o.Intent), append(next, o.Result)
		}
		must(w.t, w.Append(w.t.Context(), l, step, intents, results))
		results = next
	}
	must(w.t, w.Append(w.t.Context(), l, step, nil, results))
}

// failing is a context that is canceled when it has been looked at a number of times.
type failing struct {
	context.Context
	mu   sync.Mutex
	left int64
	done chan struct{}
}

func (c *failing) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		close(c.done)
	}
}

func (c *failing) Done() <-chan struct{} {
	c.look()
	return c.done
}

func (c *failing) Err() error {
	c.look()
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}
