package sync

import (
	"context"
	"fmt"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// settleLost deals with entries that have no id and no row: a create was never answered, and its row is gone since. Each is looked up by
// its natural key; what is found is deleted, what is not found twice is dropped from the ledger. "Not found" is believed only the second
// time, after the delay, because a target may show a new record late (engine.md §3, F36).
func (s *stepRun) settleLost(lost []*op) error {
	for try := 0; len(lost) > 0; try++ {
		if try == 1 {
			select {
			case <-s.x.ctx.Done():
				return context.Cause(s.x.ctx)
			case <-time.After(s.x.o.SettleDelay):
			}
		}
		if err := s.lookUp(lost); err != nil {
			return err
		}
		var missing []*op
		for _, o := range lost {
			switch {
			case o.edfiID == "" && try == 0:
				missing = append(missing, o)
				continue
			case o.edfiID == "", s.x.ownedByRow(s.r, o.edfiID):
				// I5d: nothing there, or a live row owns it. Closing a create as "gone" drops the entry without a call.
				o.verb, o.silent = syncdb.Create, release
			}
			if err := s.add(o); err != nil {
				return err
			}
		}
		lost = missing
	}
	return nil
}

// lookUp finds the ids of ops by natural key, several at a time.
func (s *stepRun) lookUp(ops []*op) error {
	var (
		wg    gosync.WaitGroup
		mu    gosync.Mutex
		first error
		slots = make(chan struct{}, max(1, s.x.target.Concurrency()))
	)
	for _, o := range ops {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			query, err := s.r.KeyQuery(o.keyText)
			if err == nil {
				o.edfiID, _, _, err = s.x.target.FindByKey(s.x.calls, s.r.Path, query)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("look up a record by key: %w", err)
				}
			}
		})
	}
	wg.Wait()
	return first
}
