package sandbox

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a sandbox was asked since it started or since the last reset. Calls to the token endpoint, to metadata and to the
// admin routes are not in Calls.
type Stats struct {
	Since     time.Time                `json:"since"`
	Calls     int64                    `json:"calls"`     // all requests under /data
	Reads     int64                    `json:"reads"`     // GET
	Writes    int64                    `json:"writes"`    // POST, PUT and DELETE
	Tokens    int64                    `json:"tokens"`    // access tokens issued
	ByMethod  map[string]int64         `json:"byMethod"`  // method → requests
	Resources map[string]ResourceStats `json:"resources"` // "ed-fi/students" → its counts; resources without a call are left out
	Counts
}

// Counts is what writes came to.
type Counts struct {
	Created   int64 `json:"created"`   // POST answered 201
	Updated   int64 `json:"updated"`   // POST or PUT that changed a record
	Deleted   int64 `json:"deleted"`   // DELETE answered 204
	Unchanged int64 `json:"unchanged"` // POST or PUT of what the record already was
	Rejected  int64 `json:"rejected"`  // writes answered with an error
	// RepeatedWrites counts writes that came twice: a POST or PUT whose effect another write of the same key had brought about since the last
	// reset, or a DELETE of a record that had been written or deleted since then and was already gone.
	RepeatedWrites int64 `json:"repeatedWrites"`
	// RepeatedKeys counts the records RepeatedWrites fell on.
	RepeatedKeys int64 `json:"repeatedKeys"`
}

// ResourceStats is the part of Stats of one resource.
type ResourceStats struct {
	Calls map[string]map[int]int64 `json:"calls"` // method → status → requests
	Live  int64                    `json:"live"`  // records there are now
	Counts
}

func (c *Counts) add(o Counts) {
	c.Created += o.Created
	c.Updated += o.Updated
	c.Deleted += o.Deleted
	c.Unchanged += o.Unchanged
	c.Rejected += o.Rejected
	c.RepeatedWrites += o.RepeatedWrites
	c.RepeatedKeys += o.RepeatedKeys
}

// counters are the live counts of one resource. They are padded apart by being separately allocated.
type counters struct {
	created, updated, deleted, unchanged, rejected, repeatedWrites, repeatedKeys atomic.Int64

	calls [callMethods][callStatuses]atomic.Int64
}

const (
	callMethods  = 5 // GET POST PUT DELETE other
	callStatuses = 16
)

// statuses are the answers the data routes give; the last one stands for any other.
func statuses() [callStatuses]int {
	return [callStatuses]int{200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 412, 413, 415, 429, 500, 503}
}

func statusIndex(status int) int {
	for i, s := range statuses() {
		if s == status {
			return i
		}
	}
	return callStatuses - 1
}

func methodIndex(method string) int {
	switch method {
	case http.MethodGet:
		return 0
	case http.MethodPost:
		return 1
	case http.MethodPut:
		return 2
	case http.MethodDelete:
		return 3
	}
	return 4
}

func methodName(i int) string {
	return [callMethods]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, "other"}[i]
}

func (c *counters) call(method string, status int) {
	c.calls[methodIndex(method)][statusIndex(status)].Add(1)
}

func (c *counters) read() ResourceStats {
	s := ResourceStats{
		Calls: map[string]map[int]int64{},
		Counts: Counts{
			Created: c.created.Load(), Updated: c.updated.Load(), Deleted: c.deleted.Load(), Unchanged: c.unchanged.Load(),
			Rejected: c.rejected.Load(), RepeatedWrites: c.repeatedWrites.Load(), RepeatedKeys: c.repeatedKeys.Load(),
		},
	}
	for m := range c.calls {
		for i := range c.calls[m] {
			n := c.calls[m][i].Load()
			if n == 0 {
				continue
			}
			name := methodName(m)
			if s.Calls[name] == nil {
				s.Calls[name] = map[int]int64{}
			}
			s.Calls[name][statuses()[i]] = n
		}
	}
	return s
}

// tally holds the counters of all resources. A reset swaps in fresh ones and opens a new window for repeated writes.
type tally struct {
	mu     sync.Mutex // one reset at a time
	window atomic.Uint32
	now    atomic.Pointer[tallyPeriod]
}

type tallyPeriod struct {
	since     time.Time
	tokens    atomic.Int64
	resources []*counters // by table number
	unknown   *counters   // calls to paths that are no resource
}

func (t *tally) reset(tables int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &tallyPeriod{since: now, resources: make([]*counters, tables), unknown: new(counters)}
	for i := range p.resources {
		p.resources[i] = new(counters)
	}
	t.window.Add(1)
	t.now.Store(p)
}
