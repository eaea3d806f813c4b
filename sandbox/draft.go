package sandbox

import (
	"strconv"
	"sync"
)

// draft is a payload on its way into a table: read, checked, resolved, encoded. Its buffers are reused by the next request.
type draft struct {
	body  []byte // the payload; after end lies text the reader had to rewrite
	end   int
	pos   int
	slots []slot
	idSet bool   // the payload has a member "id"
	id    string // its value, when it is a text and the name is in lower case

	exactNames bool     // names of members are matched with regard to case (DMS)
	createOnly bool     // a POST that may not replace (DMS, If-None-Match: *)
	allMissing bool     // every reference that does not resolve is told, not only the first (DMS)
	unresolved problems // the references that did not

	by *caller // whose payload it is; nil is the sandbox itself
	at address // the record a PUT is for
	as Action  // what the caller was authorized for; "" when it need not be

	problems problems
	fault    string // the body is no JSON object: why

	key  []byte  // encoded natural key
	hash keyHash // of key
	pins []*row  // rows whose inbound count this draft raised
	rec  []byte  // encoded record
	old  []byte  // encoding of the record before
	tmp  []byte  // scratch
}

// slot is one member of a payload: slots of an object lie in a block, one per property of its shape, in ordinal order.
type slot struct {
	state slotState
	// next is, in the head of a collection's item (the slot before its block), the index of the next item's head; 0 at the end.
	next int32
	// child is the first slot of an object's block, or the head of a collection's first item; 0 for an empty collection.
	child  int32
	lo, hi uint32 // text of a string in draft.body
	// num is the value of a number, boolean, date or time, the count of items of a collection, and once resolved the index entry of a
	// descriptor or reference.
	num int64
}

type slotState uint8

const (
	absent slotState = iota
	present
	broken // there, but not a value of its kind; a problem says so
)

// problems are messages by JSON path.
type problems map[string][]string

func (d *draft) text(s *slot) []byte { return d.body[s.lo:s.hi] }

func (d *draft) problem(w *where, msg string) {
	if d.problems == nil {
		d.problems = problems{}
	}
	p := w.String()
	d.problems[p] = append(d.problems[p], msg)
}

// where is a place in a payload, built on the stack while walking and printed only for a problem.
type where struct {
	up    *where
	name  string
	index int // in a collection, else −1
}

func (w *where) String() string {
	if w == nil {
		return "$"
	}
	s := w.up.String()
	if w.name != "" {
		s += "." + w.name
	}
	if w.index >= 0 {
		s += "[" + strconv.Itoa(w.index) + "]"
	}
	return s
}

// drafts is a pool of drafts.
type drafts struct{ pool sync.Pool }

const keepBuffer = 1 << 20 // larger ones are left to the garbage collector

func (p *drafts) get() *draft {
	if d, ok := p.pool.Get().(*draft); ok {
		return d
	}
	return new(draft)
}

func (p *drafts) put(d *draft) {
	if cap(d.body) > keepBuffer || cap(d.rec) > keepBuffer || cap(d.slots) > keepBuffer/32 {
		return
	}
	d.reset()
	d.body = d.body[:0]
	p.pool.Put(d)
}

func (d *draft) reset() {
	d.pos, d.idSet, d.problems, d.fault = 0, false, nil, ""
	d.by, d.at, d.as = nil, address{}, ""
	d.id, d.exactNames, d.createOnly, d.allMissing, d.unresolved = "", false, false, false, nil
	d.slots, d.key, d.rec, d.pins, d.old = d.slots[:0], d.key[:0], d.rec[:0], d.pins[:0], d.old[:0]
}

// block appends n empty slots and returns the index of the first.
func (d *draft) block(n int) int32 {
	at := len(d.slots)
	if at+n <= cap(d.slots) {
		d.slots = d.slots[:at+n]
		clear(d.slots[at:])
	} else {
		d.slots = append(d.slots, make([]slot, n)...)
	}
	return int32(at)
}
