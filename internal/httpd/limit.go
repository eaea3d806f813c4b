package httpd

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limit is a rate limit: so many requests a second in the long run, and a burst at once. The zero Limit is the default of where it is used.
type Limit struct {
	PerSecond float64
	Burst     int
}

// recent keeps the values of the most recently used keys, and no more of them than it was made for: whoever comes from many addresses, or tries many
// keys, fills no memory.
type recent[V any] struct {
	max   int
	order *list.List // of *recentEntry[V], the last used first
	by    map[string]*list.Element
}

type recentEntry[V any] struct {
	key   string
	value V
}

func newRecent[V any](maximum int) *recent[V] {
	return &recent[V]{max: maximum, order: list.New(), by: map[string]*list.Element{}}
}

// get returns the value of a key, making it when there is none.
func (r *recent[V]) get(key string, fresh func() V) V {
	if e, ok := r.by[key]; ok {
		r.order.MoveToFront(e)
		return e.Value.(*recentEntry[V]).value //nolint:forcetypeassert // nothing else is put in
	}
	for r.order.Len() >= r.max {
		last := r.order.Back()
		delete(r.by, r.order.Remove(last).(*recentEntry[V]).key) //nolint:forcetypeassert // nothing else is put in
	}
	v := fresh()
	r.by[key] = r.order.PushFront(&recentEntry[V]{key, v})
	return v
}

// peek returns the value of a key if there is one; that does not count as a use.
func (r *recent[V]) peek(key string) (v V, ok bool) {
	e, ok := r.by[key]
	if ok {
		v = e.Value.(*recentEntry[V]).value //nolint:forcetypeassert // nothing else is put in
	}
	return v, ok
}

// drop forgets a key.
func (r *recent[V]) drop(key string) {
	if e, ok := r.by[key]; ok {
		r.order.Remove(e)
		delete(r.by, key)
	}
}

// limited is how many clients, or principals, are told apart at once.
const limited = 10_000

// limiter limits the requests of each of many.
type limiter struct {
	limit Limit
	mu    sync.Mutex
	by    *recent[*rate.Limiter]
}

func newLimiter(l Limit) *limiter { return &limiter{limit: l, by: newRecent[*rate.Limiter](limited)} }

// take takes one request of a key; when it must wait, wait says how long, and nothing was taken.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rl := l.by.get(key, func() *rate.Limiter { return rate.NewLimiter(rate.Limit(l.limit.PerSecond), l.limit.Burst) })
	r := rl.ReserveN(now, 1)
	if !r.OK() { // a burst of nothing
		return time.Hour, false
	}
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// Lock-outs. Secrets cannot be guessed, so this keeps noise and load down, and makes an attempt visible; it must not let one person lock another out,
// and so counts per client.
const (
	failuresPerKey    = 10  // of one client with one key id
	failuresPerClient = 100 // of one client with any
	failureWindow     = 5 * time.Minute
	firstLock         = time.Minute
	longestLock       = 15 * time.Minute
)

// failures of one client.
type failures struct {
	count int
	since time.Time
	until time.Time // locked out until
	locks int       // so far, each twice as long as the one before
}

// lockout counts failing log-ins.
type lockout struct {
	mu sync.Mutex
	by *recent[*failures]
}

func newLockout() *lockout { return &lockout{by: newRecent[*failures](limited)} }

// locked tells how long a key is locked out; 0 = it is not.
func (l *lockout) locked(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.by.peek(key)
	if !ok {
		return 0
	}
	return max(0, f.until.Sub(now))
}

// failed counts a failing log-in and reports whether it is the one that locks out.
func (l *lockout) failed(key string, most int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.by.get(key, func() *failures { return &failures{since: now} })
	if now.Sub(f.since) > failureWindow {
		f.count, f.since = 0, now
		if now.Sub(f.until) > longestLock {
			f.locks = 0
		}
	}
	f.count++
	if f.count < most {
		return false
	}
	f.until = now.Add(min(firstLock<<min(f.locks, 10), longestLock))
	f.count, f.since, f.locks = 0, now, f.locks+1
	return true
}

// succeeded forgets the failures of a key.
func (l *lockout) succeeded(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by.drop(key)
}

// once lets one of many equal events through in a time.
type once struct {
	every time.Duration
	mu    sync.Mutex
	by    *recent[*time.Time]
}

func newOnce(every time.Duration) *once {
	return &once{every: every, by: newRecent[*time.Time](limited)}
}

func (o *once) first(key string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.by.get(key, func() *time.Time { return &time.Time{} })
	if now.Sub(*at) < o.every {
		return false
	}
	*at = now
	return true
}
