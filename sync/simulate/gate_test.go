package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	gosync "sync"
	"testing/synctest"
)

// gate pins the order of events of a world: goroutines that come to a call or a transaction wait until nobody else in the bubble can go
// on, then one of them, drawn by the seed, is let through. Without a seed it is open.
type gate struct {
	rng     *rand.Rand
	mu      gosync.Mutex
	waiting []*place
	arrived chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

type place struct {
	label string
	turn  chan struct{}
}

func newGate(w *world, seed uint64) *gate {
	g := &gate{}
	if seed == 0 {
		return g
	}
	g.rng = rand.New(rand.NewPCG(seed, w.plan.seed))
	g.arrived, g.quit, g.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go g.run()
	return g
}

func (g *gate) on() bool { return g.rng != nil }

// pass waits for the goroutine's turn. What it is about names it the same way in every replay.
func (g *gate) pass(who, at, what string, n int) {
	if g.rng == nil {
		return
	}
	p := &place{label: fmt.Sprint(who, " ", at, " ", what, " ", n), turn: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	g.mu.Unlock()
	select {
	case g.arrived <- struct{}{}:
	default:
	}
	<-p.turn
}

func (g *gate) run() {
	defer close(g.done)
	for {
		select {
		case <-g.arrived:
		case <-g.quit:
			return
		}
		for {
			synctest.Wait()
			g.mu.Lock()
			if len(g.waiting) == 0 {
				g.mu.Unlock()
				break
			}
			slices.SortFunc(g.waiting, func(a, b *place) int { return strings.Compare(a.label, b.label) })
			i := g.rng.IntN(len(g.waiting))
			p := g.waiting[i]
			g.waiting = slices.Delete(g.waiting, i, i+1)
			g.mu.Unlock()
			close(p.turn)
		}
	}
}

func (g *gate) close() {
	if g.rng != nil {
		close(g.quit)
		<-g.done
	}
}
