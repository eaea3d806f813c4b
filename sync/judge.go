package sync

import (
	"errors"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/syncdb"
)

// ruling is what the answer to one call means.
type ruling struct {
	effect  syncdb.Effect
	outcome Outcome
	next    next
}

// next says what else has to happen with the op.
type next uint8

const (
	nextNothing next = iota
	nextCreate       // PUT met 404, or another spelling of the key: POST it in this step
	nextTake         // PUT met a key another client's record has: POST to that one in this step, the own record goes in the next run
	nextLater        // people only: exists, no relationship yet; again in the update step
	nextStop         // nothing more can succeed in this run
)

// judge is the one table from answers to consequences; docs/errors.md has it for people.
//
//	answer            | POST             | PUT                | DELETE
//	2xx               | created / met    | updated            | deleted
//	NotFound          | rejected (route) | missing, then POST | deleted: it is gone
//	Blocked           | blocked          | blocked            | blocked: something refers to it
//	Invalid, Rejected | rejected         | rejected (*)       | rejected
//	Transient         | failed           | failed             | failed
//	Stop              | failed, run ends | failed, run ends   | failed, run ends
//
// (*) A PUT refused because the target spells the key in another way is sent as a POST when the connection folds keys (respelled).
//
// 403 on creating one of the people means "exists, no relationship yet": again in the update step (engine.md §3). The effect is unknown
// whenever nobody can say whether the call took place, so that the next run settles it (I3): also when a
// repeat was refused after an attempt whose answer was lost.
func judge(verb syncdb.Verb, twoPhase bool, err error) ruling {
	if err == nil {
		switch verb {
		case syncdb.Delete:
			return ruling{effect: syncdb.EffectGone, outcome: Deleted}
		case syncdb.Update:
			return ruling{effect: syncdb.EffectLive, outcome: Updated}
		}
		return ruling{effect: syncdb.EffectLive, outcome: Created}
	}
	var e *edfi.Error
	if !errors.As(err, &e) {
		return ruling{effect: syncdb.EffectUnknown, outcome: Failed}
	}
	if e.Sent && e.Class != edfi.Stop && (e.Class != edfi.NotFound || verb == syncdb.Create) {
		return ruling{effect: syncdb.EffectUnknown, outcome: Failed}
	}
	if verb == syncdb.Create && twoPhase && (e.Code == "no-relationship" || e.Code == "forbidden") {
		return ruling{next: nextLater}
	}
	switch e.Class {
	case edfi.NotFound:
		switch verb {
		case syncdb.Delete:
			return ruling{effect: syncdb.EffectGone, outcome: Deleted}
		case syncdb.Update:
			return ruling{effect: syncdb.EffectMissing, next: nextCreate}
		}
		return ruling{outcome: Rejected}
	case edfi.Blocked:
		return ruling{outcome: Blocked}
	case edfi.Invalid, edfi.Rejected:
		return ruling{outcome: Rejected}
	case edfi.Stop:
		return ruling{effect: openEffect(e), outcome: Failed, next: nextStop}
	}
	return ruling{effect: openEffect(e), outcome: Failed}
}

// refine corrects the ruling on a PUT to a key that another record still has: one the run deletes later, or one that is to give it up. It is
// blocked, and sent again in the next run; a rejected one would wait for a change that never comes (I1).
func (o *op) refine(r ruling, err error) ruling {
	if r.outcome == Rejected && keyTaken(o, err) {
		return ruling{outcome: Blocked}
	}
	return r
}

// keyTaken reports whether the target refused to change a natural key because another record has it.
func keyTaken(o *op, err error) bool {
	var e *edfi.Error
	return o.verb == syncdb.Update && !o.oldKey.IsZero() && errors.As(err, &e) && e.Code == "identity-conflict"
}

// openEffect says what a call without a final answer did to the record: nothing only when no attempt can have taken effect.
func openEffect(e *edfi.Error) syncdb.Effect {
	if !e.Sent {
		return syncdb.EffectNone
	}
	return syncdb.EffectUnknown
}
