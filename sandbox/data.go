package sandbox

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
)

const maxBody = 30_000_000 // bytes, the default of the ODS's web server

// serveData answers everything under /data/v3/: {schema}/{resource}[/{id}|/partitions].
func (s *Server) serveData(w http.ResponseWriter, r *http.Request, path string) {
	t, item, ok := s.cat.route(path)
	period := s.store.tally.now.Load()
	count := period.unknown
	if ok {
		count = period.resources[t.number]
	}
	by, why := s.tokens.check(r.Header.Get("Authorization"))
	if why != "" {
		s.answer(w, r, count, unauthenticated(why))
		return
	}
	if !ok {
		s.answer(w, r, count, notFound(textNoResource))
		return
	}
	if p := by.claimed(t, r.Method); p != nil {
		s.answer(w, r, count, p)
		return
	}
	var p *httpd.Problem
	status := 0
	if p := snapshotAsked(r); p != nil {
		s.answer(w, r, count, p)
		return
	}
	switch r.Method {
	case http.MethodPost:
		status, p = s.post(w, r, by, t, item, count)
	case http.MethodPut:
		status, p = s.put(w, r, by, t, item, count)
	case http.MethodDelete:
		status, p = s.delete(w, r, by, t, item, count)
	case http.MethodGet:
		status, p = s.get(w, r, by, t, item)
	default:
		p = unsupportedMethod(r.Method)
	}
	if p != nil {
		s.answer(w, r, count, p)
		return
	}
	count.call(r.Method, status)
}

// answer refuses and counts.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, c *counters, p *httpd.Problem) {
	c.call(r.Method, s.refuse(w, r, p))
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodDelete:
		c.rejected.Add(1)
	}
}

// route finds the table of a path. Names are matched without regard to case, a trailing slash is tolerated.
func (c *catalog) route(path string) (t *table, item string, ok bool) {
	path = strings.TrimRight(path, "/")
	i := strings.IndexByte(path, '/')
	if i < 0 {
		return nil, "", false
	}
	if j := strings.IndexByte(path[i+1:], '/'); j >= 0 {
		path, item = path[:i+1+j], path[i+2+j:]
		if strings.IndexByte(item, '/') >= 0 {
			return nil, "", false
		}
	}
	if t, ok = c.byPath[path]; !ok {
		t, ok = c.byPath[strings.ToLower(path)]
	}
	return t, item, ok
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, by *caller, t *table, item string, count *counters) (int, *httpd.Problem) {
	if item != "" {
		return 0, methodNotAllowed(textPostItem)
	}
	d := s.drafts.get()
	defer s.drafts.put(d)
	root, p := s.payload(d, w, r, t)
	switch {
	case p != nil:
		return 0, p
	case d.idSet:
		return 0, invalidRequestData(textClientID)
	case len(d.problems) > 0:
		return 0, s.invalid(d, t, root)
	}
	d.by = by
	if s.like.dms && strings.Trim(r.Header.Get("If-None-Match"), `"`) == "*" {
		d.createOnly = true
	}
	c, f := s.store.post(d, t, root, s.ifMatch(r))
	if f != nil {
		return 0, f.problem(textNoUpdate)
	}
	status := http.StatusOK
	if c.kind == created {
		status = http.StatusCreated
	}
	s.wrote(w, r, c, status, count)
	return status, nil
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, by *caller, t *table, item string, count *counters) (int, *httpd.Problem) {
	if item == "" {
		return 0, methodNotAllowed(textPutAll)
	}
	a, p := s.item(r, t, item, textNoUpdate)
	if p != nil {
		return 0, p
	}
	d := s.drafts.get()
	defer s.drafts.put(d)
	root, p := s.payload(d, w, r, t)
	switch {
	case p != nil:
		return 0, p
	case len(d.problems) > 0:
		return 0, s.invalid(d, t, root)
	}
	if p := s.putID(d, item); p != nil {
		return 0, p
	}
	d.by = by
	c, f := s.store.put(d, a, root, s.ifMatch(r))
	switch {
	case f != nil && f.kind == refusedGone:
		return 0, s.gone(r, textNoUpdate)
	case f != nil:
		return 0, f.problem(textNoUpdate)
	}
	s.wrote(w, r, c, http.StatusNoContent, count)
	return http.StatusNoContent, nil
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, by *caller, t *table, item string, count *counters) (int, *httpd.Problem) {
	if item == "" {
		return 0, methodNotAllowed(textDeleteAll)
	}
	a, p := s.item(r, t, item, textNoDelete)
	if p != nil {
		return 0, p
	}
	if f := s.store.delete(by, a, s.ifMatch(r)); f != nil {
		if f.kind == refusedGone {
			return 0, s.gone(r, textNoDelete)
		}
		return 0, f.problem(textNoDelete)
	}
	count.deleted.Add(1)
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent, nil
}

// invalid reports what is wrong with a payload by itself together with the descriptors it names that do not exist.
func (s *Server) invalid(d *draft, t *table, root int32) *httpd.Problem {
	if !s.like.dms { // which looks at the database only when the payload is good by itself
		s.store.findDescriptors(d, t, root)
	}
	return invalidData(d.problems)
}

// item reads the id of a path. The record need not exist any more; that is checked where it is used.
func (s *Server) item(r *http.Request, t *table, id, gone string) (address, *httpd.Problem) {
	row, wellFormed, ok := s.ids.row(t, id)
	switch {
	case !wellFormed:
		return address{}, invalidID(id)
	case !ok:
		return address{}, s.gone(r, gone)
	}
	return address{t, row}, nil
}

// payload reads, parses and checks the request's body.
func (s *Server) payload(d *draft, w http.ResponseWriter, r *http.Request, t *table) (root int32, p *httpd.Problem) {
	if ct := r.Header.Get("Content-Type"); ct != "application/json" && !isJSON(ct) {
		return 0, unsupportedMediaType()
	}
	d.reset()
	d.exactNames, d.allMissing = s.like.dms, s.like.dms
	if p := d.receive(w, r); p != nil {
		return 0, p
	}
	root, err := d.read(t.shape)
	if err != nil {
		return 0, badRequest(err.Error())
	}
	d.check(t, root)
	return root, nil
}

// receive takes the body into the draft's buffer.
func (d *draft) receive(w http.ResponseWriter, r *http.Request) *httpd.Problem {
	d.body = d.body[:0]
	if n := r.ContentLength; n > 0 && n <= maxBody {
		if int(n) > cap(d.body) {
			d.body = make([]byte, 0, n+256)
		}
		d.body = d.body[:n]
		if _, err := io.ReadFull(r.Body, d.body); err != nil {
			return badRequest("The request body could not be read.")
		}
	} else if n != 0 {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			return problem(http.StatusRequestEntityTooLarge, "bad-request", "Bad Request", "The request body is too large.")
		}
		d.body = append(d.body, body...)
	}
	d.end = len(d.body)
	return nil
}

// wrote answers a write that was done.
func (s *Server) wrote(w http.ResponseWriter, r *http.Request, c change, status int, count *counters) {
	switch c.kind {
	case created:
		count.created.Add(1)
	case updated:
		count.updated.Add(1)
	case unchanged:
		count.unchanged.Add(1)
	}
	b := make([]byte, 0, 192)
	b = append(b, s.base(r)...)
	b = append(b, s.routes.data...)
	b = append(b, c.table.path...)
	b = append(b, '/')
	b = s.ids.append(b, c.address)
	n := len(b)
	b = append(b, '"')
	b = s.like.appendETag(b, c.modified)
	b = append(b, '"')
	text := string(b)
	values := [2]string{text[:n], text[n:]}
	h := w.Header()
	h["Location"] = values[:1:1]
	h["Etag"] = values[1:]
	w.WriteHeader(status)
}

// ifMatch reads the condition of a write. A DMS knows "*" and its own form; to an ODS "*" is an ETag nothing has.
func (s *Server) ifMatch(r *http.Request) match {
	text := strings.Trim(r.Header.Get("If-Match"), `"`)
	switch {
	case text == string(anyVersion) && !s.like.dms:
		return "none has this"
	case text == "" || text == string(anyVersion) || !s.like.dms:
		return match(text)
	}
	version, _, _ := strings.Cut(text, "-")
	if n, err := strconv.ParseInt(version, 10, 64); err == nil && string(s.like.appendETag(nil, ticks(n&^utcKind))) == text {
		return match(version)
	}
	return "none has this"
}

// gone is the answer for an item that is not there: of a DMS, 412 when the request has a condition.
func (s *Server) gone(r *http.Request, text string) *httpd.Problem {
	if s.like.dms && r.Header.Get("If-Match") != "" && r.Method != http.MethodGet {
		return (&refusal{kind: refusedPrecondition}).problem("")
	}
	return notFound(text)
}

// putID checks the id a DMS demands in the body of a PUT.
func (s *Server) putID(d *draft, item string) *httpd.Problem {
	switch {
	case !s.like.dms || strings.EqualFold(d.id, item):
		return nil
	case d.id == "":
		return invalidData(problems{"$.id": {"id is required."}})
	}
	return badRequest("Request body id must match the id in the url.")
}
