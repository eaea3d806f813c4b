package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/source"
)

// ErrStalled means that a run was cut short because it made no progress for as long as Options.Stalled allows.
var ErrStalled = errors.New("the run made no progress and was cut short; the next one goes on")

// unwind is how long a run that was cut short has to end by itself. Then it is given up: what it waits for does not hear that nobody wants it any more.
const unwind = 30 * time.Second

// watchdog notices that a run makes no progress (I20). Progress is a batch of rows that was read, a call that was answered, however, or another phase. A query
// may take as long as the source allows it, and that counts from its begin; a call ends by itself, with all its repeats and the pauses a target asks for.
type watchdog struct {
	stalled time.Duration
	query   time.Duration // longest a query may take; 0 = any time

	mu      gosync.Mutex
	last    time.Time         // progress
	queries map[int]time.Time // under way: when they may have ended at the latest; zero = nobody knows
	next    int
	phase   Event
}

func newWatchdog(o Options) *watchdog {
	return &watchdog{stalled: max(o.Stalled, 2*o.SettleDelay), query: o.QueryTimeout, last: time.Now(), queries: map[int]time.Time{}}
}

// beat notes progress.
func (w *watchdog) beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
}

// asking notes that the source is asked; done ends that, and is progress.
func (w *watchdog) asking() (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	id, until := w.next, time.Time{}
	if w.query > 0 {
		until = time.Now().Add(w.query)
	}
	w.queries[id] = until
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.queries, id)
		w.last = time.Now()
	}
}

// check returns an error when there was no progress for too long, and otherwise when to look again.
func (w *watchdog) check(now time.Time) (wait time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.last
	for _, until := range w.queries {
		if until.IsZero() {
			return w.stalled, nil
		}
		if until.After(since) {
			since = until
		}
	}
	if wait = since.Add(w.stalled).Sub(now); wait > 0 {
		return wait, nil
	}
	what := w.phase.Phase
	if len(w.queries) > 0 {
		what = "waiting for the source"
	}
	if w.phase.Resource != "" {
		what += " of " + w.phase.Resource
	}
	return 0, fmt.Errorf("%w (nothing for %s while %s)", ErrStalled, now.Sub(w.last).Round(time.Second), what)
}

// watched does the work of a run and cuts it short when it stalls. One that does not end even then is given up: abandoned is true, and nothing it holds may be
// touched any more. Its calls are over (the keeper is), and what it writes to the ledger is fenced out.
func (e *Engine) watched(ctx context.Context, o Options, work func(context.Context, *Engine) error) (abandoned bool, err error) {
	if o.Stalled <= 0 {
		return false, work(ctx, e)
	}
	w := newWatchdog(o)
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	done := make(chan error, 1)
	go func() { done <- work(ctx, e.under(w)) }()
	timer := time.NewTimer(w.stalled)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return false, causeOf(ctx, err)
		case <-timer.C:
		}
		wait, stalled := w.check(time.Now())
		if stalled == nil {
			timer.Reset(wait)
			continue
		}
		cut(stalled)
		select {
		case err := <-done:
			return false, causeOf(ctx, err)
		case <-time.After(unwind):
			return true, stalled
		}
	}
}

// causeOf is the reason for which a context ended, when err is its echo.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx))
	}
	return err
}

// under is the engine with everything it waits for watched.
func (e *Engine) under(w *watchdog) *Engine {
	watched := *e
	watched.Source = watchedSource{e.Source, w}
	watched.Target = func(check func() error) Target { return watchedTarget{e.Target(check), w} }
	if e.Reader != nil {
		watched.Reader = watchedReader{e.Reader, w}
	}
	watched.Progress = func(event Event) {
		w.mu.Lock()
		w.last, w.phase = time.Now(), event
		w.mu.Unlock()
		if e.Progress != nil {
			e.Progress(event)
		}
	}
	return &watched
}

type watchedSource struct {
	Source
	w *watchdog
}

func (s watchedSource) Begin(ctx context.Context) (Snapshot, error) {
	defer s.w.asking()()
	snapshot, err := s.Source.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return watchedSnapshot{snapshot, s.w}, nil
}

type watchedSnapshot struct {
	Snapshot
	w *watchdog
}

func (s watchedSnapshot) Open(ctx context.Context, q *source.Bound) (Rows, error) {
	defer s.w.asking()()
	rows, err := s.Snapshot.Open(ctx, q)
	if err != nil {
		return nil, err
	}
	return watchedRows{rows, s.w}, nil
}

type watchedRows struct {
	Rows
	w *watchdog
}

func (r watchedRows) Next(ctx context.Context, b *source.Batch) error {
	defer r.w.asking()()
	return r.Rows.Next(ctx, b)
}

type watchedTarget struct {
	Target
	w *watchdog
}

func (t watchedTarget) Post(ctx context.Context, resource string, body []byte) (edfi.Answer, error) {
	defer t.w.beat()
	return t.Target.Post(ctx, resource, body)
}

func (t watchedTarget) Put(ctx context.Context, resource, id string, body []byte) (edfi.Answer, error) {
	defer t.w.beat()
	return t.Target.Put(ctx, resource, id, body)
}

func (t watchedTarget) Delete(ctx context.Context, resource, id string) (edfi.Answer, error) {
	defer t.w.beat()
	return t.Target.Delete(ctx, resource, id)
}

func (t watchedTarget) Get(ctx context.Context, resource, id string) ([]byte, string, error) {
	defer t.w.beat()
	return t.Target.Get(ctx, resource, id)
}

func (t watchedTarget) FindByKey(ctx context.Context, resource string, key url.Values) (string, []byte, bool, error) {
	defer t.w.beat()
	return t.Target.FindByKey(ctx, resource, key)
}

type watchedReader struct {
	Reader
	w *watchdog
}

func (r watchedReader) Each(ctx context.Context, resource string, opts edfi.PageOptions, fn func(item json.RawMessage) error) error {
	return r.Reader.Each(ctx, resource, opts, func(item json.RawMessage) error {
		r.w.beat()
		return fn(item)
	})
}

func (r watchedReader) Get(ctx context.Context, resource, id string) ([]byte, string, error) {
	defer r.w.beat()
	return r.Reader.Get(ctx, resource, id)
}
