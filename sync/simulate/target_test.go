package simulate

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// known is what the simulation remembers of a record of the target.
type known struct {
	kind    int
	name    string // the same in every replay
	creator string // tag of the connection that created it; "" = another client
	made    []byte // the natural key another client made it with
	claims  map[string]bool
	sent    [][]byte // what it was sent as
	bore    []string // keys it got with those of its parents
	born    time.Time
	foreign bool // another client changed it since our last write
}

// serve lets the target answer at once.
func (w *world) serve(method, path string, header http.Header, body []byte) answer {
	a := answer{status: http.StatusOK, header: http.Header{}}
	path, query, _ := strings.Cut(path, "?")
	w.handler.ServeHTTP(&a, incoming(method, &url.URL{Scheme: "http", Host: "target.example", Path: path, RawQuery: query}, header, body))
	return a
}

// incoming is a call as a server gets it.
func incoming(method string, u *url.URL, header http.Header, body []byte) *http.Request {
	r := &http.Request{
		Method: method, URL: u, Host: u.Host, Header: header, Body: http.NoBody, RequestURI: u.RequestURI(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return r
}

// other makes a call as another client of the target, or as the judge.
func (w *world) other(method, path string, body []byte) answer {
	if w.token == "" || time.Since(w.tokenBorn) > w.plan.tokenLife/2 {
		a := w.serve(http.MethodPost, "/oauth/token", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			[]byte("grant_type=client_credentials&client_id=id&client_secret=secret"))
		var t struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(a.body.Bytes(), &t); err != nil || t.AccessToken == "" {
			panic(fmt.Sprintf("the judge gets no token: %d %s", a.status, a.body.String()))
		}
		w.token, w.tokenBorn = t.AccessToken, time.Now()
	}
	h := http.Header{"Authorization": {"Bearer " + w.token}, "Content-Type": {"application/json"}, "Accept": {"application/json"}}
	return w.serve(method, dataPath+path, h, body)
}

// commit is the moment a call takes effect. What must hold then is checked here, under one lock.
func (w *world) commit(p *process, c *callInfo, body []byte, f fault) answer {
	w.committing.Lock()
	defer w.committing.Unlock()
	if c.write && c.kind >= 0 {
		w.judgeWrite(p, c)
	}
	if w.plan.strangers && w.stranger(p, c) {
		return unrelated()
	}
	if c.kind >= 0 && w.expiry(c).IsZero() {
		return problem(401, "security:authentication", "The caller could not be authenticated.")
	}
	a := answer{status: http.StatusOK, header: http.Header{}}
	w.handler.ServeHTTP(&a, incoming(c.method, c.url, c.header, body))
	if c.token && a.status == http.StatusOK {
		w.granted(a.body.Bytes())
	}
	if c.kind < 0 {
		return a
	}
	renames := w.renames(c, body)
	w.remember(p, c, body, &a, f)
	if renames && a.status < 300 {
		w.follow(c.kind)
	}
	if !c.write && c.id == "" && p.eventual && w.hides(c.kind) {
		a.body.Reset()
		a.body.WriteString("[]")
	}
	return a
}

// stranger reports whether a call is the first POST of one of the people whom the target has already: it says no more than that until an association
// authorises us for them.
func (w *world) stranger(p *process, c *callInfo) bool {
	if w.ending || !c.first || c.method != http.MethodPost || c.kind < 0 || !w.u.kinds[c.kind].person() {
		return false
	}
	k := w.u.kinds[c.kind]
	for _, h := range w.contents(k) {
		key, err := k.resource.CanonicalKey(nil, h.body, w.rules)
		if err != nil || string(key) != c.key {
			continue
		}
		w.note("%s: %s: no relationship", p.name, c.label)
		w.mu.Lock()
		p.met[c.intent] = w.records[h.id]
		w.mu.Unlock()
		return true
	}
	return false
}

// granted remembers a token a process gets.
func (w *world) granted(body []byte) {
	var t struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		w.violate("target", "the answer to a token request cannot be read: %v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens["Bearer "+t.AccessToken] = time.Now().Add(w.plan.tokenLife)
}

// expiry is when the token of a call expires, zero for none the target knows.
func (w *world) expiry(c *callInfo) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens[c.header.Get("Authorization")]
}

// forget lets the target know none of its tokens any more, as after a restart.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.tokens)
	w.forgot = true
}

// hides reports whether the target, being slow to show new records, has one of the kind that it does not show yet (F36).
func (w *world) hides(kind int) bool {
	for _, k := range w.records {
		if k.kind == kind && time.Since(k.born) < 2*time.Second {
			return true
		}
	}
	return false
}

// renames reports whether a PUT brings a record a natural key it was not sent with last.
func (w *world) renames(c *callInfo, body []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.records[c.id]; c.method == http.MethodPut && r != nil && len(r.sent) > 0 {
		k := w.u.kinds[c.kind]
		before, err := k.read(r.sent[len(r.sent)-1], w.fold)
		now, err2 := k.read(body, w.fold)
		return err == nil && err2 == nil && before.key != now.key
	}
	return false
}

// follow notes the keys that records got with that of one of a kind.
func (w *world) follow(kind int) {
	for _, k := range w.u.kinds[kind+1:] {
		for _, h := range w.contents(k) {
			w.mu.Lock()
			if r := w.records[h.id]; r != nil && !slices.Contains(r.bore, h.key) {
				r.bore = append(r.bore, h.key)
			}
			w.mu.Unlock()
		}
	}
}

// remember notes what a write did.
func (w *world) remember(p *process, c *callInfo, body []byte, a *answer, f fault) {
	if !c.write {
		return
	}
	p.mu.Lock()
	s := p.scan
	p.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	if a.status < 300 {
		w.changed++
	}
	if c.method == http.MethodPut && a.status < 300 && w.records[c.id] != nil {
		w.records[c.id].sent, w.records[c.id].foreign = append(w.records[c.id].sent, body), false
		p.conn.made(w.u.kinds[c.kind], s, body, w.fold)
	}
	if c.method == http.MethodPut && a.status == http.StatusBadRequest && w.fold {
		p.respelt = true
	}
	if c.had != nil && a.status < 300 {
		w.deleted[w.u.kinds[c.kind].path+" "+c.had.key] = c.had
	}
	switch {
	case c.method == http.MethodPost && (a.status == 200 || a.status == 201):
		at := a.header.Get("Location")
		id := at[strings.LastIndexByte(at, '/')+1:]
		k := w.records[id]
		if k == nil || a.status == 201 {
			w.names[c.key]++
			k = &known{kind: c.kind, name: fmt.Sprintf("%s#%d", c.key, w.names[c.key]), claims: map[string]bool{}, born: time.Now()}
			w.records[id] = k
			if a.status == 201 {
				k.creator = p.conn.d.tag
				p.conn.made(w.u.kinds[c.kind], s, body, w.fold)
			}
		}
		k.sent, k.foreign = append(k.sent, body), false
		if a.status == 200 {
			if f != noFault && f != slow {
				k.claims[p.conn.d.tag] = true // nobody can tell this answer from that of a create
			}
			p.met[c.intent] = k
		}
	case c.method == http.MethodDelete && a.status == http.StatusConflict && w.ending && w.plan.heal && !w.meddled && !w.guests && !p.respelt && c.kind > 0:
		// Nothing goes wrong any more, and every row is valid: what refers to it goes first. Only agencies, kind 0, refer to each other.
		w.violateLocked("I6", "%s sends %s before what refers to it is gone: %s", p.name, c.label, a.body.String())
	case a.status == http.StatusConflict && strings.Contains(a.body.String(), "unresolved-reference"):
		// An abstract reference of which the connection syncs only some kinds is for the target to judge.
		outside := strings.Contains(a.body.String(), "'EducationOrganization'") && !p.conn.d.has[w.u.byPath["ed-fi/schools"]]
		if !w.meddled && !outside && !w.cutOff(s, c.kind, body) {
			w.violateLocked("I6", "%s sends %s before what it refers to is there: %s", p.name, c.label, a.body.String())
		}
	}
}

// orphaned reports whether something a row refers to, at any depth, is gone.
func (r *row) orphaned() bool {
	return slices.ContainsFunc(r.parents, func(p *row) bool { return p != nil && (p.gone || p.orphaned()) })
}

// cutOff reports whether what a payload refers to got another key with what it refers to itself, which has no row any more, while its rows go on saying
// the old one: what they say is nowhere, and only the SIS can mend that (docs/guarantees.md, Limits). Called with world.mu held.
func (w *world) cutOff(s *scan, kind int, body []byte) bool {
	k := w.u.kinds[kind]
	h, err := k.read(body, w.fold)
	if err != nil || s == nil {
		return false
	}
	for slot, parent := range k.parent {
		key := w.refKey(k, slot, h)
		says := map[string]bool{key: true}
		if !slices.ContainsFunc(s.keys[parent][key], func(x *rec) bool { return x.row.orphaned() }) {
			continue
		}
		for _, r := range w.records {
			if r.kind == parent && len(r.bore) > 0 && r.bore[len(r.bore)-1] != key && (r.was(w.u.kinds[parent], says, w.fold) || r.had(says)) {
				return true
			}
		}
	}
	return false
}

// forsake is called when a process has ended. What its creates met without that becoming durable cannot be told from what they created.
func (w *world) forsake(p *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range p.byOp {
		if k := p.met[what]; k != nil {
			k.claims[p.conn.d.tag] = true
		}
	}
}

// was reports whether the record was ever sent under one of these keys.
func (k *known) was(kind *compiledKind, keys map[string]bool, fold bool) bool {
	for _, body := range k.sent {
		if h, err := kind.read(body, fold); err == nil && keys[h.key] {
			return true
		}
	}
	return false
}

// had reports whether the record got one of these keys with its parents.
func (k *known) had(keys map[string]bool) bool {
	return slices.ContainsFunc(k.bore, func(key string) bool { return keys[key] })
}

func (w *world) nameOf(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.records[id]; k != nil {
		return k.name
	}
	return "unknown id"
}

// judgeWrite checks what must hold when a write takes effect.
func (w *world) judgeWrite(p *process, c *callInfo) {
	p.mu.Lock()
	p.writes++
	scan := p.scan
	what := c.method + " " + w.u.kinds[c.kind].path + " " + c.id
	if c.method == http.MethodPost {
		hash := p.conn.hash([]byte(c.key))
		what = "POST " + w.u.kinds[c.kind].path + " " + hex.EncodeToString(hash[:])
	}
	_, announced := p.intents[what]
	p.mu.Unlock()
	c.intent = what
	if !announced {
		w.violate("I3", "%s makes the call %s without a durable intent", p.name, c.label)
	}
	w.mu.Lock()
	holder := p.conn.holder
	w.mu.Unlock()
	if holder != p {
		w.violate("I7", "%s writes (%s) after %s took over", p.name, c.label, holder.name)
	}
	if scan == nil {
		w.violate("I5", "%s writes (%s) without having scanned", p.name, c.label)
		return
	}
	if c.method == http.MethodDelete {
		w.judgeDelete(p, c, scan)
	}
}

// judgeDelete checks that a DELETE has the evidence of I5.
func (w *world) judgeDelete(p *process, c *callInfo, s *scan) {
	k := w.u.kinds[c.kind]
	a := w.other(http.MethodGet, k.path+"/"+c.id, nil)
	if a.status != http.StatusOK {
		return // gone already
	}
	h, err := k.read(a.body.Bytes(), w.fold)
	if err != nil {
		w.violate("target", "%v", err)
		return
	}
	c.had = h
	tag := p.conn.d.tag
	w.mu.Lock()
	r := w.records[c.id]
	owned := r != nil && (r.creator == tag || r.claims[tag])
	if key, err := k.resource.CanonicalKey(nil, h.body, w.rules); err == nil {
		owned = owned || p.conn.unclear[p.conn.creates(k, key)]
	}
	// It may have been found by its key, and got another one from us since.
	owned = owned || r != nil && len(r.made) > 0 && p.conn.unclear[p.conn.creates(k, r.made)]
	w.mu.Unlock()
	if !owned {
		w.violate("I9", "%s deletes %s, which it did not create", p.name, c.label)
	}
	if rows := s.keys[c.kind][h.key]; len(rows) > 0 && w.entryHas(p.conn, k, h) {
		w.violate("I5", "%s deletes %s, and %s has its key %s", p.name, c.label, p.conn.d.label(rows[0].row), h.key)
	}
	if key, waits := p.held[c.id]; waits && !p.approved {
		found, err := w.ledger.Lookup(context.Background(), p.conn.ID, k.path, []syncdb.Hash{key})
		if err == nil && found[key].EdfiID == c.id {
			w.violate("I5", "%s deletes %s, which a safeguard held, and nobody has decided", p.name, c.label)
		}
	}
	if len(s.records[c.kind]) == 0 && !p.approved {
		w.violate("I5", "%s deletes %s, and the source has no row at all (F38)", p.name, c.label)
	}
	ever := p.conn.ever[c.kind][h.key]
	if k.outside(p.schools, h) && !slices.ContainsFunc(s.records[c.kind], func(x *rec) bool { return x.row.among(ever) }) {
		w.violate("I5", "%s deletes %s, which is of a school it does not sync", p.name, c.label)
	}
	// A row may have had, in a scan that came to nothing, the key that the record of another row got with its parent.
	own := func(of *row) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		had := map[string]bool{}
		for key, rows := range p.conn.ever[c.kind] {
			had[key] = of.among(rows)
		}
		if len(ever) != 1 || !ever[of.id] || r != nil && !r.was(k, had, w.fold) {
			return false
		}
		// It may have become another row's, under this key or one it got with a parent.
		keys := []string{h.key}
		if r != nil {
			keys = append(keys, r.bore...)
		}
		for _, key := range keys {
			for id := range p.conn.seen[c.kind][key] {
				if id != of.id {
					return false
				}
			}
		}
		return true
	}
	for _, x := range s.records[c.kind] {
		if !x.valid && (x.key == h.key || own(x.row)) {
			w.violate("I5", "%s deletes %s, whose %s is invalid, not absent", p.name, c.label, p.conn.d.label(x.row))
		}
	}
}

// entryHas reports whether the ledger's entry under a record's key is of this record: a record may also have the key because the target
// re-keyed it with its parent.
func (w *world) entryHas(c *connection, k *compiledKind, h *held) bool {
	key, err := k.resource.CanonicalKey(nil, h.body, w.rules)
	if err != nil {
		return true
	}
	hash := syncdb.Hash(c.hash(key))
	found, err := w.ledger.Lookup(context.Background(), c.ID, k.path, []syncdb.Hash{hash})
	return err != nil || found[hash].EdfiID == h.id
}

// contents reads all records of a kind.
func (w *world) contents(k *compiledKind) []*held {
	var out []*held
	for {
		a := w.other(http.MethodGet, fmt.Sprintf("%s?limit=500&offset=%d", k.path, len(out)), nil)
		items, err := split(a.body.Bytes())
		if err != nil {
			w.violate("target", "read %s: %d %v", k.path, a.status, err)
			return out
		}
		for _, item := range items {
			h, err := k.read(item, w.fold)
			if err != nil {
				w.violate("target", "%v", err)
				continue
			}
			out = append(out, h)
		}
		if len(items) < 500 {
			return out
		}
	}
}
