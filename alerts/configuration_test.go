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
