package sandbox

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/edfisync/edfisync/internal/httpd"
)

// get answers a GET of one item, of a page of a collection, or of a collection's partitions.
func (s *Server) get(w http.ResponseWriter, r *http.Request, by *caller, t *table, item string) (int, *httpd.Problem) {
	switch {
	case item == "":
		return s.getPage(w, r, by, t)
	case strings.EqualFold(item, "partitions") && s.like.cursors:
		return s.getPartitions(w, r, t)
	case strings.EqualFold(item, "deletes"):
		return s.getTracked(w, r, by, t, s.store.deleted)
	case strings.EqualFold(item, "keyChanges"):
		return s.getTracked(w, r, by, t, s.store.rekeyed)
	}
	a, p := s.item(r, t, item, textNoItem)
	if p != nil {
		return 0, p
	}
	body, version, f := s.render(by, a)
	if f != nil {
		return 0, f.problem(textNoItem)
	}
	if s.store.late.has(a, s.store.now) {
		return 0, notFound(textNoItem)
	}
	etag := string(s.like.appendETag(nil, version))
	w.Header().Set("Etag", `"`+etag+`"`)
	have := r.Header.Get("If-None-Match")
	if s.like.dms {
		have = strings.Trim(have, `"`)
	}
	if have == etag { // the ODS compares the raw header, so that a quoted one never matches
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified, nil
	}
	return s.send(w, body), nil
}

// render prints one record. It does not send: the world is locked while it works, and a client may be slow.
func (s *Server) render(by *caller, a address) (body []byte, version ticks, f *refusal) {
	s.store.world.RLock()
	defer s.store.world.RUnlock()
	version, ok := s.store.version(a)
	if ok {
		if f := s.store.authorizeRecord(by, a, Read); f != nil {
			return nil, 0, f
		}
		body, ok = renderer{st: s.store, ids: s.ids}.record(nil, a)
	}
	if !ok {
		return nil, 0, &refusal{kind: refusedGone}
	}
	return body, version, nil
}

func (s *Server) send(w http.ResponseWriter, body []byte) int {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client has gone when this fails
	return http.StatusOK
}

// pages is a pool of buffers for the JSON of pages.
type pages struct{ pool sync.Pool }

func (p *pages) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return nil
}

func (p *pages) put(b []byte) {
	if cap(b) <= keepBuffer {
		p.pool.Put(&b)
	}
}

// page is what a GET of a collection asks for.
type page struct {
	offset, limit int
	from, to      uint32 // rows, of the page token
	total         bool
	filters       []filter
	window        window
	by            *caller // shows only what it may read; nil shows everything
}

// sifts says that not every record is on the page's collection.
func (pg *page) sifts() bool { return len(pg.filters) > 0 || pg.by != nil }

func (s *Server) getPage(w http.ResponseWriter, r *http.Request, by *caller, t *table) (int, *httpd.Problem) {
	pg, p := s.parsePage(r, t)
	if p != nil {
		return 0, p
	}
	if by.restricted() && !by.rule(t, Read).open() {
		pg.by = by
	}
	body, found := s.renderPage(s.pages.get(), t, pg)
	defer s.pages.put(body)
	if pg.total {
		w.Header().Set("Total-Count", strconv.Itoa(found.total))
	}
	if n := len(found.rows); n > 0 && s.like.cursors {
		w.Header().Set("Next-Page-Token", pageToken(found.rows[n-1]+1, pg.to))
	}
	return s.send(w, body), nil
}

// renderPage finds a page and appends its JSON to body.
func (s *Server) renderPage(body []byte, t *table, pg page) ([]byte, found) {
	s.store.world.RLock()
	defer s.store.world.RUnlock()
	found := s.store.search(t, pg)
	body = append(body, '[')
	rd := renderer{st: s.store, ids: s.ids}
	for _, n := range found.rows {
		mark := len(body)
		if mark > 1 {
			body = append(body, ',')
		}
		var ok bool
		if body, ok = rd.record(body, address{t, n}); !ok {
			body = body[:mark]
		}
	}
	return append(body, ']'), found
}

// parsePage reads the query: paging by offset and limit or by page token, the total count, and filters on any scalar.
func (s *Server) parsePage(r *http.Request, t *table) (page, *httpd.Problem) {
	pg := page{limit: min(s.like.pageSize(), s.opts.PageLimit), to: math.MaxUint32, window: window{max: math.MaxInt64}}
	if r.URL.RawQuery == "" {
		return pg, nil
	}
	given := map[string]string{}
	for name, values := range r.URL.Query() {
		given[strings.ToLower(name)] = values[0]
	}
	var errs []string
	number := func(name string, to *int, limit int, text string) bool {
		v, ok := given[name]
		delete(given, name)
		if !ok {
			return false
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > limit {
			errs = append(errs, text)
		}
		*to = n
		return true
	}
	most := s.opts.PageLimit
	hasOffset := number("offset", &pg.offset, math.MaxInt32, "Offset must be a numeric value greater than or equal to 0.")
	limitText := "Limit must be a value between 0 and %d."
	if s.like.dms {
		limitText = "Limit must be omitted or set to a numeric value between 0 and %d."
	}
	hasLimit := number("limit", &pg.limit, most, fmt.Sprintf(limitText, most))
	if !s.like.cursors { // parameters nobody knows are ignored
		delete(given, "pagesize")
		delete(given, "pagetoken")
	}
	hasSize := number("pagesize", &pg.limit, most, fmt.Sprintf("PageSize must be a value between 0 and %d.", most))
	errs = append(errs, pg.window.read(given)...)
	token, hasToken := given["pagetoken"]
	delete(given, "pagetoken")
	if v, ok := given["totalcount"]; ok {
		delete(given, "totalcount")
		var err error
		if pg.total, err = strconv.ParseBool(strings.ToLower(v)); err != nil {
			errs = append(errs, fmt.Sprintf("The value '%s' is not valid for totalCount.", v))
		}
	}
	if token != "" {
		var ok bool
		if pg.from, pg.to, ok = parsePageToken(token); !ok {
			errs = append(errs, "The page token provided was invalid.")
		}
	}
	errs = append(errs, mixedPaging(hasOffset, hasLimit, hasSize, hasToken, pg.total)...)
	filters, bad := s.store.filters(t, s.ids, given)
	if errs = append(errs, bad...); len(errs) > 0 {
		return pg, invalidParameter(errs...)
	}
	pg.filters = filters
	return pg, nil
}

// mixedPaging names parameters that do not go together.
func mixedPaging(offset, limit, size, token, total bool) (errs []string) {
	switch {
	case offset && token:
		errs = append(errs, "Both offset and pageToken parameters were provided, but they support alternative paging approaches and cannot be used together.")
	case limit && token:
		errs = append(errs, "Use pageSize instead of limit when using cursor paging with pageToken.")
	case size && (offset || limit):
		errs = append(errs, "Use limit instead of pageSize when using limit/offset paging.")
	case size && !token:
		errs = append(errs, "PageToken is required when pageSize is specified.")
	}
	if total && token {
		errs = append(errs, "TotalCount is not supported when using cursor paging with pageToken.")
	}
	return errs
}

const (
	maxPartitions    = 200
	partitionMinimum = 5 // pages of the largest size
)

func (s *Server) getPartitions(w http.ResponseWriter, r *http.Request, t *table) (int, *httpd.Problem) {
	n := 5
	if v := r.URL.Query().Get("number"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 || n > maxPartitions {
			return 0, invalidParameter(fmt.Sprintf("Number must be a value between 1 and %d.", maxPartitions))
		}
	}
	tokens := []string{}
	for _, b := range s.store.partitions(t, n, partitionMinimum*s.opts.PageLimit) {
		tokens = append(tokens, pageToken(b[0], b[1]))
	}
	writeJSON(w, http.StatusOK, map[string]any{"pageTokens": tokens})
	return http.StatusOK, nil
}

// partitions splits the live rows of a table into at most n ranges [from, to) of at least size rows, but one when there are fewer.
func (st *store) partitions(t *table, n, size int) (bounds [][2]uint32) {
	st.world.RLock()
	defer st.world.RUnlock()
	live := int(st.count(t))
	if live == 0 {
		return nil
	}
	n = max(1, min(n, live/size))
	per := (live + n - 1) / n
	from, seen := uint32(0), 0
	t.each(func(row uint32, _ []byte) bool {
		if seen == per {
			bounds = append(bounds, [2]uint32{from, row})
			from, seen = row, 0
		}
		seen++
		return true
	})
	return append(bounds, [2]uint32{from, math.MaxUint32})
}

func (st *store) count(t *table) int64 {
	t.space.mu.RLock()
	defer t.space.mu.RUnlock()
	return t.live
}

// found is the outcome of a search.
type found struct {
	rows  []uint32
	total int // all matches, when the page asks for the total
}

// scans is a pool of buffers for search.
type scans struct{ pool sync.Pool }

type scan struct {
	data []byte
	rows []scanned
}

type scanned struct {
	row     uint32
	version int64
	lo, hi  int
}

// search finds the rows of a page in row order, which is the order of creation. The caller holds world.
func (st *store) search(t *table, pg page) (f found) {
	if row, decided := st.byKey(t, pg.filters); decided {
		if row != nil && pg.by != nil && st.authorizeRecord(pg.by, address{t, *row}, Read) != nil {
			row = nil
		}
		if row != nil && *row >= pg.from && *row < pg.to && pg.window.holds(st.changeVersion(address{t, *row})) {
			f.total = 1
			if pg.offset == 0 && pg.limit > 0 {
				f.rows = []uint32{*row}
			}
		}
		return f
	}
	sc, _ := st.scans.pool.Get().(*scan)
	if sc == nil {
		sc = new(scan)
	}
	defer st.scans.pool.Put(sc)
	skip := pg.offset
	countAll := pg.total && (pg.sifts() || !pg.window.open())
	for c := int(pg.from / chunkRows); t.copyChunk(c, sc, pg.sifts()); c++ {
		for _, e := range sc.rows {
			if e.row < pg.from || e.row >= pg.to || !pg.window.holds(e.version) || !st.matches(t, pg.filters, sc.data[e.lo:e.hi], e.row) ||
				st.late.has(address{t, e.row}, st.now) || pg.by != nil && !st.mayRead(pg.by, address{t, e.row}, sc.data[e.lo:e.hi]) {
				continue
			}
			f.total++
			switch {
			case skip > 0:
				skip--
			case len(f.rows) < pg.limit:
				f.rows = append(f.rows, e.row)
			}
		}
		if len(f.rows) == pg.limit && !countAll || uint64(c+1)*chunkRows >= uint64(pg.to) {
			break
		}
	}
	if pg.total && !countAll {
		f.total = int(st.count(t)) // total and page token exclude each other
	}
	return f
}

// copyChunk takes the live rows of a chunk, on wish with their records, so that nobody waits while they are looked at. It returns false past
// the last chunk.
func (t *table) copyChunk(c int, sc *scan, records bool) bool {
	sc.data, sc.rows = sc.data[:0], sc.rows[:0]
	t.space.mu.RLock()
	defer t.space.mu.RUnlock()
	if c >= len(t.rows) {
		return false
	}
	if t.rows[c] == nil {
		return true
	}
	for i := range t.rows[c] {
		r := &t.rows[c][i]
		if r.at == 0 {
			continue
		}
		e := scanned{row: uint32(c*chunkRows + i), version: r.version, lo: len(sc.data)}
		if records {
			sc.data = append(sc.data, t.arena.bytes(r.at)...)
		}
		e.hi = len(sc.data)
		sc.rows = append(sc.rows, e)
	}
	return true
}
