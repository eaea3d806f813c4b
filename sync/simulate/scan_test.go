package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scan is what a snapshot of a district holds, and what it means, worked out without the code under test.
type scan struct {
	version int
	records [][]*rec            // by kind
	keys    []map[string][]*rec // by kind: canonical key → valid rows
}

// rec is one row as the mapping query gives it.
type rec struct {
	row   *row
	cells [][]byte // with the source key last
	valid bool
	key   string            // canonical; "" when a part is missing
	want  map[string]string // the payload, flat; made when asked for
}

// scan reads the district. The result is shared until the next edit.
func (d *district) scan(fold bool) *scan {
	if d.seen != nil && d.seen.version == d.version {
		return d.seen
	}
	s := &scan{version: d.version, records: make([][]*rec, len(d.rows)), keys: make([]map[string][]*rec, len(d.rows))}
	for _, k := range d.kinds {
		s.keys[k] = make(map[string][]*rec, len(d.rows[k]))
		s.records[k] = make([]*rec, 0, len(d.rows[k]))
		for _, r := range d.rows[k] {
			if r.gone {
				continue
			}
			x := d.record(r, fold)
			at := len(s.records[k])
			s.records[k] = append(s.records[k], x)
			if !x.valid {
				continue
			}
			if group := s.keys[k][x.key]; group != nil {
				s.keys[k][x.key] = append(group, x)
			} else {
				s.keys[k][x.key] = s.records[k][at : at+1 : at+1]
			}
		}
	}
	d.seen = s
	return s
}

// record is what a row is read as, between edits. The result is shared until the next one.
func (d *district) record(r *row, fold bool) *rec {
	if r.seen == nil || r.seenAt != d.version {
		r.seen, r.seenAt = d.read(r, fold), d.version
	}
	return r.seen
}

// read reads a row, as the mapping query would.
func (d *district) read(r *row, fold bool) *rec {
	c := d.u.kinds[r.kind]
	x := &rec{row: r, cells: make([][]byte, len(c.columns)+1), valid: true}
	var key strings.Builder
	key.Grow(48)
	complete := true
	text := make([]byte, 0, 256)
	for i := range c.columns {
		v := d.value(r, i)
		if from := len(text); v != "" {
			text = append(text, v...)
			x.cells[i] = text[from:len(text):len(text)] // a text that grows leaves earlier cells where they are
		}
		if !c.fits(i, v) {
			x.valid = false
		}
		if c.keyPart[i] {
			complete = complete && v != ""
			key.WriteString(foldIf(fold && c.folds[i], v))
			key.WriteByte('|')
		}
	}
	from := len(text)
	text = strconv.AppendInt(text, int64(r.id), 10)
	x.cells[len(c.columns)] = text[from:len(text):len(text)]
	if complete {
		x.key = key.String()
	}
	return x
}

// fits is the model's rules as far as the simulation breaks them.
func (c *compiledKind) fits(column int, v string) bool {
	switch {
	case v == "":
		return !c.required[column]
	case c.columns[column].sort == inPeriod:
		return !strings.Contains(v, `""`)
	case c.dates[column]:
		_, err := time.Parse(time.DateOnly, v)
		return err == nil
	case c.desc[column] != "":
		return slices.Contains(c.codes[column], v)
	}
	return true
}

func foldIf(fold bool, v string) string {
	if fold {
		return strings.TrimRight(strings.ToLower(v), " ")
	}
	return v
}

// payload is what the target must hold for a row, flat.
func (c *compiledKind) payload(x *rec, fold bool) map[string]string {
	if x.want != nil {
		return x.want
	}
	out := map[string]string{}
	for i, col := range c.columns {
		v := string(x.cells[i])
		if v == "" {
			continue
		}
		switch {
		case strings.HasSuffix(col.path, "[]"):
			if _, err := flatten(out, strings.TrimSuffix(col.path, "[]"), v); err != nil {
				out[col.path] = err.Error()
				continue
			}
			if fold && c.folds[i] {
				p := strings.TrimSuffix(col.path, "[]")
				out[p] = foldIf(true, out[p])
			}
		case c.desc[i] != "":
			out[col.path] = uri(c.desc[i], v)
		default:
			out[col.path] = foldIf(fold && c.folds[i], v)
		}
	}
	x.want = out
	return out
}

// held is one record of the target, flat.
type held struct {
	id   string
	key  string
	flat map[string]string
	body json.RawMessage
}

// read flattens a record of the target.
func (c *compiledKind) read(body json.RawMessage, fold bool) (*held, error) {
	h := &held{flat: make(map[string]string, len(c.columns)), body: body}
	var err error
	if h.id, err = flatten(h.flat, "", string(body)); err != nil {
		return nil, fmt.Errorf("read a record of %s: %w", c.path, err)
	}
	var key strings.Builder
	for i, path := range c.paths {
		if c.folds[i] {
			if t, ok := h.flat[path]; ok {
				h.flat[path] = foldIf(fold, t)
			}
		}
		if c.keyPart[i] {
			t := h.flat[path]
			if c.desc[i] != "" {
				_, t, _ = strings.Cut(t, "#")
			}
			key.WriteString(t)
			key.WriteByte('|')
		}
	}
	h.key = key.String()
	return h, nil
}
