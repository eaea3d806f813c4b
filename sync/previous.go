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
	want  map[content]pastKey // where the past is filed
	kept  map[pastKey]int64   // place of the payload in the spool, from 1
}

// content is one record with what it held: two calls that left the same content sent the same.
type content struct {
	resource    int
	key, record syncdb.Hash
	id          string
}

func newPrevious(u *undoing) *previous {
	p := &previous{u: u, found: newSpool(u.dir, "previous", u.e.Keys), want: map[content]pastKey{}, kept: map[pastKey]int64{}}
	for at, past := range u.pasts {
		if verb, ok := past.inverse(); ok && verb != syncdb.Delete && !past.was.IsZero() {
			p.want[content{at.resource, past.before, past.was, past.wasID}] = at
		}
	}
	return p
}

func (p *previous) close() { _ = p.found.close() } // a temporary file

// find goes back run by run until nothing is wanted any more. Only a call counts that left the very record, by its id and under the key it had before
// the run, with the content the ledger had of it then. The last call that history has under the key will not do: it may be of another record, which had
// the key before, or of an earlier state, when later calls were not kept or another client wrote the record.
func (p *previous) find(ctx context.Context) error {
	runs, err := p.u.e.Ledger.Runs(ctx, p.u.e.Connection.ID, 0) // newest first
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, r := range runs {
		if r.ID >= p.u.uo.Run || len(p.kept) == len(p.want) {
			continue
		}
		err := p.u.e.Ledger.AttemptsOfRun(ctx, p.u.e.Connection.ID, r.ID, func(a *syncdb.Attempt) error {
			i, ok := p.u.index[a.Resource]
			at, wanted := p.want[content{i, a.KeyHash, a.RecordHash, a.EdfiID}]
			if !ok || !wanted || p.kept[at] != 0 || a.Effect != syncdb.EffectLive || len(a.Payload) == 0 {
				return nil
			}
			p.kept[at] = p.found.count + 1
			return p.found.add(&record{
				KeyHash: a.KeyHash, RecordHash: a.RecordHash, SourceHash: a.SourceHash, Key: a.Key, Payload: a.Payload,
			})
		})
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
	}
	return nil
}

// has reports whether a record's previous content is kept.
func (p *previous) has(at pastKey) bool { return p.kept[at] != 0 }

// each calls fn with every record whose previous content is kept.
func (p *previous) each(fn func(at pastKey, rec *record) error) error {
	places := make([]pastKey, p.found.count)
	for at, place := range p.kept {
		places[place-1] = at
	}
	n := 0
	return p.found.each(func(rec *record) error {
		n++
		own := *rec
		own.Refs = nil
		return fn(places[n-1], &own)
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
