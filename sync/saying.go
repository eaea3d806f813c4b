package sync

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/edfisync/edfisync/syncdb"
)

// sayings are what decided plans and open holds say of single ops.
type sayings struct {
	no, yes map[opID]int           // index of the plan that says it last, by what it means
	hold    map[int]int            // plan that says yes → index among the approved holds
	waits   map[opID]int           // index of the open hold
	named   map[opID]syncdb.Hash   // deletes that are known by the record's id: the natural key it had
	pairs   map[opID][]syncdb.Hash // by the record a delete is of: what rows asked for instead when somebody said no
	whole   map[half]int           // key changes somebody said no to of which the scan asks for both halves: index of the plan that says it last
	doubted map[recordKey]int      // records in doubt: index of the plan that says no

	olderNo map[opID]int       // deletes of which an older program wrote that somebody said no, by what that means: index of the plan that says it last
	likely  map[opID]yes       // approved ops that the scan may ask for in other words (approval.go), by anyContent
	unknown map[recordKey]bool // records of which nobody knows what they are
}

// recordKey names a record across plans.
type recordKey struct {
	resource string
	key      syncdb.Hash
}

// means is what a decision says of an op. A yes is about the op a person saw. A no is about what the call does to the record, whatever row asks for
// it: another _key expression changes every row's source key, and nothing that anybody decided about (I5). Of a delete it is about the record itself,
// and, when the record's row asked for another one instead, about that one too: a key change is one thing (pair.go).
func means(p *syncdb.Plan, o syncdb.PlanOp) opID {
	switch {
	case !saysNo(p):
		return identify(o)
	case o.Verb == syncdb.Delete:
		return recordInstead(o)
	}
	return ofAnyRow(o)
}

func ofAnyRow(o syncdb.PlanOp) opID {
	o.SourceHash = syncdb.Hash{}
	return identify(o)
}

// recordOf stands for the record a delete is of: by its id, which stays when its natural key changes with a parent's and when another client writes
// it, or by its natural key while the id is not known.
func recordOf(o syncdb.PlanOp) opID {
	by := syncdb.PlanOp{Resource: o.Resource, Verb: o.Verb, KeyHash: o.KeyHash}
	if !o.RecordID.IsZero() {
		by.KeyHash, by.OldKeyHash = syncdb.Hash{}, o.RecordID
	}
	return identify(by)
}

// recordInstead is recordOf with what the record's row asks for instead.
func recordInstead(o syncdb.PlanOp) opID {
	if o.NewRecord.IsZero() {
		return recordOf(o)
	}
	id := recordOf(o)
	return identify(syncdb.PlanOp{Resource: string(id[:]), Verb: o.Verb, NewRecord: o.NewRecord})
}

// ofRecord are the ways in which an op of a plan may mean a delete by what of names it: by the record's id, and by its natural key.
func ofRecord(o syncdb.PlanOp, of func(syncdb.PlanOp) opID) []opID {
	byKey := o
	byKey.RecordID = syncdb.Hash{}
	return []opID{of(o), of(byKey)}
}

// ofNo are the ways in which a no may mean an op: a delete by the record, another call as it is, whatever row asks for it.
func (s *sayings) ofNo(o syncdb.PlanOp) []opID {
	if o.Verb != syncdb.Delete {
		return []opID{ofAnyRow(o)}
	}
	return ofRecord(s.paired(o), recordInstead)
}

// sayings reads the ops of the plans, and notes in d which of them there are.
func (e *Engine) sayings(ctx context.Context, d *decisions, found []*scanned) (*sayings, error) {
	s := &sayings{
		no: map[opID]int{}, yes: map[opID]int{}, hold: map[int]int{}, waits: map[opID]int{}, named: map[opID]syncdb.Hash{}, doubted: map[recordKey]int{},
		pairs: map[opID][]syncdb.Hash{}, whole: map[half]int{}, olderNo: map[opID]int{}, likely: map[opID]yes{}, unknown: unknownKeys(found),
	}
	index := map[string]*scanned{}
	for _, r := range found {
		index[r.Path] = r
	}
	d.unasked, d.renewed = map[opID]struct{}{}, map[opID]syncdb.PlanOp{}
	for i := range d.plans {
		p, by := &d.plans[i], s.no
		if !saysNo(p) {
			by, s.hold[i] = s.yes, len(d.approved.holds)
			d.approved.holds = append(d.approved.holds, *p)
		}
		halves := map[half]bool{}
		if saysNo(p) {
			if err := e.eachHalf(ctx, p, func(o syncdb.PlanOp, h half) {
				halves[h], s.pairs[recordOf(o)] = true, append(s.pairs[recordOf(o)], o.NewRecord)
			}); err != nil {
				return nil, err
			}
		}
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			id := means(p, o)
			d.unasked[id] = struct{}{}
			if o.Verb != syncdb.Create || !halves[halfOf(o)] { // that goes with its delete
				by[id] = i
			}
			if !saysNo(p) {
				if s.mayReadOtherwise(&o) {
					y := yes{op: id, resource: o.Resource, old: o.OldRecord, older: o.Untold(), plan: i}
					if o.Verb == syncdb.Delete {
						y.instead = o.NewRecord
					}
					s.likely[anyContent(o)] = y
				}
				return nil
			}
			if o.Untold() {
				s.olderNo[id] = i
			}
			if !o.RecordID.IsZero() {
				s.named[id] = o.KeyHash
			}
			if r := index[o.Resource]; r != nil {
				if key, ok := r.inDoubt(o); ok {
					s.doubted[recordKey{o.Resource, key}] = i
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what is held: %w", err)
		}
	}
	d.approved.wanted, d.approved.done = make([]int64, len(d.approved.holds)), make([]atomic.Int64, len(d.approved.holds))
	for i, p := range d.open {
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			if o.Verb == syncdb.Delete {
				s.waits[recordOf(o)] = i
			} else {
				s.waits[identify(o)] = i
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what is held: %w", err)
		}
	}
	return s, nil
}

// refuses returns the plan that said no to an op last.
func (s *sayings) refuses(r *scanned, o syncdb.PlanOp) (plan int, ok bool) {
	if key, doubt := r.inDoubt(o); doubt {
		plan, ok = s.doubted[recordKey{o.Resource, key}]
		return plan, ok
	}
	if o.Verb != syncdb.Update {
		i, both := s.whole[halfOf(s.paired(o))]
		if o.Verb == syncdb.Create && both {
			plan, ok = i, true
		}
		if o.Verb == syncdb.Delete && !both && !s.paired(o).NewRecord.IsZero() {
			return 0, false // of one half alone nobody said anything
		}
	}
	for _, id := range s.ofNo(o) {
		if i, said := s.no[id]; said {
			plan, ok = max(plan, i), true
		}
	}
	return plan, ok
}

// waiting returns the open hold an op is in.
func (s *sayings) waiting(o syncdb.PlanOp) (hold int, ok bool) {
	if o.Verb != syncdb.Delete {
		hold, ok = s.waits[identify(o)]
		return hold, ok
	}
	for _, id := range ofRecord(o, recordOf) {
		if hold, ok = s.waits[id]; ok {
			return hold, true
		}
	}
	return 0, false
}

// asked notes that the scan asks for an op of a plan, and what a delete is called now.
func (d *decisions) asked(o syncdb.PlanOp, s *sayings) {
	delete(d.unasked, identify(o))
	for _, id := range s.ofNo(o) {
		delete(d.unasked, id)
		if _, said := s.no[id]; !said || o.Verb != syncdb.Delete || o.RecordID.IsZero() {
			continue
		}
		if key, named := s.named[id]; !named || key != o.KeyHash {
			d.renewed[id] = o
		}
	}
}

// renew is an op of a plan as it is called now.
func (d *decisions) renew(p *syncdb.Plan, o syncdb.PlanOp) syncdb.PlanOp {
	now, ok := d.renewed[means(p, o)]
	if !ok || !saysNo(p) {
		return o
	}
	if o.Untold() {
		o.NewRecord, o.Alone = now.NewRecord, now.Alone
	}
	if !now.RecordID.IsZero() {
		o.KeyHash, o.RecordID = now.KeyHash, now.RecordID
	}
	return o
}
