package sync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// opID stands for all that makes two ops the same. The id of a record is not in it: it may be known in one run and not in the one before, and says of
// a record with this key and content no more than they do.
type opID [16]byte

func identify(o syncdb.PlanOp) opID {
	b := make([]byte, 0, 128)
	b = append(b, byte(o.Verb))
	b = append(b, o.KeyHash[:]...)
	b = append(b, o.OldKeyHash[:]...)
	b = append(b, o.SourceHash[:]...)
	b = append(b, o.OldRecord[:]...)
	b = append(b, o.NewRecord[:]...)
	b = append(b, o.Resource...)
	sum := sha256.Sum256(b)
	return opID(sum[:16])
}

// eachOp calls fn with every call the scan asks for, step by step, whatever the gates say: the one list that plans are made of, that holds and
// saved plans keep, and that apply compares. Rows that follow a parent without a call and entries that are only dropped from the ledger are
// not in it. It reads the ledger; fn may too.
func (e *Engine) eachOp(ctx context.Context, s *scope, found []*scanned, fn func(resource int, op syncdb.PlanOp) error) error {
	hasher := schema.NewHasher(e.Keys.HashMAC())
	for _, st := range s.steps() {
		r := found[st.Resource]
		give := func(o syncdb.PlanOp) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			o.Step, o.Resource = st.Position, r.Path
			return fn(st.Resource, o)
		}
		var err error
		switch st.Verb {
		case syncdb.Create:
			err = r.fresh.each(func(rec *record) error { return r.freshOp(rec, give) })
			if err == nil && !r.twoPhase() {
				err = e.changedOps(ctx, r, give)
			}
		case syncdb.Update:
			err = e.changedOps(ctx, r, give)
		default:
			err = r.gone.each(func(rec *record) error { return r.goneOp(rec, hasher, give) })
		}
		if err != nil {
			return fmt.Errorf("list the ops of %s: %w", r.Path, err)
		}
	}
	return nil
}

// freshOp is a create, or the update of a record whose natural key changes.
func (r *scanned) freshOp(rec *record, give func(syncdb.PlanOp) error) error {
	if _, dup := r.dups[rec.KeyHash]; dup {
		return nil
	}
	o := syncdb.PlanOp{Verb: syncdb.Create, KeyHash: rec.KeyHash, SourceHash: rec.SourceHash, NewRecord: rec.RecordHash}
	if m, ok := r.moves[rec.KeyHash]; ok && m.how != moveRecreate {
		if m.how == moveFollow && !m.changed {
			return nil
		}
		o.Verb, o.OldKeyHash, o.OldRecord = syncdb.Update, m.old, m.record
	}
	return give(o)
}

// goneOp is a delete.
func (r *scanned) goneOp(rec *record, hasher *schema.Hasher, give func(syncdb.PlanOp) error) error {
	entry := r.goneEntry(rec)
	if r.moved(rec.KeyHash) || !r.deletable(entry) || r.neverMade(rec.KeyHash) {
		return nil
	}
	instead := r.instead(rec.KeyHash)
	return give(syncdb.PlanOp{
		Verb: syncdb.Delete, KeyHash: rec.KeyHash, SourceHash: rec.SourceHash, OldRecord: rec.RecordHash, NewRecord: instead, Alone: instead.IsZero(),
		RecordID: idHash(hasher, entry.EdfiID),
	})
}

// idHash stands for the id of a record in a plan; zero when it is not known.
func idHash(hasher *schema.Hasher, id string) syncdb.Hash {
	if id == "" {
		return syncdb.Hash{}
	}
	return hasher.Sum([]byte(id))
}

// changedOps are updates of records that keep their key.
func (e *Engine) changedOps(ctx context.Context, r *scanned, give func(syncdb.PlanOp) error) error {
	var ops []syncdb.PlanOp
	flush := func() error {
		keys := make([]syncdb.Hash, len(ops))
		for i, o := range ops {
			keys[i] = o.KeyHash
		}
		entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, r.Path, keys)
		if err != nil {
			return fmt.Errorf("look up entries: %w", err)
		}
		for _, o := range ops {
			o.OldRecord = entries[o.KeyHash].RecordHash
			if err := give(o); err != nil {
				return err
			}
		}
		ops = ops[:0]
		return nil
	}
	err := r.changed.each(func(rec *record) error {
		if _, dup := r.dups[rec.KeyHash]; dup {
			return nil
		}
		ops = append(ops, syncdb.PlanOp{Verb: syncdb.Update, KeyHash: rec.KeyHash, SourceHash: rec.SourceHash, NewRecord: rec.RecordHash})
		if len(ops) >= 500 {
			return flush()
		}
		return nil
	})
	if err == nil && len(ops) > 0 {
		err = flush()
	}
	return err
}

// opsWhere lists the ops that pick wants, for the ledger to keep.
func (e *Engine) opsWhere(ctx context.Context, s *scope, found []*scanned, pick func(resource int, o syncdb.PlanOp) bool) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		err := e.eachOp(ctx, s, found, func(resource int, o syncdb.PlanOp) error {
			if pick(resource, o) && !yield(o, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(syncdb.PlanOp{}, err)
		}
	}
}
