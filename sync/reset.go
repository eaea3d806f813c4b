package sync

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/syncdb"
)

// ErrTargetReset means that the target answered in the middle of a run that it does not have the records it should have: it was wiped or restored
// (F29, F30). Nothing more is sent until somebody adopts what it holds or resyncs.
var ErrTargetReset = errors.New("the target does not have most of the records it should have: it was wiped or restored; edfisync adopt or edfisync run --resync heals it")

// How much of the target is looked at in each run, and what is believed of it.
const (
	pickedKeys = 500 // keys picked in the scan: enough for some of the last run's to be among them
	probedIDs  = 10  // of these: read from the target, half of them those written last
	fewLost    = 3   // fewer records that are not there are no alarm
	lostCalls  = 20  // PUTs and DELETEs answered "not found", and most of all of them, end a run
)

// pick is one live record of the sample.
type pick struct {
	resource int
	key      syncdb.Hash
	rank     uint64
}

// sample picks keys of live entries, others in each run, and the same for the same run. It keeps those of the lowest rank: a heap with the highest on top.
type sample struct {
	salt  uint64
	picks []pick
}

func (s *sample) Len() int           { return len(s.picks) }
func (s *sample) Less(i, j int) bool { return s.picks[i].rank > s.picks[j].rank }
func (s *sample) Swap(i, j int)      { s.picks[i], s.picks[j] = s.picks[j], s.picks[i] }

// Push and Pop are heap.Interface's; offer is what the scan calls.
func (s *sample) Push(x any) {
	if p, ok := x.(pick); ok {
		s.picks = append(s.picks, p)
	}
}

// Pop takes the last pick away.
func (s *sample) Pop() any {
	last := s.picks[len(s.picks)-1]
	s.picks = s.picks[:len(s.picks)-1]
	return last
}

// offer takes a key into the sample when its rank is low enough.
func (s *sample) offer(resource int, key syncdb.Hash) {
	rank := (binary.LittleEndian.Uint64(key[8:]) ^ s.salt) * 0x9e3779b97f4a7c15
	switch {
	case len(s.picks) < pickedKeys:
		s.picks = append(s.picks, pick{resource, key, rank})
		heap.Fix(s, len(s.picks)-1)
	case rank < s.picks[0].rank:
		s.picks[0] = pick{resource, key, rank}
		heap.Fix(s, 0)
	}
}

// entries reads the records to probe: half those written last, half whatever comes.
func (s *sample) entries(ctx context.Context, e *Engine, found []*scanned) (recent, others []syncdb.Entry, err error) {
	slices.SortFunc(s.picks, func(a, b pick) int { return cmp.Compare(a.rank, b.rank) }) // not a heap any more
	byResource := map[int][]syncdb.Hash{}
	for _, p := range s.picks {
		byResource[p.resource] = append(byResource[p.resource], p.key)
	}
	known := map[int]map[syncdb.Hash]syncdb.Entry{}
	for _, resource := range slices.Sorted(maps.Keys(byResource)) { // always in one order, so that a simulation replays
		keys := byResource[resource]
		if known[resource], err = e.Ledger.Lookup(ctx, e.Connection.ID, found[resource].Path, keys); err != nil {
			return nil, nil, fmt.Errorf("look up entries: %w", err)
		}
	}
	// What no row asks for any more its owner may have deleted: that it is gone tells nothing. An undo reads no rows.
	read := slices.ContainsFunc(found, func(r *scanned) bool { return r.totals.Rows > 0 })
	all := make([]syncdb.Entry, 0, len(s.picks))
	for _, p := range s.picks {
		entry, ok := known[p.resource][p.key]
		if ok && entry.State == syncdb.Live && entry.EdfiID != "" && (!read || found[p.resource].inUse(&entry)) {
			all = append(all, entry)
		}
	}
	others = all
	slices.SortStableFunc(all, func(a, b syncdb.Entry) int {
		return cmp.Or(cmp.Compare(b.RunID, a.RunID), bytes.Compare(a.KeyHash[:], b.KeyHash[:]))
	})
	n := min(probedIDs/2, len(all))
	recent, others = all[:n], all[n:]
	if step := len(others) / (probedIDs / 2); step > 1 {
		var spread []syncdb.Entry
		for i := 0; i < len(others) && len(spread) < probedIDs/2; i += step {
			spread = append(spread, others[i])
		}
		others = spread
	}
	return recent, others[:min(len(others), probedIDs/2)], nil
}

// seen is what a run finds of the target before it writes.
type seen struct {
	alarm   string // why nothing may be written; "" = the target is as we left it
	raised  bool   // the alarm is new
	newest  int64  // change version, 0 = it tells none
	changed bool   // since the ledger noted it
}

// look compares the target with what the last run left: its newest change version, which only a wipe or a restore takes back, and some records,
// most of which are not there after one (F29, F30). It only reads. What cannot be told is no alarm.
func (e *Engine) look(ctx context.Context, o Options, s *sample, found []*scanned) (seen, error) {
	state, err := e.Ledger.Target(ctx, e.Connection.ID)
	if err != nil {
		return seen{}, fmt.Errorf("read what is known of the target: %w", err)
	}
	if state.Alarm != "" {
		return seen{alarm: state.Alarm}, nil
	}
	target := e.Target(func() error { return nil })
	out := seen{}
	wait := func() error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(o.SettleDelay):
			return nil
		}
	}
	for try := 0; ; try++ {
		versions, err := target.ChangeVersions(ctx)
		if ctx.Err() != nil {
			return seen{}, context.Cause(ctx)
		}
		if unanswered(err) {
			return out, nil // the run will meet that itself
		}
		out.newest, out.changed = versions.Newest, versions.Newest != state.ChangeVersion && err == nil
		if err != nil || versions.Newest >= state.ChangeVersion {
			break
		}
		if try == 1 {
			out.alarm, out.raised = fmt.Sprintf("the target's newest change version went back from %d to %d", state.ChangeVersion, versions.Newest), true
			return out, nil
		}
		if err := wait(); err != nil { // a copy that lags behind is given the time to catch up
			return seen{}, err
		}
	}
	recent, others, err := s.entries(ctx, e, found)
	if err != nil {
		return seen{}, err
	}
	for try := 0; ; try++ {
		recentThere, recentLost := probe(ctx, target, recent)
		there, lost := probe(ctx, target, others)
		if ctx.Err() != nil {
			return seen{}, context.Cause(ctx)
		}
		there, lost = there+recentThere, lost+recentLost
		if !mostAreLost(recentThere, recentLost) && !mostAreLost(there, lost) {
			return out, nil
		}
		if try == 1 {
			out.alarm, out.raised = fmt.Sprintf("%d of %d records that were looked up are not at the target", lost, lost+there), true
			return out, nil
		}
		if err := wait(); err != nil { // "not found" is believed only the second time (F36)
			return seen{}, err
		}
	}
}

// unanswered reports whether the target gave no answer that says anything.
func unanswered(err error) bool {
	var e *edfi.Error
	return errors.As(err, &e) && (e.Status == 0 && e.Code != "no-change-queries" || e.Status >= 500 || e.Status == http.StatusTooManyRequests)
}

func mostAreLost(there, lost int) bool { return lost >= fewLost && lost > there }

// probe counts records that are at the target, and those it says it does not have. Other answers count as neither.
func probe(ctx context.Context, target Target, entries []syncdb.Entry) (there, lost int) {
	var (
		wg    gosync.WaitGroup
		mu    gosync.Mutex
		slots = make(chan struct{}, max(1, target.Concurrency()))
	)
	for _, entry := range entries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			_, _, err := target.Get(ctx, entry.Resource, entry.EdfiID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				there++
			case edfi.ClassOf(err) == edfi.NotFound:
				lost++
			}
		})
	}
	wg.Wait()
	return there, lost
}

// raise notes an alarm: until it is cleared no run writes to the target.
func (e *Engine) raise(ctx context.Context, k *keeper, why string, newest int64) error {
	e.logger().Error("the target was wiped or restored behind our back; nothing is written until somebody adopts what it holds or resyncs", slog.String("why", why))
	state := syncdb.TargetState{ChangeVersion: newest, Alarm: why, AlarmRun: k.current().RunID}
	if err := e.Ledger.SetTarget(ctx, k.current(), state); err != nil {
		return fmt.Errorf("note that the target was reset: %w", err)
	}
	return nil
}

// wholeTarget is what stands for the resource in an issue that is not about one.
const wholeTarget = "target"

// tellAlarm files the alarm as an issue when no row is held that would tell of it.
func (e *Engine) tellAlarm(ctx context.Context, k *keeper) error {
	advice, _ := AdviceOn(string(RuleTargetReset))
	mark := syncdb.Hash{'t', 'a', 'r', 'g', 'e', 't'}
	err := e.Ledger.SaveProblems(ctx, k.current(), []syncdb.Problem{{
		Resource: wholeTarget, SourceHash: mark, KeyHash: mark, Outcome: Held.String(), Code: string(RuleTargetReset),
		Cause: RuleTargetReset.cause(), Owner: advice.Owner, Detail: detail(map[string]any{}),
	}})
	if err != nil {
		return fmt.Errorf("tell that the target was reset: %w", err)
	}
	return nil
}

// remember notes how far the target's change versions have come, for the next run to compare.
func (e *Engine) remember(ctx context.Context, k *keeper, before seen, calls int64) error {
	if before.newest == 0 {
		return nil // it tells none
	}
	newest := before.newest
	if calls > 0 {
		versions, err := e.Target(func() error { return nil }).ChangeVersions(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			newest = max(newest, versions.Newest)
		}
	}
	if newest == before.newest && !before.changed {
		return nil
	}
	if err := e.Ledger.SetTarget(ctx, k.current(), syncdb.TargetState{ChangeVersion: newest}); err != nil {
		return fmt.Errorf("note the target's change version: %w", err)
	}
	return nil
}

// resetReason says what told that the target was reset in the middle of a run.
func (x *executor) resetReason() string {
	return fmt.Sprintf("%d PUTs and DELETEs met a record that was not there", x.lost.Load())
}

// missed counts PUTs and DELETEs of records that should be there, and ends the run when most of many are not: before anything is
// created again.
func (x *executor) missed(o *op, err error) {
	if o.silent != notSilent || o.verb == syncdb.Create || o.unsure {
		return
	}
	switch {
	case err == nil:
		x.met.Add(1)
	case edfi.ClassOf(err) == edfi.NotFound:
		if lost := x.lost.Add(1); lost > lostCalls && lost > x.met.Load() {
			x.stop(ErrTargetReset)
		}
	}
}
