package sandbox

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// faultLayer is Faults at work: it stands before the sandbox's handler and counts.
type faultLayer struct {
	faults Faults

	mu       sync.Mutex
	attempts map[uint64]int // operation → attempts so far; only with a rate
	matched  []int          // calls each rule of the script matched
	injected map[FaultKind]int64
}

// FaultState is what breaks and what did.
type FaultState struct {
	Faults
	Injected map[FaultKind]int64 // kind → calls it happened to since SetFaults
}

// SetFaults replaces what breaks, and begins to count anew. Faults{} breaks nothing, and ends what lasts: records hidden from reads are shown. It may be called at any time; calls under way keep the
// faults they began with.
func (s *Server) SetFaults(f Faults) error {
	if err := f.validate(); err != nil {
		return err
	}
	if f.Rate == 0 && len(f.Script) == 0 {
		s.faults.Store(nil)
		s.store.late.clear()
		return nil
	}
	f = f.clone()
	s.faults.Store(&faultLayer{faults: f, attempts: map[uint64]int{}, matched: make([]int, len(f.Script)), injected: map[FaultKind]int64{}})
	return nil
}

// Faults returns what breaks now and how often it did.
func (s *Server) Faults() FaultState {
	l := s.faults.Load()
	if l == nil {
		return FaultState{Injected: map[FaultKind]int64{}}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := FaultState{Faults: l.faults.clone(), Injected: map[FaultKind]int64{}}
	for k, n := range l.injected {
		out.Injected[k] = n
	}
	return out
}

// next decides what happens to a call, and counts it.
func (l *faultLayer) next(op Operation) (f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if f.Kind != "" {
			l.injected[f.Kind]++
		}
	}()
	for i := range l.faults.Script {
		r := &l.faults.Script[i]
		if !r.matches(op) {
			continue
		}
		l.matched[i]++
		if f.Kind == "" && r.due(l.matched[i]) {
			f = Fault{Kind: r.Kind, Delay: r.Delay, Host: r.Host}
		}
	}
	if f.Kind != "" || l.faults.Rate == 0 {
		return f
	}
	h := op.hash(0)
	l.attempts[h]++
	return l.faults.Decide(op, l.attempts[h])
}

// serveFaulty answers a request under the layer. Metadata and the sandbox's own routes are never broken.
func (s *Server) serveFaulty(l *faultLayer, w http.ResponseWriter, r *http.Request) {
	op, t, ok := s.operation(r)
	if !ok {
		s.serve(w, r)
		return
	}
	f := l.next(op)
	if f.Kind == "" {
		s.serve(w, r)
		return
	}
	(&injury{s: s, w: w, r: r, table: t, fault: f}).inflict()
}

// operation says what a request is to the fault layer; false when it is none of its business.
func (s *Server) operation(r *http.Request) (op Operation, t *table, ok bool) {
	path := strings.Trim(r.URL.Path, "/")
	lower := strings.ToLower(path)
	op.Method = r.Method
	if strings.HasSuffix(lower, "oauth/token") || strings.HasSuffix(lower, "connect/token") {
		op.Resource = TokenResource
		return op, nil, true
	}
	t, item, ok := s.cat.find(path)
	if !ok {
		return op, nil, false
	}
	op.Resource = t.path
	switch {
	case r.Method == http.MethodPost || r.Method == http.MethodPut:
		op.Identity = takeBody(r)
	case item != "":
		op.Identity = s.identity(t, item)
	default:
		op.Identity = "?" + r.URL.RawQuery
	}
	return op, t, true
}

// find looks for SCHEMA/RESOURCE[/ITEM] at the end of a path, whatever stands before it: versions of the API differ there.
func (c *catalog) find(path string) (t *table, item string, ok bool) {
	parts := strings.Split(strings.ToLower(path), "/")
	for _, tail := range []int{2, 3} {
		at := len(parts) - tail
		if at < 1 {
			break
		}
		if t, ok := c.byPath[parts[at]+"/"+parts[at+1]]; ok && parts[0] != "metadata" {
			if tail == 3 {
				item = parts[at+2]
			}
			return t, item, true
		}
	}
	return nil, "", false
}

// takeBody reads a request's body and puts it back.
func takeBody(r *http.Request) string {
	if r.Body == nil {
		return ""
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	rest := io.Reader(bytes.NewReader(body))
	if err != nil || len(body) > maxBody {
		rest = io.MultiReader(rest, r.Body)
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{rest, r.Body}
	return string(body)
}

// identity is the natural key of the item an id names, so that a seed means the same in another process, whose ids are others.
func (s *Server) identity(t *table, id string) string {
	row, _, ok := s.ids.row(t, id)
	if !ok {
		return id // "deletes", "partitions", or nothing there ever was
	}
	s.store.world.RLock()
	defer s.store.world.RUnlock()
	rec, ok := s.store.copyRecord(nil, address{t, row})
	if !ok {
		return "gone"
	}
	return string(s.store.appendKey(nil, t, rec, exact))
}

// hidden are records that reads do not show yet (F36).
type hidden struct {
	used  atomic.Bool // false: nothing was ever hidden
	mu    sync.Mutex
	until map[address]time.Time
}

// hide keeps a record from reads until a time.
func (h *hidden) hide(a address, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until == nil {
		h.until = map[address]time.Time{}
	}
	h.until[a] = until
	h.used.Store(true)
}

// has says whether a record is hidden at now.
func (h *hidden) has(a address, now func() time.Time) bool {
	if !h.used.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.until[a]
	if ok && !now().Before(until) {
		delete(h.until, a)
		return false
	}
	return ok
}

func (h *hidden) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.until)
}
