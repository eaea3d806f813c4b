package sync

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/edfisync/edfisync/syncdb"
)

// Warning is something a person should look at though no row is wrong: what the configuration or a request names is not there, so that a run does less than
// somebody meant. It changes no outcome and no exit code. It names schools and hashes, and no student's value (I14).
type Warning struct {
	Code   string `json:"code"`             // school-not-in-source, school-not-synced, record-not-found, resource-not-synced
	From   string `json:"from"`             // what names it: schools or exceptSchools of the connection, scope of the run
	Text   string `json:"text"`             // in words, on one line
	Hint   string `json:"hint"`             // what to do
	School int64  `json:"school,omitempty"` // schoolId

	Resource      string `json:"resource,omitempty"`
	KeyHash       string `json:"keyHash,omitempty"`       // keyed hash of the natural key of a record
	SourceRowHash string `json:"sourceRowHash,omitempty"` // keyed hash of the key of a source row
	More          int    `json:"more,omitempty"`          // in place of one: so many others of the same code and origin
}

// The codes of warnings. They are stable.
const (
	WarnSchoolAbsent   = "school-not-in-source"
	WarnSchoolOutside  = "school-not-synced"
	WarnRecordAbsent   = "record-not-found"
	WarnResourceUnused = "resource-not-synced"
)

// What names what a warning is about.
const (
	fromSchools = "schools"
	fromExcept  = "exceptSchools"
	fromScope   = "scope"
)

// maxAlike is how many warnings of one code and origin are told one by one.
const maxAlike = 20

// WarningHints are the codes of warnings, each with what to do about it.
func WarningHints() map[string]string {
	return map[string]string{
		WarnSchoolAbsent:   "Correct the schoolId, or look why the queries give no row of that school.",
		WarnSchoolOutside:  "Take the school into schools of the connection, or out of except_schools, if it is to be synced.",
		WarnRecordAbsent:   "Correct the key, or look why the queries do not give the row.",
		WarnResourceUnused: "Switch the resource on, or give it a query, if it is to be synced.",
	}
}

// endedAs is what the ledger keeps of how a run ended: Totals with what people should look at.
type endedAs struct {
	Totals
	Warnings []Warning `json:"warnings,omitempty"`
}

// WarningsOf are the warnings among the totals of a run that ended, as the ledger has them, and the totals without.
func WarningsOf(totals json.RawMessage) ([]Warning, json.RawMessage) {
	var found struct {
		Warnings []Warning `json:"warnings"`
	}
	if json.Unmarshal(totals, &found) != nil || len(found.Warnings) == 0 {
		return nil, totals
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(totals, &all) != nil {
		return found.Warnings, totals
	}
	delete(all, "warnings")
	bare, err := json.Marshal(all)
	if err != nil {
		return found.Warnings, totals
	}
	return found.Warnings, bare
}

// rowsAsked are the source rows a run was asked for by their keys. Mappers note at once which of them the source has.
type rowsAsked struct {
	of    map[string]map[syncdb.Hash]*atomic.Bool // by resource, in lower case
	parts map[string][]string                     // of the queries of these resources
}

// rowsAsked returns nil when no row was asked for.
func (e *Engine) rowsAsked(asked syncdb.RunScope) *rowsAsked {
	a := &rowsAsked{of: map[string]map[syncdb.Hash]*atomic.Bool{}, parts: map[string][]string{}}
	for _, p := range asked.Parts {
		if p.Source.IsZero() {
			continue
		}
		path := strings.ToLower(p.Resource)
		if a.of[path] == nil {
			a.of[path] = map[syncdb.Hash]*atomic.Bool{}
		}
		a.of[path][p.Source] = new(atomic.Bool)
	}
	if len(a.of) == 0 {
		return nil
	}
	for _, q := range e.Source.Queries() {
		path := strings.ToLower(q.Resource.Path)
		a.parts[path] = append(a.parts[path], q.Query.Part)
	}
	return a
}

// noteRow notes that the source has a row. Who asks for a row asks for it in every query of the resource, since each numbers its own: found in one is found.
func (m *mapper) noteRow(i int, key []byte) {
	path := strings.ToLower(m.res.Path)
	asked := m.s.asked.of[path]
	at, ok := asked[m.sources[i]]
	if !ok {
		return
	}
	at.Store(true)
	for _, part := range m.s.asked.parts[path] {
		m.src = sourceText(m.src[:0], part, key)
		if other, ok := asked[m.hasher.Sum(m.src)]; ok {
			other.Store(true)
		}
	}
}

// warnings are what the connection's schools and a run's scope name and the scan did not meet. They decide nothing.
func (s *scanner) warnings(asked syncdb.RunScope, found []*scanned) ([]Warning, error) {
	w := &warner{s: s, hints: WarningHints()}
	for _, r := range found {
		r.mu.Lock()
		w.rows += r.totals.Rows
		r.mu.Unlock()
	}
	lasting := s.o.Schools
	for _, id := range lasting.Only {
		w.school(id, fromSchools, "schools of the connection")
	}
	for _, id := range lasting.Except {
		w.school(id, fromExcept, "except_schools of the connection")
	}
	for _, p := range asked.Parts {
		switch {
		case p.School == 0:
		case lasting.covers(p.School):
			w.school(p.School, fromScope, "scope of the run")
		default:
			w.add(Warning{Code: WarnSchoolOutside, From: fromScope, School: p.School,
				Text: fmt.Sprintf("school %d (scope of the run) is not one the connection syncs (schools, except_schools)", p.School)})
		}
		if p.Resource == "" {
			continue
		}
		i := slices.IndexFunc(found, func(r *scanned) bool { return strings.EqualFold(r.Path, p.Resource) })
		if i < 0 || found[i].off {
			w.add(Warning{Code: WarnResourceUnused, From: fromScope, Resource: p.Resource, Text: p.Resource + " (scope of the run) is not synced by the connection"})
		} else if err := w.record(found[i], p); err != nil {
			return nil, fmt.Errorf("look for the records of the run's scope: %w", err)
		}
	}
	return w.all(), nil
}

// warner collects warnings.
type warner struct {
	s     *scanner
	hints map[string]string
	rows  int64 // that were read
	out   []Warning
}

func (w *warner) add(one Warning) {
	one.Hint = w.hints[one.Code]
	if !slices.Contains(w.out, one) { // a school is asked for with each of several resources
		w.out = append(w.out, one)
	}
}

func (w *warner) school(id int64, from, where string) {
	if at, ok := w.s.schools.asked[id]; ok && !at.Load() {
		w.add(Warning{Code: WarnSchoolAbsent, From: from, School: id, Text: fmt.Sprintf("school %d (%s) is named by no row of the source: %d rows read", id, where, w.rows)})
	}
}

// record warns of a record that neither a row nor an entry of the ledger is of.
func (w *warner) record(r *scanned, p syncdb.ScopePart) error {
	one := Warning{Code: WarnRecordAbsent, From: fromScope, Resource: r.Path}
	switch {
	case !p.Key.IsZero():
		if _, held := r.heldKey[p.Key]; held || r.table.find(p.Key) >= 0 {
			return nil
		}
		one.KeyHash = hex.EncodeToString(p.Key[:])
		one.Text = fmt.Sprintf("record %s of %s (scope of the run) is neither in the source nor in the ledger: %d rows read", one.KeyHash[:12], r.Path, w.rows)
	case !p.Source.IsZero():
		there, err := w.row(r, p.Source)
		if there || err != nil {
			return err
		}
		one.Text = fmt.Sprintf("a row of %s (scope of the run) is neither in the source nor in the ledger: %d rows read", r.Path, w.rows)
		if w.queries(r) == 1 { // else one row has a hash for each query
			one.SourceRowHash = hex.EncodeToString(p.Source[:])
			one.Text = fmt.Sprintf("row %s of %s (scope of the run) is neither in the source nor in the ledger: %d rows read", one.SourceRowHash[:12], r.Path, w.rows)
		}
	default:
		return nil
	}
	w.add(one)
	return nil
}

func (w *warner) queries(r *scanned) int { return len(w.s.asked.parts[strings.ToLower(r.Path)]) }

// row reports whether the source has a row, or the ledger an entry that one left.
func (w *warner) row(r *scanned, source syncdb.Hash) (bool, error) {
	asked := w.s.asked.of[strings.ToLower(r.Path)]
	if asked[source].Load() {
		return true, nil
	}
	there := false
	note := func(rec *record) error {
		at, ok := asked[rec.SourceHash] // which hashes are of one row asked for in several queries only the row tells: one found is all found
		if ok && (rec.SourceHash == source || w.queries(r) > 1) {
			at.Store(true)
			there = true
		}
		return nil
	}
	err := errors.Join(r.gone.each(note), r.kept.each(note))
	return there, err
}

// all are the warnings, those of one code and origin above maxAlike as one. Of one record asked for in several queries one warning is enough.
func (w *warner) all() []Warning {
	var out []Warning
	type kind struct{ code, from string }
	alike := map[kind]int{}
	for _, one := range w.out {
		k := kind{one.Code, one.From}
		if alike[k]++; alike[k] <= maxAlike {
			out = append(out, one)
		}
	}
	for _, one := range w.out {
		k := kind{one.Code, one.From}
		if more := alike[k] - maxAlike; more > 0 {
			out = append(out, Warning{Code: one.Code, From: one.From, Hint: one.Hint, More: more, Text: fmt.Sprintf("%d more like it: %s", more, one.Code)})
			alike[k] = 0
		}
	}
	return out
}

// tellWarnings writes them to the log of the run.
func (e *Engine) tellWarnings(ctx context.Context, of []Warning) {
	for _, w := range of {
		e.logger().WarnContext(ctx, w.Text, slog.String("code", w.Code))
	}
}
