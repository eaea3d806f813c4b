package sync

import gosync "sync"

// budget bounds the intents whose results are not durable, over all steps of a run: a kill leaves at most that many calls to be made again
// (engine.md §3). Safe for concurrent use.
type budget struct {
	mu      gosync.Mutex
	changed *gosync.Cond
	left    int
	version uint64 // counts pokes, so that none is missed between looking and waiting
}

func newBudget(n int) *budget {
	b := &budget{left: n}
	b.changed = gosync.NewCond(&b.mu)
	return b
}

// take takes n if they are left.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < n {
		return false
	}
	b.left -= n
	return true
}

// give gives n back and wakes who waits.
func (b *budget) give(n int) {
	b.mu.Lock()
	b.left += n
	b.version++
	b.mu.Unlock()
	b.changed.Broadcast()
}

// poke wakes who waits: something else happened that may let it go on.
func (b *budget) poke() { b.give(0) }

// seen returns the version to wait from.
func (b *budget) seen() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

// wait returns once something happened after the version was seen.
func (b *budget) wait(version uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.version == version {
		b.changed.Wait()
	}
}
