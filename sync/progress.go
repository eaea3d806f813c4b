package sync

import (
	gosync "sync"
	"time"
)

// progress hands events to a callback a few times a second, from one goroutine.
type progress struct {
	mu    gosync.Mutex
	event Event
	fresh bool
	quit  chan struct{}
	done  chan struct{}
}

func newProgress(fn func(Event)) *progress {
	p := &progress{quit: make(chan struct{}), done: make(chan struct{})}
	if fn == nil {
		close(p.done)
		return p
	}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.quit:
				p.emit(fn)
				return
			case <-tick.C:
				p.emit(fn)
			}
		}
	}()
	return p
}

func (p *progress) emit(fn func(Event)) {
	p.mu.Lock()
	e, fresh := p.event, p.fresh
	p.fresh = false
	p.mu.Unlock()
	if fresh {
		fn(e)
	}
}

func (p *progress) set(e Event) {
	p.mu.Lock()
	p.event, p.fresh = e, true
	p.mu.Unlock()
}

func (p *progress) phase(name, resource string) { p.set(Event{Phase: name, Resource: resource}) }

func (p *progress) scanned(resource string, done, total int64) {
	p.set(Event{Phase: "scan", Resource: resource, Done: done, Total: total})
}

// sender begins to send so many calls, and reports them.
func (p *progress) sender(total int64) func(string, int64) {
	p.set(Event{Phase: "send", Total: total})
	return func(resource string, done int64) {
		p.set(Event{Phase: "send", Resource: resource, Done: done, Total: total})
	}
}

// reader reports records read back from the target.
func (p *progress) reader() func(string, int64) {
	return func(resource string, done int64) { p.set(Event{Phase: "read", Resource: resource, Done: done}) }
}

// stop ends the goroutine after a last event. It may be called once.
func (p *progress) stop() {
	close(p.quit)
	<-p.done
}
