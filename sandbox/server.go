// Package sandbox is an Ed-Fi API that runs from any schema.Model: OAuth2, discovery, OpenAPI, and every resource and descriptor with
// validation, reference checks, upsert by natural key, key changes, ETags, paging and problem details as an ODS/API 7.3 has them. It keeps
// its records in memory, on wish also in a SQLite file. It checks payloads with code of its own, so that a fault in package schema's
// validation or canonical form shows as a disagreement instead of hiding in both. It does not know rows, mappings or ledgers.
// docs/sandbox.md says where it differs from an ODS.
package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
)

// Server is a sandbox. Make it with New; serve it with Start, or mount Handler. Close it when done.
type Server struct {
	opts   Options
	like   *traits
	routes *routes
	cat    *catalog
	store  *store
	ids    *identifiers
	tokens *tokens
	drafts drafts
	pages  pages
	docs   documents
	file   *file // nil when in memory only
	faults atomic.Pointer[faultLayer]

	mu     sync.Mutex
	http   *httpd.Server // nil until Start
	closed bool
}

// New builds a sandbox: compiles the model, loads the store file when there is one, and adds what Options says exists at start and is not there
// yet. It does not listen.
func New(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	like, err := o.Personality.traits()
	if err == nil {
		err = like.serves(o.Model)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	routes, err := like.routes(o.Route)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	cat, err := compile(o.Model)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if like.dms {
		cat.jsonNames()
	}
	s := &Server{opts: o, like: like, routes: routes, cat: cat, store: newStore(cat, o.CaseInsensitiveKeys, o.Now), tokens: newTokens(o), docs: newDocuments(cat, like)}
	s.store.like = like
	idKey := make([]byte, 16)
	if _, err := rand.Read(idKey); err != nil {
		return nil, fmt.Errorf("sandbox: make resource ids: %w", err)
	}
	if o.Store != "" {
		if s.file, err = openFile(o.Store, s.store, idKey, o.Logger); err != nil {
			return nil, fmt.Errorf("sandbox: %w", err)
		}
	}
	if s.ids, err = newIdentifiers(idKey); err == nil {
		err = s.seed()
	}
	for _, c := range o.clients() {
		if err == nil {
			err = s.setClient(c)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox: %w", err), s.Close())
	}
	s.store.tally.reset(len(cat.tables), o.Now())
	return s, nil
}

// Handler serves the sandbox: the Ed-Fi API, broken as SetFaults says, and the admin routes under /sandbox. It is safe for concurrent use.
// Without a connection of net/http's server to break it panics with http.ErrAbortHandler where it would close one.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := s.faults.Load(); l != nil {
			s.serveFaulty(l, w, r)
			return
		}
		s.serve(w, r)
	})
}

// Start listens on addr ("127.0.0.1:8001", ":0" for any free port) and serves until ctx ends or Close is called. It returns once the sandbox
// can be reached, and an error when it cannot or was started before.
func (s *Server) Start(ctx context.Context, addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil || s.closed {
		return errors.New("sandbox: started before")
	}
	h, err := httpd.Listen(ctx, addr, s.Handler(), httpd.Options{Logger: s.opts.Logger})
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.http = h
	s.opts.Logger.Info("sandbox listening", slog.String("url", h.URL()), slog.String("model", s.opts.Model.Name))
	return nil
}

// URL is the base URL of a started sandbox without a trailing slash, "" before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.opts.BaseURL != "":
		return s.opts.BaseURL + s.routes.root
	case s.http != nil:
		return s.http.URL() + s.routes.root
	}
	return ""
}

// Close stops serving and makes everything written durable when there is a store file. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.http != nil {
		err = s.http.Close()
	}
	if s.file != nil {
		err = errors.Join(err, s.file.close())
	}
	return err
}

// Stats returns what was counted since the start or the last ResetStats. Calls still running may be missing.
func (s *Server) Stats() Stats {
	p := s.store.tally.now.Load()
	out := Stats{Since: p.since, Tokens: p.tokens.Load(), ByMethod: map[string]int64{}, Resources: map[string]ResourceStats{}}
	take := func(r ResourceStats) (called bool) {
		for method, byStatus := range r.Calls {
			for _, n := range byStatus {
				called = true
				out.Calls += n
				out.ByMethod[method] += n
			}
		}
		out.Counts.add(r.Counts)
		return called
	}
	for i, c := range p.resources {
		r := c.read()
		if take(r) {
			t := s.cat.tables[i]
			r.Live = s.store.count(t)
			out.Resources[t.path] = r
		}
	}
	take(p.unknown.read())
	out.Reads = out.ByMethod[http.MethodGet]
	out.Writes = out.ByMethod[http.MethodPost] + out.ByMethod[http.MethodPut] + out.ByMethod[http.MethodDelete]
	return out
}

// ResetStats sets all counts to zero and forgets which writes have been seen.
func (s *Server) ResetStats() { s.store.tally.reset(len(s.cat.tables), s.opts.Now()) }

func (s *Server) delay(r *http.Request) {
	if s.opts.Latency > 0 {
		select {
		case <-time.After(s.opts.Latency):
		case <-r.Context().Done():
		}
	}
}
