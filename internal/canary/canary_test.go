package canary

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

// A planted value is found in every shape, so that a test without hits says something.
func TestScannerFindsWhatWasPlanted(t *testing.T) {
	t.Parallel()
	const ascii, special = "Qanary017fn", `Zdzisława "Q&A" <O'Kanary>`
	quoted, err := json.Marshal(special)
	if err != nil {
		t.Fatal(err)
	}
	packed := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	zipped := func(name, text string) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, _ := z.Create(name)
		_, _ = w.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	for _, tt := range []struct{ name, text string }{
		{"plain", "the student Qanary017fn is"},
		{"in another case", "QANARY017FN"},
		{"special characters", special},
		{"JSON", string(quoted)},
		{"JSON in ASCII", `"Zdzis\u0142awa \"Q&A\" <O'Kanary>"`[1:]},
		{"a query", "?name=" + url.QueryEscape(special)},
		{"a path", "/of/" + url.PathEscape(special)},
		{"HTML", "<p>" + html.EscapeString(special)},
		{"hexadecimal digits", hex.EncodeToString([]byte("x" + ascii))},
		{"base64", base64.StdEncoding.EncodeToString([]byte(ascii))},
		{"base64, one byte on", base64.StdEncoding.EncodeToString([]byte("x" + ascii + "y"))},
		{"base64, two bytes on", base64.URLEncoding.EncodeToString([]byte("xy" + ascii + "yz"))},
		{"gzip", packed("and then " + ascii)},
		{"zip", zipped("one.json", ascii)},
		{"a name in a zip", zipped(ascii+".json", "nothing")},
		{"gzip in zip", zipped("one.gz", packed(ascii))},
	} {
		s, err := New([]Marker{{ascii, "person.first_name"}, {special, "person.last_name"}})
		if err != nil {
			t.Fatal(err)
		}
		s.Scan("surface", []byte(tt.text))
		if len(s.Hits()) == 0 {
			t.Errorf("%s: %q: nothing was found", tt.name, tt.text)
		}
		if text := fmt.Sprint(s.Hits()); !strings.Contains(text, "surface") || !strings.Contains(text, "person.") {
			t.Errorf("%s: the hit does not say where: %s", tt.name, text)
		}
	}
}

func TestScannerFindsNothingElse(t *testing.T) {
	t.Parallel()
	s, err := New([]Marker{{"Qanary017fn", "person.first_name"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Scan("log", []byte("Qanary018fn, Qanary017, 017fn, "+base64.StdEncoding.EncodeToString([]byte("Qanary018fn"))))
	s.Scan("zip", []byte("PK\x03\x04 that is none"))
	s.Scan("gzip", []byte{0x1f, 0x8b, 0, 0})
	if hits := s.Hits(); len(hits) != 0 {
		t.Errorf("got %v", hits)
	}
	if s.Scanned("log") == 0 || s.Distinct([]byte("qanary017fn qanary017fn")) != 1 {
		t.Error("what was searched was not counted")
	}
}

func TestMarkersMustTellThemselvesApart(t *testing.T) {
	t.Parallel()
	for _, markers := range [][]Marker{{{"four", "f"}}, {{"Qanary", "f"}, {"qANARY", "g"}}} {
		if _, err := New(markers); err == nil {
			t.Errorf("%v were taken", markers)
		}
	}
}
