package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// live lets everything happen that the plan says, then lets the faults stop and judges what is left.
func (w *world) live(ctx context.Context) {
	for _, e := range w.plan.events {
		w.note("%s", e)
		d := w.conns[e.conn].d
		switch e.what {
		case eventFill:
			rng := w.roll("fill", e.id)
			for range e.n {
				d.insert(rng, w.drawKind(d, rng.IntN), 0)
			}
		case eventEdit:
			if what := d.apply(e.edit, w.roll("edit", e.id)); what != "" {
				w.note("  %s: %s", e.edit, what)
			}
		case eventForeign:
			w.meddle(w.conns[e.conn], e)
		case eventStrangers:
			w.makePeople(w.conns[e.conn], e)
		case eventForget:
			w.forget()
		case eventRun:
			w.sync(ctx, e)
			time.Sleep(e.pause)
		}
		if len(w.violations) > 0 {
			return
		}
	}
	w.end(ctx)
}

// drawKind picks a kind by how common its rows are.
func (w *world) drawKind(d *district, intN func(int) int) int {
	sum := 0
	for _, k := range d.kinds {
		sum += w.u.kinds[k].weight
	}
	n := intN(sum)
	for _, k := range d.kinds {
		if n -= w.u.kinds[k].weight; n < 0 {
			return k
		}
	}
	return d.kinds[0]
}

// sync is one run event.
func (w *world) sync(ctx context.Context, e event) {
	c := w.conns[e.conn]
	c.d.went, c.d.going = c.d.going, nil
	rng := w.roll("run", e.id)
	// At a slow target there is time to be canceled, or overtaken, in the middle of a batch.
	e.crawl = (e.run == runCut || e.run == runCancel) && e.seed%2 == 0
	switch e.run {
	case runBroken:
		c.d.brokenAt = 1 + rng.IntN(len(c.d.kinds))
		w.attempt(ctx, c, e, "", nil)
		c.d.brokenAt = 0
	case runCancel:
		after, signal := time.Duration(rng.IntN(8000))*time.Millisecond, rng.IntN(2) == 0
		w.attempt(ctx, c, e, "", func(p *process, over <-chan struct{}) { w.cancelLater(ctx, p, after, signal, over) })
	case runPair, runCut:
		w.attempt(ctx, c, e, "", func(p *process, over <-chan struct{}) { w.compete(ctx, p, e, over) })
	case runBeside:
		other := event{id: e.id, conn: (e.conn + 1) % len(w.conns), trouble: e.trouble}
		var wg gosync.WaitGroup
		wg.Go(func() { w.attempt(ctx, c, e, "", nil) })
		wg.Go(func() { w.attempt(ctx, w.conns[other.conn], other, "beside", nil) })
		wg.Wait()
	default:
		w.attempt(ctx, c, e, "", nil)
	}
}

// attempt runs the connection once, waiting for another process's lease to end first. beside, when given, happens at the same time.
func (w *world) attempt(ctx context.Context, c *connection, e event, suffix string, beside func(p *process, over <-chan struct{})) (*process, *sync.Summary) {
	scope, schools := w.drawScope(c, e), w.drawSchools(c, e)
	for try := 0; ; try++ {
		p := newProcess(w, c, fmt.Sprintf("%d%s.%d", e.id, suffix, try), e.trouble)
		p.approved, p.resync, p.scope, p.schools = e.approved, e.resync, scope, schools
		s, err := w.supervise(ctx, p, beside)
		var busy *syncdb.BusyError
		if !errors.As(err, &busy) {
			return p, s
		}
		if try > 20 {
			w.violate("I20", "%s cannot start: %v", p, err)
			return p, s
		}
		time.Sleep(time.Until(busy.Until) + time.Millisecond)
	}
}

// supervise lets a process do one run and judges what it says.
func (w *world) supervise(ctx context.Context, p *process, beside func(p *process, over <-chan struct{})) (*sync.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Hour)
	defer cancel()
	var approve []string
	if p.approved {
		for _, k := range w.u.kinds {
			approve = append(approve, k.path)
		}
	}
	over := make(chan struct{})
	var wg gosync.WaitGroup
	if beside != nil {
		wg.Go(func() { beside(p, over) })
	}
	w.mu.Lock()
	w.syncs++
	w.mu.Unlock()
	s, err := p.run(ctx, approve)
	close(over)
	wg.Wait()
	w.forsake(p)
	if ctx.Err() != nil {
		w.violate("I20", "%s did not end", p)
	}
	var busy *syncdb.BusyError
	if errors.As(err, &busy) || errors.Is(err, errDead) {
		w.note("  %s: %v", p, err)
		return nil, err
	}
	if s != nil {
		w.note("  %s: %s, created %d updated %d deleted %d unchanged %d held %d failed %d, %d calls: %v", p, s.State, s.Created, s.Updated, s.Deleted,
			s.Unchanged, s.Held, s.Failed, s.Calls, err)
	} else {
		w.note("  %s: %v", p, err)
	}
	p.check(s, err)
	if s != nil {
		p.checkScope(s)
	}
	p.mu.Lock()
	excused := p.troubled || p.broken || p.crawl || !p.stopAt.IsZero() // at a slow target a token may end while calls wait
	p.mu.Unlock()
	if err != nil && !excused && !errors.Is(err, syncdb.ErrNoRun) {
		w.violate("run", "%s fails with nothing wrong around it: %v", p, err)
	}
	return s, err
}

// cancelLater asks for the end of a run: through the ledger, or as a signal does.
func (w *world) cancelLater(ctx context.Context, p *process, after time.Duration, signal bool, over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-time.After(after):
	}
	if !signal {
		w.mu.Lock()
		holds := p.conn.holder == p
		w.mu.Unlock()
		if w.ledger.Cancel(ctx, p.conn.ID) != nil {
			return
		}
		if !holds { // it has not begun: the run of a dead process is asked
			p.hit()
			return
		}
	}
	w.note("  %s is asked to stop", p)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubled = true
	if signal || p.database == 0 && p.cutFor == 0 {
		p.stopAt = time.Now()
	}
	if signal && p.cancel != nil {
		p.ends = true
		p.cancel(context.Canceled)
	}
}

// compete lets other processes try to sync the connection until one has done it or the first one is done (F58, F59).
func (w *world) compete(ctx context.Context, p *process, e event, over <-chan struct{}) {
	for try := range 40 {
		select {
		case <-over:
			return
		case <-time.After(10 * time.Second):
		}
		q := newProcess(w, p.conn, fmt.Sprintf("%drival.%d", e.id, try), trouble{calls: e.calls})
		q.rival = true
		q.approved, q.schools = e.approved, p.schools
		p.hit() // whatever becomes of it now, the rival may be the reason
		if _, err := w.supervise(ctx, q, nil); err == nil {
			return
		}
	}
}

// meddle is what another client does: it changes or deletes a record of ours, or makes one before we do (F31).
func (w *world) meddle(c *connection, e event) {
	rng := w.roll("meddle", e.id)
	d := c.d
	k := w.u.kinds[d.kinds[rng.IntN(len(d.kinds))]]
	all := w.contents(k)
	if rng.IntN(3) == 0 || len(all) == 0 {
		rows := d.scan(w.fold).keys[k.index]
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			group := rows[key]
			if rng.IntN(3) > 0 || w.has(all, key) {
				continue
			}
			w.make(k, key, group[0])
			return
		}
		return
	}
	h := all[rng.IntN(len(all))]
	if rng.IntN(2) == 0 {
		a := w.other(http.MethodDelete, k.path+"/"+h.id, nil)
		w.note("  another client deletes %s %s: %d", k.path, h.key, a.status)
		w.taint(k, h, a)
		return
	}
	body := h.body
	for _, path := range []string{"nameOfInstitution", "firstName", "loginId", "sectionName", "courseTitle", "positionTitle"} {
		body = []byte(strings.Replace(string(body), `"`+path+`":"v`, `"`+path+`":"foreign`, 1))
	}
	a := w.other(http.MethodPut, k.path+"/"+h.id, body)
	w.note("  another client changes %s %s: %d", k.path, h.key, a.status)
	w.taint(k, h, a)
}

// taint notes that another client changed or deleted a record, and what our last call had made of it.
func (w *world) taint(k *compiledKind, was *held, a answer) {
	if a.status >= 300 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meddled = true
	r := w.records[was.id]
	if at := k.path + " " + was.key; w.tainted[at] == nil || r == nil || !r.foreign {
		w.tainted[at] = was.flat
	}
	if r != nil {
		r.foreign = true
	}
}

// makePeople lets another client make some of the people a district has.
func (w *world) makePeople(c *connection, e event) {
	rng := w.roll("people", e.id)
	for _, kind := range c.d.kinds {
		k := w.u.kinds[kind]
		if !k.person() {
			continue
		}
		rows, all := c.d.scan(w.fold).keys[kind], w.contents(k)
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			if rng.IntN(2) == 0 && !w.has(all, key) {
				w.make(k, key, rows[key][0])
			}
		}
	}
}

// make lets another client make the record of a row.
func (w *world) make(k *compiledKind, key string, x *rec) {
	var enc schema.Encoded
	w.bound(k.index).Template.Encode(x.cells[:len(k.columns)], &enc)
	a := w.other(http.MethodPost, k.path, enc.Wire)
	w.note("  another client makes %s %s: %d", k.path, key, a.status)
	w.foreign(k, key, enc.Wire, a)
}

func (w *world) has(all []*held, key string) bool {
	for _, h := range all {
		if h.key == key {
			return true
		}
	}
	return false
}

// foreign notes the record another client made.
func (w *world) foreign(k *compiledKind, key string, body []byte, a answer) {
	if a.status != http.StatusCreated {
		return
	}
	made, err := k.resource.CanonicalKey(nil, body, w.rules)
	if err != nil {
		w.violate("target", "%v", err)
	}
	at := a.header.Get("Location")
	id := at[strings.LastIndexByte(at, '/')+1:]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guests = true
	w.records[id] = &known{kind: k.index, name: "foreign " + key, made: made, claims: map[string]bool{}, born: time.Now()}
}
