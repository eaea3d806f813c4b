package console_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// countingLedger counts how often causes are ranked.
type countingLedger struct {
	console.Ledger
	ranked atomic.Int64
}

func (c *countingLedger) ProblemLinks(ctx context.Context, connection int64, fn func(syncdb.ProblemLink) error) error {
	c.ranked.Add(1)
	return c.Ledger.ProblemLinks(ctx, connection, fn)
}

func TestCausesAreRankedOnceBetweenRuns(t *testing.T) {
	t.Parallel()
	counting := &countingLedger{}
	s := newService(t, func(c *console.Config) { counting.Ledger, c.Ledger = c.Ledger, counting })
	key := s.key(console.NewKey{Role: "viewer"})
	_, _, issue := s.hold("lincoln")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			s.do("GET", "/api/v1/connections/lincoln/issues", key, "")
			s.do("GET", fmt.Sprintf("/api/v1/issues/%d", issue), key, "")
		})
	}
	wg.Wait()
	if n := counting.ranked.Load(); n != 1 {
		t.Errorf("the causes were ranked %d times, want once", n)
	}
	s.finish(s.running("acme~north"), syncdb.RunDone)
	var p page[struct{ ID int64 }]
	s.get("/connections/lincoln/issues", key, &p)
	if n := counting.ranked.Load(); n != 2 || len(p.Items) != 1 {
		t.Errorf("after a run the causes were ranked %d times, want twice; %d issues", n, len(p.Items))
	}
}

func FuzzRequests(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/api/v1/runs?cursor=djE6MQ", ""}, {"POST", "/api/v1/keys", `{"name":"x","role":"viewer","networks":["::/0"]}`}, {"GET", "/api/v1/connections/acme~north", ""},
		{"POST", "/api/v1/connections/lincoln/pause", `{"why":"x","until":"2030-01-01T00:00:00Z"}`}, {"POST", "/api/v1/session", `{"key":"efs_a_b"}`}, {"GET", "/api/v1/runs/1/events", ""},
		{"POST", "/api/v1/holds/1/approve", `{"edition":1,"why":"x"}`},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := newService(f, nil)
	s.hold("lincoln")
	key := s.key(console.NewKey{Role: "admin"})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		began := time.Now()
		if status, ok := s.try(method, path, key, body); ok && (status >= 500 || status == 0) {
			t.Errorf("%q %q %q: %d", method, path, body, status)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q %q %q took %s", method, path, body, took)
		}
	})
}
