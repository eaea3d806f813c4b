package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAnEditOfDescriptorMaps(t *testing.T) {
	t.Parallel()
	const grade = "GradeLevelDescriptor"
	code := func(descriptor, code, uri string) []console.MappedCode {
		return []console.MappedCode{{Descriptor: descriptor, Code: code, URI: uri}}
	}
	for _, c := range []struct {
		name         string
		before       string
		edit         console.DescriptorEdit
		after, wrong string
	}{
		{"adds a first code", `{"name":"a"}`, console.DescriptorEdit{Set: code(grade, "KG", "Kindergarten")}, `{"descriptors":{"GradeLevelDescriptor":{"KG":"Kindergarten"}},"name":"a"}`, ""},
		{"replaces one", `{"descriptors":{"GradeLevelDescriptor":{"KG":"x","1":"First"}}}`, console.DescriptorEdit{Set: code(grade, "KG", " uri://a/b#c ")}, `{"descriptors":{"GradeLevelDescriptor":{"1":"First","KG":"uri://a/b#c"}}}`, ""},
		{"removes the last one", `{"descriptors":{"GradeLevelDescriptor":{"KG":"x"}},"name":"a"}`, console.DescriptorEdit{Remove: code(grade, "KG", "")}, `{"name":"a"}`, ""},
		{"removes one and adds another at once", `{"descriptors":{"SexDescriptor":{"M":"Male"}}}`, console.DescriptorEdit{Remove: code("SexDescriptor", "M", ""), Set: code("SexDescriptor", "m", "Male")}, `{"descriptors":{"SexDescriptor":{"m":"Male"}}}`, ""},
		{"removes none that only the pack has", `{}`, console.DescriptorEdit{Remove: code(grade, "KG", "")}, "", "in the pack only"},
		{"says something", `{}`, console.DescriptorEdit{}, "", "say which code"},
		{"names a descriptor", `{}`, console.DescriptorEdit{Set: code("gradeLevel", "KG", "x")}, "", "ends in Descriptor"},
		{"gives a value", `{}`, console.DescriptorEdit{Set: code(grade, "KG", "  ")}, "", "say what it stands for"},
		{"has no reference to a secret", `{}`, console.DescriptorEdit{Set: code(grade, "KG", "${sealed:lincoln.client_secret}")}, "", "reference"},
		{"has no control characters", `{}`, console.DescriptorEdit{Set: code(grade, "K\x1b[2J", "x")}, "", "letters, digits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.edit.Apply(json.RawMessage(c.before))
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("got %s, %v, want an error with %q", got, err, c.wrong)
				}
				return
			}
			if diff := cmp.Diff(c.after, string(got)); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestDescriptorMapsAreEditedByOnePersonAtATime(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		admin, operator := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "operator"})
		if a := s.do("POST", "/api/v1/connections", admin, `{"name": "new", "tenant": "acme"}`); a.status != 201 {
			t.Fatalf("made: %d %s", a.status, a.body)
		}
		const path, kg = "/api/v1/connections/acme~new/descriptors", `{"set": [{"descriptor": "GradeLevelDescriptor", "code": "KG", "uri": "Kindergarten"}]}`
		a := s.do("GET", path, operator, "")
		if a.status != 200 || a.header.Get("ETag") != `"1"` || !strings.Contains(a.body, `"version":1`) {
			t.Errorf("read: %d %v %s", a.status, a.header, a.body)
		}
		s.refused(s.do("PATCH", path, operator, kg, "If-Match", `"1"`), 403, "forbidden", "admin")
		s.refused(s.do("PATCH", path, admin, kg), 428, "if-match", "If-Match")
		s.refused(s.do("PATCH", path, admin, `{"set": [{"descriptor": "x", "code": "KG", "uri": "y"}]}`, "If-Match", `"1"`), 422, "invalid", "ends in Descriptor")
		s.refused(s.do("PATCH", "/api/v1/connections/lincoln/descriptors", admin, kg, "If-Match", `"1"`), 409, "in-file", "configuration file")
		if a := s.do("PATCH", path, admin, kg, "If-Match", `"1"`); a.status != 200 || a.header.Get("ETag") != `"2"` {
			t.Errorf("edited: %d %s", a.status, a.body)
		}
		s.refused(s.do("PATCH", path, admin, kg, "If-Match", `"1"`), 412, "changed", "look again")
		if acts := s.acts(); acts[0] != "connection.change" {
			t.Errorf("audited: %v", acts)
		}
		def, err := s.ledger.Definition(t.Context(), "acme", "new")
		s.ok(err)
		if !strings.Contains(string(def.Text), `"GradeLevelDescriptor":{"KG":"Kindergarten"}`) {
			t.Errorf("kept: %s", def.Text)
		}

		// The same in the console.
		const page = "/connections/acme~new/descriptors"
		const form = "version=2&descriptor=GradeLevelDescriptor&code=KG&do=remove"
		if a := s.do("POST", page, operator, form); a.status != 403 {
			t.Errorf("an operator removed a code: %d", a.status)
		}
		if a := s.do("POST", page, admin, form); a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), page+"?saved") {
			t.Errorf("removed: %d %v %s", a.status, a.header, a.body)
		}
		if a := s.do("POST", page, admin, form); a.status != 412 || !strings.Contains(a.body, "look again") {
			t.Errorf("removed again from an old page: %d %s", a.status, a.body)
		}
		if a := s.do("POST", page, admin, "version=3&descriptor=Wrong&code=KG&uri=x"); a.status != 422 || !strings.Contains(a.body, "ends in Descriptor") {
			t.Errorf("a wrong one: %d %s", a.status, a.body)
		}
		for key, edits := range map[string]bool{admin: true, operator: false} {
			if a := s.do("GET", page, key, ""); strings.Contains(a.body, `id="add-code"`) != edits {
				t.Errorf("the page offers an edit: %v, want %v", !edits, edits)
			}
		}
		if a := s.do("GET", "/connections/lincoln/descriptors", admin, ""); strings.Contains(a.body, `id="add-code"`) {
			t.Error("the page of a connection of the file offers an edit")
		}
	})
}

func TestAnUnmappedCodeIsOfferedToBeMapped(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) {
		c.Descriptors = func(context.Context, console.Connection) (console.DescriptorMaps, error) {
			return console.DescriptorMaps{Entries: []console.DescriptorEntry{{Descriptor: "GradeLevelDescriptor", Code: "1", URI: "uri://x#First", From: "pack"}}}, nil
		}
	})
	admin := s.key(console.NewKey{Role: "admin"})
	if a := s.do("POST", "/api/v1/connections", admin, `{"name": "new", "tenant": "acme"}`); a.status != 201 {
		t.Fatalf("made: %d %s", a.status, a.body)
	}
	id, _, err := s.ledger.Connection(t.Context(), "acme", "new")
	s.ok(err)
	s.ids["acme~new"] = id.ID
	l := s.running("acme~new")
	s.ok(s.ledger.SaveProblems(t.Context(), l, []syncdb.Problem{{
		Resource: "ed-fi/students", SourceHash: syncdb.Hash{2}, Outcome: "invalid", Code: "descriptor-unmapped", Owner: "mapping", SourceKey: "1",
		Cause: `$.gradeLevelDescriptor: gradeLevelDescriptor has no entry for this code in the descriptor map GradeLevelDescriptor. (code "T\"K <1>")`,
	}}))
	s.finish(l, syncdb.RunDone)
	var got struct {
		Unmapped []struct{ Descriptor, LocalCode string }
	}
	s.get("/connections/acme~new/descriptors", admin, &got)
	if len(got.Unmapped) != 1 || got.Unmapped[0].Descriptor != "GradeLevelDescriptor" || got.Unmapped[0].LocalCode != `T"K <1>` {
		t.Errorf("unmapped: %+v", got)
	}
	a := s.do("GET", "/connections/acme~new/descriptors", admin, "")
	for _, want := range []string{`value="T&#34;K &lt;1&gt;"`, `<option value="uri://x#First">`, `name="version" value="1"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, a.body)
		}
	}

	// One that is known and stays is folded.
	var issues struct{ Items []struct{ ID int64 } }
	s.get("/connections/acme~new/issues", admin, &issues)
	if len(issues.Items) != 1 {
		t.Fatalf("the issues are %+v", issues)
	}
	if a := s.do("POST", fmt.Sprintf("/api/v1/issues/%d/archive", issues.Items[0].ID), admin, `{"why": "an old code"}`); a.status >= 300 {
		t.Fatalf("archived: %d %s", a.status, a.body)
	}
	var folded struct{ Unmapped, Archived []struct{ LocalCode string } }
	s.get("/connections/acme~new/descriptors", admin, &folded)
	if len(folded.Unmapped) != 0 || len(folded.Archived) != 1 || folded.Archived[0].LocalCode != `T"K <1>` {
		t.Errorf("folded: %+v", folded)
	}
	a = s.do("GET", "/connections/acme~new/descriptors", admin, "")
	for _, want := range []string{`<details><summary>1 of archived issues</summary>`, `<code>T&#34;K &lt;1&gt;</code>`, "or its issue is archived"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, a.body)
		}
	}
}
