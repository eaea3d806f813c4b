package simulate

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// end lets the faults stop: after at most two more runs of each connection the target must hold what the sources say (I1), the ledger must
// say so too (I2), and a third run has nothing to do (I22).
func (w *world) end(ctx context.Context) {
	w.note("the faults stop")
	w.mu.Lock()
	w.ending = true
	w.mu.Unlock()
	for i, c := range w.conns {
		c.d.refill()
		if w.plan.heal {
			c.d.healAll(w.fold)
		}
		for n := range 2 {
			_, s := w.attempt(ctx, c, event{id: -1 - n, conn: i, approved: true}, c.d.tag, nil)
			time.Sleep(time.Minute)
			if w.meddled && s != nil && s.Alarm != "" { // other clients deleted most of what there was: somebody has a look, and heals it
				w.attempt(ctx, c, event{id: -1 - n, conn: i, approved: true, resync: true}, c.d.tag+"resync", nil)
				time.Sleep(time.Minute)
			}
		}
	}
	if len(w.violations) > 0 {
		return
	}
	w.judge(ctx)
	for i, c := range w.conns {
		before := w.changes()
		p, _ := w.attempt(ctx, c, event{id: -3, conn: i, approved: true}, c.d.tag, nil)
		if w.plan.heal && !w.meddled && !w.guests && p.writes > 0 {
			w.violate("I22", "%s makes %d write calls though nothing changed", p, p.writes)
		}
		if n := w.changes() - before; n > 0 {
			w.violate("I22", "%s changes %d records though nothing changed", p, n)
		}
		if p.tokens > 1 {
			w.violate("I22", "%s asks for %d tokens", p, p.tokens)
		}
	}
}

// changes counts records written or deleted since the world began.
func (w *world) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// expectation is what the target may and must hold of one kind.
type expectation struct {
	must  map[string]*rec
	loose map[string]bool // keys of rows that cannot be sent: what they produced before stays
	waits []*rec          // valid rows whose parents cannot be sent
	all   []*held
}

// judge compares the target and the ledger with the sources.
func (w *world) judge(ctx context.Context) {
	expect := make([]*expectation, len(w.u.kinds))
	for k := range w.u.kinds {
		expect[k] = &expectation{must: map[string]*rec{}, loose: map[string]bool{}}
	}
	for _, c := range w.conns {
		w.expect(c, expect)
	}
	byKey := make([]map[string]*held, len(w.u.kinds))
	for k, e := range expect {
		if !slices.ContainsFunc(w.conns, func(c *connection) bool { return c.d.has[k] }) {
			continue
		}
		e.all = w.contents(w.u.kinds[k])
		byKey[k] = map[string]*held{}
		for _, h := range e.all {
			if byKey[k][h.key] != nil {
				w.violate("I1", "%s has two records of key %s", w.u.kinds[k].path, h.key)
			}
			byKey[k][h.key] = h
		}
	}
	w.judgeExtra(ctx, expect)
	for k, e := range expect {
		kind := w.u.kinds[k]
		for _, key := range slices.Sorted(maps.Keys(e.must)) {
			h, x := byKey[k][key], e.must[key]
			if w.spoiled(kind, x) {
				continue
			}
			if h == nil {
				w.violate("I1", "%s %s (row %d) is not at the target", kind.path, key, x.row.id)
				continue
			}
			if want := kind.payload(x, w.fold); !maps.Equal(want, h.flat) {
				w.violate("I1", "%s %s (row %d) is\n    %v, want\n    %v", kind.path, key, x.row.id, h.flat, want)
			}
		}
	}
	for _, c := range w.conns {
		w.judgeLedger(ctx, c, expect)
	}
}

// expect adds what one district says. Parents come before children in the list of kinds; the one kind that refers to itself takes several
// passes.
func (w *world) expect(c *connection, expect []*expectation) {
	s := c.d.scan(w.fold)
	for _, k := range c.d.kinds {
		kind, e := w.u.kinds[k], expect[k]
		loosen := func(x *rec) {
			e.loose[x.key] = true
			for _, by := range []map[string]map[int]bool{c.ever[k], c.seen[k]} { // a row made again may have taken over what another had
				for key, rows := range by {
					if x.row.among(rows) {
						e.loose[key] = true
					}
				}
			}
		}
		for _, x := range s.records[k] {
			if !x.valid {
				loosen(x)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(s.keys[k])) {
			group := s.keys[k][key]
			if !w.alike(kind, group) {
				for _, x := range group {
					loosen(x)
				}
				continue
			}
			e.must[key] = group[0]
			for _, x := range group[min(1, len(group)-1):] {
				if len(group) > 1 {
					loosen(x) // what the twins produced under other keys stays
				}
			}
		}
		for again := true; again; {
			again = false
			for _, key := range slices.Sorted(maps.Keys(e.must)) {
				x := e.must[key]
				if !c.owns(x) || w.refersToMust(c.d, x, expect) {
					continue
				}
				delete(e.must, key)
				for _, y := range s.keys[k][key] {
					loosen(y)
				}
				e.waits = append(e.waits, s.keys[k][key]...)
				again = true
			}
		}
	}
}

func (c *connection) owns(x *rec) bool { return slices.Contains(c.d.rows[x.row.kind], x.row) }

// replaced reports whether another client made a record, in a world where others delete ours.
func (w *world) replaced(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.meddled && w.records[id] != nil && w.records[id].creator == ""
}

// changedByOther reports whether another client changed a record since we last wrote it. It may have got another key with its parent.
func (w *world) changedByOther(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records[id] != nil && w.records[id].foreign
}

// spoiled reports whether another client changed or deleted the record of a row and the row says what it did before: nobody may have noticed.
// A row that changed is sent, and sets the record right; one that only follows the key of its parent is not.
func (w *world) spoiled(k *compiledKind, x *rec) bool {
	if len(w.tainted) == 0 {
		return false
	}
	now := k.payload(x, w.fold)
	if then := w.tainted[k.path+" "+x.key]; then != nil && maps.Equal(then, now) {
		return true
	}
	for _, c := range w.conns {
		if !c.owns(x) {
			continue
		}
		for key, rows := range c.ever[k.index] {
			if then := w.tainted[k.path+" "+key]; x.row.among(rows) && key != x.key && then != nil && k.sameButParents(then, now) {
				return true
			}
		}
	}
	for at, then := range w.tainted { // a new row may have got the key that the record had with those of its parents
		if path, _, _ := strings.Cut(at, " "); path == k.path && w.follows(k, then, now) {
			return true
		}
	}
	return false
}

// follows reports whether what a record held is what a row says now, but for the keys that records it refers to got since.
func (w *world) follows(k *compiledKind, then, now map[string]string) bool {
	if !k.sameButParents(then, now) {
		return false
	}
	for slot, parent := range k.parent {
		was, is := w.refKey(k, slot, &held{flat: then}), w.refKey(k, slot, &held{flat: now})
		if was != is && !slices.ContainsFunc(w.contents(w.u.kinds[parent]), func(h *held) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			r := w.records[h.id]
			return h.key == is && r != nil && (r.was(w.u.kinds[parent], map[string]bool{was: true}, w.fold) || r.had(map[string]bool{was: true}))
		}) {
			return false
		}
	}
	return true
}

// sameButParents reports whether two payloads differ in nothing but what comes from parents.
func (c *compiledKind) sameButParents(a, b map[string]string) bool {
	for i, col := range c.columns {
		path := strings.TrimSuffix(col.path, "[]")
		if c.columns[i].sort < inherited && a[path] != b[path] {
			return false
		}
	}
	return true
}

// alike reports whether rows with one key say the same.
func (w *world) alike(k *compiledKind, group []*rec) bool {
	for _, x := range group[1:] {
		if !maps.Equal(k.payload(group[0], w.fold), k.payload(x, w.fold)) {
			return false
		}
	}
	return true
}

// refersToMust reports whether all a row refers to will be there.
func (w *world) refersToMust(d *district, x *rec, expect []*expectation) bool {
	for slot, p := range x.row.parents {
		if p == nil {
			continue
		}
		kind := w.u.kinds[x.row.kind].parent[slot]
		key := d.record(p, w.fold).key
		if parent := expect[kind].must[key]; parent == nil || w.spoiled(w.u.kinds[kind], parent) || parent.row == x.row {
			return false
		}
	}
	return true
}

// judgeExtra finds records nobody may have left behind. What a record that may stay refers to may stay too.
func (w *world) judgeExtra(ctx context.Context, expect []*expectation) {
	type place struct {
		kind int
		key  string
	}
	may := map[place]bool{}
	var stay func(k int, h *held)
	byKey := map[place]*held{}
	for k, e := range expect {
		for _, h := range e.all {
			byKey[place{k, h.key}] = h
		}
	}
	stay = func(k int, h *held) {
		kind := w.u.kinds[k]
		for slot, parent := range kind.parent {
			key, parts := w.refParts(kind, slot, h)
			at := place{parent, key}
			switch {
			case may[at]:
			case byKey[at] != nil:
				may[at] = true
				stay(parent, byKey[at])
			default: // it went while what refers to it seems to be there: what its key contains stays for that
				may[at] = true
				stay(parent, &held{key: key, flat: parts})
			}
		}
	}
	excused := func(k int, id string) bool { // another client's, or one that was re-keyed with its parent while its row could not be sent
		w.mu.Lock()
		defer w.mu.Unlock()
		r := w.records[id]
		return r == nil || r.creator == "" || r.was(w.u.kinds[k], expect[k].loose, w.fold) || r.had(expect[k].loose)
	}
	for k, e := range expect {
		for _, h := range e.all {
			if at := (place{k, h.key}); e.loose[h.key] || w.mayBecome(w.u.kinds[k], h, e.waits) || e.must[h.key] == nil && excused(k, h.id) || w.tainted[w.u.kinds[k].path+" "+h.key] != nil {
				may[at] = true
				stay(k, h)
				for _, then := range w.before(w.u.kinds[k], h) { // for all a ledger knows, when the PUT of another key was not answered
					if w.unnoticed(ctx, w.u.kinds[k], then) {
						stay(k, then)
					}
				}
			}
		}
	}
	for at, then := range w.tainted { // nobody may have noticed that it is gone, so what it referred to stays
		path, key, _ := strings.Cut(at, " ")
		stay(w.u.byPath[path], &held{key: key, flat: then})
	}
	for at, h := range w.deleted { // nor that a delete nobody answered was made, while the row it was for cannot be sent
		path, key, _ := strings.Cut(at, " ")
		k := w.u.byPath[path]
		as := append(w.before(w.u.kinds[k], h), h) // the ledger may have it by a key it had before its parent's changed
		if !expect[k].loose[key] && !slices.ContainsFunc(as, func(h *held) bool { return expect[k].loose[h.key] }) {
			continue
		}
		for _, h := range as {
			if w.unnoticed(ctx, w.u.kinds[k], h) {
				stay(k, h)
			}
		}
	}
	// Enrolments give the right to delete what else there is of a student, and other associations that of staff and contacts: while some of it
	// stays, they stay (engine.md §3).
	for _, right := range [][2]string{
		{"ed-fi/students", "ed-fi/studentSchoolAssociations"}, {"ed-fi/contacts", "ed-fi/studentContactAssociations"},
		{"ed-fi/staffs", "ed-fi/staffEducationOrganizationAssignmentAssociations"},
	} {
		people, association := w.u.byPath[right[0]], w.u.byPath[right[1]]
		person := func(k int, h *held) string {
			if slot := slices.Index(w.u.kinds[k].parent, people); slot >= 0 {
				return w.refKey(w.u.kinds[k], slot, h)
			}
			return ""
		}
		bound := map[string]bool{}
		for at := range may {
			// An enrolment is enough for itself; another association needs its student's enrolment, too.
			if h := byKey[at]; h != nil && right[0] != "ed-fi/contacts" && at.kind == association {
				continue
			} else if h != nil {
				bound[person(at.kind, h)] = true
			}
		}
		for at, then := range w.tainted { // also when its owner deleted it, which nobody may have noticed
			path, key, _ := strings.Cut(at, " ")
			if k := w.u.byPath[path]; k != association {
				bound[person(k, &held{key: key, flat: then})] = true
			}
		}
		for _, h := range expect[association].all {
			if who := person(association, h); who != "" && bound[who] {
				may[place{association, h.key}] = true
				stay(association, h)
			}
		}
	}
	for k, e := range expect {
		for _, h := range e.all {
			if e.must[h.key] == nil && !may[place{k, h.key}] {
				w.violate("I1", "%s %s is at the target, and no row asks for it", w.u.kinds[k].path, h.key)
			}
		}
	}
}

// mayBecome reports whether a record would get the natural key of a row that waits for its parents, with one of them: until they are sent, it may be the
// row's.
func (w *world) mayBecome(k *compiledKind, h *held, waits []*rec) bool {
	return slices.ContainsFunc(waits, func(x *rec) bool {
		now, own := k.payload(x, w.fold), 0
		for i, col := range k.columns {
			if !k.keyPart[i] || col.sort >= inherited {
				continue
			}
			own++
			if path := strings.TrimSuffix(col.path, "[]"); h.flat[path] != now[path] {
				return false
			}
		}
		return own > 0
	})
}

// before returns what a record was sent as under other natural keys than it has.
func (w *world) before(k *compiledKind, h *held) (out []*held) {
	w.mu.Lock()
	var sent [][]byte
	if r := w.records[h.id]; r != nil {
		sent = slices.Clone(r.sent)
	}
	w.mu.Unlock()
	for _, body := range sent {
		if then, err := k.read(body, w.fold); err == nil && then.key != h.key {
			then.id = h.id
			out = append(out, then)
		}
	}
	return out
}

// unnoticed reports whether a ledger has an entry of a record that is not there any more, and does not know what became of it.
func (w *world) unnoticed(ctx context.Context, k *compiledKind, h *held) bool {
	for _, c := range w.conns {
		key, err := k.resource.CanonicalKey(nil, h.body, w.rules)
		if err != nil {
			continue
		}
		hash := c.hash(key)
		found, err := w.ledger.Lookup(ctx, c.ID, k.path, []syncdb.Hash{hash})
		if err != nil {
			w.violate("ledger", "%v", err)
		}
		if e, ok := found[hash]; ok && e.State == syncdb.Unknown && e.EdfiID == h.id {
			return true
		}
	}
	return false
}

// refKey is the key of what a record of the target refers to.
func (w *world) refKey(k *compiledKind, slot int, h *held) string {
	key, _ := w.refParts(k, slot, h)
	return key
}

// refParts is the key of what a record of the target refers to, and its parts by path.
func (w *world) refParts(k *compiledKind, slot int, h *held) (key string, parts map[string]string) {
	parent := w.u.kinds[k.parent[slot]]
	parts = map[string]string{}
	for i, col := range parent.columns {
		if !parent.keyPart[i] {
			continue
		}
		v := ""
		if col.sort == fixed {
			v = col.values[0]
		}
		for _, own := range k.columns {
			if own.sort == inherited && own.parent == slot && own.of == col.path {
				v = h.flat[own.path]
			}
		}
		if k.path == "ed-fi/bellSchedules" && col.path == "classPeriodName" {
			v = between(h.flat["classPeriods"], foldIf(w.fold, "classPeriodReference.classPeriodName:"), " ")
		}
		if _, value, ok := strings.Cut(v, "#"); ok && parent.desc[i] != "" {
			v = value
		}
		key += v + "|"
		parts[col.path] = v
	}
	return key, parts
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// sentAs reports whether the last write of a record had the content the ledger says. What it holds may have changed since, with the key of a record
// it refers to; a row that can be sent is sent again for that.
func (w *world) sentAs(k *compiledKind, id string, hasher *schema.Hasher, record syncdb.Hash) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[id]
	if r == nil || len(r.sent) == 0 {
		return false
	}
	body, err := k.resource.CanonicalBody(nil, r.sent[len(r.sent)-1], w.rules)
	return err == nil && hasher.Sum(body) == record
}

// judgeLedger compares the entries with the target (I2).
func (w *world) judgeLedger(ctx context.Context, c *connection, expect []*expectation) {
	hasher := schema.NewHasher(c.ring.HashMAC())
	for _, k := range c.d.kinds {
		kind := w.u.kinds[k]
		byHash, there := map[syncdb.Hash]*held{}, map[string]bool{}
		others := map[string]bool{} // keys of records that another client changed, and nobody wrote since
		for _, h := range expect[k].all {
			key, err := kind.resource.CanonicalKey(nil, h.body, w.rules)
			if err != nil {
				w.violate("I2", "%s: %v", kind.path, err)
			}
			byHash[hasher.Sum(key)], there[h.id], others[h.key] = h, true, w.changedByOther(h.id)
		}
		entries := map[string]syncdb.Entry{}
		err := w.ledger.Each(ctx, c.ID, kind.path, func(e *syncdb.Entry) error {
			h := byHash[e.KeyHash]
			switch {
			case h != nil && (w.tainted[kind.path+" "+h.key] != nil || others[h.key]), h == nil && w.meddled:
				return nil
			case h == nil && !w.plan.heal && (e.State != syncdb.Live || there[e.EdfiID]):
				return nil
			case h == nil:
				w.violate("I2", "the ledger of %s has %s %s (%s, state %d), the target has not", c.d.tag, kind.path, e.Key, e.EdfiID, e.State)
				return nil
			case expect[k].must[h.key] == nil && e.State != syncdb.Live:
				return nil // of a row that cannot be sent: nothing settles it
			}
			entries[h.key] = *e
			body, err := kind.resource.CanonicalBody(nil, h.body, w.rules)
			switch {
			case err != nil:
				w.violate("I2", "%s: %v", kind.path, err)
			case e.State != syncdb.Live:
				w.violate("I3", "the ledger of %s does not know about %s %s after two runs without faults (state %d)", c.d.tag, kind.path, h.key, e.State)
			case e.EdfiID != h.id && w.replaced(h.id):
				// Our record was deleted by another client, which made its own, and a parent's key changed: nobody has noticed yet.
			case e.EdfiID != h.id:
				w.violate("I2", "the ledger of %s calls %s %s %s, the target %s", c.d.tag, kind.path, h.key, e.EdfiID, h.id)
			case e.RecordHash != hasher.Sum(body) && (expect[k].must[h.key] != nil || !w.sentAs(kind, h.id, hasher, e.RecordHash)):
				w.violate("I2", "the ledger of %s has another hash for %s %s than what the target holds", c.d.tag, kind.path, h.key)
			}
			return nil
		})
		if err != nil {
			w.violate("I2", "read the ledger: %v", err)
		}
		for key, x := range expect[k].must {
			if _, ok := entries[key]; !ok && c.owns(x) && w.tainted[kind.path+" "+key] == nil && !others[key] && !w.spoiled(kind, x) {
				w.violate("I2", "the ledger of %s does not have %s %s", c.d.tag, kind.path, key)
			}
		}
	}
	if n, err := w.ledger.Open(ctx, c.ID); n > 0 || err != nil {
		w.violate("I3", "%d intents of %s are open in the end: %v", n, c.d.tag, err)
	}
}
