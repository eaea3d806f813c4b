//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOrderIsCarriedOutAtItsPointOnly(t *testing.T) {
	t.Parallel()
	type reached struct {
		point          Point
		resource, verb string
	}
	for name, c := range map[string]struct {
		order string
		steps []reached
		dies  int // index of the step, -1 = never
	}{
		"no order":                     {"", []reached{{IntentAfter, "", ""}}, -1},
		"the second time":              {"intent.after:2", []reached{{IntentAfter, "", ""}, {IntentBefore, "", ""}, {IntentAfter, "", ""}}, 2},
		"not reached often enough":     {"intent.after:3", []reached{{IntentAfter, "", ""}, {IntentAfter, "", ""}}, -1},
		"of one resource and verb":     {"call.before:1:ed-fi/students/PUT", []reached{{CallBefore, "ed-fi/schools", "PUT"}, {CallBefore, "ed-fi/students", "POST"}, {CallBefore, "ed-fi/students", "PUT"}}, 2},
		"of one verb, any resource":    {"call.before:2:/DELETE", []reached{{CallBefore, "a/b", "DELETE"}, {CallBefore, "a/c", "POST"}, {CallBefore, "a/d", "DELETE"}}, 2},
		"it dies once and never again": {"call.before:1", []reached{{CallBefore, "", ""}, {CallBefore, "", ""}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := read(c.order, "")
			if err != nil {
				t.Fatal(err)
			}
			got := -1
			for i, s := range c.steps {
				if o.reach(s.point, s.resource, s.verb) {
					got = i
				}
			}
			if got != c.dies {
				t.Errorf("died at step %d, want %d", got, c.dies)
			}
		})
	}
}

func TestOrderThatCannotBeCarriedOutIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"intent.after", "intent.after:", "intent.after:0", "intent.after:x", "intent.after:-1"} {
		if _, err := read(text, ""); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestLogNamesWhatWasReached(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	o, err := read("call.before:1:/PUT", file)
	if err != nil {
		t.Fatal(err)
	}
	o.reach(IntentAfter, "", "")
	o.reach(CallBefore, "ed-fi/students", "PUT")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "intent.after  \ncall.before ed-fi/students PUT\nKILL call.before ed-fi/students PUT\n"; string(text) != want {
		t.Errorf("got %q, want %q", text, want)
	}
}
