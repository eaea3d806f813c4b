package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// edit is one thing people do to a SIS.
type edit uint8

const (
	editInsert edit = iota
	editDelete
	editDeleteAlone // children stay and refer to nothing
	editBack        // a deleted row comes back
	editChange
	editRevert // values as before the last edit
	editHurt   // a value that breaks a rule
	editHeal
	editKey
	editSwap
	editCase
	editTwin   // a second row with the same key
	editMove   // to another parent
	editRemade // the row is made again under another source key
	editEmpty  // a whole table is empty
	editRefill
	editReturn   // what went or changed before the last run is back as it was
	editPass     // a row gets the key of another one, which gets a new one
	editCascade  // a key that what is below takes over, where rows go at the same time, or become invalid
	editNamesake // a new row gets the key another one had before, with rows below it like those of that one, which are corrected
	edits
)

func (e edit) String() string {
	return [edits]string{
		"insert", "delete", "delete alone", "bring back", "change", "revert", "make invalid", "heal", "change key", "swap keys", "change case of key",
		"add twin", "move", "make again", "empty table", "refill tables", "bring back what went last", "pass key on", "change key above others",
		"give old key to a new row",
	}[e]
}

// apply makes one edit; what it touches depends on rng and the rows there are. It says what it did, "" when there was nothing to do.
func (d *district) apply(e edit, rng *rand.Rand) string {
	d.version++
	pick := func(want func(*row) bool) *row {
		found := slices.DeleteFunc(d.all(), func(r *row) bool { return !want(r) })
		if len(found) == 0 {
			return nil
		}
		return found[rng.IntN(len(found))]
	}
	anyRow := func(*row) bool { return true }
	switch e {
	case editInsert:
		return d.label(d.insert(rng, d.kinds[rng.IntN(len(d.kinds))], 0))
	case editDelete, editDeleteAlone:
		r := pick(anyRow)
		if r == nil {
			return ""
		}
		d.remove(r, e == editDelete)
		return d.label(r)
	case editBack:
		var gone []*row
		for _, k := range d.kinds {
			for _, r := range d.rows[k] {
				if r.gone {
					gone = append(gone, r)
				}
			}
		}
		if len(gone) == 0 {
			return ""
		}
		r := gone[rng.IntN(len(gone))]
		d.bringBack(r)
		return d.label(r)
	case editChange:
		return d.change(pick(func(r *row) bool { return len(d.plain(r)) > 0 }), rng)
	case editRevert:
		r := pick(func(r *row) bool { return !slices.Equal(r.own, r.before) && r.hurt < 0 })
		if r == nil {
			return ""
		}
		r.own, r.before = r.before, r.own
		return d.label(r)
	case editHurt:
		return d.hurt(pick(func(r *row) bool { return r.hurt < 0 }), rng)
	case editHeal:
		return d.heal(pick(func(r *row) bool { return r.hurt >= 0 }))
	case editKey:
		return d.rekey(pick(func(r *row) bool { return len(d.keyed(r)) > 0 && r.hurt < 0 }), rng)
	case editSwap:
		return d.swap(pick(func(r *row) bool { return len(d.keyed(r)) > 0 && r.hurt < 0 }), rng)
	case editCase:
		return d.changeCase(pick(func(r *row) bool { return len(d.named(r)) > 0 && r.hurt < 0 }))
	case editTwin:
		return d.twin(pick(anyRow), rng)
	case editMove:
		return d.move(pick(func(r *row) bool { return len(r.parents) > 0 }), rng)
	case editRemade:
		r := pick(func(r *row) bool { return len(d.children(r)) == 0 })
		if r == nil {
			return ""
		}
		again := *r
		d.next++
		again.again = append(slices.Clone(r.again), r.id)
		again.id, again.own, again.before, again.parents = d.next, slices.Clone(r.own), slices.Clone(r.before), slices.Clone(r.parents)
		r.gone = true
		d.rows[r.kind] = append(d.rows[r.kind], &again)
		return d.label(r) + " as " + fmt.Sprint(again.id)
	case editEmpty:
		k := d.kinds[rng.IntN(len(d.kinds))]
		for _, r := range d.live(k) {
			r.gone, r.empties = true, true
		}
		return d.u.kinds[k].path
	case editRefill:
		return d.refill()
	case editPass:
		return d.pass(pick(func(r *row) bool { return len(d.keyed(r)) > 0 && r.hurt < 0 }), rng)
	case editCascade:
		r := pick(func(r *row) bool {
			return d.u.kinds[r.kind].resource.KeyUpdatable && len(d.keyed(r)) > 0 && r.hurt < 0 && len(d.children(r)) > 0
		})
		what := d.rekey(r, rng)
		if r == nil {
			return ""
		}
		for _, c := range d.children(r) {
			switch n := rng.IntN(4); {
			case n == 0:
				d.remove(c, true)
				what += ", without " + d.label(c)
			case n == 1 && c.hurt < 0:
				what += ", " + d.hurt(c, rng)
			}
		}
		return what
	case editNamesake:
		return d.namesake(pick(func(r *row) bool {
			return r.hurt < 0 && slices.ContainsFunc(d.keyed(r), func(i int) bool { return r.own[i] != r.before[i] })
		}))
	case editReturn:
		n := 0
		for _, r := range d.went {
			switch {
			case r.gone:
				d.bringBack(r)
			case r.hurt < 0 && !slices.Equal(r.own, r.before):
				r.own, r.before = r.before, r.own
			default:
				continue
			}
			n++
		}
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n, " rows")
	}
	return ""
}

func (d *district) refill() string {
	n := 0
	for _, k := range d.kinds {
		for _, r := range d.rows[k] {
			if r.empties {
				r.gone, r.empties = false, false
				n++
			}
		}
	}
	d.version++
	return fmt.Sprint(n, " rows")
}

func (d *district) label(r *row) string {
	return fmt.Sprintf("%s row %d", strings.TrimPrefix(d.u.kinds[r.kind].path, "ed-fi/"), r.id)
}

func (d *district) remove(r *row, children bool) {
	if r.gone {
		return
	}
	r.gone = true
	d.going = append(d.going, r)
	if children {
		for _, c := range d.children(r) {
			d.remove(c, true)
		}
	}
}

func (d *district) bringBack(r *row) {
	r.gone, r.empties = false, false
	for _, p := range r.parents {
		if p != nil && p.gone {
			d.bringBack(p)
		}
	}
}

// plain lists the row's own columns that are not in its key; keyed those that are; named those of them that hold letters.
func (d *district) plain(r *row) []int {
	c := d.u.kinds[r.kind]
	return slices.DeleteFunc(slices.Clone(c.owns), func(i int) bool { return c.columns[i].key })
}

func (d *district) keyed(r *row) []int {
	c := d.u.kinds[r.kind]
	return slices.DeleteFunc(slices.Clone(c.owns), func(i int) bool { return !c.columns[i].key })
}

func (d *district) named(r *row) []int {
	c := d.u.kinds[r.kind]
	return slices.DeleteFunc(slices.Clone(c.owns), func(i int) bool { return c.columns[i].sort != ownName })
}

func (d *district) change(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	c, columns := d.u.kinds[r.kind], d.plain(r)
	if len(columns) == 0 {
		return ""
	}
	i := columns[rng.IntN(len(columns))]
	if i == r.hurt {
		return ""
	}
	r.before = slices.Clone(r.own)
	was := r.own[i]
	for try := 0; r.own[i] == was || r.own[i] == "" && c.required[i]; try++ {
		if r.own[i] = d.fresh(rng, &c.columns[i], c.desc[i]); try == 20 {
			r.own[i] = was
			break
		}
	}
	d.going = append(d.going, r)
	return fmt.Sprintf("%s %s %q → %q", d.label(r), c.columns[i].path, was, r.own[i])
}

func (d *district) hurt(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	c := d.u.kinds[r.kind]
	var can []int
	for _, i := range c.owns {
		if c.required[i] || c.columns[i].sort == ownDate || c.columns[i].sort == ownCode {
			can = append(can, i)
		}
	}
	if len(can) == 0 {
		return ""
	}
	i := can[rng.IntN(len(can))]
	r.hurt, r.healed = i, r.own[i]
	switch {
	case c.columns[i].sort == ownDate && rng.IntN(2) == 0, c.columns[i].sort == ownDate && !c.required[i]:
		r.own[i] = "never"
	case c.columns[i].sort == ownCode && rng.IntN(2) == 0, c.columns[i].sort == ownCode && !c.required[i]:
		r.own[i] = "no such code"
	default:
		r.own[i] = ""
	}
	return fmt.Sprintf("%s %s %q", d.label(r), c.columns[i].path, r.own[i])
}

func (d *district) heal(r *row) string {
	if r == nil {
		return ""
	}
	if len(r.before) > 0 && r.before[r.hurt] == r.own[r.hurt] {
		r.before[r.hurt] = r.healed // or a later revert would hurt it again
	}
	r.own[r.hurt] = r.healed
	r.hurt = -1
	return d.label(r)
}

func (d *district) rekey(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	c, columns := d.u.kinds[r.kind], d.keyed(r)
	i := columns[rng.IntN(len(columns))]
	r.before = slices.Clone(r.own)
	was := r.own[i]
	for try := 0; r.own[i] == was && try < 20; try++ {
		r.own[i] = d.fresh(rng, &c.columns[i], "")
	}
	return fmt.Sprintf("%s %s %q → %q", d.label(r), c.columns[i].path, was, r.own[i])
}

func (d *district) swap(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	others := slices.DeleteFunc(d.live(r.kind), func(o *row) bool { return o == r || o.hurt >= 0 })
	if len(others) == 0 {
		return ""
	}
	o := others[rng.IntN(len(others))]
	r.before, o.before = slices.Clone(r.own), slices.Clone(o.own)
	for _, i := range d.keyed(r) {
		r.own[i], o.own[i] = o.own[i], r.own[i]
	}
	return d.label(r) + " and " + d.label(o)
}

// pass gives a row the key of another one, and that one a new key.
func (d *district) pass(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	others := slices.DeleteFunc(d.live(r.kind), func(o *row) bool { return o == r || o.hurt >= 0 || !slices.Equal(o.parents, r.parents) })
	if len(others) == 0 {
		return ""
	}
	o := others[rng.IntN(len(others))]
	r.before, o.before = slices.Clone(r.own), slices.Clone(o.own)
	c := d.u.kinds[r.kind]
	for _, i := range d.keyed(r) {
		r.own[i], o.own[i] = o.own[i], d.fresh(rng, &c.columns[i], c.desc[i])
	}
	return d.label(r) + " gets that of " + d.label(o)
}

// namesake adds a row with the key another one had before its last edit, and copies what is below that one, which is corrected.
func (d *district) namesake(r *row) string {
	if r == nil {
		return ""
	}
	again := d.copy(r, r.own)
	for _, i := range d.keyed(r) {
		again.own[i] = r.before[i]
	}
	d.copyBelow(r, again)
	return d.label(r) + " to " + d.label(again)
}

func (d *district) copyBelow(from, to *row) {
	for _, c := range d.children(from) {
		again := d.copy(c, c.own)
		for slot, p := range again.parents {
			if p == from {
				again.parents[slot] = to
			}
		}
		d.copyBelow(c, again)
		if c.hurt >= 0 {
			d.heal(c)
		}
	}
}

// copy adds a valid row like another one, with values of its own.
func (d *district) copy(r *row, own []string) *row {
	again := *r
	d.next++
	again.id, again.own, again.parents, again.again = d.next, slices.Clone(own), slices.Clone(r.parents), nil
	if r.hurt >= 0 {
		again.own[r.hurt], again.hurt = r.healed, -1
	}
	again.before = slices.Clone(again.own)
	d.rows[r.kind] = append(d.rows[r.kind], &again)
	return &again
}

func (d *district) changeCase(r *row) string {
	if r == nil {
		return ""
	}
	i := d.named(r)[0]
	r.before = slices.Clone(r.own)
	was := r.own[i]
	if r.own[i] = strings.ToUpper(was); r.own[i] == was {
		r.own[i] = strings.ToLower(was)
	}
	return fmt.Sprintf("%s %q → %q", d.label(r), was, r.own[i])
}

func (d *district) twin(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	again := *r
	d.next++
	again.id, again.own, again.before, again.parents = d.next, slices.Clone(r.own), slices.Clone(r.before), slices.Clone(r.parents)
	d.rows[r.kind] = append(d.rows[r.kind], &again)
	what := "the same"
	if rng.IntN(3) > 0 {
		what = d.change(&again, rng)
	}
	return d.label(r) + " by " + fmt.Sprint(again.id) + ", " + what
}

func (d *district) move(r *row, rng *rand.Rand) string {
	if r == nil {
		return ""
	}
	slot := rng.IntN(len(r.parents))
	candidates := slices.DeleteFunc(d.live(d.u.kinds[r.kind].parent[slot]), func(p *row) bool { return p == r.parents[slot] || d.above(r, p) })
	if len(candidates) == 0 {
		return ""
	}
	r.parents[slot] = candidates[rng.IntN(len(candidates))]
	return d.label(r) + " to " + d.label(r.parents[slot])
}

// above reports whether r is p or an ancestor of p, or has the key of one: moving r below p would close a circle.
func (d *district) above(r, p *row) bool {
	return p != nil && (p == r || p.kind == r.kind && d.read(p, true).key == d.read(r, true).key || slices.ContainsFunc(p.parents, func(q *row) bool { return d.above(r, q) }))
}

// healAll makes every row valid, every key the key of one row, and lets every row refer to rows that are there.
func (d *district) healAll(fold bool) {
	d.refill()
	for again := true; again; {
		again = false
		for _, r := range d.all() {
			if r.hurt >= 0 {
				d.heal(r)
			}
			if slices.ContainsFunc(r.parents, func(p *row) bool { return p != nil && p.gone }) {
				d.remove(r, true)
				again = true
			}
		}
		d.version++
		s := d.scan(fold)
		for _, k := range d.kinds {
			for _, group := range s.keys[k] {
				for _, rec := range group[min(1, len(group)):] {
					d.remove(rec.row, true)
					again = true
				}
			}
		}
	}
	d.version++
}
