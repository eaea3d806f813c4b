package console

import (
	"testing"
	"time"
)

// testTime is when runs of these tests began.
var testTime = time.Date(2026, 11, 22, 14, 2, 0, 0, time.UTC)

func TestWhatWouldChangeHowTextIsReadIsShown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain, Ünïcode, 中文, עברית, العربية, 👩‍🏫\n\tand lines": "plain, Ünïcode, 中文, עברית, العربية, 👩‍🏫\n\tand lines",
		"\x1b[31mred\x1b[0m": "␛[31mred␛[0m", "a\r\nb": "a␍\nb", "nul\x00": "nul␀", "gnp\u202etxt.exe": "gnp[U+202E]txt.exe", "\u2066x\u2069": "[U+2066]x[U+2069]",
		"a\u200fb": "a[U+200F]b", "\u0085": "[U+0085]", "\x7f": "[U+007F]", "\ufeff": "[U+FEFF]", "bad \xff utf8": "bad \xff utf8", "": "",
	} {
		if got := string(visible([]byte(text))); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestErrorsAreToldWithoutFolders(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"open /var/lib/edfisync/sis.sqlite: permission denied":         "open …/sis.sqlite: permission denied",
		"read \"/home/ada/packs/students.sql\": no such file":          "read \"…/students.sql\": no such file",
		`mapping pack C:\edfisync\pack is not a folder`:                `mapping pack …/pack is not a folder`,
		"sqlite:/srv/a/b.db is locked":                                 "sqlite:…/b.db is locked",
		"open file:///srv/a/b.db":                                      "open …/b.db",
		"target: GET https://api.example.org/data/v3: 503":             "target: GET https://api.example.org/data/v3: 503",
		"ed-fi/students: 3 rows, 50 % and/or more; see docs/errors.md": "ed-fi/students: 3 rows, 50 % and/or more; see docs/errors.md",
		"": "",
	} {
		if got := withoutPaths(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestTheChartOfRunsFitsItsFrame(t *testing.T) {
	t.Parallel()
	at := func(id int64, state, totals string) runJSON {
		return runJSON{ID: id, State: state, Totals: []byte(totals), StartedAt: testTime}
	}
	runs := []runJSON{at(4, "failed", `{}`), at(3, "done", `{"unchanged":9}`), at(2, "done", `{"created":999999,"invalid":1,"rejected":100000}`), at(1, "done", `{"created":1}`), {ID: 0, State: "canceled"}}
	for range 2 * chartBars {
		runs = append(runs, at(0, "done", `{"updated":5}`))
	}
	c := chartOf(runs)
	if len(c.Bars) != chartBars-1 || c.Bars[len(c.Bars)-1].Text[:6] != "Run 4," || !c.Bars[len(c.Bars)-1].Mark || len(c.Bars[len(c.Bars)-2].Parts) != 0 || len(c.Bars[len(c.Bars)-3].Parts) != 3 {
		t.Errorf("got %+v", c.Bars[len(c.Bars)-3:])
	}
	for _, b := range c.Bars {
		if b.X < chartLeft || b.X+b.Wide > chartWide {
			t.Errorf("a bar is at %v", b.X)
		}
		below := float64(chartBottom)
		for _, p := range b.Parts {
			if p.High <= 0 || p.Y < chartTop-0.01 || p.Y+p.High > below+0.01 {
				t.Errorf("part %+v of %s, below %v", p, b.Text, below)
			}
			below = p.Y
		}
	}
	for _, l := range c.Lines {
		if l.Y < chartTop-0.01 || l.Y > chartBottom {
			t.Errorf("line %+v", l)
		}
	}
	if c := chartOf(nil); len(c.Bars) != 0 || c.Says == "" {
		t.Errorf("without runs: %+v", c)
	}
}
