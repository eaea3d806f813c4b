package alerts_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/alerts"
)

// A process whose configuration has become wrong is told of, though others have a right one, until it is right again.
func TestAConfigurationThatBecameWrongIsToldOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		b := &box{name: "ops"}
		var wrong atomic.Bool
		one := w.service(func(c *alerts.Config) { c.Misconfigured = wrong.Load }, b)
		other := w.service(nil, b) // on another machine, with a file of its own
		look := func() {
			t.Helper()
			for range 3 {
				w.ok(one.Look(t.Context()))
				w.ok(other.Look(t.Context()))
				w.forward(3 * time.Minute)
			}
		}
		look()
		wrong.Store(true)
		look()
		wrong.Store(false)
		look()
		one.Start(t.Context())
		w.eventually("all is delivered", func() bool { return len(b.notices()) >= 2 })
		if d := cmp.Diff([]string{"firing configuration-wrong", "recovered configuration-wrong"}, b.kinds()); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		if n := b.notices()[0]; n.Connection != "" || n.Remedy == "" {
			t.Errorf("the notice is %+v", n)
		}
	})
}

// A process that is gone, with its machine or its file, leaves no alert behind: when nobody says any more that his configuration is wrong, it is over. One
// that goes on saying so keeps it, however long that takes.
func TestTheWrongConfigurationOfAMachineThatIsGoneEnds(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		b := &box{name: "ops"}
		var wrong atomic.Bool
		one := w.service(func(c *alerts.Config) { c.Misconfigured = wrong.Load }, b)
		others := []*alerts.Service{w.service(nil, b), w.service(nil, b)}
		look := func(alive bool, lasts time.Duration) {
			t.Helper()
			for range int(lasts / (3 * time.Minute)) {
				if alive {
					w.ok(one.Look(t.Context()))
				}
				for _, other := range others {
					w.ok(other.Look(t.Context()))
				}
				w.forward(3 * time.Minute)
			}
		}
		firing := func() bool {
			all, err := w.ledger.Alerts(t.Context())
			w.ok(err)
			for _, a := range all {
				if a.Condition == string(alerts.ConfigurationWrong) {
					return a.Firing
				}
			}
			return false
		}
		look(true, 9*time.Minute)
		wrong.Store(true)
		look(true, 3*time.Hour)
		if !firing() {
			t.Error("it is over though the configuration of a process is wrong")
		}
		look(false, 12*time.Minute)
		if !firing() {
			t.Error("it is over as soon as the process is silent for a moment")
		}
		look(false, 48*time.Minute)
		if firing() {
			t.Error("it stands though nobody says so any more")
		}
		others[0].Start(t.Context())
		w.eventually("all is delivered", func() bool { return len(b.notices()) >= 2 })
		if d := cmp.Diff([]string{"firing configuration-wrong", "recovered configuration-wrong"}, b.kinds()); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	})
}
