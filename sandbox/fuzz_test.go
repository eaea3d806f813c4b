package sandbox

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzPayload: no body makes the reader panic or hang; it takes a body only if it is a JSON object, and every JSON object that is not too deep or
// broken UTF-8; and what it takes without a problem comes back from the record as something it takes again with the same bytes.
func FuzzPayload(f *testing.F) {
	for _, p := range districtBodies() {
		f.Add(p[1])
	}
	f.Add(`{"firstName":"\ud83d\ude00 \u00e9 \"\\\/\b\f\n\r\t","birthDate":null,"x":[{"y":[1e5,-0.0,true,false,null]}],"otherNames":[{}]}`)
	f.Add("\xef\xbb\xbf{}")
	f.Add(`{"totalRequiredCredits":-12.500e-1}`)
	f.Add(`{"totalRequiredCredits":"-00012.500e1","schoolId":"0x1f"}`)
	m := model(f, "5.2")
	s, err := New(Options{Model: m, ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2026}, Descriptors: fewDescriptors(m)})
	if err != nil {
		f.Fatal(err)
	}
	tables := []*table{s.cat.byName["Student"], s.cat.byName["School"], s.cat.byName["GraduationPlan"], s.cat.byName["ClassPeriod"]}
	f.Fuzz(func(t *testing.T, body string) {
		for _, tb := range tables {
			d := &draft{body: []byte(body), end: len(body)}
			root, err := d.read(tb.shape)
			text := bytes.TrimPrefix([]byte(body), []byte("\xef\xbb\xbf"))
			if err == nil && !json.Valid(text) {
				t.Fatalf("took what is no JSON: %q", body)
			}
			var members map[string]json.RawMessage
			if err != nil {
				if json.Unmarshal(text, &members) == nil && members != nil && len(body) < maxDepth && bytes.Equal(bytes.ToValidUTF8(text, nil), text) {
					t.Fatalf("refused an object: %v: %q", err, body)
				}
				continue
			}
			d.check(tb, root)
			if len(d.problems) > 0 || s.store.prepare(d, tb, root) != nil {
				continue
			}
			rec := bytes.Clone(d.rec)
			if _, refused := s.store.upsert(d, tb, ""); refused != nil {
				t.Fatalf("refused: %v", refused.kind)
			}
			entry := tb.space.index[d.hash]
			back, ok := renderer{st: s.store, ids: s.ids, bare: true}.record(nil, tb.space.address(entry))
			if !ok || !json.Valid(back) {
				t.Fatalf("%q came back as %q", body, back)
			}
			again := &draft{body: back, end: len(back)}
			root, err = again.read(tb.shape)
			if err != nil {
				t.Fatalf("%q came back as %q: %v", body, back, err)
			}
			if again.check(tb, root); len(again.problems) > 0 || s.store.prepare(again, tb, root) != nil || !bytes.Equal(again.rec, rec) {
				t.Fatalf("%q came back as %q: %v", body, back, again.problems)
			}
			again.unpin()
		}
	})
}
