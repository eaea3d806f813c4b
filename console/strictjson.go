package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
)

// errTwoMeanings does not repeat the name: it may be anything.
var errTwoMeanings = errors.New("an object has the same name twice, or two names that differ in the size of letters only") //nolint:gochecknoglobals // a sentinel

// strictJSON is JSON in which an object says one thing. encoding/json takes the last of several equal names, whatever the size of their letters, while what
// is checked against the schema may be another one of them: a bound, or the role of a key, would be checked in one place and taken from another.
func strictJSON() huma.Format {
	return huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(data []byte, v any) error {
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		if _, first := v.(*any); !first { // huma reads a body twice: to check it, then into the fields of the operation
			return nil
		}
		return oneMeaning(data)
	}}
}

// oneMeaning returns an error when an object of a valid JSON text has two names that a decoder may take for one.
func oneMeaning(data []byte) error {
	type level struct {
		names map[string]bool // nil = an array
		value bool            // a value comes next, not a name
	}
	var open []level
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err != nil {
			return nil //nolint:nilerr // the end: the text was read before
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			in := &open[n-1]
			if name, ok := t.(string); ok && !in.value {
				if name = folded(name); in.names[name] {
					return errTwoMeanings
				}
				in.names[name], in.value = true, true
				continue
			}
			in.value = false
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}

// folded is the same for names that encoding/json takes for each other.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}
