package sync

import (
	"net/http"

	"github.com/edfisync/edfisync/syncdb"
)

// LeftOut is a reason why undo leaves a record as it is.
type LeftOut string

// The reasons.
const (
	LeftNoPrevious LeftOut = "no-previous"    // what the record was before the run is not kept in the history
	LeftChanged    LeftOut = "changed"        // it is not what the run made of it any more: a later run, or somebody else, wrote it
	LeftUnsettled  LeftOut = "unsettled"      // a call of the run had no usable answer, so what it did is not known
	LeftParent     LeftOut = "parent"         // its natural key was changed, and the target changed those of other records with it
	LeftPrevented  LeftOut = "prevent-delete" // undoing it is a delete, and the configuration says that nothing of the resource is deleted
	LeftNotOurs    LeftOut = "not-ours"       // it was at the target before our first call, and we never delete such records (I9)
	LeftScope      LeftOut = "out-of-scope"   // the connection does not sync its resource any more (I5g)
	LeftHalf       LeftOut = "other-half"     // its row changed its natural key, and of its two records the other one stays, or does not come back
	LeftDependent  LeftOut = "dependent"      // it refers to a record that is left as it is, or one that stays refers to it (I6)
)

// past is what one run did to one record, of all its calls together.
type past struct {
	resource  int
	before    syncdb.Hash // natural key before the run; the one after it is where the past is filed
	was       syncdb.Hash // content before the run; zero = the ledger did not know
	wasID     string      // id before the run
	existed   bool        // the target had it before the run
	exists    bool        // and after it
	unsettled bool
	verb      syncdb.Verb // of the last call that took effect
	id        string
	record    syncdb.Hash // content after the run
	source    syncdb.Hash // source row the last call was made for
	replaces  syncdb.Hash // created: the natural key its row's record had before; zero = it had none, or none is known
	instead   syncdb.Hash // deleted: stands for what its row gave instead in the run; zero = nothing
}

type pastKey struct {
	resource int
	key      syncdb.Hash
}

// pasts are the records a run touched, by their natural key after it.
type pasts map[pastKey]*past

// note adds an attempt; they come in the order in which they were made, for each record. It is pure.
//
//	effect  | call                   | before the run        | after it
//	none    | any                    | says nothing          |
//	live    | POST answered 201      | was not there         | is there
//	live    | POST answered 200, PUT | was there             | is there
//	gone    | DELETE                 | was there             | is not there
//	gone    | DELETE answered 404    | was not there         | is not there
//	missing | PUT answered 404       | was not there         | is not there
//	unknown | any                    | nobody can say
func (p pasts) note(resource int, a *syncdb.Attempt) {
	if a.Effect == syncdb.EffectNone {
		return
	}
	at := pastKey{resource, a.KeyHash}
	r := p[at]
	recreate := a.Verb == syncdb.Create && (r == nil || r.before == a.KeyHash)
	if !a.OldKeyHash.IsZero() && a.Effect == syncdb.EffectLive && !recreate {
		from := pastKey{resource, a.OldKeyHash}
		if moved := p[from]; moved != nil {
			delete(p, from)
			p[at], r = moved, moved
		}
	}
	if r == nil {
		r = &past{resource: resource, before: a.KeyHash, was: a.OldRecord, wasID: a.EdfiID}
		if !a.OldKeyHash.IsZero() && !recreate {
			r.before = a.OldKeyHash
		}
		switch a.Effect {
		case syncdb.EffectLive:
			r.existed = a.Verb != syncdb.Create || a.Status != http.StatusCreated
		case syncdb.EffectGone:
			r.existed = a.Status != http.StatusNotFound
		}
		p[at] = r
	}
	if recreate {
		r.replaces = a.OldKeyHash
	}
	r.verb, r.id, r.source = a.Verb, a.EdfiID, a.SourceHash
	switch a.Effect {
	case syncdb.EffectLive:
		r.exists, r.record = true, a.RecordHash
	case syncdb.EffectUnknown:
		r.unsettled = true
	default:
		r.exists = false
	}
}

// inverse is the call that undoes what the run did to a record; ok is false when there is nothing to undo.
func (r *past) inverse() (verb syncdb.Verb, ok bool) {
	switch {
	case r.existed && r.exists:
		return syncdb.Update, true
	case r.exists:
		return syncdb.Delete, true
	case r.existed:
		return syncdb.Create, true
	}
	return 0, false
}

// changedSince reports whether the ledger no longer says of the record what the run made of it. entry is that of the key after the run.
func (r *past) changedSince(entry syncdb.Entry, there bool) bool {
	if !r.exists {
		return there && entry.State != syncdb.Missing
	}
	return !there || entry.State != syncdb.Live || entry.EdfiID != r.id || entry.RecordHash != r.record
}

// again is the op the next run would make of the record's source row, were it not told. record is what the record is again after the undo.
func (r *past) again(key, record syncdb.Hash) syncdb.PlanOp {
	o := syncdb.PlanOp{KeyHash: key, SourceHash: r.source, NewRecord: r.record}
	switch verb, _ := r.inverse(); verb {
	case syncdb.Delete:
		o.Verb = syncdb.Create
	case syncdb.Update:
		o.Verb, o.OldRecord = syncdb.Update, record
		if r.before != key {
			o.OldKeyHash = r.before
		}
	default:
		o.Verb, o.OldRecord, o.NewRecord, o.Alone = syncdb.Delete, record, r.instead, r.instead.IsZero()
	}
	return o
}
