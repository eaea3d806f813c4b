package syncdb

// Settle says what one closed intent does to the entries. at is the entry under the intent's KeyHash, old the one under its OldKeyHash;
// nil means there is none. It returns what must be stored under either afterwards; nil means nothing. The arguments are not changed;
// returned entries may be the arguments. Settling the same intent twice ends the same (folds may be repeated).
//
//	effect    entry afterwards
//	none      as before
//	live      Live, with what the intent sent; a move takes the old key's entry away
//	gone      removed
//	unknown   Unknown, keeps its key and, but for a create, its id; a create, or an entry we never had, is inserted. A create that takes
//	          the place of a record with another key has met nothing there: the old key's entry goes, the new key's is Unknown
//	missing   Missing, keeps its key and id
//
// An entry that meanwhile stands for another record of the target (its id differs from the intent's) is neither removed nor demoted:
// a key may pass from one record to the next within a run (I4, I5).
func Settle(in *Intent, r Result, runID int64, at, old *Entry) (newAt, newOld *Entry) {
	moves := in.moves()
	subject := at
	if !moves {
		old = nil
	} else if old != nil && in.means(old) {
		subject = old
	}
	switch r.Effect {
	case EffectLive:
		if moves && subject == old {
			old = nil
		}
		return in.live(r, runID, subject), old
	case EffectGone:
		if subject == nil || !in.means(subject) {
			return at, old
		}
		if subject == at {
			return nil, old
		}
		return at, nil
	case EffectUnknown:
		if moves && in.Verb == Create && subject == old {
			subject, old = at, nil // I3: if the record was made, only the new key finds it
		}
		if subject == nil {
			return in.unknown(runID), old
		}
		return demote(in, Unknown, runID, subject, at, old)
	case EffectMissing:
		if subject == nil {
			return at, old
		}
		return demote(in, Missing, runID, subject, at, old)
	default:
		return at, old
	}
}

// moves reports whether the intent changes the natural key of an entry.
func (in *Intent) moves() bool { return !in.OldKeyHash.IsZero() && in.OldKeyHash != in.KeyHash }

// means reports whether the entry can be the record the intent was about.
func (in *Intent) means(e *Entry) bool {
	return in.Verb == Create || in.EdfiID == "" || e.EdfiID == "" || in.EdfiID == e.EdfiID
}

func (in *Intent) live(r Result, runID int64, was *Entry) *Entry {
	e := &Entry{
		Resource: in.Resource, KeyHash: in.KeyHash, RecordHash: in.RecordHash, SourceHash: in.SourceHash, PersonHash: in.PersonHash,
		EdfiID: r.EdfiID, Key: in.Key, State: Live, Origin: r.Origin, RunID: runID,
	}
	if e.EdfiID == "" {
		e.EdfiID = in.EdfiID
	}
	if e.EdfiID == "" && was != nil {
		e.EdfiID = was.EdfiID
	}
	if len(e.Key) == 0 && was != nil {
		e.Key = was.Key
	}
	if e.Origin == 0 {
		switch {
		case was != nil:
			e.Origin = was.Origin
		case in.Verb == Create:
			e.Origin = Created
		default:
			e.Origin = Met // I9: we cannot show that it is ours, so it is never deleted until adopted
		}
	}
	if e.EdfiID == "" || e.RecordHash.IsZero() { // we cannot name it, or do not know what it holds: not Live
		e.State, e.RecordHash = Unknown, Hash{}
	}
	if e.EdfiID == "" {
		e.SentKey = in.SentKey
	}
	return e
}

// unknown is the entry of a record we have no entry of: it may be at the target now (I3).
func (in *Intent) unknown(runID int64) *Entry {
	e := &Entry{
		Resource: in.Resource, KeyHash: in.KeyHash, SourceHash: in.SourceHash, PersonHash: in.PersonHash, EdfiID: in.EdfiID, Key: in.Key,
		SentKey: in.SentKey, State: Unknown, Origin: Met, RunID: runID,
	}
	if in.Verb == Create {
		e.Origin = Created
	}
	return e
}

func demote(in *Intent, to State, runID int64, subject, at, old *Entry) (newAt, newOld *Entry) {
	if !in.means(subject) {
		return at, old
	}
	e := *subject
	e.State, e.RecordHash, e.RunID = to, Hash{}, runID
	if in.Verb == Create {
		e.EdfiID, e.SentKey = "", in.SentKey // the record may have been made anew: only its key finds it for sure (I1, I4)
	}
	if e.SourceHash.IsZero() {
		e.SourceHash = in.SourceHash
	}
	if e.PersonHash.IsZero() {
		e.PersonHash = in.PersonHash
	}
	if subject == at {
		return &e, old
	}
	return at, &e
}
