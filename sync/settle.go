package sync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
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
		failed, err := s.lookUp(lost)
		if err != nil {
			return err
		}
		var missing []*op
		for _, o := range lost {
			if err, ok := failed[o]; ok {
				s.refuse(o, Failed, err)
				s.strand(o)
				continue
			}
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

// lookUp finds the ids of ops by natural key, several at a time. A look-up the target refuses, or answers with another record, concerns
// that op only (I17); it comes back as failed. An error means that nothing more can succeed.
func (s *stepRun) lookUp(ops []*op) (failed map[*op]error, err error) {
	var (
		wg    gosync.WaitGroup
		mu    gosync.Mutex
		slots = make(chan struct{}, max(1, s.x.target.Concurrency()))
	)
	failed = map[*op]error{}
	for _, o := range ops {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			id, oerr := s.find(o)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case edfi.ClassOf(oerr) == edfi.Stop:
				err = fmt.Errorf("look up a record by key: %w", oerr)
			case oerr != nil:
				failed[o] = oerr
			default:
				o.edfiID = id
			}
		})
	}
	wg.Wait()
	return failed, err
}

// errOtherRecord: what was found by key has another key. A target that ignores a parameter answers like that.
var errOtherRecord = errors.New("the target answered a look-up by natural key with a record of another key")

// find returns the id of the record with the op's natural key, "" when the target has none. The key of what is found is compared: a record
// that only looks like it is not ours to delete (I5a, I9).
func (s *stepRun) find(o *op) (string, error) {
	query, err := s.r.KeyQuery(o.keyText)
	if err != nil {
		return "", fmt.Errorf("make the query: %w", err)
	}
	id, body, found, err := s.x.target.FindByKey(s.x.calls, s.r.Path, query)
	if err != nil || !found {
		return "", err
	}
	key, err := s.r.CanonicalKey(nil, body, s.x.o.Rules)
	if err != nil {
		return "", fmt.Errorf("read the record found: %w", err)
	}
	if !bytes.Equal(key, o.keyText) {
		return "", errOtherRecord
	}
	return id, nil
}
