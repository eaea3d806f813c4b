package sandbox

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
)

// Change queries as an ODS/API 7.3 has them (EdFi.Ods.Features/ChangeQueries): every change gets the next change version; deletes leave out items
// whose key exists again; key changes of one item within a window are one, from its first key to its last.

// deletion is a record that was deleted.
type deletion struct {
	row     uint32
	version int64
	key     []byte // encoded and folded, as the index has it
	values  []byte // key values as JSON
}

// keyChange is a changed natural key of a resource whose key can be changed.
type keyChange struct {
	row      uint32
	version  int64
	old, now []byte // key values as JSON
}

// window is a range of change versions, both ends inclusive.
type window struct{ min, max int64 }

func (v window) holds(version int64) bool { return version >= v.min && version <= v.max }
func (v window) open() bool               { return v.min == 0 && v.max == math.MaxInt64 }

// read takes minChangeVersion and maxChangeVersion out of the parameters.
func (v *window) read(given map[string]string) (errs []string) {
	for _, p := range [...]struct {
		name, title string
		to          *int64
	}{{"minchangeversion", "MinChangeVersion", &v.min}, {"maxchangeversion", "MaxChangeVersion", &v.max}} {
		text, ok := given[p.name]
		delete(given, p.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			errs = append(errs, fmt.Sprintf("The value '%s' is not valid for %s.", text, p.title))
			continue
		}
		*p.to = n
	}
	return errs
}

// changeVersion of a live record; 0 when it is gone.
func (st *store) changeVersion(a address) int64 {
	s := a.table.space
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := a.table.liveRow(a.row); r != nil {
		return r.version
	}
	return 0
}

// serveChangeVersions answers GET /changeQueries/v1/availableChangeVersions.
func (s *Server) serveChangeVersions(w http.ResponseWriter, r *http.Request) {
	if _, why := s.tokens.check(r.Header.Get("Authorization")); why != "" {
		s.refuse(w, r, unauthenticated(why))
		return
	}
	if r.Method != http.MethodGet {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	writeJSON(w, http.StatusOK, map[string]int64{"oldestChangeVersion": 0, "newestChangeVersion": s.store.versions.Load()})
}

// tracked is one item of a list of deletes or key changes.
type tracked struct {
	row     uint32
	version int64
	json    []byte // `"keyValues":{…}`, or `"oldKeyValues":{…},"newKeyValues":{…}`
}

// getTracked answers a page of deletes or key changes. They are paged by offset only.
func (s *Server) getTracked(w http.ResponseWriter, r *http.Request, by *caller, t *table, list func(*table, window) []tracked) (int, *httpd.Problem) {
	if f := by.allowed(t, ReadChanges); f != nil {
		return 0, f.problem("")
	}
	pg, p := s.parsePage(r, t)
	if p != nil {
		return 0, p
	}
	items := list(t, pg.window)
	if pg.total {
		w.Header().Set("Total-Count", strconv.Itoa(len(items)))
	}
	items = items[min(pg.offset, len(items)):]
	body := []byte{'['}
	for i, it := range items[:min(pg.limit, len(items))] {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"id":"`...)
		body = s.ids.append(body, address{t, it.row})
		body = append(body, `","changeVersion":`...)
		body = strconv.AppendInt(body, it.version, 10)
		body = append(body, ',')
		body = append(body, it.json...)
		body = append(body, '}')
	}
	return s.send(w, append(body, ']')), nil
}

// deleted lists the deletions of a window, in their order, without those of keys that exist again.
func (st *store) deleted(t *table, v window) (out []tracked) {
	st.world.RLock()
	defer st.world.RUnlock()
	t.space.mu.RLock()
	defer t.space.mu.RUnlock()
	for i := range t.deletions {
		d := &t.deletions[i]
		if !v.holds(d.version) {
			continue
		}
		if entry, again := t.space.index[st.hash.sum(d.key)]; again && t.space.address(entry).table == t {
			continue
		}
		out = append(out, tracked{d.row, d.version, append([]byte(`"keyValues":`), d.values...)})
	}
	return out
}

// rekeyed lists the items whose key changed in a window, once each, by their last change.
func (st *store) rekeyed(t *table, v window) (out []tracked) {
	st.world.RLock()
	defer st.world.RUnlock()
	first := map[uint32][]byte{}
	last := map[uint32]*keyChange{}
	for i := range t.keyChanges {
		k := &t.keyChanges[i]
		if !v.holds(k.version) {
			continue
		}
		if _, seen := first[k.row]; !seen {
			first[k.row] = k.old
		}
		last[k.row] = k
	}
	for row, k := range last {
		json := append([]byte(`"oldKeyValues":`), first[row]...)
		json = append(json, `,"newKeyValues":`...)
		out = append(out, tracked{row, k.version, append(json, k.now...)})
	}
	slices.SortFunc(out, func(a, b tracked) int { return cmp.Compare(a.version, b.version) })
	return out
}

// keyValues prints the natural key of a record as an object, under the names of the query parameters; false when something it refers to is gone.
func (r renderer) keyValues(dst []byte, t *table, rec []byte) ([]byte, bool) {
	dst = append(dst, '{')
	for i := range t.key {
		mark := len(dst)
		if i > 0 && dst[mark-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, []byte(t.key[i].name)), ':')
		var found, ok bool
		if dst, found, ok = r.scalar(dst, t, rec, &t.key[i].path); !ok {
			return dst, false
		} else if !found {
			dst = dst[:mark]
		}
	}
	return append(dst, '}'), true
}

// rememberKey keeps the key a record has before the change, where the API tells of key changes.
func (k *rekeying) rememberKey(a address) {
	if !a.table.res.KeyUpdatable {
		return
	}
	if old, ok := k.keyValues(a); ok {
		k.keys = append(k.keys, rekeyed{a, old})
	}
}

// noteKeyChanges records what came of them. The world is locked.
func (k *rekeying) noteKeyChanges() {
	for _, c := range k.keys {
		if now, ok := k.keyValues(c.address); ok && string(now) != string(c.old) {
			c.table.keyChanges = append(c.table.keyChanges, keyChange{c.row, k.st.versions.Add(1), c.old, now})
		}
	}
}

func (k *rekeying) keyValues(a address) ([]byte, bool) {
	rec, ok := k.st.copyRecord(nil, a)
	if !ok {
		return nil, false
	}
	return renderer{st: k.st}.keyValues(nil, a.table, rec)
}

// snapshotAsked refuses requests for a snapshot: there are none, and they cannot be written.
func snapshotAsked(r *http.Request) *httpd.Problem {
	switch {
	case !strings.EqualFold(r.Header.Get("Use-Snapshot"), "true"):
		return nil
	case r.Method == http.MethodGet:
		return notFound("Snapshot not found.")
	}
	p := methodNotAllowed("Snapshots are read-only.")
	p.Type = problemPrefix + "snapshots:method-not-allowed"
	return p
}
