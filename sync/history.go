package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// History is the part of the ledger that keeps what was sent and what was answered, sealed.
type History interface {
	SaveAttempts(ctx context.Context, lease syncdb.Lease, attempts []syncdb.Attempt) error
	PurgeAttempts(ctx context.Context, connection int64, before time.Time) (int64, error)
	// PurgePlans forgets the ops of plans and holds that are done with.
	PurgePlans(ctx context.Context, connection int64, before time.Time) (int64, error)
}

const (
	// historySegment is how many attempts are saved at once, and historyBytes how many bytes of them when that is less.
	historySegment = 1000
	historyBytes   = 4 << 20
	// maxKeptAnswer bounds what is kept of an answer that refused.
	maxKeptAnswer = 64 << 10
)

// attempts gathers the answered calls of one step until they are worth a segment. What a process that is killed had gathered is lost: history is
// for people, the journal is what runs continue from. Safe for concurrent use.
type attempts struct {
	watch func(syncdb.Attempt) // when set, called with each; payload and answer are its own

	mu    gosync.Mutex
	list  []syncdb.Attempt
	bytes []byte // keys, payloads and answers of list
	size  int
	spare *attemptBuffer // of the segment saved last, for the next one
}

// attemptBuffer is a segment's memory.
type attemptBuffer struct {
	list  []syncdb.Attempt
	bytes []byte
}

// newAttempts returns nil when nobody wants to know.
func (x *executor) newAttempts() *attempts {
	if x.o.History <= 0 && x.watch == nil {
		return nil
	}
	return &attempts{watch: x.watch}
}

// note keeps one answered call. The op's bytes are copied: they are the batch's.
func (h *attempts) note(o *op, resource string, result syncdb.Result, status int, err error) {
	if h == nil || o.silent != notSilent {
		return
	}
	a := syncdb.Attempt{
		Op: o.id, Resource: resource, Verb: o.verb, KeyHash: o.key, OldKeyHash: o.oldKey, SourceHash: o.source, RecordHash: o.record,
		OldRecord: o.before, EdfiID: o.edfiID, At: time.Now(), Status: status, Effect: result.Effect,
	}
	if result.EdfiID != "" {
		a.EdfiID = result.EdfiID
	}
	if o.was != nil { // the other half is deleted in this run or a later one, by a call that history may not have
		a.OldKeyHash = o.was.old
	}
	var answer []byte
	var e *edfi.Error
	if errors.As(err, &e) {
		a.Status, answer = e.Status, e.Body[:min(len(e.Body), maxKeptAnswer)]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.size += len(o.keyText) + len(o.payload) + len(answer)
	a.Key, a.Payload, a.Answer = h.hold(o.keyText), h.hold(o.payload), h.hold(answer)
	h.list = append(h.list, a)
	if h.watch != nil {
		a.Key, a.Payload, a.Answer = clone(a.Key), clone(a.Payload), clone(a.Answer)
		h.watch(a)
	}
}

// hold copies bytes into the segment's memory; when that is full the next piece goes on in new memory, and what was held before stays where it is.
func (h *attempts) hold(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(h.bytes)-len(h.bytes) < len(b) {
		h.bytes = make([]byte, 0, max(256<<10, 2*cap(h.bytes), len(b)))
	}
	at := len(h.bytes)
	h.bytes = append(h.bytes, b...)
	return h.bytes[at:len(h.bytes):len(h.bytes)]
}

// take hands out what was gathered once it is worth a segment, or all of it.
func (h *attempts) take(all bool) *attemptBuffer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) == 0 || !all && len(h.list) < historySegment && h.size < historyBytes {
		return nil
	}
	full := &attemptBuffer{list: h.list, bytes: h.bytes}
	h.list, h.bytes, h.size = nil, nil, 0
	if h.spare != nil {
		h.list, h.bytes, h.spare = h.spare.list[:0], h.spare.bytes[:0], nil
	}
	return full
}

// saveHistory writes what was gathered. It is for one goroutine at a time, the one that feeds the step.
func (s *stepRun) saveHistory(ctx context.Context, all bool) error {
	if s.attempts == nil || s.x.o.History <= 0 {
		return nil
	}
	full := s.attempts.take(all)
	if full == nil {
		return nil
	}
	failpoint.Reach(failpoint.HistoryBefore, s.r.Path, "")
	if err := s.x.e.Ledger.SaveAttempts(ctx, s.x.keeper.current(), full.list); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	failpoint.Reach(failpoint.HistoryAfter, s.r.Path, "")
	clear(full.list)
	s.attempts.mu.Lock()
	s.attempts.spare = full
	s.attempts.mu.Unlock()
	return nil
}

// purgeHistory drops what was kept for long enough, the calls of holds that are done with included; all of it when history is switched off.
func (e *Engine) purgeHistory(ctx context.Context, o Options, run int64) error {
	failpoint.Reach(failpoint.PurgeBefore, "", "")
	before := syncdb.Always()
	if o.History > 0 {
		last, err := e.began(ctx, run)
		if err != nil {
			return err
		}
		before = syncdb.Believed(time.Now(), last).Add(-o.History) // F57
	}
	if _, err := e.Ledger.PurgeAttempts(ctx, e.Connection.ID, before); err != nil {
		return fmt.Errorf("drop old history: %w", err)
	}
	if _, err := e.Ledger.PurgePlans(ctx, e.Connection.ID, before); err != nil {
		return fmt.Errorf("drop calls of old holds: %w", err)
	}
	failpoint.Reach(failpoint.PurgeAfter, "", "")
	return nil
}

// began returns when the run before this one began, by the ledger's clock; zero when there was none.
func (e *Engine) began(ctx context.Context, run int64) (time.Time, error) {
	runs, err := e.Ledger.Runs(ctx, e.Connection.ID, 10) // one may wait, and some may have been canceled before they began
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the last run began: %w", err)
	}
	for _, r := range runs {
		if r.ID < run && !r.StartedAt.IsZero() {
			return r.StartedAt, nil
		}
	}
	return time.Time{}, nil
}
