package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
)

const (
	dataPrefix     = "/data/v3/"
	metadataPrefix = "/metadata"
	adminPrefix    = "/sandbox/"

	changeQueriesPrefix = "/changeQueries/v1/"
)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	path, ok := s.routes.inner(r.URL.Path)
	switch {
	case !ok:
		s.refuse(w, r, notFound(textNoResource))
	case strings.HasPrefix(path, dataPrefix):
		s.delay(r)
		s.serveData(w, r, path[len(dataPrefix):])
	case strings.EqualFold(strings.TrimRight(path, "/"), "/oauth/token"):
		s.serveToken(w, r)
	case strings.EqualFold(strings.TrimRight(path, "/"), "/oauth/token_info"):
		s.serveTokenInfo(w, r)
	case path == metadataPrefix || strings.HasPrefix(path, metadataPrefix+"/"):
		s.serveMetadata(w, r, strings.Trim(path[len(metadataPrefix):], "/"))
	case strings.EqualFold(strings.TrimRight(path, "/"), changeQueriesPrefix+"availableChangeVersions"):
		s.serveChangeVersions(w, r)
	case path == "/" || path == "":
		s.serveRoot(w, r, false)
	case path == rootTemplate:
		s.serveRoot(w, r, true)
	case path == metadataIndex && s.like.dms:
		s.serveMetadataIndex(w, r)
	case strings.HasPrefix(path, adminPrefix):
		s.serveAdmin(w, r, path[len(adminPrefix):])
	default:
		s.refuse(w, r, notFound(textNoResource))
	}
}

// serveAdmin answers the sandbox's own routes, which docs/sandbox.md lists. They need no token: what they tell are counts, and what they do is for
// tests.
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request, path string) {
	switch strings.TrimRight(path, "/") {
	case "stats":
		if r.Method == http.MethodGet {
			writeJSON(w, http.StatusOK, s.Stats())
			return
		}
	case "stats/reset":
		if r.Method == http.MethodPost {
			s.ResetStats()
			w.WriteHeader(http.StatusNoContent)
			return
		}
	case "faults":
		if s.serveFaults(w, r) {
			return
		}
	case "clients":
		if s.serveClients(w, r) {
			return
		}
	case "wipe", "snapshot", "restore":
		if s.serveState(w, r, strings.TrimRight(path, "/")) {
			return
		}
	default:
		s.refuse(w, r, notFound(textNoResource))
		return
	}
	s.refuse(w, r, unsupportedMethod(r.Method))
}

// correlationID is the caller's, from the header or the query, else a new one.
func correlationID(r *http.Request) string {
	if id := r.Header.Get("correlation-id"); id != "" {
		return id
	}
	if id := r.URL.Query().Get("correlationId"); id != "" {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return hex.EncodeToString(b[:])
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone when this fails
}

// base is the URL clients reach the sandbox under.
func (s *Server) base(r *http.Request) string {
	if s.opts.BaseURL != "" {
		return s.opts.BaseURL
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
