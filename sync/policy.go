package sync

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// When a record that is not in sync is sent again, by what became of it:
//
//	outcome                           | sent again
//	invalid                           | when its row keeps the rules
//	blocked                           | in every run, as soon as what it waits for is there
//	failed                            | in every run: it is settled by an idempotent repeat
//	rejected, the target host's to mend | in every run: the host may have mended its side (F34, F35)
//	rejected, anybody else's to mend  | when its payload, a record it refers to, or configuration or mapping changed; or somebody asks for it
//	rejected, nothing gives us the    | as anybody else's, and when an association that does is there (rights.go); deletes, too
//	right to its person               |
//	held                              | when a person approves it, or the safeguard has no objection any more
//
// Asking for it is RetryProblems (`edfisync retry`), or Options.RetryRejected.

// waitsForChange reports whether a rejected record that this owner has to mend waits for something to change.
func waitsForChange(owner string) bool { return owner != byHost }

// attempted stands for all that decides whether a rejected record would be rejected again: its key, its payload, what the records it refers to
// hold, and the version of configuration and mapping.
func (x *executor) attempted(key, record syncdb.Hash, refs []reference) syncdb.Hash {
	sums := make([]uint64, 0, len(refs))
	for _, ref := range refs {
		for _, j := range x.scope.targets[ref.Target].Resources {
			r := x.found[j]
			r.mu.Lock()
			if i := r.table.find(ref.Hash); i >= 0 {
				sums = append(sums, r.table.recs[i])
			}
			r.mu.Unlock()
		}
	}
	slices.Sort(sums)
	var b bytes.Buffer
	b.WriteString("attempted\x00")
	b.Write(key[:])
	b.Write(record[:])
	for _, sum := range sums {
		b.Write(binary.LittleEndian.AppendUint64(nil, sum))
	}
	b.WriteString(x.e.Config)
	return schema.NewHasher(x.e.Keys.HashMAC()).Sum(b.Bytes())
}

// waits reports whether a record that was rejected before is not worth sending: nothing that decides about it changed, and no record it refers to
// was written in this run.
func (s *stepRun) waits(rec *record, last syncdb.Hash) bool {
	for _, ref := range rec.Refs {
		for _, j := range s.x.scope.targets[ref.Target].Resources {
			r := s.x.found[j]
			r.mu.Lock()
			i := r.table.find(ref.Hash)
			written := i >= 0 && r.table.flags[i]&slotWritten != 0
			r.mu.Unlock()
			if written {
				return false
			}
		}
	}
	attempted := s.x.attempted(rec.KeyHash, rec.RecordHash, rec.Refs)
	if last == attempted {
		return true
	}
	of, err := s.x.rights.lacking(s.x.ctx, s.x.scope.peopleOf(s.r, rec.Refs, rec.KeyHash))
	return err == nil && len(of) > 0 && last == s.x.attemptedWithout(attempted, of)
}

// referred are the references of an op's payload that lead into the scope, as the scan made them.
func (s *stepRun) referred(o *op) []reference {
	var out []reference
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	for _, r := range s.references(o) {
		if t, ok := s.x.scope.entity[r.Target]; ok {
			out = append(out, reference{Target: t, Hash: hasher.Sum(r.Key)})
		}
	}
	return out
}
