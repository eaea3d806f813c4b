package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// filter is one query parameter: the value a record must have at a path, encoded as appendStored does.
type filter struct {
	name string
	path path
	want []byte
	none bool    // nothing can match: the descriptor does not exist
	row  *uint32 // of the parameter id: the row meant
}

// filters compiles query parameters (names in lower case). Unknown ones are ignored, as an ODS does.
func (st *store) filters(t *table, ids *identifiers, given map[string]string) (fs []filter, errs []string) {
	st.world.RLock()
	defer st.world.RUnlock()
	for name, value := range given {
		if name == "id" {
			f := filter{name: name}
			if row, _, ok := ids.row(t, value); ok {
				f.row = &row
			} else {
				f.none = true
			}
			fs = append(fs, f)
			continue
		}
		at, ok := t.params[name]
		if !ok {
			continue
		}
		f, ok := st.filter(t, name, at, value)
		if !ok {
			errs = append(errs, fmt.Sprintf("The value '%s' is not valid for %s.", value, at.last.title))
			continue
		}
		fs = append(fs, f)
	}
	return fs, errs
}

func (st *store) filter(t *table, name string, at path, value string) (filter, bool) {
	f := filter{name: name, path: at}
	p := at.last
	d := draft{body: []byte(value), end: len(value)}
	s := slot{state: present, hi: uint32(len(value))}
	if p.storedAsEntry() {
		entry, r := st.pinDescriptor(&d, p.desc, d.body)
		if f.none = r == nil; !f.none {
			r.inbound.Add(-1) // a filter keeps nothing alive
			f.want = binary.AppendUvarint(nil, uint64(entry))
		}
		return f, true
	}
	if d.convert(p, &s, true) != "" {
		return f, false
	}
	f.want = d.appendKeyValue(nil, p, &s, st.folding(t))
	return f, true
}

// byKey answers a search from the index when the filters are the whole natural key or name an id. row is nil when nothing matches.
func (st *store) byKey(t *table, fs []filter) (row *uint32, decided bool) {
	byName := map[string]*filter{}
	for i := range fs {
		f := &fs[i]
		if f.none {
			return nil, true
		}
		if f.row != nil {
			return st.matching(t, fs, *f.row), true
		}
		byName[f.name] = f
	}
	var key []byte
	for i := range t.key {
		f := byName[strings.ToLower(t.key[i].name)]
		if f == nil {
			return nil, false
		}
		key = append(key, f.want...)
	}
	h := st.hash.sum(key)
	t.space.mu.RLock()
	entry, ok := t.space.index[h]
	t.space.mu.RUnlock()
	if a := t.space.address(entry); ok && a.table == t {
		return st.matching(t, fs, a.row), true
	}
	return nil, true
}

func (st *store) matching(t *table, fs []filter, row uint32) *uint32 {
	a := address{t, row}
	if rec, ok := st.copyRecord(nil, a); ok && st.matches(t, fs, rec, row) && !st.late.has(a, st.now) {
		return &row
	}
	return nil
}

// matches says whether a record passes all filters.
func (st *store) matches(t *table, fs []filter, rec []byte, row uint32) bool {
	var buf [256]byte
	for i := range fs {
		f := &fs[i]
		switch {
		case f.none:
			return false
		case f.row != nil:
			if *f.row != row {
				return false
			}
		case !bytes.Equal(st.appendStored(buf[:0], t.shape, rec, &f.path, st.folding(t)), f.want):
			return false
		}
	}
	return true
}

// pageToken names the rows from (inclusive) to (exclusive).
func pageToken(from, to uint32) string {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], from)
	binary.BigEndian.PutUint32(b[4:], to)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func parsePageToken(token string) (from, to uint32, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 8 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), true
}
