package sync

import (
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"
)

// Workers that ask while the first is still reading wait for it, also where only simulated time passes, and nothing is read twice.
func TestOnceIsReadOnceWhoeverAsksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		value := once(func() int {
			time.Sleep(time.Second)
			reads++
			return 7
		})
		var wg gosync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if got := value(); got != 7 {
					t.Errorf("got %d, want what was read", got)
				}
			})
		}
		wg.Wait()
		if reads != 1 {
			t.Errorf("read %d times, want once", reads)
		}
	})
}
