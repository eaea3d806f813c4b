package sync

import (
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// A row whose natural key changes gives two calls where no PUT changes it: the delete of its old record and the create of its new one. What somebody says
// no to is the pair. The delete in the plan tells the create (PlanOp.NewRecord), and the no counts as long as a scan asks for both: a row that asks for
// something else, for its old record, or for nothing, has ended it, for both halves (I1, I5).

// half is the create of a pair, as the delete of it tells it.
type half struct {
	resource string
	instead  syncdb.Hash
}

// halfOf is the pair an op may be of: that of a delete by what its row asks for instead, that of another op by what it sends.
func halfOf(o syncdb.PlanOp) half {
	if o.Verb == syncdb.Delete {
		return half{o.Resource, o.NewRecord}
	}
	return half{o.Resource, whole(o.KeyHash, o.NewRecord)}
}

// eachHalf calls fn with the deletes of a plan whose rows asked for something else instead.
func (e *Engine) eachHalf(ctx context.Context, p *syncdb.Plan, fn func(o syncdb.PlanOp, h half)) error {
	err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
		if o.Verb == syncdb.Delete && !o.NewRecord.IsZero() {
			fn(o, halfOf(o))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was decided: %w", err)
	}
	return nil
}

// paired gives a delete of which no row is known what somebody said no to with it, as long as rows ask for that: another _key expression changes every
// row's source key, and takes nothing apart.
func (s *sayings) paired(o syncdb.PlanOp) syncdb.PlanOp {
	if o.Verb != syncdb.Delete || !o.NewRecord.IsZero() || len(s.pairs) == 0 {
		return o
	}
	for _, id := range ofRecord(o, recordOf) {
		for _, instead := range s.pairs[id] {
			if _, asked := s.whole[half{o.Resource, instead}]; asked {
				o.NewRecord = instead
				return o
			}
		}
	}
	return o
}

// findWholePairs finds the pairs somebody said no to of which the scan asks for both halves.
func (e *Engine) findWholePairs(ctx context.Context, s *scope, found []*scanned, said *sayings) error {
	if len(said.pairs) == 0 {
		return nil
	}
	wanted, asked := map[half]bool{}, map[half]bool{}
	for _, p := range said.pairs {
		for _, instead := range p {
			for _, r := range found {
				wanted[half{r.Path, instead}] = true
			}
		}
	}
	var deletes []syncdb.PlanOp
	err := e.eachOp(ctx, s, found, func(_ int, o syncdb.PlanOp) error {
		switch {
		case o.Verb == syncdb.Create && wanted[halfOf(o)]:
			asked[halfOf(o)] = true
		case o.Verb == syncdb.Delete && slices.ContainsFunc(ofRecord(o, recordOf), func(id opID) bool { return len(said.pairs[id]) > 0 }):
			deletes = append(deletes, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range deletes {
		for _, id := range ofRecord(o, recordOf) {
			for _, instead := range said.pairs[id] {
				h := half{o.Resource, instead}
				if !asked[h] || !o.NewRecord.IsZero() && o.NewRecord != instead {
					continue
				}
				with := o
				with.NewRecord = instead
				for _, id := range ofRecord(with, recordInstead) {
					if plan, no := said.no[id]; no {
						said.whole[h] = max(said.whole[h], plan)
					}
				}
			}
		}
	}
	return nil
}

// asOlder is a delete as an older program wrote it, which did not say what the record's row asks for instead.
func asOlder(o syncdb.PlanOp) syncdb.PlanOp {
	o.NewRecord, o.Alone = syncdb.Hash{}, false
	return o
}

// hearOlder takes what somebody said no to under an older program for said of what the scan asks for now: that no kept the record whatever its row asked for
// (I5). The plan is told what that is, and from then on it ends as any does.
func (e *Engine) hearOlder(ctx context.Context, s *scope, found []*scanned, d *decisions, said *sayings) error {
	if len(said.olderNo) == 0 {
		return nil
	}
	return e.eachOp(ctx, s, found, func(_ int, o syncdb.PlanOp) error {
		if o.Verb != syncdb.Delete {
			return nil
		}
		for _, id := range ofRecord(o, recordOf) {
			i, no := said.olderNo[id]
			if !no {
				continue
			}
			delete(d.unasked, id)
			d.renewed[id] = o
			if o.Alone {
				continue
			}
			said.pairs[id] = append(said.pairs[id], o.NewRecord)
			for _, with := range ofRecord(o, recordInstead) {
				said.no[with] = max(said.no[with], i)
			}
		}
		return nil
	})
}
