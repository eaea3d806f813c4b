package source

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// mapReader gathers the descriptor maps of a pack from its files.
type mapReader struct {
	l     *packLoader
	first map[[2]string]string // descriptor, code → "file:line" that gave it first
}

func newMapReader(l *packLoader) *mapReader {
	return &mapReader{l: l, first: map[[2]string]string{}}
}

func (m *mapReader) yaml(file string) {
	root, ok := m.l.yaml(file)
	if !ok {
		return
	}
	for _, d := range m.l.mapping(file, root, "the file") {
		for _, e := range m.l.mapping(file, d.value, d.key.Value) {
			if value, ok := m.l.scalar(file, e); ok {
				m.add(file, e.key.Line, d.key.Value, e.key.Value, value)
			}
		}
	}
}

func (m *mapReader) csv(file string) {
	text, ok := m.l.read(file)
	if !ok {
		return
	}
	r := csv.NewReader(strings.NewReader(string(text)))
	r.FieldsPerRecord = -1
	columns := []string{"descriptor", "code", "value"}
	for n := 0; ; n++ {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			if n == 0 {
				m.l.problem(PackError{File: file, Message: "is empty; its first line is descriptor,code,value"})
			}
			return
		}
		if err != nil {
			p := PackError{File: file, Message: err.Error()}
			var pe *csv.ParseError
			if errors.As(err, &pe) {
				p.Line, p.Message = pe.Line, pe.Err.Error()
			}
			m.l.problem(p)
			return
		}
		line, _ := r.FieldPos(0)
		if n == 0 {
			if len(rec) == 4 && rec[3] == "note" {
				columns = append(columns, "note")
			}
			if !slices.Equal(rec, columns) {
				m.l.problem(PackError{File: file, Line: line, Message: "the first line must be descriptor,code,value, or descriptor,code,value,note"})
				return
			}
			continue
		}
		if len(rec) != len(columns) {
			m.l.problem(PackError{File: file, Line: line, Message: fmt.Sprintf("has %d fields instead of %d", len(rec), len(columns))})
			continue
		}
		m.add(file, line, rec[0], rec[1], rec[2])
	}
}

// add takes one code into the maps, or says why not.
func (m *mapReader) add(file string, line int, descriptor, code, value string) {
	uri, err := DescriptorURI(m.l.pack.Namespace, descriptor, value)
	where := [2]string{descriptor, code}
	switch first, twice := m.first[where]; {
	case err != nil:
		m.l.problem(PackError{File: file, Line: line, Message: err.Error()})
	case code == "":
		m.l.problem(PackError{File: file, Line: line, Message: descriptor + ": empty code"})
	case twice:
		m.l.problem(PackError{File: file, Line: line, Message: fmt.Sprintf("%s: code %q is given twice, first at %s", descriptor, code, first)})
	default:
		m.first[where] = fmt.Sprintf("%s:%d", file, line)
		if m.l.pack.Maps[descriptor] == nil {
			m.l.pack.Maps[descriptor] = map[string]string{}
		}
		m.l.pack.Maps[descriptor][code] = uri
	}
}

// DescriptorURI is the URI a descriptor map's value stands for: itself when it is one, else the bare code value in the namespace
// ("uri://ed-fi.org"; "" means that one). Configuration that adds codes to a pack's maps uses it too.
func DescriptorURI(namespace, descriptor, value string) (string, error) {
	if namespace == "" {
		namespace = defaultNamespace
	}
	switch {
	case !collectionName(descriptor) || !strings.HasSuffix(descriptor, "Descriptor") || descriptor == "Descriptor":
		return "", fmt.Errorf("%q is no descriptor name: it ends in Descriptor, as in GradeLevelDescriptor", descriptor)
	case value == "":
		return "", fmt.Errorf("%s: empty value", descriptor)
	case !strings.HasPrefix(value, "uri://"):
		return namespace + "/" + descriptor + "#" + value, nil
	}
	if ns, code, ok := strings.Cut(value, "#"); !ok || ns == "uri://" || code == "" {
		return "", fmt.Errorf("%s: %q is no descriptor URI: write uri://namespace/%s#code value", descriptor, value, descriptor)
	}
	return value, nil
}
