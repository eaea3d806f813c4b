package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func TestIssueShowsWhatTheTargetSaid(t *testing.T) {
	t.Parallel()
	problems := []syncdb.Problem{
		{
			Outcome: "rejected", SourceKey: "17",
			Detail: []byte(`{"call":"update","status":409,"type":"urn:ed-fi:api:identity-conflict","hint":"Look for a second row.","correlationId":"c-1",` +
				`"answer":"{\"detail\":\"Ana\"}","naturalKey":{"studentUniqueId":"4"}}`),
		},
		{Outcome: "blocked", SourceKey: "18", Detail: []byte(`{"naturalKey":{"studentUniqueId":"5"}}`), BlockedBy: []byte(`{"entity":"School"}`)},
		{
			Outcome: "invalid", SourceKey: "19",
			Detail: []byte(`{"query":"students.sql","problems":[{"code":"descriptor-unmapped","path":"$.sex","message":"no map has the code","value":"X"},` +
				`{"code":"required-missing","path":"$.birthDate","message":"is required"}]}`),
		},
		{Outcome: "failed", Detail: []byte(`{"call":"delete","error":"no connection","naturalKey":null}`)},
	}
	render := func(shown sync.RowShown) string {
		d := issueDetail{Cause: sync.Cause{Issue: syncdb.Issue{
			ID: 7, Code: "x", Resource: "ed-fi/students", Cause: "a cause", Owner: "us", Outcome: "rejected", FirstRun: 1, LastRun: 2, Rows: 5,
		}}}
		for i := range problems {
			row, err := sync.ReadRow(&problems[i], shown)
			if err != nil {
				t.Fatal(err)
			}
			d.Details = append(d.Details, row)
		}
		var out strings.Builder
		d.print(&out)
		return out.String()
	}
	want := `issue 7: ed-fi/students rejected: x
  a cause
  who can act: us; docs/operations.md and docs/errors.md explain the code
  since run 1, last in run 2; 5 rows

source row 17: rejected
  natural key: {"studentUniqueId":"4"}
  update: 409 urn:ed-fi:api:identity-conflict
  correlation id: c-1
  advice: Look for a second row.

source row 18: blocked
  natural key: {"studentUniqueId":"5"}
  waits for: School

source row 19: invalid
  query: students.sql
  $.sex: no map has the code (descriptor-unmapped): "X"
  $.birthDate: is required (required-missing)

a record without a source row: failed
  delete: no answer
  error: no connection

and 1 more row; --rows 5 shows all
`
	if diff := cmp.Diff(render(sync.ShowValues), want); diff != "" {
		t.Errorf("issue (-got +want):\n%s", diff)
	}
	if !strings.Contains(render(sync.ShowAnswer), "  answer: {\"detail\":\"Ana\"}\n") {
		t.Error("--answer does not show the target's answer")
	}
}

func TestCellsThatLookLikeFormulasAreMadeSafe(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]string{
		"": "", "Ana": "Ana", "12": "12", "a=b": "a=b", `["S1"]`: `["S1"]`, "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)",
		"\t=1": "'\t'=1", "\r=1": "'\r=1", " =1": "' =1", `"=1`: `'"=1`, "\n=1": "'\n=1", "'=1": "''=1",
		"＝1+1": "'＝1+1", "＠SUM(A1)": "'＠SUM(A1)", "\ufeff=1": "'\ufeff=1", "\u200b+1": "'\u200b+1", "\u00a0-1": "'\u00a0-1",
		"Ana;=1+1": "Ana;'=1+1", "Ana\t=1+1;@x": "Ana\t'=1+1;'@x", `Ana;"=1`: `Ana;'"=1`, "a;b": "a;b", "not valid; then": "not valid; then", "\xff=1": "\xff=1", "a;\xff": "a;\xff",
	} {
		if got := safeCell(cell); got != want {
			t.Errorf("safeCell(%q) = %q, want %q", cell, got, want)
		}
	}
}

func TestRowsNameWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"entity":"School"}`: "School", `{"entity":"School","path":"schoolReference","naturalKey":[10]}`: "School [10]",
		`{"entity":"Course","oneOf":[{"entity":"Course","naturalKey":["A"]},{"entity":"Course","naturalKey":["B"]}]}`: `one of Course ["A"], ["B"]`,
		`{"else":1}`: `{"else":1}`, "": "",
	} {
		if got := (&sync.IssueRow{BlockedBy: []byte(text)}).WaitsFor(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
