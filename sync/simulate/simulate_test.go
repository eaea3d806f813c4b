package simulate

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("seeds", 0, "worlds to play; 0 means a short pass")
	first   = flag.Uint64("first", 1, "first seed")
	one     = flag.Uint64("seed", 0, "play this seed only and tell its story")
	parts   = flag.Bool("scoped", false, "ask for runs of parts, too")
	narrow  = flag.Bool("schools", false, "let connections be of some schools for a while")
	shrunk  = flag.Bool("shrink", true, "shrink a seed that fails")
	stop    = flag.Int("stop", 20, "end after so many seeds that fail")
	tracing = flag.Bool("trace", false, "tell every operation of a replay")
	report  = flag.Duration("report", 5*time.Second, "time between progress lines")
)

// shortPass is how many worlds `make test` plays.
func shortPass() int {
	if raceEnabled {
		return 25
	}
	return 500
}

// dataKey is the sealed data key of the i-th connection, always the same: hashes decide the order of things.
func dataKey(i int) []byte {
	sealed := []string{
		"0QTBm7xoEm8OZsG2zoVfT67DVSHVDZu+43WjzdNmeCxtkuDbBIZn+oQV8avhVPyu+CdTCyYZZME74zXr",
		"eLj7qw0wL6W2MKj0LteliTJQgKovfn4RdzGvp8PSjdY4UBjEpwwCoAh1gGHpOhr1pa0vXEbcv0x/Xr2h",
		"ChCpUlOtZVhn4kIiJU7ck56Uk6FuFvK9tye2jrkgefgb1Tm0dHeo6XTvsjbjaRbp9XKJM48pI5A8NXt5",
		"q77WnrdEAYCPAhUGsUzmNph2X8vLItLqPLYW0zFIimoioBFiycehEhR3xL1LUMzj238G6kM94gVhfw/v",
	}
	key, err := base64.StdEncoding.DecodeString(sealed[i])
	if err != nil {
		panic(err)
	}
	return key
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	if *one != 0 {
		tell(t, *one)
		return
	}
	n := *seeds
	if n == 0 {
		n = shortPass()
	}
	u, err := loadUniverse()
	if err != nil {
		t.Fatal(err)
	}
	if *seeds > 0 {
		debug.SetGCPercent(800) // worlds are small: collecting them seldom is cheap, and less so once the heap is far beyond the caches
		debug.SetMemoryLimit(1 << 30)
	}
	var (
		next     = atomic.Uint64{}
		syncs    atomic.Int64
		writes   atomic.Int64
		failures atomic.Int64
		mu       gosync.Mutex
		failed   []uint64
		began    = time.Now()
		last     = began
	)
	next.Store(*first)
	t.Run("worlds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for {
					seed := next.Add(1) - 1
					if seed >= *first+uint64(n) || failures.Load() >= int64(*stop) {
						return
					}
					p := newPlan(u, seed)
					p.scoped, p.narrowed = *parts, *narrow
					w := play(t, p, 0, dir)
					syncs.Add(int64(w.syncs))
					writes.Add(int64(w.writes))
					mu.Lock()
					if len(w.violations) > 0 {
						failures.Add(1)
						failed = append(failed, seed)
						fmt.Printf("seed %d at %s: %s\n", seed, commit(), w.violations[0])
					}
					if *seeds > 0 && time.Since(last) > *report {
						last = time.Now()
						done := seed - *first + 1
						fmt.Printf("seeds=%d violations=%d (%.0f worlds/s, %d runs, %d writes)\n", done, failures.Load(),
							float64(done)/time.Since(began).Seconds(), syncs.Load(), writes.Load())
					}
					mu.Unlock()
				}
			})
		}
	})
	for i, seed := range failed {
		t.Errorf("seed %d breaks a promise; replay it with: go test ./sync/simulate -run TestSimulate -seed %d", seed, seed)
		if i == 0 && *shrunk {
			tell(t, seed)
		}
	}
	played := min(next.Load()-*first, uint64(n))
	fmt.Printf("%d runs, %d writes, %.0f worlds/s\n", syncs.Load(), writes.Load(), float64(played)/time.Since(began).Seconds())
	fmt.Printf("seeds=%d violations=%d\n", played, len(failed))
}

// again plays a world once more: under the gate as a replay.
func again(t *testing.T, p *plan, order uint64, dir string) *world {
	if order == 0 {
		return play(t, p, 0, dir)
	}
	return replay(t, p, order, dir)
}

// tell plays a seed again under the gate, in several orders until one breaks a promise, shrinks it and tells its story.
func tell(t *testing.T, seed uint64) {
	u, err := loadUniverse()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(u, seed)
	p.scoped, p.narrowed = *parts, *narrow
	dir := t.TempDir()
	order, found := uint64(0), false
	for g := range uint64(30) { // 0 is no gate at all
		if w := again(t, p, g, dir); len(w.violations) > 0 {
			order, found = g, true
			fmt.Printf("seed %d, order %d: %s\n", seed, g, w.violations[0])
			if g > 0 {
				break
			}
		}
	}
	if found && *shrunk {
		p = shrink(t, p, order, dir)
	}
	q := *p
	q.verbose, q.tracing = true, *tracing
	w := again(t, &q, order, dir)
	fmt.Println(p)
	for _, line := range w.notes {
		fmt.Println(line)
	}
	for _, v := range w.violations {
		t.Errorf("seed %d at %s: %s", seed, commit(), v)
	}
	fmt.Printf("trace of %d operations, hash %016x\n", w.traced, w.hash)
}

// shrink leaves out events for as long as the same promise is broken.
func shrink(t *testing.T, p *plan, order uint64, dir string) *plan {
	promise := again(t, p, order, dir).violations
	if len(promise) == 0 {
		return p
	}
	breaks := func(q *plan) bool {
		for range 3 {
			w := again(t, q, order, dir)
			if len(w.violations) > 0 && w.violations[0].promise == promise[0].promise {
				return true
			}
			if order > 0 {
				return false
			}
		}
		return false
	}
	for size := max(1, len(p.events)/2); size > 0; size /= 2 {
		for from := 0; from < len(p.events); {
			q := p.without(from, min(from+size, len(p.events)))
			if breaks(q) {
				p = q
			} else {
				from += size
			}
		}
	}
	for i := range p.events { // fewer rows, fewer faults
		for _, change := range []func(*event){
			func(e *event) { e.n /= 2 }, func(e *event) { e.n /= 2 }, func(e *event) { e.n = 1 }, func(e *event) { e.calls = 0 }, func(e *event) { e.database = 0 }, func(e *event) { e.run = runPlain },
		} {
			q := p.without(0, 0)
			change(&q.events[i])
			if q.events[i] != p.events[i] && breaks(q) {
				p = q
			}
		}
	}
	return p
}
