package failpoint

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestAllNamesEveryPointOnce(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("failpoint.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []Point
	for _, m := range regexp.MustCompile(`(?m)Point = "(.*?)"`).FindAllSubmatch(text, -1) {
		want = append(want, Point(m[1]))
	}
	got := All()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(slices.Compact(got)) != len(want) {
		t.Errorf("All has %d points, %d are declared: %v and %v", len(got), len(want), got, want)
	}
}
