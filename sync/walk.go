package sync

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// resource reads all records of a resource and calls fn for each, and for each entry without one. First come records under the keys of their own
// entries, then the others, those that depend on each other (Linked) before the rest, then the entries that are gone. A sighting and its key are fn's
// only until it returns.
func (rd *reading) resource(ctx context.Context, r *schema.Resource, held *holdings, fn func(*sighting) error) (readCounts, error) {
	w := &walk{reading: rd, r: r, held: held, hasher: rd.keys(), fn: fn, strangers: map[uint64]uint64{}, owners: map[uint64]int{}}
	w.waiting = newSpool(rd.dir, r.Path+"#waiting", rd.seal)
	defer w.waiting.close()
	err := rd.reader.Each(ctx, r.Path, edfi.PageOptions{}, w.item)
	for _, then := range []func(context.Context) error{w.pair, w.confirm, w.tell, w.rest} {
		if err == nil {
			err = then(ctx)
		}
	}
	if err != nil {
		return w.counts, fmt.Errorf("read %s from the target: %w", r.Path, err)
	}
	return w.counts, nil
}

// walk is the reading of one resource.
type walk struct {
	*reading
	r      *schema.Resource
	held   *holdings
	hasher *schema.Hasher
	fn     func(*sighting) error
	counts readCounts

	waiting   *spool            // records whose key no entry has, or one with another id
	strangers map[uint64]uint64 // their keys → their ids, both cut
	owners    map[uint64]int    // cut ids of entries that were not met under their keys → their index
}

func (w *walk) emit(s *sighting) error {
	w.counts.add(s.Finding)
	return w.fn(s)
}

// item takes one record of a page. What is no entry's own, by key and id, waits until all those are known.
func (w *walk) item(item json.RawMessage) error {
	s := &sighting{Entry: -1}
	w.counts.Found++
	w.report(w.r.Path, w.counts.Found)
	if err := w.identify(w.r, w.hasher, item, s); err != nil {
		s.Finding = foundUnread
		return w.emit(s)
	}
	id := w.held.cutID(s.ID)
	s.Entry = w.held.find(s.KeyHash)
	if s.Entry >= 0 && w.held.ids[s.Entry] == id {
		if w.held.flags[s.Entry]&heldSeen != 0 { // pages shifted: the same record once more
			w.counts.Found--
			return nil
		}
		return w.own(s)
	}
	switch had, again := w.strangers[cut8(s.KeyHash)]; {
	case again && had == id:
		w.counts.Found--
		return nil
	case again:
		s.Finding = foundDuplicate
		return w.emit(s)
	}
	return w.wait(s)
}

// own tells of the record of an entry, under its key.
func (w *walk) own(s *sighting) error {
	w.held.flags[s.Entry] |= heldSeen
	s.Finding = w.held.compare(s.Entry, w.held.cutID(s.ID), s.Record)
	return w.emit(s)
}

func (w *walk) wait(s *sighting) error {
	w.strangers[cut8(s.KeyHash)] = w.held.cutID(s.ID)
	return w.waiting.add(&record{KeyHash: s.KeyHash, RecordHash: s.Record, PersonHash: s.Person, Key: s.Key, Payload: []byte(s.ID)})
}

// pair notes which of the waiting records are entries' own, and which entries' keys they have. An id that belongs to an entry of ours is ours,
// whatever key it has now (I9).
func (w *walk) pair(context.Context) error {
	if w.waiting.count == 0 {
		return nil
	}
	w.owners = w.held.unseenIDs()
	return w.waiting.each(func(rec *record) error {
		w.note(rec.KeyHash, string(rec.Payload))
		return nil
	})
}

func (w *walk) note(key syncdb.Hash, id string) {
	if i, ok := w.owners[w.held.cutID(id)]; ok {
		w.held.flags[i] |= heldElsewhere
	}
	if i := w.held.find(key); i >= 0 {
		w.held.flags[i] |= heldTaken
	}
}

// confirm looks entries that were not met up by id, until confirmGone of them in a row are gone.
func (w *walk) confirm(ctx context.Context) error {
	for from := 0; from < len(w.held.keys); {
		var index []int
		var hashes []syncdb.Hash
		for ; from < len(w.held.keys) && len(index) < confirmGone; from++ {
			if w.held.flags[from]&(heldSeen|heldElsewhere|heldHasID) == heldHasID {
				index, hashes = append(index, from), append(hashes, w.held.keys[from])
			}
		}
		if len(index) == 0 {
			return nil
		}
		entries, err := w.lookup(ctx, w.r.Path, hashes)
		if err != nil {
			return fmt.Errorf("look up entries: %w", err)
		}
		ids := make([]string, len(index))
		for n, i := range index {
			ids[n] = entries[w.held.keys[i]].EdfiID
		}
		there, err := w.confirmed(ctx, index, ids)
		if err != nil {
			return err
		}
		if there == 0 && len(index) == confirmGone {
			return nil
		}
	}
	return nil
}

// confirmed takes entries by id and returns how many are not gone.
func (w *walk) confirmed(ctx context.Context, index []int, ids []string) (there int, err error) {
	copies, err := w.get(ctx, w.r.Path, ids)
	if err != nil {
		return 0, err
	}
	for n, i := range index {
		if copies[n].hidden {
			w.held.flags[i] |= heldHidden
			there++
		}
		if copies[n].body == nil {
			continue
		}
		there++
		w.counts.Found++
		s := &sighting{Entry: i, KeyHash: w.held.keys[i]}
		switch {
		case w.identify(w.r, w.hasher, copies[n].body, s) != nil:
			w.held.flags[i] |= heldSeen
			s.Finding = foundUnread
			err = w.emit(s)
		case s.KeyHash == w.held.keys[i]:
			err = w.own(s)
		default:
			err = w.moved(s)
		}
		if err != nil {
			return there, err
		}
	}
	return there, nil
}

// moved takes an entry's record that no page had and that has another key.
func (w *walk) moved(s *sighting) error {
	i, id := s.Entry, w.held.cutID(s.ID)
	s.At = w.held.find(s.KeyHash)
	if known := s.At >= 0 && w.held.ids[s.At] == id; !known && w.strangers[cut8(s.KeyHash)] != id {
		w.owners[id] = i
		w.note(s.KeyHash, s.ID)
		return w.wait(s)
	}
	w.held.flags[i] |= heldMoved // and another entry has its id, too
	s.Finding, s.Vacant = foundMoved, w.held.flags[i]&heldTaken == 0
	return w.emit(s)
}

// tell tells of the records that waited.
func (w *walk) tell(context.Context) error {
	for _, linked := range []bool{true, false} {
		err := w.waiting.each(func(rec *record) error {
			s := &sighting{
				Entry: -1, ID: string(rec.Payload), Key: rec.Key, KeyHash: rec.KeyHash, Record: rec.RecordHash, Person: rec.PersonHash,
				At: w.held.find(rec.KeyHash),
			}
			owner, owned := w.owners[w.held.cutID(s.ID)]
			if owned {
				s.Vacant = w.held.flags[owner]&heldTaken == 0
				s.Linked = !s.Vacant || s.At >= 0 && w.held.flags[s.At]&heldElsewhere != 0
			}
			if s.Linked != linked {
				return nil
			}
			w.place(s, owner, owned)
			return w.emit(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// place says what a record that waited is.
//
//	another record has its key already | duplicate
//	its id is an entry's               | moved, whether another entry has its key or not
//	an entry has its key               | different: another record than the entry's
//	none of these                      | extra
func (w *walk) place(s *sighting, owner int, owned bool) {
	switch at := s.At; {
	case at >= 0 && w.held.flags[at]&heldSeen != 0:
		s.Finding, s.Entry = foundDuplicate, at
	case owned:
		s.Finding, s.Entry = foundMoved, owner
		w.held.flags[owner] |= heldMoved
	case at >= 0:
		s.Finding, s.Entry = foundDifferent, at
	default:
		s.Finding = foundExtra
	}
	if s.At >= 0 {
		w.held.flags[s.At] |= heldSeen
	}
}

// rest tells of the entries whose record is gone, or not shown.
func (w *walk) rest(context.Context) error {
	for i, flags := range w.held.flags {
		if flags&(heldSeen|heldMoved) != 0 {
			continue
		}
		s := &sighting{Finding: foundGone, Entry: i, KeyHash: w.held.keys[i]}
		if flags&heldHidden != 0 {
			s.Finding = foundHidden
		}
		if err := w.emit(s); err != nil {
			return err
		}
	}
	return nil
}
