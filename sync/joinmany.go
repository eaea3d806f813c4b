package sync

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// joinMany is join for more gone entries than a run keeps with their keys. Natural-key changes of them are creates and deletes, and a create meets the
// record that got the key with its parent: it stays what it was. What join keeps is kept all the same (I5f): the record of a row that has another key now,
// until the row's record is there under that one; a record that gets the key of an invalid row with its parent; and last year's records are not deleted
// for this year's without a person (F68). It reports whether the target changes natural keys of the resource with those of parents.
func (r *scanned) joinMany(cs cascades, hasher *schema.Hasher, moved map[uint16]renames) (follow bool, err error) {
	rows := map[syncdb.Hash]struct{}{} // source rows with a new key
	if err := r.fresh.each(func(rec *record) error {
		if _, dup := r.dups[rec.KeyHash]; !rec.Known && !dup {
			rows[rec.SourceHash] = struct{}{}
		}
		return nil
	}); err != nil {
		return false, err
	}
	type gone struct {
		key  syncdb.Hash
		year string
	}
	was, years := map[syncdb.Hash]gone{}, map[string]string{} // by source row; years once each
	err = r.gone.each(func(rec *record) error {
		e := r.goneEntry(rec)
		if _, used := r.usedIDs[e.EdfiID]; used || e.EdfiID == "" || e.State == syncdb.Missing || r.table.outside(rec.KeyHash) {
			return nil
		}
		now, err := cs.follow(e.Key, hasher, moved)
		if err != nil {
			return err
		}
		if now != nil {
			follow = true
			key := hasher.Sum(now)
			if _, held := r.heldKey[key]; held {
				r.stay(e.KeyHash)
				r.keep(cs, hasher, now, key)
			}
			if r.asksFor(key) {
				r.noteMove(e.KeyHash, key)
				return nil
			}
		}
		if _, has := rows[e.SourceHash]; has && !e.SourceHash.IsZero() {
			year := r.schoolYears(e.Key)
			if _, had := years[year]; !had {
				years[year] = year
			}
			was[e.SourceHash] = gone{e.KeyHash, years[year]}
		}
		return nil
	})
	if err == nil && !follow {
		err = r.kept.each(func(rec *record) error {
			now, err := cs.follow(rec.Key, hasher, moved)
			follow = follow || now != nil
			return err
		})
	}
	if err != nil {
		return follow, err
	}
	return follow, r.fresh.each(func(rec *record) error {
		before, had := was[rec.SourceHash]
		if _, dup := r.dups[rec.KeyHash]; rec.Known || dup || !had {
			return nil
		}
		delete(was, rec.SourceHash)
		r.noteMove(before.key, rec.KeyHash)
		if differentYears(before.year, r.schoolYears(rec.Key)) {
			r.rollover++
		}
		return nil
	})
}

// differentYears compares what schoolYears gave; a key that cannot be read is of no other year.
func differentYears(before, after string) bool { return before != "" && after != "" && before != after }

// schoolYears are the school years a natural key of the resource is of.
func (r *scanned) schoolYears(key []byte) string {
	if !slices.ContainsFunc(r.Key, isSchoolYear) {
		return ""
	}
	values, err := keyValues(key)
	if err != nil || len(values) != len(r.Key) {
		return "" // no key of this resource
	}
	var out strings.Builder
	for i, part := range r.Key {
		if isSchoolYear(part) {
			fmt.Fprintf(&out, "%s ", values[i])
		}
	}
	return out.String()
}

func isSchoolYear(part schema.KeyPart) bool {
	return part.Kind == schema.Integer && strings.HasSuffix(strings.ToLower(part.Name), "schoolyear")
}

// stayBelow keeps the gone entries of a resource below targets whose new keys are not known, while a row of it is invalid: the record of any of them may
// be the one that gets the key of that row (I5f). It reports whether there are such targets.
func (r *scanned) stayBelow(cs cascades, blind map[uint16]bool) (bool, error) {
	if !slices.ContainsFunc(cs, func(c cascade) bool { return blind[c.target] }) {
		return false, nil
	}
	if len(r.heldKey) == 0 {
		return true, nil
	}
	return true, r.gone.each(func(rec *record) error { r.stay(rec.KeyHash); return nil })
}
