package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// Key unification: places of a payload that are one column in the ODS must hold one value. A reference in a collection's item may leave out
// what the item inherits from its parent; any other must be complete.

type unifyPass uint8

const (
	unifyGather unifyPass = iota
	unifyReport
	unifyFill
)

type unifier struct {
	d        *draft
	group    *unifyGroup
	pass     unifyPass
	value    slot
	own      bool // value is the parent's, not an item's
	conflict bool
	gaps     bool
	text     string // of the problem
}

func (d *draft) unify(t *table, root int32, g *unifyGroup) {
	u := unifier{d: d, group: g}
	u.run(t, root)
	switch {
	case u.conflict:
		u.text = u.conflictText(t, root)
		u.pass = unifyReport
		u.run(t, root)
	case u.gaps && u.own:
		u.pass = unifyFill
		u.run(t, root)
	}
}

func (u *unifier) run(t *table, root int32) {
	for i := range u.group.paths {
		u.walk(t.shape, root, u.group.paths[i].steps, nil, false, false)
	}
}

func (u *unifier) walk(s *shape, block int32, steps []uint16, up *where, inItem, inReference bool) {
	p := &s.props[steps[0]]
	sl := &u.d.slots[block+int32(steps[0])]
	at := where{up, p.Name, -1}
	if len(steps) == 1 {
		u.leaf(p, sl, &at, inItem, inItem && inReference)
		return
	}
	if sl.state != present {
		return
	}
	if p.Kind != schema.Collection {
		u.walk(p.shape, sl.child, steps[1:], &at, inItem, p.Kind == schema.Reference)
		return
	}
	for head := sl.child; head != 0; head = u.d.slots[head].next {
		at.index++
		u.walk(p.shape, head+1, steps[1:], &at, true, false)
	}
}

// leaf visits one place. mayInherit: its parent may give it.
func (u *unifier) leaf(p *prop, s *slot, at *where, inItem, mayInherit bool) {
	switch u.pass {
	case unifyGather:
		switch {
		case s.state == absent && mayInherit:
			u.gaps = true
		case s.state != present:
		case u.value.state == absent:
			u.value, u.own = *s, !inItem
		default:
			u.conflict = u.conflict || !u.d.same(p, s, &u.value)
			u.own = u.own || !inItem
		}
	case unifyFill:
		if s.state == absent && mayInherit {
			*s = u.value
		}
	case unifyReport:
		if s.state == present {
			u.d.problem(at, u.text)
		}
	}
}

// conflictText names the different values in the order of the group's paths.
func (u *unifier) conflictText(t *table, root int32) string {
	var values []string
	c := unifyValues{d: u.d, add: func(v string) {
		for _, have := range values {
			if have == v {
				return
			}
		}
		values = append(values, v)
	}}
	for i := range u.group.paths {
		c.walk(t.shape, root, u.group.paths[i].steps)
	}
	return fmt.Sprintf("All values supplied for '%s' must match. Review all references and align the following conflicting values: '%s'",
		u.group.name, strings.Join(values, "', '"))
}

type unifyValues struct {
	d   *draft
	add func(string)
}

func (c *unifyValues) walk(s *shape, block int32, steps []uint16) {
	p := &s.props[steps[0]]
	sl := &c.d.slots[block+int32(steps[0])]
	switch {
	case sl.state != present:
	case len(steps) == 1:
		c.add(c.d.print(p, sl))
	case p.Kind == schema.Collection:
		for head := sl.child; head != 0; head = c.d.slots[head].next {
			c.walk(p.shape, head+1, steps[1:])
		}
	default:
		c.walk(p.shape, sl.child, steps[1:])
	}
}

// print gives a scalar as text, for messages.
func (d *draft) print(p *prop, s *slot) string {
	switch p.Kind {
	case schema.Boolean:
		return strconv.FormatBool(s.num == 1)
	case schema.Integer, schema.Long:
		return strconv.FormatInt(s.num, 10)
	case schema.Date:
		return string(appendDate(nil, s.num))
	case schema.DateTime:
		return string(ticks(s.num).appendTime(nil))
	case schema.Time:
		return string(appendClock(nil, s.num))
	}
	return string(d.text(s))
}
