package sync

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// memberNames checks the types below one, and returns how many structs there are.
func memberNames(t *testing.T, of reflect.Type) int {
	t.Helper()
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return memberNames(t, of.Elem())
	case reflect.Struct:
	default:
		return 0
	}
	if of == reflect.TypeFor[time.Time]() {
		return 0
	}
	n := 1
	var names []string
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
		n += memberNames(t, of.Field(i).Type)
	}
	if !slices.IsSorted(names) {
		t.Errorf("members of %s are not in the order of their names: %v", of, names)
	}
	return n
}

func TestTypesOfAReceiptListTheirMembersInCanonicalOrder(t *testing.T) {
	t.Parallel()
	if n := memberNames(t, reflect.TypeFor[Receipt]()); n < 5 {
		t.Errorf("looked at %d types, want those of the receipt, its statement, resources, exceptions and the one before", n)
	}
}

func TestCanonicalReceiptIsSortedJSONWithoutSpace(t *testing.T) {
	t.Parallel()
	r := &Receipt{
		Buckets: map[string][]byte{"ed-fi/students": {1, 2}, "ed-fi/schools": {3}}, PublicKey: []byte{4}, Signature: []byte{5},
		Statement: Statement{
			Format: 1, Connection: "default/<north> & süd", Run: 7, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Config: "c", HashRules: 2, KeyGeneration: 1,
			Resources: []StatementResource{{Resource: "ed-fi/students", Rows: 3, Watermark: "w"}}, Previous: &PreviousReceipt{Run: 6, Hash: "h"},
			Alarm: `,"statement":{`,
		},
	}
	got, err := canonical(r)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(got))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil { // maps are written in the order of their keys
		t.Fatal(err)
	}
	if want := bytes.TrimSpace(want.Bytes()); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	st, err := statementOf(got)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*st, r.Statement) {
		t.Errorf("the statement read back is %+v, want %+v", *st, r.Statement)
	}
	if _, err := statementOf([]byte(`{"publicKey":""}`)); err == nil {
		t.Error("a document without a statement gave one")
	}
}

func BenchmarkReceiptOfTwelveResources(b *testing.B) {
	r := &Receipt{Buckets: map[string][]byte{}, PublicKey: make([]byte, 32), Signature: make([]byte, 64)}
	for i := range 12 {
		path := "ed-fi/resource" + strings.Repeat("x", i)
		r.Buckets[path] = make([]byte, bucketCount*bucketSize)
		r.Statement.Resources = append(r.Statement.Resources, StatementResource{Resource: path, Rows: 100, Root: strings.Repeat("0", 64)})
	}
	b.ReportAllocs()
	for b.Loop() {
		document, err := canonical(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := statementOf(document); err != nil {
			b.Fatal(err)
		}
	}
}
