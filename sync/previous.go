package sync

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/edfisync/edfisync/syncdb"
)

// previous finds what records were before a run, from the history of the runs before it. Payloads are on disk, sealed; in memory is where each is.
type previous struct {
	u     *undoing
	found *spool
	want  map[pastKey]pastKey // key before the run → where the past is filed
	best  map[pastKey]uint64  // key before the run → the payload that counts, by its place in the spool
	next  uint64
}

func newPrevious(u *undoing) *previous {
	p := &previous{u: u, found: newSpool(u.dir, "previous", u.e.Keys), want: map[pastKey]pastKey{}, best: map[pastKey]uint64{}}
	for at, past := range u.pasts {
		if verb, ok := past.inverse(); ok && verb != syncdb.Delete {
			p.want[pastKey{at.resource, past.before}] = at
		}
	}
	return p
}

func (p *previous) close() { _ = p.found.close() } // a temporary file

// find goes back run by run until nothing is wanted any more. In the latest run that touched a record the last call counts: when it left the record
// live, its payload is what the record was; when it did not, or nobody knows, nothing is kept.
func (p *previous) find(ctx context.Context) error {
	runs, err := p.u.e.Ledger.Runs(ctx, p.u.e.Connection.ID, 0) // newest first
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	open := len(p.want)
	done := map[pastKey]bool{}
	for _, r := range runs {
		if r.ID >= p.u.uo.Run || open == 0 {
			continue
		}
		touched := map[pastKey]bool{}
		err := p.u.e.Ledger.AttemptsOfRun(ctx, p.u.e.Connection.ID, r.ID, func(a *syncdb.Attempt) error {
			i, ok := p.u.index[a.Resource]
			at := pastKey{i, a.KeyHash}
			if _, wanted := p.want[at]; !ok || !wanted || done[at] || a.Effect == syncdb.EffectNone {
				return nil
			}
			touched[at] = true
			if a.Effect != syncdb.EffectLive || len(a.Payload) == 0 {
				delete(p.best, at)
				return nil
			}
			p.next++
			p.best[at] = p.next
			return p.found.add(&record{
				KeyHash: a.KeyHash, RecordHash: a.RecordHash, SourceHash: a.SourceHash, Key: a.Key, Payload: a.Payload, SourceKey: []byte(a.Resource),
			})
		})
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		for at := range touched {
			done[at] = true
			open--
		}
	}
	return nil
}

// has reports whether a record's previous content is kept.
func (p *previous) has(at pastKey) bool {
	past := p.u.pasts[at]
	_, ok := p.best[pastKey{at.resource, past.before}]
	return ok
}

// each calls fn with every record whose previous content is kept.
func (p *previous) each(fn func(at pastKey, rec *record) error) error {
	var n uint64
	return p.found.each(func(rec *record) error {
		n++
		before := pastKey{p.u.index[string(rec.SourceKey)], rec.KeyHash}
		if p.best[before] != n {
			return nil
		}
		own := *rec
		own.SourceKey, own.Refs = nil, nil
		return fn(p.want[before], &own)
	})
}

// totalsOf are the counts of a run; none when it lost its process.
func totalsOf(r syncdb.Run) Totals {
	var t Totals
	if json.Unmarshal(r.Totals, &t) != nil {
		return Totals{}
	}
	return t
}
