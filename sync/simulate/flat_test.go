package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// flattener reads JSON, in one pass and without trees: the judge reads every record of every world.
type flattener struct {
	text  []byte
	at    int
	depth int
	id    string // of the outermost object
}

var errJSON = errors.New("not the JSON of an Ed-Fi API")

// flatten lists the leaves of a JSON value by path, without what a server adds; the items of a collection become one sorted text. It returns the
// id the value has, "" when it has none.
func flatten(out map[string]string, path string, text []byte) (id string, err error) {
	f := &flattener{text: text}
	if err := f.value(out, path); err != nil {
		return "", err
	}
	if f.next() != 0 || f.at != len(text) {
		return "", errJSON
	}
	return f.id, nil
}

// split returns the items of a JSON array.
func split(text []byte) (items [][]byte, err error) {
	f := &flattener{text: text}
	err = f.array(func() error {
		f.next()
		from := f.at
		err := f.value(nil, "")
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

// value reads a value. Without out it only finds its end.
func (f *flattener) value(out map[string]string, path string) error {
	switch c := f.next(); {
	case c == '{':
		return f.object(out, path)
	case c == '[':
		var items []string
		err := f.array(func() error {
			var leaves map[string]string
			if out != nil {
				leaves = map[string]string{}
			}
			err := f.value(leaves, "")
			items = append(items, fmt.Sprint(leaves)) // fmt sorts maps
			return err
		})
		if slices.Sort(items); len(items) > 0 && out != nil {
			out[path] = strings.Join(items, ";")
		}
		return err
	case c == '"':
		s, err := f.string()
		if out != nil {
			out[path] = s
		}
		return err
	default:
		from := f.at
		for f.at < len(f.text) && !strings.ContainsRune(" \t\r\n,]}", rune(f.text[f.at])) {
			f.at++
		}
		word := f.text[from:f.at]
		if !json.Valid(word) {
			return errJSON
		}
		if out != nil && string(word) != "null" {
			out[path] = string(word)
		}
		return nil
	}
}

func (f *flattener) object(out map[string]string, path string) error {
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
			err = f.value(nil, "")
		case path == "" || out == nil:
			err = f.value(out, name)
		default:
			err = f.value(out, path+"."+name)
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
	for plain := true; ; {
		n := bytes.IndexAny(f.text[min(f.at+1, len(f.text)):], `"\`)
		if n < 0 {
			return "", errJSON
		}
		f.at += 1 + n
		if f.text[f.at] == '\\' {
			plain = false
			f.at++
			continue
		}
		f.at++
		if plain {
			return string(f.text[from+1 : f.at-1]), nil
		}
		var s string
		err := json.Unmarshal(f.text[from:f.at], &s)
		return s, err
	}
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
			id, err := flatten(got, "", []byte(test.text))
			if err != nil || id != test.id {
				t.Errorf("got id %q, %v, want %q", id, err, test.id)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, text := range []string{``, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1}}`, `[1`, `"x`, `nul`, `{"a":01}`, `{"a":"\`} {
		if _, err := flatten(map[string]string{}, "", []byte(text)); err == nil {
			t.Errorf("%q is taken for JSON", text)
		}
	}
	items, err := split([]byte(`[ {"a":[1,2]}, "x" ,3]`))
	if diff := cmp.Diff(fmt.Sprintf("%s %v", items, err), `[{"a":[1,2]} "x" 3] <nil>`); diff != "" {
		t.Error(diff)
	}
}
