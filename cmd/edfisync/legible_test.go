package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/internal/attacktest"
)

// What comes from a SIS, a target or a person moves no cursor of a terminal.
func TestTerminalsAreShownControlCharactersAndDoNotObeyThem(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, evil, shown string }{
		{"a color", "\x1b[31mAda\x1b[0m", `\x1b[31mAda\x1b[0m`},
		{"lines that are wiped", "\x1b[2A\x1b[Kall is well", `\x1b[2A\x1b[Kall is well`},
		{"a title of the window", "\x1b]0;owned\x07", `\x1b]0;owned\x07`},
		{"text for the clipboard", "\x1b]52;c;cm0gLXJm\x07", `\x1b]52;c;cm0gLXJm\x07`},
		{"a question that the terminal answers", "\x1b[6n\x05", `\x1b[6n\x05`},
		{"a control sequence in one character", "\u009b31m", `\u009b31m`},
		{"a control sequence in one byte", "\x9b31m", `\x9b31m`},
		{"a line written over", "row 17 refused\rrow 17 is fine", `row 17 refused\x0drow 17 is fine`},
		{"letters taken back", "refused\b\b\b\b\b\b\bis fine", `refused\x08\x08\x08\x08\x08\x08\x08is fine`},
		{"a NUL", "a\x00b", `a\x00b`},
		{"words in another order", "\u202eada\u202c", `\u202eada\u202c`},
		{"words in an isolate", "\u2067ada\u2069", `\u2067ada\u2069`},
		{"a line break that is none", "a\u2028b\u2029c", `a\u2028b\u2029c`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for step := 1; step <= len(c.evil); step++ { // however it is cut in writes
				var out bytes.Buffer
				w := &legibleWriter{to: &out}
				for i := 0; i < len(c.evil); i += step {
					part := c.evil[i:min(i+step, len(c.evil))]
					if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
						t.Fatal(n, err)
					}
				}
				if out.String() != c.shown {
					t.Errorf("in steps of %d: %q, want %q", step, out.String(), c.shown)
				}
			}
			var out, errs bytes.Buffer
			if !strings.Contains(c.evil, "\x00") { // which no argument can hold
				run(t.Context(), []string{"version", c.evil}, streams{in: strings.NewReader(""), out: &out, err: &errs}, func(string) (string, bool) { return "", false })
				if got := out.String() + errs.String(); strings.Contains(got, c.evil) || !strings.Contains(got, c.shown) {
					t.Errorf("the program writes %q, want %s in it", got, c.shown)
				}
			}
		})
	}
	attacktest.Played(t, attacktest.Text, caseNames(cases, func(c struct{ name, evil, shown string }) string { return c.name }))
}

// What people and their alphabets need stays as it is.
func TestTextOfPeopleStaysAsItIs(t *testing.T) {
	t.Parallel()
	const text = "Ada\tLovelace\n\"Zoë\" Ñandú 王小明 👩‍🎓 نور e\u0301\n"
	for step := 1; step <= 9; step++ {
		var out bytes.Buffer
		w := &legibleWriter{to: &out}
		for i := 0; i < len(text); i += step {
			if _, err := w.Write([]byte(text[i:min(i+step, len(text))])); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != text {
			t.Errorf("in steps of %d: %q", step, out.String())
		}
	}
}

func caseNames[C any](cases []C, name func(C) string) []string {
	out := make([]string, len(cases))
	for i := range cases {
		out[i] = name(cases[i])
	}
	return out
}
