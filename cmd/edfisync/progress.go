package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/edfisync/edfisync/sync"
)

// plainEvery is how often progress prints a line where there is no terminal to redraw one on.
const plainEvery = 10 * time.Second

// wideTerminal is how many columns a bar with the resource's name takes.
const wideTerminal = 140

// progress shows how far a run is: a bar with rate and time left on a terminal, a line now and then elsewhere. It is used from one
// goroutine at a time.
type progress struct {
	out      io.Writer
	terminal bool
	wide     bool // the terminal has room for the resource's name
	now      func() time.Time

	phase   string
	bar     *progressbar.ProgressBar
	started time.Time // of the phase
	printed time.Time
}

// follow shows the progress of an engine until finish is called, which may be done twice.
func (a *app) follow(o *opened) (finish func()) {
	shown := a.newProgress()
	if shown == nil {
		return func() {}
	}
	o.engine.Progress = shown.event
	return shown.finish
}

// newProgress reports to out; nil when nothing is to be shown.
func (a *app) newProgress() *progress {
	if a.JSON {
		return nil
	}
	p := &progress{out: a.err, now: time.Now}
	out := a.err
	if l, ok := out.(*legibleWriter); ok { // our own control characters are meant
		out = l.to
	}
	if file, ok := out.(*os.File); ok {
		p.out = file
		width, _, err := term.GetSize(int(file.Fd()))
		p.terminal, p.wide = err == nil, width >= wideTerminal
	}
	return p
}

// event takes an engine's event.
func (p *progress) event(e sync.Event) { p.show(phrase(e.Phase), e.Resource, e.Done, e.Total) }

// phrase is an engine's phase in words.
func phrase(phase string) string {
	switch phase {
	case "recover":
		return "settling what the last run left"
	case "scan":
		return "reading the source"
	case "look":
		return "looking at the target"
	case "read":
		return "reading the target"
	case "send":
		return "sending"
	case "describe":
		return "describing changes"
	case "close":
		return "closing"
	default:
		return phase
	}
}

// show reports that done of total (0 = not known) of a phase are done.
func (p *progress) show(phase, detail string, done, total int64) {
	if phase != p.phase {
		p.finish()
		p.phase, p.started, p.printed = phase, p.now(), p.now()
		if !p.terminal {
			fmt.Fprintf(p.out, "%s\n", phase)
		}
	}
	if p.terminal {
		p.draw(detail, done, total)
		return
	}
	if p.now().Sub(p.printed) < plainEvery {
		return
	}
	p.printed = p.now()
	fmt.Fprintln(p.out, plainLine(phase, detail, done, total, p.now().Sub(p.started)))
}

func (p *progress) draw(detail string, done, total int64) {
	title, barWidth := p.phase, 12
	if p.wide {
		title, barWidth = fmt.Sprintf("%-20s %-40.40s", p.phase, detail), 30
	}
	if total <= 0 { // nothing to draw a bar against
		if done > 0 {
			title += " " + grouped(done)
		}
		fmt.Fprint(p.out, eraseLine, title)
		return
	}
	if p.bar == nil {
		p.clear()
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.out), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(barWidth), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true),
		)
	} else if p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	p.bar.Describe(title)
	_ = p.bar.Set64(done) // a terminal that is gone is no reason to stop a run
}

// eraseLine takes a terminal's cursor to the beginning of an empty line.
const eraseLine = "\r\x1b[K"

func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.out, eraseLine)
	}
}

// finish ends the phase.
func (p *progress) finish() {
	p.clear()
	p.bar, p.phase = nil, ""
}

// plainLine is one line of progress: counts, share, rate and time left.
func plainLine(phase, detail string, done, total int64, took time.Duration) string {
	line := phase
	if detail != "" {
		line += " " + detail
	}
	rate := float64(done) / max(took.Seconds(), 0.001)
	if total <= 0 {
		return fmt.Sprintf("%s: %s, %s/s", line, grouped(done), grouped(int64(rate)))
	}
	line = fmt.Sprintf("%s: %s of %s (%d %%), %s/s", line, grouped(done), grouped(total), 100*done/total, grouped(int64(rate)))
	if rate > 0 && done < total {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += ", " + left.Round(time.Second).String() + " left"
	}
	return line
}

// grouped writes a number with commas between thousands.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// counted is a number and what it counts: "1 write call", "1,204 write calls".
func counted(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + one + "s"
}
