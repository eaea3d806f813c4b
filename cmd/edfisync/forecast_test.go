package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
)

func TestForecastSaysWhoMustAct(t *testing.T) {
	t.Parallel()
	f := forecastOf{"one", &sync.Forecast{
		Rows: 1200, Arrive: 1000, Fail: 200,
		Reasons: []sync.ForecastReason{
			{Code: "a", Resource: "ed-fi/students", Cause: "x", Owner: "source data", Hint: "Do it.", Rows: 50, Frees: 150},
			{Code: "b", Resource: "ed-fi/locations", Cause: "y", Owner: "mapping", Hint: "Leave it out."},
		},
		Notes: []string{"something"},
	}}
	var out strings.Builder
	f.print(&out)
	want := `
forecast of one: of 1,200 rows, 1,000 would arrive, 200 would not, 0 are there already; nothing was sent
ROWS  FREES  WHO ACTS     CODE  RESOURCE         CAUSE
50    150    source data  a     ed-fi/students   x
all   0      mapping      b     ed-fi/locations  y
a (source data): Do it.
b (mapping): Leave it out.
not known: something
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("print (-want +got):\n%s", diff)
	}
	if f.code() != exitProblems || (&forecastOf{"one", &sync.Forecast{}}).code() != exitOK {
		t.Error("a forecast of failures does not end with its code")
	}
}

func TestForecastGoesOnWhenItIsWhatTellsOfTheProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		in   finding
		want bool
	}{
		{"a right that is missing", finding{Connection: "one", Part: "claims", code: exitFailed}, true},
		{"rows that are wrong", finding{Connection: "one", Part: "mapping", code: exitProblems}, true},
		{"an alarm of the target", finding{Connection: "one", Part: "alarm", code: exitHeld}, true},
		{"a query that does not fit", finding{Connection: "one", Part: "mapping", code: exitUsage}, false},
		{"a ledger that does not open", finding{Part: "ledger", code: exitFailed}, false},
		{"a source of another connection", finding{Connection: "two", Part: "source", code: exitFailed}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := report{connection: "one", findings: []finding{{Part: "configuration", OK: true}, tt.in}}
			if got := r.foreseeable(); got != tt.want {
				t.Errorf("foreseeable = %t, want %t", got, tt.want)
			}
		})
	}
}
