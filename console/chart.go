package console

import (
	"fmt"
	"math"
	"slices"
)

// Geometry of the history chart, in units of its own: the page scales it.
const (
	chartWide, chartHigh = 720, 160
	chartLeft            = 52 // for the figures of the scale
	chartBottom          = 140
	chartTop             = 10
	chartBars            = 40
)

// chart is the history of a connection as bars, the oldest run first: what each run sent, could not send and failed to send.
type chart struct {
	Bars  []chartBar
	Lines []chartLine
	Says  string // what it shows, in words
	Wide  int
	High  int
	Left  int
}

// chartBar is one run.
type chartBar struct {
	X, Wide     float64
	Parts       []chartPart
	State, Text string
	Mark        bool // it failed, or was canceled
	Middle      float64
}

// chartPart is a piece of a bar.
type chartPart struct {
	Kind    string // sent, held, failed
	Y, High float64
}

// chartLine is a line of the scale.
type chartLine struct {
	Y    float64
	Text string
}

// chartOf draws the last runs. Figures go from none to millions, so the scale is that of their magnitude.
func chartOf(runs []runJSON) chart {
	c := chart{Wide: chartWide, High: chartHigh, Left: chartLeft}
	runs = slices.Clone(runs[:min(len(runs), chartBars)])
	slices.Reverse(runs)
	runs = slices.DeleteFunc(runs, func(r runJSON) bool { return r.StartedAt.IsZero() })
	most, bad := int64(9), 0
	for _, r := range runs {
		t := totalsOf(r.Totals)
		most = max(most, t.Created+t.Updated+t.Rekeyed+t.Deleted+held(t)+failed(t))
		if r.State == "failed" {
			bad++
		}
	}
	top := math.Ceil(math.Log10(float64(most + 1)))
	height := func(n int64) float64 { return math.Log10(float64(n+1)) / top * (chartBottom - chartTop) }
	for power := 0; power <= int(top); power++ {
		n := int64(math.Pow10(power))
		if power == 0 {
			c.Lines = append(c.Lines, chartLine{chartBottom, "0"})
			continue
		}
		c.Lines = append(c.Lines, chartLine{chartBottom - height(n-1), compact(n)})
	}
	wide := float64(chartWide-chartLeft-8) / chartBars
	for i, r := range runs {
		t := totalsOf(r.Totals)
		sent := t.Created + t.Updated + t.Rekeyed + t.Deleted
		b := chartBar{X: float64(chartLeft+4) + float64(i+chartBars-len(runs))*wide, Wide: wide - 4, State: r.State, Mark: r.State == "failed" || r.State == "canceled"}
		b.Middle = b.X + b.Wide/2
		b.Text = fmt.Sprintf("Run %d, %s, %s: %s sent, %s held, %s failed", r.ID, r.State, when(r.StartedAt), count(sent), count(held(t)), count(failed(t)))
		below := 0.0
		total := int64(0)
		for _, part := range []struct {
			kind string
			n    int64
		}{{"sent", sent}, {"held", held(t)}, {"failed", failed(t)}} {
			if part.n == 0 {
				continue
			}
			total += part.n
			at := height(total)
			b.Parts = append(b.Parts, chartPart{part.kind, chartBottom - at, at - below})
			below = at
		}
		c.Bars = append(c.Bars, b)
	}
	c.Says = fmt.Sprintf("The last %s, the oldest first: records sent, held and failed.", words(int64(len(runs)), "run", "runs"))
	if bad > 0 {
		c.Says += fmt.Sprintf(" %s did not end well.", words(int64(bad), "run", "runs"))
	}
	return c
}

// compact is a power of ten in a few characters.
func compact(n int64) string {
	switch {
	case n >= 1_000_000_000:
		return fmt.Sprintf("%d G", n/1_000_000_000)
	case n >= 1_000_000:
		return fmt.Sprintf("%d M", n/1_000_000)
	case n >= 1000:
		return fmt.Sprintf("%d k", n/1000)
	}
	return fmt.Sprint(n)
}
