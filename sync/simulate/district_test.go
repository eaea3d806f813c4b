package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// row is one row of a source. Rows that were deleted stay, so that they can come back as they were.
type row struct {
	id      int // source key
	kind    int
	own     []string // by column; "" = NULL; empty for columns that are not the row's own
	parents []*row   // by slot; nil = none
	gone    bool
	before  []string // own values before the last edit
	hurt    int      // column that was made invalid, -1 = none
	healed  string   // what it was
	empties bool     // gone because its whole table is
	again   []int    // ids it had before it was made again

	seen   *rec // what it is read as, at version seenAt of the district
	seenAt int
}

// district is the source of one connection.
type district struct {
	u       *universe
	tag     string // keeps its keys apart from other connections'
	number  int
	kinds   []int // in load order
	has     map[int]bool
	rows    [][]*row // by kind
	next    int
	version int // changes with every edit

	going []*row // removed or changed since the last run began
	went  []*row // between that run and the one before

	brokenAt int // 1-based count of queries after which the next scan breaks; 0 = it does not
	seen     *scan
}

// among reports whether the row, or what it was before it was made again, is one of these.
func (r *row) among(rows map[int]bool) bool {
	return rows[r.id] || slices.ContainsFunc(r.again, func(id int) bool { return rows[id] })
}

func newDistrict(u *universe, number int, kinds []int) *district {
	d := &district{u: u, number: number, tag: string(rune('a' + number)), kinds: kinds, has: map[int]bool{}, rows: make([][]*row, len(u.kinds))}
	for _, k := range kinds {
		d.has[k] = true
	}
	return d
}

// live returns the rows of a kind that are there.
func (d *district) live(k int) []*row {
	return slices.DeleteFunc(slices.Clone(d.rows[k]), func(r *row) bool { return r.gone })
}

// all returns all rows that are there.
func (d *district) all() []*row {
	var out []*row
	for _, k := range d.kinds {
		out = append(out, d.live(k)...)
	}
	return out
}

// fresh makes a value for a row's own column.
func (d *district) fresh(rng *rand.Rand, c *column, desc string) string {
	switch c.sort {
	case ownID:
		d.next++
		return fmt.Sprint(100_000*(d.number+1) + d.next)
	case ownName:
		d.next++
		return fmt.Sprintf("%s%c%d", d.tag, "kK"[rng.IntN(2)], d.next)
	case ownText:
		if !c.key && rng.IntN(6) == 0 {
			return "" // optional texts may be missing; required ones are made again below
		}
		return fmt.Sprintf("v%d", rng.IntN(3))
	case ownDate:
		return fmt.Sprintf("2025-%02d-%02d", 8+rng.IntN(3), 1+rng.IntN(3))
	case ownCount:
		return fmt.Sprint(1 + rng.IntN(3))
	default:
		return c.values[rng.IntN(len(c.values))]
	}
}

// insert adds a row of a kind, with parents when there are none.
func (d *district) insert(rng *rand.Rand, k, depth int) *row {
	c := d.u.kinds[k]
	d.next++
	r := &row{id: d.next, kind: k, own: make([]string, len(c.columns)), parents: make([]*row, len(c.parent)), hurt: -1}
	for slot, parent := range c.parent {
		candidates := d.live(parent)
		switch {
		case c.optional[slot] && (rng.IntN(2) == 0 || len(candidates) == 0):
		case len(candidates) == 0:
			r.parents[slot] = d.insert(rng, parent, depth+1)
		default:
			r.parents[slot] = candidates[rng.IntN(len(candidates))]
		}
	}
	for _, i := range c.owns {
		r.own[i] = d.fresh(rng, &c.columns[i], c.desc[i])
		for r.own[i] == "" && c.required[i] {
			r.own[i] = d.fresh(rng, &c.columns[i], c.desc[i])
		}
	}
	r.before = slices.Clone(r.own)
	d.rows[k] = append(d.rows[k], r)
	d.version++
	return r
}

// value is what a mapping query gives for a column of a row.
func (d *district) value(r *row, column int) string {
	c := &d.u.kinds[r.kind].columns[column]
	switch c.sort {
	case fixed:
		return c.values[0]
	case inherited:
		p := r.parents[c.parent]
		if p == nil {
			return ""
		}
		return d.value(p, d.u.kinds[r.kind].from[column])
	case inPeriod:
		p := r.parents[0]
		cols := d.u.kinds[p.kind].column
		return fmt.Sprintf(`[{"classPeriodReference":{"classPeriodName":%q,"schoolId":%s}}]`,
			d.value(p, cols["classPeriodName"]), orZero(d.value(p, cols["schoolReference.schoolId"])))
	}
	return r.own[column]
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

// children returns the live rows that refer to a row, directly.
func (d *district) children(r *row) []*row {
	var out []*row
	for _, k := range d.kinds {
		for _, c := range d.rows[k] {
			if !c.gone && slices.Contains(c.parents, r) {
				out = append(out, c)
			}
		}
	}
	return out
}
