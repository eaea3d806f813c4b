package sync

import (
	"context"
	"encoding/binary"

	"github.com/edfisync/edfisync/syncdb"
)

// An approval lasts until its calls are made, or the source does not ask for them any more. What a run that was cut off, or had no answer, left of them reads
// otherwise in the next scan, and is still what somebody approved:
//
//	approved                  | asked for now             | because
//	delete of what a record is | of what nobody knows      | a call on it had no answer, that delete most likely (I3)
//	update with its key        | of what nobody knows      | the same
//	delete, with a create      | delete alone              | the row has the record of that create by now, or sends it again
//	the same, by an older one  | delete, with a create     | that program did not say what the row asks for instead
//
// Any other update without an answer is settled by a create that meets the record, which no safeguard holds. A delete whose row is not there any more, or asks for something else than was approved, is judged anew (I5e, I8).

// yes is what was approved of one op.
type yes struct {
	op           opID // as the plan has it
	resource     string
	old, instead syncdb.Hash // instead: of a delete
	older        bool        // a delete that an older program wrote
	plan         int
}

// anyContent names an op by its record and row, whatever the record is, and of a delete whatever the row asks for instead.
func anyContent(o syncdb.PlanOp) opID {
	o.OldRecord = syncdb.Hash{}
	if o.Verb == syncdb.Delete {
		o.NewRecord = syncdb.Hash{}
	}
	return identify(o)
}

// unknownKeys are the records of which nobody knows what they are.
func unknownKeys(found []*scanned) map[recordKey]bool {
	out := map[recordKey]bool{}
	for _, r := range found {
		for _, key := range r.unknown {
			out[recordKey{r.Path, key}] = true
		}
	}
	return out
}

// isUnknown reports whether nobody knows what the record of an op is.
func (s *sayings) isUnknown(o *syncdb.PlanOp) bool {
	at := o.KeyHash
	if !o.OldKeyHash.IsZero() {
		at = o.OldKeyHash
	}
	return s.unknown[recordKey{o.Resource, at}]
}

// mayReadOtherwise reports whether a scan may ask for an approved op in other words.
func (s *sayings) mayReadOtherwise(o *syncdb.PlanOp) bool {
	return s.isUnknown(o) || o.Verb == syncdb.Delete && (o.Untold() || !o.NewRecord.IsZero())
}

// hearYes takes what was approved for approved of what the scan asks for now, in other words.
func (e *Engine) hearYes(ctx context.Context, s *scope, found []*scanned, d *decisions, said *sayings) error {
	if len(said.likely) == 0 {
		return nil
	}
	shown := said.findShown(found)
	return e.eachOp(ctx, s, found, func(_ int, o syncdb.PlanOp) error {
		y, ok := said.likely[anyContent(o)]
		switch {
		case !ok, o.OldRecord != y.old && !(o.OldRecord.IsZero() && said.isUnknown(&o)):
		case o.Verb != syncdb.Delete, o.NewRecord == y.instead, y.older, o.Alone && shown[recordKey{o.Resource, y.instead}]:
			delete(d.unasked, y.op)
			said.yes[identify(o)] = max(said.yes[identify(o)], y.plan)
		}
		return nil
	})
}

// findShown finds out which of the records that rows were to have instead of approved deletes they have, or ask for. A match of cut hashes may be of another
// row, but the op it decides about is the one that was approved in all other parts.
func (s *sayings) findShown(found []*scanned) map[recordKey]bool {
	wanted := map[string]map[uint64][]syncdb.Hash{} // by resource
	for _, y := range s.likely {
		if y.instead.IsZero() {
			continue
		}
		if wanted[y.resource] == nil {
			wanted[y.resource] = map[uint64][]syncdb.Hash{}
		}
		cut := binary.LittleEndian.Uint64(y.instead[:8])
		wanted[y.resource][cut] = append(wanted[y.resource][cut], y.instead)
	}
	shown := map[recordKey]bool{}
	for _, r := range found {
		if len(wanted[r.Path]) == 0 {
			continue
		}
		for i, key := range r.table.keys {
			if r.table.flags[i]&slotSeen == 0 {
				continue
			}
			for _, record := range wanted[r.Path][key^r.table.recs[i]] {
				shown[recordKey{r.Path, record}] = true
			}
		}
	}
	return shown
}
