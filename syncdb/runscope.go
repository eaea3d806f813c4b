package syncdb

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// RunScope says which part of what changed a run sends: what any of its parts means. The zero value is all of it. It holds no student data: records
// are named by keyed hashes.
type RunScope struct {
	Parts []ScopePart
}

// ScopePart means the records to which all that it names applies. It names at least one thing.
type ScopePart struct {
	Resource string // "ed-fi/students"; "" = of every resource
	School   int64  // the school's id; 0 = of every school, and of none
	Key      Hash   // of the natural key; with Resource
	Source   Hash   // of the source row; with Resource
}

// maxScopeParts is how many parts a scope has at most. A union with more is a scope without limits.
const maxScopeParts = 1000

// All reports whether nothing is left out.
func (s RunScope) All() bool { return len(s.Parts) == 0 }

// covers reports whether all that b means is meant by a, too.
func (a ScopePart) covers(b ScopePart) bool {
	return (a.Resource == "" || a.Resource == b.Resource) && (a.School == 0 || a.School == b.School) &&
		(a.Key.IsZero() || a.Key == b.Key) && (a.Source.IsZero() || a.Source == b.Source)
}

// Covers reports whether all that the other scope means is meant by this one, too.
func (s RunScope) Covers(other RunScope) bool {
	if s.All() || other.All() {
		return s.All()
	}
	return !slices.ContainsFunc(other.Parts, func(b ScopePart) bool {
		return !slices.ContainsFunc(s.Parts, func(a ScopePart) bool { return a.covers(b) })
	})
}

// Union means what one of the two scopes means. Its parts are in an order of their own, without those that others mean already.
func (s RunScope) Union(other RunScope) RunScope {
	if s.All() || other.All() {
		return RunScope{}
	}
	all := slices.Concat(s.Parts, other.Parts)
	slices.SortFunc(all, ScopePart.compare)
	all = slices.Compact(all)
	there := make(map[ScopePart]bool, len(all))
	for _, p := range all {
		there[p] = true
	}
	out := slices.DeleteFunc(all, func(p ScopePart) bool { return p.isCovered(there) })
	if len(out) > maxScopeParts {
		return RunScope{}
	}
	return RunScope{Parts: out}
}

// isCovered reports whether another of the parts means all that this one means: one that names less of the same. Looking for those few takes the
// same time however many parts there are.
func (a ScopePart) isCovered(parts map[ScopePart]bool) bool {
	for left := 1; left < 15; left++ { // one bit for each thing that is left out; with all four out it would name nothing
		wider := a
		if left&1 != 0 {
			wider.Resource = ""
		}
		if left&2 != 0 {
			wider.School = 0
		}
		if left&4 != 0 {
			wider.Key = Hash{}
		}
		if left&8 != 0 {
			wider.Source = Hash{}
		}
		if wider != a && parts[wider] {
			return true
		}
	}
	return false
}

func (a ScopePart) compare(b ScopePart) int {
	return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.School, b.School), bytes.Compare(a.Key[:], b.Key[:]), bytes.Compare(a.Source[:], b.Source[:]))
}

// partJSON is a part as it is stored and shown.
type partJSON struct {
	Resource  string `json:"resource,omitempty"`
	School    int64  `json:"school,omitempty"`
	KeyHash   string `json:"keyHash,omitempty"`
	SourceRow string `json:"sourceRowHash,omitempty"`
}

// MarshalJSON writes the parts as an array; null is the whole.
func (s RunScope) MarshalJSON() ([]byte, error) {
	if s.All() {
		return []byte("null"), nil
	}
	text := func(h Hash) string {
		if h.IsZero() {
			return ""
		}
		return hex.EncodeToString(h[:])
	}
	parts := make([]partJSON, len(s.Parts))
	for i, p := range s.Parts {
		parts[i] = partJSON{p.Resource, p.School, text(p.Key), text(p.Source)}
	}
	return json.Marshal(parts)
}

// UnmarshalJSON reads what MarshalJSON writes. Anything else is an error: a scope that is not understood must not pass for the whole.
func (s *RunScope) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var parts []partJSON
	if err := d.Decode(&parts); err != nil {
		return fmt.Errorf("read the scope of a run: %w", err)
	}
	if parts != nil && len(parts) == 0 {
		return errors.New("read the scope of a run: it has no parts")
	}
	s.Parts = nil
	for _, p := range parts {
		part := ScopePart{Resource: p.Resource, School: p.School}
		for text, h := range map[string]*Hash{p.KeyHash: &part.Key, p.SourceRow: &part.Source} {
			if text == "" {
				continue
			}
			raw, err := hex.DecodeString(text)
			if err != nil || len(raw) != len(h) {
				return errors.New("read the scope of a run: a hash is not one")
			}
			copy(h[:], raw)
		}
		if part == (ScopePart{}) {
			return errors.New("read the scope of a run: a part names nothing")
		}
		s.Parts = append(s.Parts, part)
	}
	return nil
}

// Value is the scope as a column of the ledger holds it; NULL = the whole.
func (s RunScope) Value() (driver.Value, error) {
	if s.All() {
		return nil, nil
	}
	b, err := json.Marshal(s)
	return string(b), err
}

// Scan reads such a column.
func (s *RunScope) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*s = RunScope{}
		return nil
	case string:
		return s.UnmarshalJSON([]byte(v))
	case []byte:
		return s.UnmarshalJSON(v)
	}
	return fmt.Errorf("read the scope of a run: a column of type %T", column)
}
