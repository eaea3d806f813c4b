package jobs

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/syncdb"
)

// Quarantine says for how long a connection whose runs fail is left alone by its schedule (I18). A run that a person or a program asks for goes through,
// and one that is done ends it. The zero value is none.
type Quarantine struct {
	After   int           // failed runs in a row after which it begins; 0 = never
	First   time.Duration // the first wait, which doubles with each failure
	Longest time.Duration
}

// Until is when the schedule may run a connection again; zero when it is not in quarantine. The waits of connections that fail for one reason are
// spread by up to a quarter; every process computes the same for one of them.
func (q Quarantine) Until(connection int64, f syncdb.Failing) time.Time {
	if q.After <= 0 || f.Runs < q.After {
		return time.Time{}
	}
	waits := backoff.NewExponentialBackOff(backoff.WithInitialInterval(q.First), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0),
		backoff.WithMaxInterval(q.Longest), backoff.WithMaxElapsedTime(0))
	wait := waits.NextBackOff()
	for n := q.After; n < f.Runs && wait < q.Longest; n++ {
		wait = waits.NextBackOff()
	}
	h := fnv.New64a()
	fmt.Fprint(h, connection, " ", f.Runs)
	spread := 1 - 0.25*float64(h.Sum64()%1000)/1000
	return f.At.Add(time.Duration(float64(min(wait, q.Longest)) * spread))
}
