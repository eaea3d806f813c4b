package sync

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"runtime"
	"slices"
	gosync "sync"
	"sync/atomic"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// scanned is what a complete scan of one resource found, compared with the ledger.
type scanned struct {
	*scoped
	index int

	mu    gosync.Mutex // guards table from the time steps run side by side
	table *table

	fresh   *spool // rows to POST: no entry, or one that is not known to be live
	changed *spool // rows to PUT: live entry, other record hash
	claims  *spool // unchanged rows under another source key: ledger only
	gone    *spool // entries no row had
	kept    *spool // of these: those an invalid row stands for

	// In a run that sends a part, or of a connection of some schools, for the part to be told from the rest:
	same     *spool // unchanged rows, without payload
	troubled *spool // rows with a problem that the scan found, each with the problem

	heldSource map[syncdb.Hash]struct{} // source hashes of invalid rows: what they produced before is not gone (I5f)
	heldKey    map[syncdb.Hash]struct{} // natural keys of invalid rows
	nameless   int64                    // invalid rows that say neither by source key nor by natural key which record is theirs
	needs      map[reference]place      // what entries refer to that stay because an invalid row stands for them
	unsendable unsendable               // what hangs on rows that broke a rule
	dups       map[syncdb.Hash]struct{} // keys several rows have with different payloads: none of them is sent (F42)
	usedIDs    map[string]struct{}      // ids that both a gone entry and one in use have: the record is not deleted (I5d)
	unseenIDs  *origins                 // ids of entries whose keys no row had: a POST that meets one of them meets our own record

	moves     map[syncdb.Hash]move        // new key → natural-key change
	movedFrom map[syncdb.Hash]syncdb.Hash // old key → new key
	stays     map[syncdb.Hash]struct{}    // gone entries whose record gets, with its parent, the key of an invalid row (I5f)
	rollover  int64                       // rows whose new key is of another school year (F68)

	lost     []syncdb.Entry           // entries without an id that no row has the key of
	fates    map[syncdb.Hash]fate     // what looking them up said, by key
	strays   []syncdb.Entry           // entries no row has the key of, below a parent the ledger does not know
	unread   []syncdb.Hash            // keys of more such entries than one run looks up
	unknown  []syncdb.Hash            // keys of entries that an earlier call left unknown
	doubts   map[syncdb.Hash]struct{} // of these: those somebody said no about
	keysStay bool                     // no natural key of the resource is changed in this run

	suspects suspects      // what it refers to outside its key and may have had another natural key
	own      []lineage     // references that are part of its natural key, when there are suspects, or records of others hang on its rows
	stale    []syncdb.Hash // keys of unchanged rows that refer to what the ledger has no entry of

	waits map[syncdb.Hash]struct{} // natural keys that must not come into being in this run: what was below them before could not be read

	noted syncdb.Scope  // as the ledger has it; its watermark is of the last complete scan
	scope *syncdb.Scope // to be written before the first entry: the rules the hashes are made under

	beyond        map[syncdb.Hash]struct{} // of gone: of schools or resources the connection does not sync; deleted only when somebody approves the removal (I5g)
	entriesBeyond int64                    // entries of such, those that no run deletes among them
	heldOutside   int64                    // of heldSource: rows of such schools

	dupFresh, dupChanged int64
	goneMet              int64 // of gone: at the target before our first call (I9)
	notOurs              int64 // of gone: never deleted, because they were at the target before us, another entry in use has the record, or the target never had it
	entries              int64
	totals               Totals
}

func (r *scanned) close() error {
	return errors.Join(r.fresh.close(), r.changed.close(), r.claims.close(), r.gone.close(), r.kept.close(), r.same.close(), r.troubled.close())
}

// problemSink takes rows that are not in sync. Calls come from one goroutine at a time; the slice is the caller's again afterwards.
type problemSink func([]syncdb.Problem) error

// scanner reads every query of the scope from one snapshot and sorts rows into unchanged, fresh, changed and invalid.
type scanner struct {
	e        *Engine
	o        Options
	scope    *scope
	dir      *workspace
	problems problemSink
	mark     string // watermark of the snapshot (I10)
	sample   sample // of live entries, to look at the target by
	rows     atomic.Int64
	found    []*scanned      // so far
	batches  []*source.Batch // for the queries, one after the other
	mappers  []*mapper
	report   func(resource string, done, total int64)
	schools  *schoolNames                            // nil in a run that sends all, of every school
	asked    *rowsAsked                              // nil in a run that was not asked for rows
	district *district                               // of a connection of some schools, once all rows are read
	later    bool                                    // problems of rows are filed when it is known which of them are in the scope of the run
	settle   func(context.Context, []*scanned) error // what the ledger does not know for sure; nil in plans, which write nothing
}

// scan reads all resources, closes the snapshot and compares what it read with the ledger. Any error means the scan is incomplete and nothing may be
// deleted for it (I5c): the caller stops the run.
func (s *scanner) scan(ctx context.Context) ([]*scanned, error) {
	out, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, res := range out {
		if err := s.collectGone(ctx, out, res); err != nil {
			closeAll(out)
			return nil, fmt.Errorf("compare %s with the ledger: %w", res.Path, err)
		}
		failpoint.Reach(failpoint.GoneAfter, res.Path, "")
	}
	if s.settle != nil {
		if err := s.settle(ctx, out); err != nil {
			closeAll(out)
			return nil, err
		}
	}
	for _, res := range out {
		res.keepLost(s.scope, schema.NewHasher(s.e.Keys.HashMAC()))
	}
	for _, res := range out {
		if err := s.collectUsed(ctx, res); err != nil {
			closeAll(out)
			return nil, fmt.Errorf("compare %s with the ledger: %w", res.Path, err)
		}
	}
	tied, err := s.tied(ctx, out)
	if err != nil {
		closeAll(out)
		return nil, err
	}
	if err := joinKeys(ctx, s.scope, out, schema.NewHasher(s.e.Keys.HashMAC()), tied, s.o.limits.moves); err != nil {
		closeAll(out)
		return nil, err
	}
	for _, res := range out {
		if err := res.countNotOurs(); err != nil {
			closeAll(out)
			return nil, fmt.Errorf("count what is gone of %s: %w", res.Path, err)
		}
	}
	return out, nil
}

// read reads all resources from one snapshot, and leaves out what the connection does not sync of them.
func (s *scanner) read(ctx context.Context) ([]*scanned, error) {
	failpoint.Reach(failpoint.ScanBefore, "", "")
	snapshot, err := s.e.Source.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	s.mark = snapshot.Watermark()
	var out []*scanned
	for i, r := range s.scope.resources {
		res, err := s.resource(ctx, snapshot, i, r)
		out = append(out, res)
		s.found = out
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("scan %s: %w", r.Path, err)
		}
		failpoint.Reach(failpoint.ScanResource, r.Path, "")
	}
	if err := snapshot.Close(); err != nil {
		closeAll(out)
		return nil, fmt.Errorf("close the snapshot of the source: %w", err)
	}
	failpoint.Reach(failpoint.ScanAfter, "", "")
	err = s.confine(ctx, out)
	if err == nil && s.schools != nil && !s.later {
		err = s.fileTroubles(out)
	}
	if err != nil {
		closeAll(out)
		return nil, err
	}
	return out, nil
}

// countNotOurs counts the gone entries that no run deletes, so that plans and safeguards see deletes only.
func (r *scanned) countNotOurs() error {
	for key := range r.movedFrom { // the row is of a school we sync now, and says what its record is
		delete(r.beyond, key)
	}
	if r.goneMet == 0 && len(r.usedIDs)+len(r.stays)+len(r.fates) == 0 {
		return nil
	}
	return r.gone.each(func(rec *record) error {
		if !r.moved(rec.KeyHash) && (!r.deletable(r.goneEntry(rec)) || r.neverMade(rec.KeyHash)) {
			r.notOurs++
			delete(r.beyond, rec.KeyHash)
		}
		return nil
	})
}

// moved reports whether the record under this key gets another key in this run, by PUT or with its parent.
func (r *scanned) moved(key syncdb.Hash) bool {
	now, ok := r.movedFrom[key]
	m := r.moves[now]
	return ok && m.how != moveRecreate && m.old == key
}

// deletable reports whether a gone entry is one we delete: it is ours (I9), no entry in use has its record (I5d), and no invalid row stands for it (I5f).
func (r *scanned) deletable(e syncdb.Entry) bool { return e.Origin != syncdb.Met && !r.spoken(e) }

// spoken reports whether a row speaks for a gone entry: it has its record, or is invalid and may have it.
func (r *scanned) spoken(e syncdb.Entry) bool {
	_, used := r.usedIDs[e.EdfiID]
	_, stays := r.stays[e.KeyHash]
	return stays || used && e.EdfiID != ""
}

func closeAll(rs []*scanned) {
	for _, r := range rs {
		_ = r.close() // temporary files; the run's error matters more
	}
}

// newScanned returns what nothing was found of yet.
func newScanned(r *scoped, index int, dir *workspace, seal Sealer) *scanned {
	return &scanned{
		scoped: r, index: index, table: newTable(0),
		fresh:   newSpool(dir, r.Path+"#fresh", seal),
		changed: newSpool(dir, r.Path+"#changed", seal),
		claims:  newSpool(dir, r.Path+"#claims", seal),
		gone:    newSpool(dir, r.Path+"#gone", seal),
		kept:    newSpool(dir, r.Path+"#kept", seal),

		same: newSpool(dir, r.Path+"#same", seal), troubled: newSpool(dir, r.Path+"#troubled", seal),

		heldSource: map[syncdb.Hash]struct{}{}, heldKey: map[syncdb.Hash]struct{}{}, needs: map[reference]place{},
		unsendable: unsendable{map[reference]place{}, map[reference]place{}},
		dups:       map[syncdb.Hash]struct{}{}, usedIDs: map[string]struct{}{}, unseenIDs: newOrigins(), fates: map[syncdb.Hash]fate{},
		beyond: map[syncdb.Hash]struct{}{},
	}
}

// load fills the probe table with what the ledger has of the resource.
func (s *scanner) load(ctx context.Context, res *scanned) error {
	if err := s.checkRules(ctx, res); err != nil {
		return err
	}
	n, err := s.e.Ledger.Count(ctx, s.e.Connection.ID, res.Path)
	if err != nil {
		return fmt.Errorf("count entries: %w", err)
	}
	res.table = newTable(int(n))
	err = s.e.Ledger.Hashes(ctx, s.e.Connection.ID, res.Path, func(key, record, src syncdb.Hash, state syncdb.State) error {
		flags := slotEntry
		if state == syncdb.Live {
			flags |= slotLive
			if !res.off {
				s.sample.offer(res.index, key)
			}
		}
		if state == syncdb.Unknown {
			res.unknown = append(res.unknown, key)
		}
		res.table.put(key, record, src, flags)
		res.entries++
		return nil
	})
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	return nil
}

// entries opens a resource with what the ledger has of it, and no row yet.
func (s *scanner) entries(ctx context.Context, index int, r *scoped) (*scanned, error) {
	res := newScanned(r, index, s.dir, s.e.Keys)
	return res, s.load(ctx, res)
}

func (s *scanner) resource(ctx context.Context, snapshot Snapshot, index int, r *scoped) (*scanned, error) {
	res, err := s.entries(ctx, index, r)
	if err != nil {
		return res, err
	}
	if r.off {
		return res, nil
	}
	if s.schools != nil && r.Name == "School" {
		s.schools.known = res
	}
	if res.entries > 0 {
		res.suspects = s.scope.suspects(r.Resource, s.found)
	}
	if len(res.suspects) > 0 || res.hangs {
		res.own = lineages(r.Resource)
	}
	for _, q := range r.Queries {
		if err := s.query(ctx, snapshot, res, q); err != nil {
			return res, fmt.Errorf("%s: %w", q.Query.File, err)
		}
	}
	if err := res.holdDuplicates(); err != nil {
		return res, err
	}
	if s.schools == nil && !r.wanted && !res.bears() && len(res.dups) == 0 && res.table.unseen() == 0 {
		res.table = newTable(0) // nobody asks again; a million slots are worth giving back
	}
	return res, nil
}

// holdDuplicates adds the first rows of duplicated keys to the held ones: they are not sent either, so nothing is deleted for them (I5f).
func (r *scanned) holdDuplicates() error {
	if len(r.dups) == 0 {
		return nil
	}
	hold := func(rec *record) error {
		if _, dup := r.dups[rec.KeyHash]; dup {
			r.heldSource[rec.SourceHash] = struct{}{}
		}
		return nil
	}
	return errors.Join(r.fresh.each(hold), r.changed.each(hold))
}

// equip makes the mappers and the batches they share, or lets those of the query before go on with this one.
func (s *scanner) equip(res *scanned, q *source.Bound) {
	n := s.o.Mappers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for len(s.mappers) < n {
		s.mappers = append(s.mappers, newMapper(s, res, q))
	}
	for len(s.batches) < n+2 {
		s.batches = append(s.batches, new(source.Batch))
	}
	for _, m := range s.mappers {
		m.res, m.q = res, q
	}
}

// query streams one query: a reader fills batches, mappers encode, hash and probe them.
func (s *scanner) query(ctx context.Context, snapshot Snapshot, res *scanned, q *source.Bound) error {
	rows, err := snapshot.Open(ctx, q)
	if err != nil {
		return fmt.Errorf("start the query: %w", err)
	}
	defer rows.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.equip(res, q)
	free := make(chan *source.Batch, len(s.batches))
	full := make(chan *source.Batch, len(s.batches))
	for _, b := range s.batches {
		free <- b
	}
	var wg gosync.WaitGroup
	for _, m := range s.mappers {
		wg.Go(func() {
			for b := range full {
				if ctx.Err() == nil {
					if err := m.batch(b); err != nil {
						cancel(err)
					}
				}
				free <- b
			}
			if err := m.flush(); err != nil {
				cancel(err)
			}
		})
	}
	func() {
		defer close(full)
		for {
			var b *source.Batch
			select {
			case b = <-free:
			case <-ctx.Done():
				return
			}
			if err := rows.Next(ctx, b); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				cancel(fmt.Errorf("read rows: %w", err)) // nothing, when a mapper failed before: that is what the reader met, too
				return
			}
			done := s.rows.Add(int64(b.Len()))
			s.report(res.Path, done, 0)
			full <- b
		}
	}()
	wg.Wait()
	if ctx.Err() != nil { // whoever failed first says why
		return context.Cause(ctx)
	}
	return nil
}

// identifies reports whether a reference is part of the natural key of the resource, as far as own was worked out.
func (r *scanned) identifies(path string) bool {
	return slices.ContainsFunc(r.own, func(l lineage) bool { return l.name == path })
}

// inUse reports whether a row of the scan has the entry's key.
func (r *scanned) inUse(e *syncdb.Entry) bool {
	i := r.table.find(e.KeyHash)
	return i < 0 || r.table.flags[i]&slotSeen != 0
}

// collectGone spools the entries no row had, leaving out those an invalid row stands for.
func (s *scanner) collectGone(ctx context.Context, found []*scanned, r *scanned) error {
	if r.table.unseen() == 0 {
		return nil
	}
	cs, hasher := r.cascades(s.scope), schema.NewHasher(s.e.Keys.HashMAC())
	return s.e.Ledger.Each(ctx, s.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
		if r.inUse(e) {
			return nil
		}
		beyond := r.off || s.beyond(r, e)
		switch {
		case e.EdfiID == "":
			r.lost = append(r.lost, own(e))
		case beyond:
		case !s.scope.astray(found, cs, e.Key, hasher):
		case len(r.strays) < s.o.limits.strays:
			r.strays = append(r.strays, own(e))
		default:
			r.unread = append(r.unread, e.KeyHash)
		}
		r.unseenIDs.note(e.EdfiID, e.Origin)
		_, bySource := r.heldSource[e.SourceHash]
		_, byKey := r.heldKey[e.KeyHash]
		if (bySource || byKey) && !beyond { // I5f; and what it refers to stays too (I6)
			if e.EdfiID != "" {
				r.keep(cs, hasher, e.Key, e.KeyHash)
			}
			return r.kept.add(s.goneRecord(r, e))
		}
		if beyond { // I5g
			r.beyond[e.KeyHash] = struct{}{}
			r.entriesBeyond++
		}
		if e.Origin == syncdb.Met {
			r.goneMet++
		}
		return r.gone.add(s.goneRecord(r, e))
	})
}

// goneRecord is what the spool carries of an entry.
func (s *scanner) goneRecord(r *scanned, e *syncdb.Entry) *record {
	rec := goneRecord(e)
	if s.schools != nil {
		rec.Schools = s.schools.of(nil, r.Resource, e.Key, nil)
	}
	return rec
}

// keep notes what a record refers to that an invalid row stands for.
func (r *scanned) keep(cs cascades, hasher *schema.Hasher, key []byte, hash syncdb.Hash) {
	for _, ref := range cs.identifying(hasher, key) {
		r.needs[ref] = place{r.Path, hash}
	}
}

// keepLost keeps what the records refer to that may be at the target without our knowing their ids, and that an invalid row stands for. One the target
// does not have keeps nothing.
func (r *scanned) keepLost(s *scope, hasher *schema.Hasher) {
	cs := r.cascades(s)
	for _, e := range r.lost {
		_, bySource := r.heldSource[e.SourceHash]
		_, byKey := r.heldKey[e.KeyHash]
		if f, looked := r.fates[e.KeyHash]; (bySource || byKey) && (!looked || f.id != "" || f.err != nil) {
			r.keep(cs, hasher, e.Key, e.KeyHash)
		}
	}
}

// own is a copy of an entry that outlives the reading of the ledger.
func own(e *syncdb.Entry) syncdb.Entry {
	c := *e
	c.Key, c.SentKey = clone(e.Key), clone(e.SentKey)
	return c
}

// collectUsed finds the ids that a gone entry and one in use have both.
func (s *scanner) collectUsed(ctx context.Context, r *scanned) error {
	if r.gone.count == 0 {
		return nil
	}
	seed := maphash.MakeSeed()
	ids := map[uint64]struct{}{} // of gone entries, hashed to keep a mass delete small
	err := r.gone.each(func(rec *record) error {
		ids[maphash.String(seed, r.goneEntry(rec).EdfiID)] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	return s.e.Ledger.Each(ctx, s.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
		if _, shared := ids[maphash.String(seed, e.EdfiID)]; shared && e.EdfiID != "" && r.inUse(e) {
			r.usedIDs[e.EdfiID] = struct{}{}
		}
		return nil
	})
}

// goneRecord and goneEntry carry an entry through a spool.
func goneRecord(e *syncdb.Entry) *record {
	return &record{
		Known: true, KeyHash: e.KeyHash, RecordHash: e.RecordHash, SourceHash: e.SourceHash, PersonHash: e.PersonHash,
		SourceKey: []byte{byte(e.State), byte(e.Origin)}, Key: e.Key, Payload: []byte(e.EdfiID),
	}
}

func (r *scanned) goneEntry(rec *record) syncdb.Entry {
	e := syncdb.Entry{
		Resource: r.Path, KeyHash: rec.KeyHash, RecordHash: rec.RecordHash, SourceHash: rec.SourceHash, PersonHash: rec.PersonHash,
		Key: clone(rec.Key), EdfiID: string(rec.Payload), State: syncdb.State(rec.SourceKey[0]), Origin: syncdb.Origin(rec.SourceKey[1]),
	}
	if e.EdfiID == "" {
		e.EdfiID = r.fates[rec.KeyHash].id
	}
	return e
}
