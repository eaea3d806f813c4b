package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// flattener reads JSON, in one pass and without trees: the judge reads every record of every world.
type flattener struct {
	text   string // what is read is cut out of it
	at     int
	depth  int
	id     string // of the outermost object
	leaves []leaf // of the objects that are open
}

type leaf struct{ path, value string }

var flatteners = gosync.Pool{New: func() any { return new(flattener) }}

var errJSON = errors.New("not the JSON of an Ed-Fi API")

// flatten lists the leaves of a JSON value by path, without what a server adds; the items of a collection become one sorted text. It returns the
// id the value has, "" when it has none.
func flatten(out map[string]string, path, text string) (id string, err error) {
	f := flatteners.Get().(*flattener)
	defer flatteners.Put(f)
	*f = flattener{text: text, leaves: f.leaves[:0]}
	if err := f.value(path, true); err != nil {
		return "", err
	}
	if f.next() != 0 || f.at != len(text) {
		return "", errJSON
	}
	for _, l := range f.leaves {
		out[l.path] = l.value
	}
	return f.id, nil
}

// split returns the items of a JSON array.
func split(text []byte) (items [][]byte, err error) {
	f := &flattener{text: string(text)}
	err = f.array(func() error {
		f.next()
		from := f.at
		err := f.value("", false)
		items = append(items, text[from:f.at:f.at])
		return err
	})
	if err == nil && (f.next() != 0 || f.at != len(text)) {
		err = errJSON
	}
	return items, err
}

// next is the next byte that is not space, 0 at the end.
func (f *flattener) next() byte {
	for ; f.at < len(f.text); f.at++ {
		if c := f.text[f.at]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (f *flattener) take(c byte) bool {
	if f.next() != c {
		return false
	}
	f.at++
	return true
}

// value reads a value. Without keep it only finds its end.
func (f *flattener) value(path string, keep bool) error {
	switch c := f.next(); {
	case c == '{':
		return f.object(path, keep)
	case c == '[':
		var items []string
		err := f.array(func() error {
			from := len(f.leaves)
			err := f.value("", keep)
			if keep {
				items = append(items, item(f.leaves[from:]))
				f.leaves = f.leaves[:from]
			}
			return err
		})
		if slices.Sort(items); len(items) > 0 {
			f.leaves = append(f.leaves, leaf{path, strings.Join(items, ";")})
		}
		return err
	case c == '"':
		s, err := f.string()
		if keep {
			f.leaves = append(f.leaves, leaf{path, s})
		}
		return err
	default:
		from := f.at
		for f.at < len(f.text) && !strings.ContainsRune(" \t\r\n,]}", rune(f.text[f.at])) {
			f.at++
		}
		word := f.text[from:f.at]
		if !json.Valid([]byte(word)) {
			return errJSON
		}
		if keep && word != "null" {
			f.leaves = append(f.leaves, leaf{path, word})
		}
		return nil
	}
}

// item is the text of an item of a collection: as fmt writes a map.
func item(leaves []leaf) string {
	slices.SortFunc(leaves, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	var out strings.Builder
	out.WriteString("map[")
	for i, l := range leaves {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(l.path)
		out.WriteByte(':')
		out.WriteString(l.value)
	}
	out.WriteByte(']')
	return out.String()
}

func (f *flattener) object(path string, keep bool) error {
	f.at++
	f.depth++
	defer func() { f.depth-- }()
	if f.take('}') {
		return nil
	}
	for {
		if f.next() != '"' {
			return errJSON
		}
		name, err := f.string()
		if err != nil || !f.take(':') {
			return errJSON
		}
		switch {
		case name == "id" && f.depth == 1 && f.next() == '"':
			f.id, err = f.string()
		case name == "id", name == "_etag", name == "_lastModifiedDate", name == "link":
			err = f.value("", false)
		case path == "" || !keep:
			err = f.value(name, keep)
		default:
			err = f.value(path+"."+name, keep)
		}
		switch {
		case err != nil:
			return err
		case f.take('}'):
			return nil
		case !f.take(','):
			return errJSON
		}
	}
}

// array calls item at each item.
func (f *flattener) array(item func() error) error {
	if !f.take('[') {
		return errJSON
	}
	f.depth++
	defer func() { f.depth-- }()
	if f.take(']') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if f.take(']') {
			return nil
		}
		if !f.take(',') {
			return errJSON
		}
	}
}

// string reads a string; its quote is next.
func (f *flattener) string() (string, error) {
	from := f.at
	plain := true
	for f.at++; f.at < len(f.text); f.at++ {
		switch f.text[f.at] {
		case '\\':
			plain = false
			f.at++
		case '"':
			f.at++
			if plain {
				return f.text[from+1 : f.at-1], nil
			}
			var s string
			err := json.Unmarshal([]byte(f.text[from:f.at]), &s)
			return s, err
		}
	}
	return "", errJSON
}

func TestFlattenListsLeaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, id string
		want           map[string]string
	}{
		{"scalars, and what a server adds is left out", ` {"a": 1.50, "b":true,"c":null, "d":"x", "_etag":"7","link":{"rel":[1]}, "id":"i"}`, "i", map[string]string{"a": "1.50", "b": "true", "d": "x"}},
		{"objects by path, an id below the top is none", `{"r":{"k":"v","n":{"m":-2},"id":"no"},"e":{}}`, "", map[string]string{"r.k": "v", "r.n.m": "-2"}},
		{"collections are sorted texts", `{"l":[{"z":"2","r":{"s":"q"}},{"a":"1"}],"none":[]}`, "", map[string]string{"l": "map[a:1];map[r.s:q z:2]"}},
		{"strings with escapes", `{"s":"a\"b\\","u":"\u00e9","t":"\\"}`, "", map[string]string{"s": `a"b\`, "u": "é", "t": `\`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			id, err := flatten(got, "", test.text)
			if err != nil || id != test.id {
				t.Errorf("got id %q, %v, want %q", id, err, test.id)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, text := range []string{``, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1}}`, `[1`, `"x`, `nul`, `{"a":01}`, `{"a":"\`} {
		if _, err := flatten(map[string]string{}, "", text); err == nil {
			t.Errorf("%q is taken for JSON", text)
		}
	}
	items, err := split([]byte(`[ {"a":[1,2]}, "x" ,3]`))
	if diff := cmp.Diff(fmt.Sprintf("%s %v", items, err), `[{"a":[1,2]} "x" 3] <nil>`); diff != "" {
		t.Error(diff)
	}
}
