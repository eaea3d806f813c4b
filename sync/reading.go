package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Reader reads records back from the target. *edfi.Client is one. Safe for concurrent use; nothing of it writes.
type Reader interface {
	// Each calls fn for every item of a resource the credentials may see.
	Each(ctx context.Context, resource string, opts edfi.PageOptions, fn func(item json.RawMessage) error) error
	Get(ctx context.Context, resource, id string) (body []byte, etag string, err error)
	ChangeVersions(ctx context.Context) (edfi.ChangeVersions, error)
	Deletes(ctx context.Context, resource string, opts edfi.PageOptions, fn func(edfi.Deletion) error) error
	KeyChanges(ctx context.Context, resource string, opts edfi.PageOptions, fn func(edfi.KeyChange) error) error
}

// finding says how one record of the target, or one entry, compares with the ledger.
type finding uint8

const (
	foundSame      finding = iota // the entry says exactly this
	foundDifferent                // the entry has another content or id, or does not say that the record is there
	foundMoved                    // an entry's record, under another natural key
	foundExtra                    // no entry
	foundDuplicate                // another record of the target has the same natural key
	foundGone                     // an entry, and the target has no record of its id or key
	foundUnread                   // a record that is no payload of its resource, so that it has no key
	foundHidden                   // an entry whose record the target does not show to these credentials: nothing is known of it
)

// sighting is one record of the target, or the lack of one.
type sighting struct {
	Finding finding
	Entry   int // index in holdings; -1 = none
	ID      string
	Key     []byte // natural key, canonical
	KeyHash syncdb.Hash
	Record  syncdb.Hash
	Person  syncdb.Hash
}

// readCounts is what a reading of one resource came to.
type readCounts struct {
	Found     int64 // records at the target
	Same      int64
	Different int64
	Moved     int64
	Extra     int64
	Duplicate int64
	Gone      int64
	Unread    int64
	Hidden    int64
}

func (c *readCounts) add(f finding) {
	*[...]*int64{&c.Same, &c.Different, &c.Moved, &c.Extra, &c.Duplicate, &c.Gone, &c.Unread, &c.Hidden}[f]++
}

// confirmGone is how many entries a reading did not meet are looked up by id at once. Pages may not have them although the target does: records
// written meanwhile push others out of a page counted by offset, and people without an enrolment are shown in none. Only when none of so many is
// there, as after a wipe, the rest is believed to be gone too. They come in the order of keyed hashes, which is as good as by lot.
const confirmGone = 1000

// reading reads resources of the target and compares each record with the ledger. It keeps no payload.
type reading struct {
	reader Reader
	model  *schema.Model
	rules  schema.Rules
	keys   hasherSource
	dir    *workspace // for what the ledger does not have, sealed
	seal   Sealer
	lookup func(ctx context.Context, resource string, keys []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error)
	calls  int // in flight at most
	report func(resource string, done int64)
}

// hasherSource makes hashers with the connection's key.
type hasherSource func() *schema.Hasher

// newReading returns a reading with the engine's keys and ledger.
func (e *Engine) newReading(o Options, dir *workspace, p *progress) *reading {
	return &reading{
		reader: e.Reader, model: e.Model, rules: o.Rules, dir: dir, seal: e.Keys, calls: o.Workers,
		keys: func() *schema.Hasher { return schema.NewHasher(e.Keys.HashMAC()) },
		lookup: func(ctx context.Context, resource string, keys []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error) {
			return e.Ledger.Lookup(ctx, e.Connection.ID, resource, keys)
		},
		report: p.reader(),
	}
}

// identify fills in what a record is known by. An error means that it is not a payload of the resource.
func (rd *reading) identify(r *schema.Resource, h *schema.Hasher, item []byte, s *sighting) error {
	var named struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(item, &named); err != nil || named.ID == "" {
		return errors.New("it has no id")
	}
	s.ID = named.ID
	key, err := r.CanonicalKey(nil, item, rd.rules)
	if err != nil {
		return fmt.Errorf("its natural key: %w", err)
	}
	body, err := r.CanonicalBody(nil, item, rd.rules)
	if err != nil {
		return fmt.Errorf("its content: %w", err)
	}
	s.Key, s.KeyHash, s.Record = key, h.Sum(key), h.Sum(body)
	refs, err := r.References(rd.model, item, rd.rules)
	if err != nil {
		return fmt.Errorf("its references: %w", err)
	}
	s.Person = personOf(refs, h)
	return nil
}

// personOf is the hash of the person a record is authorised through, as the mapper gives it; zero when there is none.
func personOf(refs []schema.RefKey, h *schema.Hasher) syncdb.Hash {
	for _, ref := range refs {
		if _, person := people[ref.Target]; person {
			return h.Sum(ref.Key)
		}
	}
	return syncdb.Hash{}
}

// resource reads all records of a resource and calls fn for each, and for each entry without one. First come records the ledger has, then those
// it has not, then the entries that are gone. A sighting and its key are fn's only until it returns.
func (rd *reading) resource(ctx context.Context, r *schema.Resource, held *holdings, fn func(*sighting) error) (readCounts, error) {
	w := &walk{reading: rd, r: r, held: held, hasher: rd.keys(), fn: fn, extras: map[uint64]uint64{}, others: map[int]uint64{}}
	w.unknown = newSpool(rd.dir, r.Path+"#unknown", rd.seal)
	defer w.unknown.close()
	err := rd.reader.Each(ctx, r.Path, edfi.PageOptions{}, w.item)
	if err == nil {
		err = w.pair()
	}
	if err == nil {
		err = w.confirm(ctx)
	}
	if err == nil {
		err = w.rest()
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

	unknown *spool            // records no entry has the key of
	extras  map[uint64]uint64 // their keys → their ids, both cut
	others  map[int]uint64    // entries met with another id → that id, cut
}

func (w *walk) emit(s *sighting) error {
	w.counts.add(s.Finding)
	return w.fn(s)
}

// item takes one record of a page.
func (w *walk) item(item json.RawMessage) error {
	s := &sighting{Entry: -1}
	w.counts.Found++
	w.report(w.r.Path, w.counts.Found)
	if err := w.identify(w.r, w.hasher, item, s); err != nil {
		s.Finding = foundUnread
		return w.emit(s)
	}
	id := w.held.cutID(s.ID)
	i := w.held.find(s.KeyHash)
	if i >= 0 {
		return w.known(s, i, id)
	}
	switch had, again := w.extras[cut8(s.KeyHash)]; {
	case again && had == id: // pages shifted: the same record once more
		w.counts.Found--
		return nil
	case again:
		s.Finding = foundDuplicate
		return w.emit(s)
	}
	w.extras[cut8(s.KeyHash)] = id
	return w.unknown.add(&record{KeyHash: s.KeyHash, RecordHash: s.Record, PersonHash: s.Person, Key: s.Key, Payload: []byte(s.ID)})
}

// known takes a record whose key an entry has. Of two records with one key the one whose id the entry has counts, else the first.
func (w *walk) known(s *sighting, i int, id uint64) error {
	s.Entry = i
	if w.held.flags[i]&heldSeen != 0 {
		first, other := w.others[i]
		switch {
		case !other && w.held.ids[i] == id, other && first == id:
			w.counts.Found--
			return nil
		case other && w.held.ids[i] == id:
			delete(w.others, i)
			w.counts.Different, w.counts.Duplicate = w.counts.Different-1, w.counts.Duplicate+1 // the first one was the duplicate
			s.Finding = foundDifferent                                                          // from what was told of the entry a moment ago
			return w.emit(s)
		}
		s.Finding = foundDuplicate
		return w.emit(s)
	}
	w.held.flags[i] |= heldSeen
	if w.held.ids[i] != id {
		w.others[i] = id
	}
	s.Finding = w.held.compare(i, id, s.Record)
	return w.emit(s)
}

// pair tells records whose key changed at the target from those the ledger does not know: an entry that was not met has their id.
func (w *walk) pair() error {
	if w.unknown.count == 0 {
		return nil
	}
	lost := w.held.unseenIDs()
	return w.unknown.each(func(rec *record) error {
		s := &sighting{
			Finding: foundExtra, Entry: -1, ID: string(rec.Payload), Key: rec.Key, KeyHash: rec.KeyHash, Record: rec.RecordHash, Person: rec.PersonHash,
		}
		if i, ok := lost[w.held.cutID(s.ID)]; ok && w.held.flags[i]&heldSeen == 0 {
			s.Finding, s.Entry = foundMoved, i
			w.held.flags[i] |= heldSeen
		}
		return w.emit(s)
	})
}

// confirm looks entries that were not met up by id, until confirmGone of them in a row are gone.
func (w *walk) confirm(ctx context.Context) error {
	for from := 0; from < len(w.held.keys); {
		var index []int
		var hashes []syncdb.Hash
		for ; from < len(w.held.keys) && len(index) < confirmGone; from++ {
			if w.held.flags[from]&(heldSeen|heldHasID) == heldHasID {
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
		if copies[n].body == nil && !copies[n].hidden {
			continue
		}
		there++
		w.held.flags[i] |= heldSeen
		s := &sighting{Entry: i, KeyHash: w.held.keys[i]}
		switch {
		case copies[n].hidden:
			s.Finding = foundHidden
		case w.identify(w.r, w.hasher, copies[n].body, s) != nil:
			s.Finding = foundUnread
		case s.KeyHash != w.held.keys[i]:
			s.Finding = foundMoved
		default:
			s.Finding = w.held.compare(i, w.held.cutID(s.ID), s.Record)
		}
		if !copies[n].hidden {
			w.counts.Found++
		}
		if err := w.emit(s); err != nil {
			return there, err
		}
	}
	return there, nil
}

// copied is the target's copy of one record. Without a body and not hidden it is not there.
type copied struct {
	body   []byte
	hidden bool
}

// get reads records by id, several at a time. An empty id gives an empty copy.
func (rd *reading) get(ctx context.Context, resource string, ids []string) ([]copied, error) {
	copies, errs := make([]copied, len(ids)), make([]error, len(ids))
	slots := make(chan struct{}, max(1, rd.calls))
	var wg gosync.WaitGroup
	for n, id := range ids {
		if id == "" {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			body, _, err := rd.reader.Get(ctx, resource, id)
			switch class := edfi.ClassOf(err); {
			case err == nil:
				copies[n].body = body
			case class == edfi.NotFound:
			case class == edfi.Blocked, class == edfi.Rejected, class == edfi.Invalid:
				copies[n].hidden = true
			default:
				errs[n] = fmt.Errorf("get an entry's record: %w", err)
			}
		})
	}
	wg.Wait()
	return copies, errors.Join(errs...)
}

// rest reports the entries whose record is gone.
func (w *walk) rest() error {
	for i, flags := range w.held.flags {
		if flags&heldSeen != 0 {
			continue
		}
		if err := w.emit(&sighting{Finding: foundGone, Entry: i, KeyHash: w.held.keys[i]}); err != nil {
			return err
		}
	}
	return nil
}
