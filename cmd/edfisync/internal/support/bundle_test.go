package support

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// The bundle has no place for free text: whoever adds a field of a type that could hold some is stopped here.
func TestBundleHasNoPlaceForText(t *testing.T) {
	t.Parallel()
	word, moment := reflect.TypeFor[Word](), reflect.TypeFor[time.Time]()
	seen := map[reflect.Type]bool{}
	var check func(path string, typ reflect.Type)
	check = func(path string, typ reflect.Type) {
		if typ == word || typ == moment || seen[typ] {
			return
		}
		switch typ.Kind() {
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Float64:
		case reflect.Slice:
			check(path+"[]", typ.Elem())
		case reflect.Map: // keys are the program's own: named at the field
			if !strings.HasSuffix(path, ".Totals") && !strings.HasSuffix(path, ".Safeguards") {
				t.Errorf("%s is a map: its keys could be anything", path)
			}
			check(path+"{}", typ.Elem())
		case reflect.Struct:
			seen[typ] = true
			for i := range typ.NumField() {
				check(path+"."+typ.Field(i).Name, typ.Field(i).Type)
			}
		default:
			t.Errorf("%s is a %s, which could hold any text", path, typ)
		}
	}
	check("Bundle", reflect.TypeFor[Bundle]())
	if len(seen) < 15 {
		t.Errorf("looked at %d types only", len(seen))
	}
}

func TestWordsKeepTextOut(t *testing.T) {
	t.Parallel()
	const name = "Zdzisława O'Neill"
	for what, got := range map[string]Word{
		"one of":    OneOf(name, "done", "failed"),
		"resource":  Resource("ed-fi/" + name),
		"code":      Code("required-missing "+name, true),
		"unknown":   Code("mcdonald", false),
		"action":    Action("hold.approve " + name),
		"object":    Object("hold of " + name),
		"object id": Object("student 604822"),
		"name":      Name(name),
		"version":   Version("1.2 of " + name),
	} {
		if got != Other {
			t.Errorf("%s: got %q, want %q", what, got, Other)
		}
	}
	for got, want := range map[Word]string{
		OneOf("done", "done", "failed"): "done", Resource("ed-fi/students"): "ed-fi/students", Resource("tpdm/candidates"): "tpdm/candidates", Code("required-missing", true): "required-missing",
		Action("hold.approve"): "hold.approve", Object("hold 12"): "hold 12", Object(""): "", Name("lincoln_2027"): "lincoln_2027", Version("(devel)"): "(devel)",
		Version("15.9 (Debian 15.9-0+deb12u1)"): "15.9 (Debian 15.9-0+deb12u1)",
	} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Of an error only words that the program has come through, whatever the error repeats.
func TestMarksSayWhatKindOfErrorItWas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want Marks
	}{
		{"", nil},
		{`read students: pq: invalid input syntax for type date: "Zdzisława" (22P02)`, Marks{"SQLSTATE 22P02"}},
		{`read students: pq: invalid input syntax for type integer: "Kowalska (60482)"`, Marks{Other}},
		{`ERROR: duplicate key value violates unique constraint "one" (SQLSTATE 23505)`, Marks{"SQLSTATE 23505"}},
		{"SQLSTATE 60482", Marks{Other}},
		{"post students: the target refused it (409 Conflict); duplicate key is (Kowalska)", Marks{"HTTP 409"}},
		{"dial tcp 10.1.2.3:443: connect: connection refused", Marks{"connection refused"}},
		{"Kowalska, Zdzisława", Marks{Other}},
		{"ledger: database disk image is malformed (11)", Marks{"malformed"}},
	} {
		if got := MarksOf(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	if got := MarksOfError(fmt.Errorf("open Kowalska.sqlite: %w", fs.ErrNotExist)); !slices.Contains(got, "file does not exist") || strings.Contains(fmt.Sprint(got), "Kowalska") {
		t.Errorf("got %q", got)
	}
	if got := MarksOfError(nil); got != nil {
		t.Errorf("of no error: %q", got)
	}
	if got := MarksOfError(errors.New("Kowalska")); !slices.Equal(got, Marks{Other}) {
		t.Errorf("of an error without marks: %q", got)
	}
}

func TestBundleIsAZipOfText(t *testing.T) {
	t.Parallel()
	for _, goroutines := range []bool{false, true} {
		var text bytes.Buffer
		if err := Write(&text, &Bundle{About: About{Made: time.Now(), Version: "1.0"}}, goroutines); err != nil {
			t.Fatal(err)
		}
		z, err := zip.NewReader(bytes.NewReader(text.Bytes()), int64(text.Len()))
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasSuffix(f.Name, ".json") && !json.Valid(body):
				t.Errorf("%s is no JSON: %s", f.Name, body)
			case f.Name == "goroutines.txt" && (!goroutines || !bytes.Contains(body, []byte("TestBundleIsAZipOfText"))):
				t.Errorf("goroutines.txt, asked for: %v: %s", goroutines, body)
			}
			if f.Name != "contents.txt" && bytes.Contains(contents, []byte("\n"+f.Name+" ")) {
				named++
			}
		}
		want := 9
		if goroutines {
			want++
		}
		if named != want || len(z.File) != want+1 {
			t.Errorf("contents.txt names %d of %d files, want %d", named, len(z.File), want)
		}
	}
}
