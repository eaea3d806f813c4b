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
	Entry   int // index in holdings: of the entry with its key or, of foundMoved, with its id; -1 = none
	ID      string
	Key     []byte // natural key, canonical
	KeyHash syncdb.Hash
	Record  syncdb.Hash
	Person  syncdb.Hash

	// Of foundMoved alone:
	At     int  // index of the entry that has the key the record has now; -1 = none
	Vacant bool // no record has the key of its entry now
	Linked bool // it has the key of a record that moved too, or another record has its own: they are corrected together, or not at all
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
