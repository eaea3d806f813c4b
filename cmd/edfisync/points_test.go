package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// kind is what the run to be killed has to do.
type kind int

const (
	posts kind = iota
	puts
	deletes
	firstLoad
	kinds
)

func (k kind) String() string { return [...]string{"POST", "PUT", "DELETE", "first load"}[k] }

// verb is the method that points are counted by in a run of the kind.
func (k kind) verb() string { return [...]string{"POST", "PUT", "DELETE", "POST"}[k] }

// killCase is one directed kill.
type killCase struct {
	point failpoint.Point
	kind  kind
	nth   int  // time the point is reached, of the kind's verb when the point has verbs
	verbs bool // the point is counted by verb
	// wounded: an earlier run was killed in the middle of its calls, and the kill is meant for the run that heals that.
	wounded bool
}

func (c killCase) String() string {
	s := fmt.Sprintf("%s at %s, time %d", c.kind, c.point, c.nth)
	if c.wounded {
		s += ", while it heals an earlier kill"
	}
	return s
}

func (c killCase) order() string {
	if c.verbs {
		return fmt.Sprintf("%s:%d:/%s", c.point, c.nth, c.kind.verb())
	}
	return fmt.Sprintf("%s:%d", c.point, c.nth)
}

// slowFor is how long the target is slow so that the point is reached: a lease is renewed every second.
func (c killCase) slowFor() time.Duration {
	if c.point == failpoint.RenewBefore || c.point == failpoint.RenewAfter {
		return time.Duration(c.nth)*time.Second + 500*time.Millisecond
	}
	return 0
}

// openAt reports whether at least one intent without a result must be in the ledger when the process dies at the point.
func openAt(p failpoint.Point) bool {
	switch p {
	case failpoint.IntentAfter, failpoint.CallBefore, failpoint.CallAfter, failpoint.AttemptHeaders, failpoint.AttemptAfter, failpoint.ResultBefore:
		return true
	}
	return false
}

// onlyWounded are points only a run after a kill reaches.
func onlyWounded(p failpoint.Point) bool {
	return p == failpoint.ExpireBefore || p == failpoint.ExpireAfter
}

func isLarge(p failpoint.Point) bool { return p == failpoint.SpoolBefore || p == failpoint.SpoolAfter }

func isRenewal(p failpoint.Point) bool {
	return p == failpoint.RenewBefore || p == failpoint.RenewAfter
}

// directed lays out the kills: every point in a run of every kind, the first, the middle and the last time it is reached. A point that is
// reached less often is met again in runs that heal an earlier kill.
func directed(reached [kinds]map[string]int) []killCase {
	var out []killCase
	for _, p := range failpoint.All() {
		had := false
		for k := range kinds {
			if k == firstLoad && had {
				break // for points that only a new ledger has
			}
			total, verbs := reached[k][string(p)], false
			if n := reached[k][string(p)+" "+k.verb()]; n > 0 {
				total, verbs = n, true
			}
			switch {
			case isRenewal(p):
				total = 3
			case isLarge(p) && k != deletes:
				total = 1
			case onlyWounded(p):
				total = 1
			}
			if total == 0 {
				continue
			}
			had = true
			at := []int{1, (total + 1) / 2, total}
			for i, n := range at {
				again := i > 0 && n == at[i-1] || i == 2 && n == at[0]
				if again && (isLarge(p) || k == firstLoad) {
					continue
				}
				if again {
					n = 1
				}
				out = append(out, killCase{point: p, kind: k, nth: n, verbs: verbs, wounded: again || onlyWounded(p)})
			}
		}
	}
	return out
}

// T3: kill -9 at named points. The run after it converges: the API equals the SIS, what came twice was open, and one more run writes nothing.
// EDFISYNC_TEST_KILLS says how many directed kills of all are made (default: a sample); make kills makes all. EDFISYNC_TEST_POINT chooses
// those whose name holds it ("PUT at renew.before").
func TestKill9AtNamedPoints(t *testing.T) {
	t.Parallel()
	program := failpointProgram(t)
	cases := directed(reachable(newPointWorld(t, program)))
	points := map[failpoint.Point]bool{}
	for _, c := range cases {
		points[c.point] = true
	}
	for _, p := range failpoint.All() {
		if !points[p] && !slices.Contains(slices.Concat(onlyPeople, upkeepPoints()), p) {
			t.Errorf("no kind of run reaches %s", p)
		}
	}
	t.Logf("%d points, %d directed kills", len(points), len(cases))
	const shards = 4 // a run after a kill mostly waits
	if only := os.Getenv("EDFISYNC_TEST_POINT"); only != "" {
		cases = slices.DeleteFunc(cases, func(c killCase) bool { return !strings.Contains(c.String(), only) })
	}
	sample := sampled(cases, wanted(t, "EDFISYNC_TEST_KILLS", 30))
	for shard := range shards {
		t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
			t.Parallel()
			w := newPointWorld(t, program)
			w.finish()
			for i, c := range sample {
				if i%shards == shard {
					w.die(c)
				}
			}
		})
	}
}

// wanted reads a number from the environment; "all" is all.
func wanted(t *testing.T, name string, otherwise int) int {
	t.Helper()
	switch text := os.Getenv(name); text {
	case "":
		return otherwise
	case "all":
		return 1 << 30
	default:
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
}

// sampled returns n of the cases, spread over all of them, another choice each day; kinds stay together in the order an edit of one needs
// the one before it.
func sampled(cases []killCase, n int) []killCase {
	if n < len(cases) {
		r := rand.New(rand.NewPCG(uint64(time.Now().Unix()/86400), 1))
		step := float64(len(cases)) / float64(n)
		chosen := make([]killCase, 0, n)
		for i := range n {
			chosen = append(chosen, cases[min(len(cases)-1, int((float64(i)+r.Float64())*step))])
		}
		cases = chosen
	}
	return cases
}

// reachable runs every kind once, unharmed, and returns how often each point is reached.
func reachable(w *pointWorld) (out [kinds]map[string]int) {
	w.t.Helper()
	for _, k := range []kind{firstLoad, posts, puts, deletes} {
		w.edit(k)
		out[k] = w.finish().counts()
		w.equal(k.String() + " without a kill")
	}
	return out
}

// die makes one directed kill and checks what comes after it.
func (w *pointWorld) die(c killCase) {
	w.t.Helper()
	what := c.String()
	switch c.kind { // a change and a delete need a group that is there
	case puts, deletes:
		w.edit(posts)
		w.finish()
	}
	w.edit(c.kind)
	if isLarge(c.point) {
		w.ok(w.sis.Swell(w.t.Context(), w.group, 4000))
	}
	var open int64
	if c.wounded {
		wound := killCase{point: failpoint.CallAfter, kind: c.kind, nth: 5, verbs: true}
		if e := w.start(wound.order(), 0); !e.diedAt(wound.point) {
			w.t.Fatalf("%s: the first kill did not take place\n%s", what, e.output)
		}
		open = w.open()
		if open == 0 {
			w.t.Errorf("%s: no intent is open after the first kill", what)
		}
	}
	e := w.strike(c)
	if !e.diedAt(c.point) {
		w.t.Errorf("%s: the kill did not take place; the point was reached %d times\n%s", what, e.counts()[string(c.point)], e.output)
		w.settled(what, open)
		return
	}
	now := int64(0)
	if c.point != failpoint.KeyBefore && c.point != failpoint.KeyAfter && !(c.kind == firstLoad && c.point == failpoint.MigrateBefore) {
		now = w.open()
	}
	if openAt(c.point) && now == 0 {
		w.t.Errorf("%s: no intent is open", what)
	}
	w.settled(what, open+now)
}

// strike starts the run that is to die. How often a point is reached may differ by a few from run to run, so a kill meant for the last time
// is meant for an earlier one when that never came.
func (w *pointWorld) strike(c killCase) ended {
	w.t.Helper()
	for {
		if d := c.slowFor(); d > 0 {
			w.slow.Store(&slowness{lasts: d})
		}
		e := w.start(c.order(), 0)
		if e.killed || c.nth == 1 || c.wounded {
			return e
		}
		most := e.counts()[string(c.point)]
		if c.verbs {
			most = e.counts()[string(c.point)+" "+c.kind.verb()]
		}
		c.nth = max(1, min(c.nth-1, most-1))
		switch c.kind {
		case deletes:
			w.edit(posts)
			w.finish()
		}
		w.edit(c.kind)
	}
}

// A call that was under way when its process was killed may take effect later. The next run, which takes over at once because it can tell
// that the process is dead, must not delete the record before the late call brings it back (I1, I7).
func TestKill9LeavesNoCallThatTakesEffectAfterTheNextRun(t *testing.T) {
	t.Parallel()
	w := newPointWorld(t, failpointProgram(t))
	w.finish()
	w.edit(posts)
	w.slow.Store(&slowness{lasts: 10 * time.Second})
	c := killCase{point: failpoint.RenewBefore, kind: posts, nth: 1} // a second after the start, between two slow answers
	if e := w.start(c.order(), 0); !e.diedAt(c.point) || w.open() == 0 {
		t.Fatalf("the kill did not take place, or no call was under way\n%s", e.output)
	}
	w.slow.Store(nil)
	w.ok(w.sis.Drop(t.Context(), w.group)) // all it was about to create is gone from the source
	w.finish()
	time.Sleep(2 * slowWrite)
	w.equal("after the late calls")
}

// A process that lives and gets no answer in time sends a write again: the tests that kill it tell that from a write that came twice because
// of the kill.
func TestCallsGivenUpByALivingProcessAreToldFromKills(t *testing.T) {
	t.Parallel()
	w := newPointWorld(t, failpointProgram(t))
	w.finish()
	w.edit(posts)
	w.stall.Store(2)
	w.finish()
	if w.givenUp != 2 || w.sandbox.Stats().RepeatedWrites != 2 {
		t.Errorf("%d calls were given up and sent again, %d writes came twice, want 2 and 2", w.givenUp, w.sandbox.Stats().RepeatedWrites)
	}
	w.settled("two calls were given up", 0)
	w.edit(puts)
	if e := w.start(killCase{point: failpoint.AttemptAfter, kind: puts, nth: 3, verbs: true}.order(), 0); !e.diedAt(failpoint.AttemptAfter) {
		t.Fatalf("the kill did not take place\n%s", e.output)
	}
	open := w.open()
	w.settled("killed between two answers", open)
	if w.givenUp != 0 {
		t.Errorf("%d calls count as given up by a living process, want none", w.givenUp)
	}
}

// T3: kill -9 at random times, every fifth again while the run after it is under way.
func TestKill9AtRandomTimes(t *testing.T) {
	t.Parallel()
	program := failpointProgram(t)
	kills := wanted(t, "EDFISYNC_TEST_RANDOM_KILLS", 6)
	const shards = 4 // a run after a kill mostly waits
	seed := uint64(wanted(t, "EDFISYNC_TEST_SEED", int(time.Now().Unix())))
	t.Logf("EDFISYNC_TEST_SEED=%d", seed)
	for shard := range shards {
		t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
			t.Parallel()
			w := newPointWorld(t, program)
			w.finish()
			w.latency.Store(int64(15 * time.Millisecond)) // so that most of a run is calls
			r := rand.New(rand.NewPCG(seed, uint64(shard)))
			took := w.pace()
			moment := func(k kind) time.Duration { return time.Duration(r.Int64N(int64(took[k]))) + time.Millisecond }
			made, within, doubles, missed := 0, 0, 0, 0
			for i := 0; made < (kills+shard)/shards; i++ {
				k := kind(i % int(firstLoad)) // a group is added, changed, deleted
				if i%60 == 59 {
					k = firstLoad
				}
				w.edit(k)
				what := fmt.Sprintf("%s killed at random, number %d of shard %d", k, i, shard)
				if !w.start("", moment(k)).killed {
					missed++ // it was faster than its executioner
					w.settled(what, 0)
					continue
				}
				made++
				open := w.opened()
				if open > 0 {
					within++
				}
				if r.IntN(5) == 0 {
					what += ", and again"
					if w.start("", moment(k)).killed {
						doubles++
						open += w.opened()
					}
				}
				w.settled(what, open)
			}
			t.Logf("%d kills, %d of them with calls open, %d killed again while healing, %d runs ended before their kill", made, within, doubles, missed)
		})
	}
}

// pace measures how long a run of each kind takes.
func (w *pointWorld) pace() (took [kinds]time.Duration) {
	w.t.Helper()
	for _, k := range []kind{firstLoad, posts, puts, deletes} {
		w.edit(k)
		began := time.Now()
		w.finish()
		took[k] = time.Since(began)
	}
	return took
}

// opened is open of a ledger that may not be there yet.
func (w *pointWorld) opened() int64 {
	w.t.Helper()
	if !slices.Contains(w.tables(), "journal") {
		return 0
	}
	return w.open()
}
