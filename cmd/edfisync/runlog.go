package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Bounds of a run's log, and how often it and the note of how far the run is are kept.
const (
	runLogMost  = 5000 // lines of one run; those that come after are counted
	runLogEvery = time.Second
	runLogTakes = 10 * time.Second // longest wait for the ledger; a run does not fail for its log
)

// runLogLedger is what keeps the log of a run. *syncdb.DB is one.
type runLogLedger interface {
	AddRunLog(ctx context.Context, run int64, lines []syncdb.LogLine) error
	SaveProgress(ctx context.Context, run int64, progress json.RawMessage) error
	RunByID(ctx context.Context, id int64) (syncdb.Run, error)
}

// runLog keeps the log of the run that an engine does, and how far it is, in the ledger, for every process of the fleet to show. What goes in is what the
// engine logs, which holds no student data (I14). Nothing of it is worth failing a run for.
type runLog struct {
	ledger runLogLedger
	log    *slog.Logger // of this process

	mu      gosync.Mutex
	run     int64 // 0 = none has begun
	kept    int64 // lines so far
	most    int64 // lines it may have
	dropped int64
	lines   []syncdb.LogLine // not kept yet
	phase   string

	pace  sync.Pace // of the goroutine of the engine's progress
	noted time.Time
	wake  chan struct{}
	quit  chan struct{}
	done  chan struct{}
}

// logged has the engine's next run logged in the ledger, until finish is called, once.
func logged(ctx context.Context, o *opened, ledger runLogLedger) (finish func()) {
	l := &runLog{ledger: ledger, log: o.engine.Logger, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	ctx = context.WithoutCancel(ctx) // the end of a run that is canceled is told, too
	before, engine := *o.engine, o.engine
	engine.Logger = slog.New(&runLogHandler{next: l.log.Handler(), log: l})
	engine.Begun = func(ctx context.Context, run syncdb.Run) {
		l.begin(run)
		if before.Begun != nil {
			before.Begun(ctx, run)
		}
	}
	engine.Progress = func(e sync.Event) {
		l.progress(ctx, e)
		if before.Progress != nil {
			before.Progress(e)
		}
	}
	go l.keep(ctx)
	return func() {
		engine.Logger, engine.Begun, engine.Progress = before.Logger, before.Begun, before.Progress
		close(l.quit)
		<-l.done
		l.end(ctx)
	}
}

// begin is the first line of a run.
func (l *runLog) begin(run syncdb.Run) {
	l.mu.Lock()
	l.run, l.kept, l.most, l.dropped, l.lines, l.phase = run.ID, 0, runLogMost, 0, nil, ""
	l.mu.Unlock()
	l.add(slog.LevelInfo, "the run begins", map[string]any{"asked_by": run.Reason})
}

// add adds a line to the log of the run, if one has begun.
func (l *runLog) add(level slog.Level, text string, detail map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == 0 {
		return
	}
	if l.kept >= l.most {
		l.dropped++
		return
	}
	l.kept++
	line := syncdb.LogLine{Line: l.kept, At: time.Now(), Level: level, Text: text}
	if len(detail) > 0 {
		line.Detail, _ = json.Marshal(detail) // strings and numbers
	}
	l.lines = append(l.lines, line)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// keep writes lines to the ledger, those of a second together.
func (l *runLog) keep(ctx context.Context) {
	defer close(l.done)
	for {
		select {
		case <-l.quit:
			return
		case <-l.wake:
		}
		l.write(ctx)
		select {
		case <-l.quit:
			return
		case <-time.After(runLogEvery):
		}
	}
}

// write keeps the lines there are. Those that could not be kept are tried again with the next.
func (l *runLog) write(ctx context.Context) {
	l.mu.Lock()
	run, lines := l.run, l.lines
	l.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, runLogTakes)
	defer cancel()
	if err := l.ledger.AddRunLog(ctx, run, lines); err != nil {
		l.log.DebugContext(ctx, "keep the log of a run", slog.Any("error", err))
		return
	}
	l.mu.Lock()
	if l.run == run {
		l.lines = l.lines[len(lines):]
	}
	l.mu.Unlock()
}

// end writes how the run ended.
func (l *runLog) end(ctx context.Context) {
	l.mu.Lock()
	run, dropped := l.run, l.dropped
	l.mu.Unlock()
	if run == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, runLogTakes)
	defer cancel()
	r, err := l.ledger.RunByID(ctx, run)
	if err == nil && r.State.Final() {
		level, detail := slog.LevelInfo, map[string]any{}
		var t sync.Totals
		if json.Unmarshal(r.Totals, &t) == nil {
			detail["calls"] = t.Calls
		}
		if r.State == syncdb.RunFailed {
			level = slog.LevelError
			detail["error"] = r.Error
		}
		if dropped > 0 {
			detail["lines_left_out"] = dropped
		}
		l.mu.Lock()
		l.most++ // there is room for the last line
		l.mu.Unlock()
		l.add(level, endings()[r.State], detail)
	}
	l.write(ctx)
}

// endings says how a run ended.
func endings() map[syncdb.RunState]string {
	return map[syncdb.RunState]string{syncdb.RunDone: "the run is done", syncdb.RunFailed: "the run failed", syncdb.RunCanceled: "the run was canceled"}
}

// progress notes how far the run is, and begins a line for each phase.
func (l *runLog) progress(ctx context.Context, e sync.Event) {
	l.mu.Lock()
	run, another := l.run, e.Phase != l.phase
	l.phase = e.Phase
	l.mu.Unlock()
	if run == 0 {
		return
	}
	now := time.Now()
	p := l.pace.Note(e, now)
	if another {
		detail := map[string]any{}
		if e.Phase == "send" {
			detail["calls"] = e.Total
		}
		l.add(slog.LevelInfo, phrase(e.Phase), detail)
	}
	if !another && now.Sub(l.noted) < runLogEvery {
		return
	}
	l.noted = now
	note, err := json.Marshal(p)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, runLogTakes)
		defer cancel()
		err = l.ledger.SaveProgress(ctx, run, note)
	}
	if err != nil {
		l.log.DebugContext(ctx, "note how far a run is", slog.Any("error", err))
	}
}

// runLogHandler hands on what an engine logs, and adds it to the log of its run.
type runLogHandler struct {
	next  slog.Handler
	log   *runLog
	attrs []slog.Attr
}

var _ slog.Handler = (*runLogHandler)(nil)

// Enabled is true of what people read: from info on.
func (h *runLogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

// Handle takes a line.
func (h *runLogHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		detail := map[string]any{}
		add := func(a slog.Attr) bool {
			detail[a.Key] = plainValue(a.Value)
			return true
		}
		for _, a := range h.attrs {
			add(a)
		}
		r.Attrs(add)
		h.log.add(r.Level, r.Message, detail)
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// plainValue is a value as the log keeps it: a number, or text.
func plainValue(v slog.Value) any {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindInt64:
		return v.Int64()
	case slog.KindDuration:
		return v.Duration().Round(time.Millisecond).String()
	case slog.KindString:
		return v.String()
	default:
		return fmt.Sprint(v.Any())
	}
}

// WithAttrs is a handler whose lines have the attributes, too.
func (h *runLogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &runLogHandler{h.next.WithAttrs(attrs), h.log, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup is a handler whose next one groups what comes; a log for people has no groups.
func (h *runLogHandler) WithGroup(name string) slog.Handler {
	return &runLogHandler{h.next.WithGroup(name), h.log, h.attrs}
}
