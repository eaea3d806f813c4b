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
