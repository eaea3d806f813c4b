// Package canary finds student data where it must not be: markers are planted in a SIS, and every byte that leaves the program is searched for them, also in
// the shapes text takes on its way (escaped, encoded, packed). It is for tests.
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
	"io"
	"net/url"
	"slices"
	"strings"
	gosync "sync"
)

// Marker is a value that is nowhere but in one field of one student.
type Marker struct {
	Text  string
	Field string // "person.last_name"
}

// Hit is a marker that was found.
type Hit struct {
	Surface string // where
	Field   string
	Form    string // plain, json, url, html, base64, hex
	Around  string // the bytes around it
}

// String is a line about the hit.
func (h Hit) String() string {
	return fmt.Sprintf("%s: %s (%s): …%s…", h.Surface, h.Field, h.Form, h.Around)
}

// Scanner searches for markers. Safe for concurrent use.
type Scanner struct {
	forms []form

	mu      gosync.Mutex
	hits    []Hit
	scanned map[string]int64 // bytes, by surface
}

// form is one shape of a marker.
type form struct {
	Marker
	name string
	text []byte // in lower case, but for base64
	any  bool   // whatever the case
}

// New returns a Scanner for markers. Each must have at least five characters: shorter ones are found everywhere.
func New(markers []Marker) (*Scanner, error) {
	s := &Scanner{scanned: map[string]int64{}}
	seen := map[string]bool{}
	for _, m := range markers {
		low := strings.ToLower(m.Text)
		if len(m.Text) < 5 || seen[low] {
			return nil, fmt.Errorf("the marker of %s is too short, or there twice: %q", m.Field, m.Text)
		}
		seen[low] = true
		s.add(m)
	}
	return s, nil
}

func (s *Scanner) add(m Marker) {
	var have [][]byte
	put := func(name, text string, any bool) {
		if any {
			text = strings.ToLower(text)
		}
		if len(text) < 5 || slices.ContainsFunc(have, func(b []byte) bool { return string(b) == text }) {
			return
		}
		have = append(have, []byte(text))
		s.forms = append(s.forms, form{m, name, []byte(text), any})
	}
	put("plain", m.Text, true)
	if quoted, err := json.Marshal(m.Text); err == nil {
		put("json", strings.Trim(string(quoted), `"`), true)
	}
	for _, text := range []string{m.Text, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m.Text)} {
		put("json", text, true)
		put("json", escaped(text), true)
	}
	put("url", url.QueryEscape(m.Text), true)
	put("url", url.PathEscape(m.Text), true)
	put("html", html.EscapeString(m.Text), true)
	put("hex", hex.EncodeToString([]byte(m.Text)), true)
	for shift := range 3 { // where it begins within a group of three bytes is the encoder's affair
		padded := append(bytes.Repeat([]byte{0}, shift), m.Text...)
		skip, keep := (shift*8+5)/6, (len(padded)*8)/6 // characters that depend on this text alone
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if text := encoding.EncodeToString(padded)[skip:keep]; len(text) >= 8 {
				put("base64", text, false)
			}
		}
	}
}

// escaped writes every character beyond ASCII as an escape of JSON, \u and four hexadecimal digits.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Scan searches a surface, and what is packed in it (zip, gzip).
func (s *Scanner) Scan(surface string, text []byte) {
	found := s.search(surface, text)
	s.mu.Lock()
	s.scanned[surface] += int64(len(text))
	s.hits = append(s.hits, found...)
	s.mu.Unlock()
	switch {
	case bytes.HasPrefix(text, []byte("PK\x03\x04")):
		s.zip(surface, text)
	case bytes.HasPrefix(text, []byte{0x1f, 0x8b}):
		if r, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
			if plain, err := io.ReadAll(r); err == nil {
				s.Scan(surface+" unpacked", plain)
			}
		}
	}
}

func (s *Scanner) zip(surface string, text []byte) {
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return
	}
	for _, f := range z.File {
		s.Scan(surface+" names", []byte(f.Name))
		r, err := f.Open()
		if err != nil {
			continue
		}
		if plain, err := io.ReadAll(r); err == nil {
			s.Scan(surface+" "+f.Name, plain)
		}
		_ = r.Close()
	}
}

func (s *Scanner) search(surface string, text []byte) (found []Hit) {
	low := bytes.ToLower(text)
	for _, f := range s.forms {
		in := text
		if f.any {
			in = low
		}
		if at := bytes.Index(in, f.text); at >= 0 {
			around := in[max(0, at-60):min(len(in), at+len(f.text)+60)]
			found = append(found, Hit{surface, f.Field, f.name, fmt.Sprintf("%q", around)})
		}
	}
	return found
}

// Hits returns what was found so far.
func (s *Scanner) Hits() []Hit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hits)
}

// Scanned returns how many bytes of a surface were searched.
func (s *Scanner) Scanned(surface string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scanned[surface]
}

// Distinct returns how many of the scanner's markers are in text, in any form.
func (s *Scanner) Distinct(text []byte) int {
	fields := map[string]bool{}
	for _, h := range s.search("", text) {
		fields[h.Field] = true
	}
	return len(fields)
}
