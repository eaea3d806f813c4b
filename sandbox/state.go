package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// What happens to a whole ODS: it is wiped, or a backup of it is restored. Change versions go back with the records, as they do in a database.

// saved are the backups of a sandbox, by name. They live as long as the process.
type saved struct {
	mu     sync.Mutex
	states map[string]*state
}

// state is everything a store holds at one moment.
type state struct {
	version int64
	tables  []tableState // by table number
}

type tableState struct {
	rows       []savedRow
	data       []byte
	deletions  []deletion
	keyChanges []keyChange
}

type savedRow struct {
	row      uint32
	modified ticks
	version  int64
	lo, hi   int // of its bytes in data
}

// Wipe removes all records and begins again as New does, with the descriptors and school years of Options: the ODS was provisioned anew. Tokens
// stay valid. Ids are not used again. It may be called at any time.
func (s *Server) Wipe() error {
	s.store.world.Lock()
	defer s.store.world.Unlock()
	s.store.load(&state{tables: make([]tableState, len(s.cat.tables))})
	if err := s.seedHeld(); err != nil {
		return fmt.Errorf("sandbox: wipe: %w", err)
	}
	return nil
}

// Snapshot keeps everything there is now under a name, in place of what had that name. It is lost with the process.
func (s *Server) Snapshot(name string) {
	img := s.store.image()
	s.store.saved.mu.Lock()
	defer s.store.saved.mu.Unlock()
	if s.store.saved.states == nil {
		s.store.saved.states = map[string]*state{}
	}
	s.store.saved.states[name] = img
}

// Restore brings back what a Snapshot of that name kept, ids and change versions included: what was written since is gone. It may be called
// again with the same name, and fails when there is no such snapshot.
func (s *Server) Restore(name string) error {
	s.store.saved.mu.Lock()
	img := s.store.saved.states[name]
	s.store.saved.mu.Unlock()
	if img == nil {
		return fmt.Errorf("sandbox: there is no snapshot %q; take one first", name)
	}
	s.store.world.Lock()
	defer s.store.world.Unlock()
	s.store.load(img)
	if err := s.store.reindex(); err != nil {
		return fmt.Errorf("sandbox: restore: %w", err)
	}
	return nil
}

// serveState answers POST of /sandbox/wipe, /sandbox/snapshot and /sandbox/restore, the latter two with ?name=; false for any other method.
func (s *Server) serveState(w http.ResponseWriter, r *http.Request, what string) bool {
	if r.Method != http.MethodPost {
		return false
	}
	name := r.URL.Query().Get("name")
	var err error
	switch what {
	case "wipe":
		err = s.Wipe()
	case "snapshot":
		s.Snapshot(name)
	case "restore":
		err = s.Restore(name)
	}
	if err != nil {
		s.refuse(w, r, notFound(err.Error()))
		return true
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// image copies everything, with nobody writing.
func (st *store) image() *state {
	st.world.Lock()
	defer st.world.Unlock()
	img := &state{version: st.versions.Load()}
	for _, t := range st.cat.tables {
		ts := tableState{deletions: slices.Clone(t.deletions), keyChanges: slices.Clone(t.keyChanges)}
		t.each(func(n uint32, rec []byte) bool {
			r := t.row(n)
			ts.rows = append(ts.rows, savedRow{n, r.modified, r.version, len(ts.data), len(ts.data) + len(rec)})
			ts.data = append(ts.data, rec...)
			return true
		})
		img.tables = append(img.tables, ts)
	}
	return img
}

// load replaces everything by an image; the index is for reindex. Row numbers go on from where they were: an id never names another record.
// The caller holds the world.
func (st *store) load(img *state) {
	st.versions.Store(img.version)
	st.late.clear()
	st.ties.clear() // what is put below ties people anew
	for i, t := range st.cat.tables {
		ts := &img.tables[i]
		s := t.space
		s.mu.Lock()
		clear(s.index)
		t.rows, t.arena, t.live = nil, arena{}, 0
		t.deletions, t.keyChanges = slices.Clone(ts.deletions), slices.Clone(ts.keyChanges)
		for _, sr := range ts.rows {
			r := t.makeRow(sr.row)
			t.put(sr.row, r, ts.data[sr.lo:sr.hi])
			r.modified, r.version = sr.modified, sr.version
		}
		s.mu.Unlock()
	}
	if st.dirty != nil {
		st.dirty.all()
	}
}
