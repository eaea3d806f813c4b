package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// Bounds of event streams.
const (
	maxStreams    = 500              // of a process
	maxStreamsOf  = 20               // of one principal
	streamAge     = 15 * time.Minute // then the client connects again, and its key is looked at again
	streamBeat    = 15 * time.Second // something is sent at least so often, so that proxies keep the connection
	streamPatient = 10 * time.Second // longest wait for a client that does not read
	streamLooks   = 20               // after so many looks for what is new it is looked whether the client still may
)

// streams counts the open event streams.
type streams struct {
	mu    sync.Mutex
	total int
	of    map[string]int // by principal
}

func newStreams() *streams { return &streams{of: map[string]int{}} }

// open reports whether another stream may be opened; done ends it.
func (s *streams) open(principal string) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxStreams || s.of[principal] >= maxStreamsOf {
		return nil, false
	}
	s.total++
	s.of[principal]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		if s.of[principal]--; s.of[principal] == 0 {
			delete(s.of, principal)
		}
	}, true
}

// stream writes server-sent events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	last    time.Time // when something was sent
}

// startStream begins an answer of events, or refuses it.
func (s *Console) startStream(w http.ResponseWriter, r *http.Request) (st *stream, done func(), ok bool) {
	done, ok = s.streams.open(httpd.PrincipalOf(r.Context()).ID)
	if !ok {
		w.Header().Set("Retry-After", "30")
		httpd.Refuse(w, r, http.StatusTooManyRequests, "rate-limit", "too many event streams are open; close some, or ask for the run itself")
		return nil, nil, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	return &stream{w: w, control: http.NewResponseController(w)}, done, true
}

// send writes one event; id is what the client gives back when it connects again.
func (st *stream) send(event, id string, data any) error {
	text, err := json.Marshal(data) // without line breaks
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\n", event)
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "data: %s\n\n", text)
	return st.write(b.Bytes())
}

// beat writes a comment when nothing was sent for a while.
func (st *stream) beat() error {
	if time.Since(st.last) < streamBeat {
		return nil
	}
	return st.write([]byte(": still here\n\n"))
}

func (st *stream) write(b []byte) error {
	st.last = time.Now()
	if err := st.control.SetWriteDeadline(time.Now().Add(streamPatient)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := st.w.Write(b); err != nil {
		return err
	}
	return st.control.Flush()
}

// follow calls look at once and then as often as Config.Poll says, until it is done, the client goes, or the stream is old. Any process can follow any
// run: what is new is in the ledger. Who may no longer, since their key was revoked or their session ended, is shown no more soon after.
func (s *Console) follow(r *http.Request, st *stream, look func(context.Context) (done bool, err error)) {
	ctx, cancel := context.WithTimeout(r.Context(), streamAge)
	defer cancel()
	ticker := time.NewTicker(s.c.Poll)
	defer ticker.Stop()
	for looks := 1; ; looks++ {
		if looks%streamLooks == 0 && !s.router.Still(r) {
			return
		}
		done, err := look(ctx)
		if err == nil && !done {
			err = st.beat()
		}
		if err != nil && ctx.Err() == nil {
			s.log.DebugContext(ctx, "an event stream ended", slog.String("request", httpd.RequestID(ctx)), slog.Any("error", err))
		}
		if done || err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// runEvents streams one run: event run whenever it changed, its progress included, log for each line of its log, and end when it has ended. A client that connects again after that is
// told to stay away (204).
func (s *Console) runEvents(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		httpd.Refuse(w, r, http.StatusUnprocessableEntity, "invalid", "the id of a run is a number")
		return
	}
	run, c, err := s.run(ctx, id)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if r.Header.Get("Last-Event-ID") == "end" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	st, done, ok := s.startStream(w, r)
	if !ok {
		return
	}
	defer done()
	name, first, before, seen := nameOf(c.Tenant, c.Name), true, runJSON{}, lineSeen(r.Header.Get("Last-Event-ID"))
	s.follow(r, st, func(ctx context.Context) (bool, error) {
		if !first {
			if run, err = s.c.Ledger.FindProgress(ctx, id); err != nil {
				return false, err
			}
		}
		now := progressOf(run, name)
		if first || !same(now, before) {
			if err := st.send("run", "", now); err != nil {
				return false, err
			}
		}
		first, before = false, now
		if seen, err = s.sendLog(ctx, st, id, seen); err != nil {
			return false, err
		}
		if run.State.Final() {
			return true, st.send("end", "end", map[string]string{"state": string(run.State)})
		}
		return false, nil
	})
}

// same compares what a client would see.
func same(a, b runJSON) bool {
	return a.ID == b.ID && a.State == b.State && a.ProgressAt.Equal(b.ProgressAt) && bytes.Equal(a.Progress, b.Progress)
}

// events streams the runs of all connections the principal sees: event run for each that waits or runs at first, and whenever one changes or ends.
func (s *Console) events(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	tenant := httpd.PrincipalOf(ctx).Tenant
	names, err := s.names(ctx)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	st, done, ok := s.startStream(w, r)
	if !ok {
		return
	}
	defer done()
	shown := map[int64]runJSON{}
	s.follow(r, st, func(ctx context.Context) (bool, error) {
		open, err := s.c.Ledger.OpenProgress(ctx, tenant)
		if err != nil {
			return false, err
		}
		now := make(map[int64]runJSON, len(open))
		for _, o := range open {
			name, known := names[o.ConnectionID]
			if !known { // a new connection
				if names, err = s.names(ctx); err != nil {
					return false, err
				}
				name = names[o.ConnectionID]
			}
			now[o.ID] = progressOf(o, name)
			if before, had := shown[o.ID]; !had || !same(before, now[o.ID]) {
				if err := st.send("run", "", now[o.ID]); err != nil {
					return false, err
				}
			}
		}
		for id, before := range shown {
			if _, open := now[id]; open {
				continue
			}
			ended, err := s.c.Ledger.FindProgress(ctx, id)
			if errors.Is(err, syncdb.ErrNoRun) {
				continue // its connection is gone
			}
			if err != nil {
				return false, err
			}
			if err := st.send("run", "", progressOf(ended, before.Connection)); err != nil {
				return false, err
			}
		}
		shown = now
		return false, nil
	})
}

// refuse answers an error outside of huma.
func (s *Console) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if errors.As(err, &p) {
		httpd.Refuse(w, r, p.status, p.code, p.detail)
		return
	}
	s.log.ErrorContext(r.Context(), "request failed", slog.String("request", httpd.RequestID(r.Context())), slog.Any("error", err))
	httpd.Refuse(w, r, http.StatusInternalServerError, "internal", "something went wrong here; the log says more under this correlationId")
}

// addEvents documents the streams, which huma does not serve.
func (s *Console) addEvents() {
	listens := httpd.Rule{Least: httpd.Viewer, Stream: true}
	events := map[string]*huma.Response{
		"200": {Description: "Server-sent events.", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}}}},
	}
	s.describe(listens, huma.Operation{
		Method: http.MethodGet, Path: "/events", OperationID: "followRuns", Tags: []string{"events"}, Summary: "Follow the runs of all connections", Responses: events,
	})
	s.describe(listens, huma.Operation{
		Method: http.MethodGet, Path: "/runs/{id}/events", OperationID: "followRun", Tags: []string{"events"}, Summary: "Follow one run until it ends", Responses: events,
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "integer"}}},
	})
}

// describe documents an operation that huma does not serve.
func (s *Console) describe(rule httpd.Rule, op huma.Operation) {
	responses := map[string]*huma.Response{
		"default": {Description: "Error", Content: map[string]*huma.MediaType{httpd.ProblemType: {Schema: &huma.Schema{Ref: "#/components/schemas/ErrorModel"}}}},
	}
	maps.Copy(responses, op.Responses)
	op.Responses = responses
	s.document(rule, &op)
	s.api.OpenAPI().AddOperation(&op)
}
