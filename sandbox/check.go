package sandbox

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/edfisync/edfisync/schema"
)

// check finds what is wrong with a payload by itself, in the ODS's words (all problems at once), and completes references whose leaves
// are given elsewhere by key unification. Whether descriptors and referenced items exist is for the store to say.
func (d *draft) check(t *table, root int32) {
	for i := range t.unify {
		d.unify(t, root, &t.unify[i])
	}
	d.checkObject(t.shape, root, nil, t.res.Descriptor)
}

func (d *draft) checkObject(s *shape, block int32, up *where, descriptor bool) {
	for i := range s.props {
		p := &s.props[i]
		switch sl := &d.slots[block+int32(i)]; sl.state {
		case absent:
			if p.Required || p.MinItems > 0 {
				d.problem(&where{up, p.Name, -1}, missingText(s, p))
			}
		case present:
			d.checkMember(s, p, sl, up, descriptor)
		}
	}
}

// checkMember is a function of its own to keep its place off the heap: in the loop it would be moved there.
func (d *draft) checkMember(s *shape, p *prop, sl *slot, up *where, descriptor bool) {
	at := where{up, p.Name, -1}
	switch p.Kind {
	case schema.Object:
		d.checkObject(p.shape, sl.child, &at, false)
	case schema.Reference:
		d.checkReference(p, sl, &at)
	case schema.Collection:
		d.checkCollection(s, p, sl, &at)
	case schema.String:
		d.checkString(p, sl, &at)
		if descriptor {
			d.checkDescriptor(p, sl, &at)
		}
	case schema.Descriptor:
		if p.Required && len(bytes.TrimSpace(d.text(sl))) == 0 {
			d.problem(&at, p.title+" is required and should not be left empty.")
			sl.state = broken
		}
	case schema.Integer, schema.Long:
		if p.Required && sl.num == 0 {
			d.problem(&at, p.title+" value must be different than 0.")
		} else if p.HasRange && (sl.num < p.Min || sl.num > p.Max) {
			d.problem(&at, fmt.Sprintf("%s must be between %d and %d.", p.title, p.Min, p.Max))
		}
	}
}

func missingText(owner *shape, p *prop) string {
	switch p.Kind {
	case schema.Collection:
		return fmt.Sprintf("%s%s must have at least one item.", owner.name, p.title)
	case schema.Boolean, schema.Decimal, schema.Time:
		return "Value is required."
	}
	return p.title + " is required."
}

func (d *draft) checkReference(p *prop, s *slot, at *where) {
	var missing []string
	given := 0
	for _, leaf := range p.ref.leaves {
		q := &p.shape.props[leaf]
		l := &d.slots[s.child+int32(leaf)]
		switch {
		case l.state == broken:
			s.state = broken
			return
		case l.state == absent,
			(q.Kind == schema.Integer || q.Kind == schema.Long) && l.num == 0,
			q.Kind == schema.String && l.lo == l.hi:
			missing = append(missing, q.title)
		default:
			given++
		}
	}
	switch {
	case len(missing) == 0:
	case given > 0:
		d.problem(at, p.title+" is missing the following properties: "+strings.Join(missing, ", "))
		s.state = broken
	case p.Required:
		d.problem(at, p.title+" is required.")
		s.state = broken
	default:
		s.state = absent
	}
}

func (d *draft) checkCollection(owner *shape, p *prop, s *slot, up *where) {
	if s.num == 0 {
		if p.Required || p.MinItems > 0 {
			d.problem(up, missingText(owner, p))
		}
		return
	}
	at := *up
	n := 0
	var seen map[string]bool
	for head := s.child; head != 0; head = d.slots[head].next {
		at.index = n
		d.checkObject(p.shape, head+1, &at, false)
		if s.num > 1 && d.repeated(p.shape, s.child, n, head, &seen) {
			d.problem(up, fmt.Sprintf("The %s item of the %s%s has the same identifying values as another item earlier in the list.",
				ordinalText(n+1), owner.name, p.title))
		}
		n++
	}
}

const fewItems = 16 // up to here comparing each with each is quicker than a map

// repeated says whether the n-th item has the item key of an earlier one. seen is a map the first items beyond a few make.
func (d *draft) repeated(s *shape, first int32, n int, head int32, seen *map[string]bool) bool {
	if n < fewItems {
		for before, i := first, 0; i < n; before, i = d.slots[before].next, i+1 {
			if d.sameItem(s, before+1, head+1) {
				return true
			}
		}
		return false
	}
	if *seen == nil {
		*seen = map[string]bool{}
		for before, i := first, 0; i < n; before, i = d.slots[before].next, i+1 {
			(*seen)[d.itemText(s, before+1)] = true
		}
	}
	key := d.itemText(s, head+1)
	again := (*seen)[key]
	(*seen)[key] = true
	return again
}

func ordinalText(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n, suffix)
}

func (d *draft) checkString(p *prop, s *slot, at *where) {
	text := d.text(s)
	if p.Required && len(bytes.TrimSpace(text)) == 0 {
		d.problem(at, p.title+" is required and should not be left empty.")
		return
	}
	if tooShort, tooLong := d.length(p, text); tooShort || tooLong {
		if p.MinLength > 0 {
			d.problem(at, fmt.Sprintf("%s must be between %d and %d characters in length.", p.title, p.MinLength, p.MaxLength))
		} else {
			d.problem(at, fmt.Sprintf("%s must be at most %d characters in length.", p.title, p.MaxLength))
		}
	}
	if p.Identity && len(text) > 0 && (text[0] == ' ' || text[len(text)-1] == ' ') {
		d.problem(at, p.title+" cannot contain leading or trailing spaces.")
	}
	if dangerous(text) {
		d.problem(at, p.title+" contains a value that could be dangerous for downstream systems.")
	}
}

func (d *draft) length(p *prop, text []byte) (tooShort, tooLong bool) {
	if len(text) >= p.MinLength*utf8.UTFMax && (p.MaxLength == 0 || len(text) <= p.MaxLength) {
		return false, false // cannot be otherwise, whatever the characters
	}
	n := utf8.RuneCount(text)
	return n < p.MinLength, p.MaxLength > 0 && n > p.MaxLength
}

// dangerous is the ODS's guard against script in text: "<" before a letter, "!", "/" or "?", or "&#".
func dangerous(text []byte) bool {
	for rest := text; ; {
		i := bytes.IndexAny(rest, "<&")
		if i < 0 || i == len(rest)-1 {
			return false
		}
		c := rest[i+1]
		if rest[i] == '&' && c == '#' || rest[i] == '<' && (c == '!' || c == '/' || c == '?' || c|0x20 >= 'a' && c|0x20 <= 'z') {
			return true
		}
		rest = rest[i+1:]
	}
}

// checkDescriptor applies the two rules descriptor resources have beside their lengths.
func (d *draft) checkDescriptor(p *prop, s *slot, at *where) {
	text := d.text(s)
	switch p.Name {
	case "namespace":
		rest, ok := bytes.CutPrefix(text, []byte("uri://"))
		org, name, found := bytes.Cut(rest, []byte{'/'})
		if !ok || !found || len(org) == 0 || len(name) == 0 {
			d.problem(at, "Namespace must be a valid URI of the form 'uri://[organization]/[DescriptorName]'.")
		}
	case "codeValue":
		if bytes.IndexByte(text, '#') >= 0 {
			d.problem(at, "CodeValue cannot contain the character '#'.")
		}
	}
}

// sameItem says whether two items of a collection have the same item key.
func (d *draft) sameItem(s *shape, a, b int32) bool {
	if len(s.item) == 0 {
		return d.sameBlock(s, a, b)
	}
	for _, steps := range s.item {
		at, x, y := s, a, b
		for n, step := range steps {
			p := &at.props[step]
			sx, sy := &d.slots[x+int32(step)], &d.slots[y+int32(step)]
			if n < len(steps)-1 && sx.state == present && sy.state == present {
				at, x, y = p.shape, sx.child, sy.child
				continue
			}
			if !d.same(p, sx, sy) {
				return false
			}
			break
		}
	}
	return true
}

// itemText spells an item's key so that items with the same key, as sameItem has it, have the same text.
func (d *draft) itemText(s *shape, block int32) string {
	d.tmp = d.tmp[:0]
	if len(s.item) == 0 {
		d.spell(s, block)
	}
	for _, steps := range s.item {
		p, sl := d.scalarAt(s, block, steps)
		if p == nil {
			d.tmp = append(d.tmp, "-;"...)
			continue
		}
		d.spellValue(p, sl)
	}
	return string(d.tmp)
}

func (d *draft) spell(s *shape, block int32) {
	for i := range s.props {
		sl := &d.slots[block+int32(i)]
		if sl.state != present {
			d.tmp = append(d.tmp, '-', '0'+byte(sl.state), ';')
			continue
		}
		d.spellValue(&s.props[i], sl)
	}
}

func (d *draft) spellValue(p *prop, s *slot) {
	switch p.Kind {
	case schema.Object, schema.Reference:
		d.tmp = append(d.tmp, '{')
		d.spell(p.shape, s.child)
	case schema.Collection:
		for head := s.child; head != 0; head = d.slots[head].next {
			d.tmp = append(d.tmp, '[')
			d.spell(p.shape, head+1)
		}
	case schema.Descriptor:
		d.tmp = appendFolded(d.tmp, d.text(s), false)
	case schema.String, schema.Decimal:
		d.tmp = appendText(d.tmp, d.text(s))
	default:
		d.tmp = strconv.AppendInt(d.tmp, s.num, 10)
	}
	d.tmp = append(d.tmp, ';')
}

func (d *draft) sameBlock(s *shape, a, b int32) bool {
	for i := range s.props {
		if !d.same(&s.props[i], &d.slots[a+int32(i)], &d.slots[b+int32(i)]) {
			return false
		}
	}
	return true
}

func (d *draft) same(p *prop, a, b *slot) bool {
	if a.state != present || b.state != present {
		return a.state == b.state
	}
	switch p.Kind {
	case schema.Object, schema.Reference:
		return d.sameBlock(p.shape, a.child, b.child)
	case schema.Collection:
		x, y := a.child, b.child
		for x != 0 && y != 0 && d.sameBlock(p.shape, x+1, y+1) {
			x, y = d.slots[x].next, d.slots[y].next
		}
		return x == 0 && y == 0
	case schema.Descriptor:
		return bytes.EqualFold(d.text(a), d.text(b))
	case schema.String, schema.Decimal:
		return bytes.Equal(d.text(a), d.text(b))
	}
	return a.num == b.num
}
