package sync

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t.Parallel()
	begin := time.Date(2027, 3, 1, 2, 0, 0, 0, time.UTC)
	type seen struct {
		after time.Duration
		event Event
	}
	send := func(after time.Duration, done int64) seen {
		return seen{after, Event{Phase: "send", Done: done, Total: 1000}}
	}
	scan := func(after time.Duration, done int64) seen { return seen{after, Event{Phase: "scan", Done: done}} }
	for _, c := range []struct {
		name  string
		seen  []seen
		since time.Duration
		rate  float64
		left  int64 // -1 = unknown
	}{
		{"the first event tells no rate", []seen{send(0, 10)}, 0, 0, -1},
		{"a second is too short to tell", []seen{send(0, 0), send(time.Second, 50)}, 0, 0, -1},
		{"the rate says when the plan is done", []seen{send(0, 0), send(10*time.Second, 100)}, 0, 10, 90},
		{"a begun second counts as one", []seen{send(0, 0), send(10*time.Second, 300)}, 0, 30, 24},
		{"nothing is left at the end", []seen{send(0, 0), send(10*time.Second, 1000)}, 0, 100, 0},
		{"without a total nobody knows", []seen{scan(0, 0), scan(10*time.Second, 5000)}, 0, 500, -1},
		{"what moves no more has no end", []seen{send(0, 10), send(20*time.Second, 10)}, 0, 0, -1},
		{"what was long ago does not count", []seen{send(0, 0), send(10*time.Second, 500), send(25*time.Second, 500), send(60*time.Second, 535)}, 0, 1, 465},
		{"another phase begins anew", []seen{scan(0, 0), scan(10*time.Second, 5000), send(12*time.Second, 0), send(16*time.Second, 40)}, 12 * time.Second, 10, 96},
		{"another resource of the target is read anew", []seen{
			{0, Event{Phase: "read", Resource: "a"}}, {10 * time.Second, Event{Phase: "read", Resource: "a", Done: 500}}, {11 * time.Second, Event{Phase: "read", Resource: "b", Done: 600}},
		}, 0, 0, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p Pace
			var got Progress
			for _, s := range c.seen {
				got = p.Note(s.event, begin.Add(s.after))
			}
			left := int64(-1)
			if got.Left != nil {
				left = *got.Left
			}
			if !got.Since.Equal(begin.Add(c.since)) || got.Rate != c.rate || left != c.left {
				t.Errorf("got %v, %v/s, %d s left; want %v, %v/s, %d s left", got.Since.Sub(begin), got.Rate, left, c.since, c.rate, c.left)
			}
		})
	}
}
