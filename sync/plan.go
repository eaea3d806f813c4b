package sync

import (
	"errors"
	"fmt"

	"github.com/edfisync/edfisync/syncdb"
)

// DeletePolicy is the safeguard against mass deletes. Per resource, deletes are held back when they are more than Count and more than
// Percent of what the ledger has, and always when the source has no row at all. The zero value means 25 records and 20 percent.
type DeletePolicy struct {
	Percent float64
	Count   int64
	// Approve lists resources ("ed-fi/students") whose deletes an operator let through for this run.
	Approve []string
}

// Defaults of DeletePolicy.
const (
	DefaultDeletePercent = 20
	DefaultDeleteCount   = 25
)

// ResourcePlan is what a run means to do with one resource.
type ResourcePlan struct {
	Resource  string `json:"resource"`
	Entries   int64  `json:"entries"` // in the ledger before the run
	Rows      int64  `json:"rows"`
	Unchanged int64  `json:"unchanged"`
	Create    int64  `json:"create"`
	Update    int64  `json:"update"`
	Rekey     int64  `json:"rekey,omitempty"` // ledger only: the target re-keys them with their parent
	Delete    int64  `json:"delete"`
	Rollover  int64  `json:"rollover,omitempty"` // rows that now are of another school year: created anew, and no delete of the resource goes without a person (F68)
	Invalid   int64  `json:"invalid"`
	Blocked   int64  `json:"blocked"`        // rows that refer to a record that is neither at the target nor about to be sent
	Kept      int64  `json:"kept"`           // entries without a valid row that are left alone because an invalid row stands for them
	Held      string `json:"held,omitempty"` // why the deletes are held back; empty = they are not
}

// Plan is the result of a scan: what would be sent, in load order. It is decided by exact totals and nothing else.
type Plan struct {
	Resources []ResourcePlan `json:"resources"`
	// Open counts intents an earlier run left without an answer; the next run settles them first, so the figures may shift by as many.
	Open int `json:"open,omitempty"`
	// Changes are field-level details, at most as many as were asked for.
	Changes []Change `json:"changes,omitempty"`
}

// Writes returns how many calls the plan would make.
func (p *Plan) Writes() int64 {
	var n int64
	for _, r := range p.Resources {
		n += r.Create + r.Update
		if r.Held == "" {
			n += r.Delete
		}
	}
	return n
}

// decide turns what the scan counted into the plan. It holds deletes back as the policy says (I5e).
func decide(found []*scanned, policy DeletePolicy) *Plan {
	p := &Plan{}
	for _, r := range found {
		rp := ResourcePlan{
			Resource: r.Path, Entries: r.entries, Rows: r.totals.Rows, Unchanged: r.totals.Unchanged,
			Create: r.fresh.count - r.dupFresh, Update: r.changed.count - r.dupChanged, Delete: r.gone.count,
			Invalid: r.totals.Invalid + r.dupFresh + r.dupChanged,
			Kept:    int64(len(r.heldSource)),
		}
		for _, m := range r.moves {
			switch {
			case m.how == moveRecreate:
				continue
			case m.how == moveFollow && !m.changed:
				rp.Rekey++
			default:
				rp.Update++
			}
			rp.Create--
			rp.Delete--
		}
		rp.Rollover = r.rollover
		rp.Held = policy.judge(rp)
		p.Resources = append(p.Resources, rp)
	}
	return p
}

// judge returns why the deletes of a resource must wait for a person, or "".
func (d DeletePolicy) judge(r ResourcePlan) string {
	for _, approved := range d.Approve {
		if approved == r.Resource {
			return ""
		}
	}
	count, percent := d.Count, d.Percent
	if count <= 0 {
		count = DefaultDeleteCount
	}
	if percent <= 0 {
		percent = DefaultDeletePercent
	}
	if r.Delete > 0 && r.Rows == 0 {
		return fmt.Sprintf("the source has no rows at all for it, and the ledger has %d records", r.Entries) // F38
	}
	if r.Delete > 0 && r.Rollover > 0 { // F68
		return fmt.Sprintf("%d rows have moved to another school year: %d records would be deleted, and those of last year usually have to stay", r.Rollover, r.Delete)
	}
	if r.Delete <= count || r.Entries == 0 {
		return ""
	}
	share := 100 * float64(r.Delete) / float64(r.Entries)
	if share > percent {
		return fmt.Sprintf("%d of %d records would be deleted (%.1f %%, the limit is %g %%)", r.Delete, r.Entries, share, percent)
	}
	return ""
}

// predictBlocked counts the rows a run would not send because what they refer to is missing, in load order: a row that is blocked blocks those that
// refer to it. Answers of the target can block more.
func predictBlocked(s *scope, found []*scanned, p *Plan) error {
	blocked := make([]map[syncdb.Hash]struct{}, len(found))
	for i, r := range found {
		blocked[i] = map[syncdb.Hash]struct{}{}
		look := func(counter *int64) func(*record) error {
			return func(rec *record) error {
				if _, dup := r.dups[rec.KeyHash]; dup || !s.lacks(found, blocked, rec.Refs) {
					return nil
				}
				if counter == &p.Resources[i].Create {
					blocked[i][rec.KeyHash] = struct{}{} // a changed record stays live
				}
				*counter--
				p.Resources[i].Blocked++
				return nil
			}
		}
		if err := errors.Join(r.fresh.each(look(&p.Resources[i].Create)), r.changed.each(look(&p.Resources[i].Update))); err != nil {
			return fmt.Errorf("look for missing references of %s: %w", r.Path, err)
		}
	}
	return nil
}

// lacks reports whether a reference has no record to point to once the plan is carried out.
func (s *scope) lacks(found []*scanned, blocked []map[syncdb.Hash]struct{}, refs []reference) bool {
	for _, ref := range refs {
		t := s.targets[ref.Target]
		there := !t.Complete
		for _, j := range t.Resources {
			slot := found[j].table.find(ref.Hash)
			if slot < 0 || found[j].table.flags[slot]&(slotLive|slotNew) == 0 {
				continue
			}
			_, stopped := blocked[j][ref.Hash]
			there = there || !stopped
		}
		if !there {
			return true
		}
	}
	return false
}
