package sync

import (
	"context"
	"fmt"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// findStrays looks at records that were to be deleted and were not, and whose natural key in the ledger contains that of a parent which is not
// there any more: the target gave them another key together with that parent, and there is no row to say which. What they refer to now stays
// (I6), what they referred to before may go (I1), and the ledger learns their key (I2).
func (s *stepRun) findStrays() error {
	if err := s.settleOpen(); err != nil {
		return err
	}
	s.mu.Lock()
	strays := s.strays
	s.strays = nil
	s.mu.Unlock()
	if len(strays) == 0 {
		return nil
	}
	keys := make([]syncdb.Hash, len(strays))
	for i, o := range strays {
		keys[i] = o.key
	}
	entries, err := s.x.e.Ledger.Lookup(s.x.ctx, s.x.e.Connection.ID, s.r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	now, err := s.keysOf(strays)
	if err != nil {
		return err
	}
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	for i, o := range strays {
		s.x.need(s.r.identifying(s.x.scope, schema.NewHasher(s.x.e.Keys.HashMAC()), now[i]))
		entry, ok := entries[o.key]
		key := hasher.Sum(now[i])
		if !ok || len(now[i]) == 0 || key == o.key || entry.EdfiID != o.edfiID || s.knows(key) {
			continue
		}
		err := s.add(&op{
			verb: syncdb.Update, silent: correct, key: key, keyText: now[i], oldKey: o.key, edfiID: o.edfiID, known: true,
			record: entry.RecordHash, source: entry.SourceHash, person: entry.PersonHash,
		})
		if err != nil {
			return err
		}
	}
	return s.settleOpen()
}

// knows reports whether the ledger has an entry for a key, or a row has it.
func (s *stepRun) knows(key syncdb.Hash) bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.r.table.find(key) >= 0
}

// keysOf reads the natural keys records have at the target now, several at a time: none when it does not have the record any more. A record
// that cannot be read keeps the key the ledger has.
func (s *stepRun) keysOf(ops []*op) ([][]byte, error) {
	var (
		wg    gosync.WaitGroup
		out   = make([][]byte, len(ops))
		slots = make(chan struct{}, max(1, s.x.target.Concurrency()))
	)
	for i, o := range ops {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			body, _, err := s.x.target.Get(s.x.ctx, s.r.Path, o.edfiID)
			if edfi.ClassOf(err) == edfi.NotFound {
				return
			}
			if err == nil {
				out[i], err = s.r.CanonicalKey(nil, body, s.x.o.Rules)
			}
			if err != nil {
				out[i] = o.keyText
			}
		})
	}
	wg.Wait()
	if s.x.ctx.Err() != nil {
		return nil, context.Cause(s.x.ctx)
	}
	return out, nil
}
