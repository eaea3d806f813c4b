package schema

import "strings"

// Nearest returns the valid dotted path of r that a person most likely meant by path, or "" when none is near: one that ends in the same
// name ("schoolId" for "schoolReference.schoolId"), else the one with the fewest typing errors, case aside.
func (m *Model) Nearest(r *Resource, path string) string {
	wrong := strings.ToLower(path)
	limit := max(2, len(wrong)/3)
	best, bestDistance := "", limit+1
	r.Root.walk("", func(candidate string, p *Property) {
		right := strings.ToLower(candidate)
		d := editDistance(wrong, right, bestDistance)
		if strings.HasSuffix(right, "."+wrong) {
			d = min(d, 1+strings.Count(right, "."))
		}
		if d < bestDistance {
			best, bestDistance = candidate, d
		}
	})
	return best
}

// walk visits every property below f with its dotted path, in the order of the model, holders before what they hold.
func (f *Fields) walk(prefix string, visit func(path string, p *Property)) {
	for _, p := range f.Properties {
		path := prefix + p.Name
		visit(path, p)
		if p.Fields != nil {
			p.Fields.walk(path+".", visit)
		}
	}
}

// editDistance counts the insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal string alignment).
// It stops counting at limit, which it then returns.
func editDistance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
