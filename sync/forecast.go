package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// ForecastTarget is what a forecast asks of the target. Nothing is written.
type ForecastTarget interface {
	TokenInfo(ctx context.Context) (*edfi.TokenInfo, error)
	OpenAPI(ctx context.Context) (resources, descriptors []byte, err error)
	Each(ctx context.Context, resource string, opts edfi.PageOptions, fn func(item json.RawMessage) error) error
}

// Forecast predicts what would become of the rows if a run took place now. Each row counts once, with the first reason that keeps it from
// arriving, or with the reason of the record it waits for.
type Forecast struct {
	Rows      int64            `json:"rows"`               // read from the source
	Unchanged int64            `json:"unchanged"`          // the target holds them already, as far as the ledger knows
	Arrive    int64            `json:"arrive"`             // would be created or updated
	Fail      int64            `json:"fail"`               // would not arrive
	Unsure    int64            `json:"unsure,omitempty"`   // of Arrive: would not where the host authorises by relationship, because what ties their people to us would not arrive
	Reasons   []ForecastReason `json:"reasons"`            // the one whose solution lets most rows through first
	Notes     []string         `json:"notes"`              // what could not be found out, and what it means
	Warnings  []Warning        `json:"warnings,omitempty"` // what the connection's schools name and is not there
}

// ForecastReason is one reason why rows would not arrive.
type ForecastReason struct {
	Code     string `json:"code"`
	Resource string `json:"resource"`
	Cause    string `json:"cause"` // names and codes; no value of a record
	Owner    string `json:"owner"` // who must act: mapping, source data, target host
	Hint     string `json:"hint"`
	Rows     int64  `json:"rows"`  // rows of the resource; 0 = all of them, not counted
	Frees    int64  `json:"frees"` // rows of other resources that wait for these
}

// Forecast reads all rows as a run would, checks them against the target's own description, its descriptors, and what the credentials are for, and
// predicts how many would not arrive, why, and who must act. It sends no write to the target and writes nothing to the ledger. What the target
// does not tell is a note. Memory: 40 bytes for each row that would not arrive, and for each record of the target that rows may refer to.
func (e *Engine) Forecast(ctx context.Context, t ForecastTarget) (*Forecast, error) {
	o := e.options()
	f := &forecaster{e: e, t: t, rules: o.Rules, hasher: schema.NewHasher(e.Keys.HashMAC()), at: map[ForecastReason]int{}, out: &Forecast{Reasons: []ForecastReason{}, Notes: []string{}}}
	sc, err := newScope(e.Model, f.known(e.Source.Queries()), e.Dependencies)
	if err != nil {
		return nil, err
	}
	f.scope = sc
	dir, err := newWorkspace(o.WorkDir, "edfisync-forecast-")
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	p := newProgress(e.Progress)
	defer p.stop()
	p.phase("scan", "")
	f.failed = make([]map[syncdb.Hash]int, len(sc.resources))
	for i := range f.failed {
		f.failed[i] = map[syncdb.Hash]int{}
	}
	scan := &scanner{e: e, o: o, scope: sc, dir: dir, report: p.scanned, problems: f.invalid, schools: e.schoolNames(syncdb.RunScope{}, o.Schools)}
	found, err := scan.scan(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll(found)
	if f.out.Warnings, err = scan.warnings(syncdb.RunScope{}, found); err != nil {
		return nil, err
	}
	if err := f.ask(ctx, found); err != nil {
		return nil, err
	}
	f.ties = rights{e: e, scope: sc, found: found}
	f.lack, f.has, f.unsure = map[reference]struct{}{}, map[reference]struct{}{}, make([]map[syncdb.Hash]struct{}, len(found))
	for i, r := range found {
		f.unsure[i] = map[syncdb.Hash]struct{}{}
		for person := range r.unsendable.gives {
			f.lack[person] = struct{}{}
		}
	}
	for i, r := range found {
		p.phase("forecast", r.Path)
		if err := f.resource(ctx, i, r); err != nil {
			return nil, fmt.Errorf("forecast %s: %w", r.Path, err)
		}
	}
	return f.conclude(), nil
}

// forecaster collects a forecast.
type forecaster struct {
	e      *Engine
	t      ForecastTarget
	rules  schema.Rules
	hasher *schema.Hasher
	scope  *scope
	found  []*scanned
	out    *Forecast

	mu     gosync.Mutex
	at     map[ForecastReason]int // reason without its figures → index in out.Reasons
	failed []map[syncdb.Hash]int  // by resource: key of a record that would not arrive → its reason
	facts  targetFacts

	ties   rights
	lack   map[reference]struct{}     // people to whom rows would give us the right that would not arrive
	has    map[reference]struct{}     // of these: whom another row gives it
	unsure []map[syncdb.Hash]struct{} // by resource: keys of new records that would not arrive where the host authorises by relationship
}

// known leaves out the queries of resources the target does not have.
func (f *forecaster) known(queries []*source.Bound) []*source.Bound {
	there := map[string]bool{}
	for _, d := range f.e.Dependencies {
		there[strings.ToLower(strings.TrimPrefix(d.Resource, "/"))] = true
	}
	var out []*source.Bound
	for _, q := range queries {
		if there[strings.ToLower(q.Resource.Path)] {
			out = append(out, q)
			continue
		}
		f.reason("no-such-resource", q.Resource.Path, "the target's list of resources does not have it", "")
	}
	return out
}

// reason returns the index of a reason, new or known. An empty owner means the code's usual one.
func (f *forecaster) reason(code, resource, cause, owner string) int {
	a, _ := AdviceOn(code)
	r := ForecastReason{Code: code, Resource: resource, Cause: cause, Owner: cmp.Or(owner, a.Owner, byHost), Hint: a.Hint}
	i, ok := f.at[r]
	if !ok {
		i = len(f.out.Reasons)
		f.at[r] = i
		f.out.Reasons = append(f.out.Reasons, r)
	}
	return i
}

// invalid takes the rows that break a rule of the model, from the scan.
func (f *forecaster) invalid(problems []syncdb.Problem) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range problems {
		i := f.reason(p.Code, p.Resource, p.Cause, p.Owner)
		f.out.Reasons[i].Rows++
		at := slices.IndexFunc(f.scope.resources, func(r *scoped) bool { return r.Path == p.Resource })
		if !p.KeyHash.IsZero() && at >= 0 {
			f.failed[at][p.KeyHash] = i
		}
	}
	return nil
}

// resource judges the rows of one resource that a run would send. Those they refer to were judged before: load order.
func (f *forecaster) resource(ctx context.Context, at int, r *scanned) error {
	f.out.Rows += r.totals.Rows
	f.out.Unchanged += r.totals.Unchanged
	judge := func(verb syncdb.Verb) func(*record) error {
		return func(rec *record) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			reason, waits := f.judge(at, r, verb, rec)
			f.tie(r, rec, reason < 0)
			if reason < 0 {
				f.out.Arrive++
				unsure, err := f.isUnsure(ctx, at, r, verb, rec)
				if err != nil {
					return err
				}
				if unsure {
					f.out.Unsure++
				}
				delete(f.failed[at], rec.KeyHash) // a second row of the same payload was left out; this one stands for both
				return nil
			}
			if waits {
				f.out.Reasons[reason].Frees++
			} else {
				f.out.Reasons[reason].Rows++
			}
			if verb == syncdb.Create { // a changed record stays where it is
				f.failed[at][rec.KeyHash] = reason
			}
			return nil
		}
	}
	return errors.Join(r.fresh.each(judge(syncdb.Create)), r.changed.each(judge(syncdb.Update)))
}

// tie notes the people to whom a row would give us the right, and whether it arrives.
func (f *forecaster) tie(r *scanned, rec *record, arrives bool) {
	if !authorises(r.Name) {
		return
	}
	to := f.lack
	if arrives {
		to = f.has
	}
	for _, ref := range rec.Refs {
		if slices.Contains(people[f.scope.targets[ref.Target].Entity], r.Name) {
			to[ref] = struct{}{}
		}
	}
}

// isUnsure reports whether a record arrives only where the host asks for no relationship: a row that would tie its person to us does not arrive, and nothing
// else ties the person; or what it refers to is such a record. By which rule a host authorises it does not tell.
func (f *forecaster) isUnsure(ctx context.Context, at int, r *scanned, verb syncdb.Verb, rec *record) (bool, error) {
	if len(f.lack) == 0 {
		return false, nil
	}
	unsure := slices.ContainsFunc(rec.Refs, func(ref reference) bool {
		return slices.ContainsFunc(f.scope.targets[ref.Target].Resources, func(j int) bool {
			_, is := f.unsure[j][ref.Hash]
			return is
		})
	})
	if _, person := people[r.Name]; !unsure && !(person && verb == syncdb.Create) {
		untied := slices.DeleteFunc(f.scope.peopleOf(r, rec.Refs, rec.KeyHash), func(ref reference) bool {
			_, lacks := f.lack[ref]
			_, has := f.has[ref]
			return !lacks || has
		})
		lacking, err := f.ties.lacking(ctx, untied)
		if err != nil {
			return false, err
		}
		unsure = len(lacking) > 0
	}
	if unsure && verb == syncdb.Create {
		f.unsure[at][rec.KeyHash] = struct{}{}
	}
	return unsure, nil
}

// judge returns the reason why a record would not arrive, -1 when nothing speaks against it. waits tells that it is another record's reason.
func (f *forecaster) judge(at int, r *scanned, verb syncdb.Verb, rec *record) (reason int, waits bool) {
	if _, dup := r.dups[rec.KeyHash]; dup {
		return f.reason("duplicate-natural-key", r.Path, "several rows have one natural key and different payloads", ""), false
	}
	if !f.facts.may(r.Path, verb) {
		return f.reason("claim-denied", r.Path, "the claim set "+f.facts.claimSet+" does not allow to "+verbName(verb)+" it", ""), false
	}
	if i := f.content(r, rec.Payload); i >= 0 {
		return i, false
	}
	if i := f.rights(r, rec.Key); i >= 0 {
		return i, false
	}
	return f.references(at, r, rec)
}

// content checks a payload against the target's own description and its descriptors.
func (f *forecaster) content(r *scanned, payload []byte) int {
	if f.facts.model != nil {
		live, ok := f.facts.model.Resource(r.Path)
		if !ok {
			return f.reason("no-such-resource", r.Path, "the target's OpenAPI document does not have it", "")
		}
		if problems := live.Validate(payload); len(problems) > 0 {
			return f.reason(problems[0].Code, r.Path, cause(problems[0])+", by the target's OpenAPI document", owner(problems[0]))
		}
	}
	var body map[string]any
	if json.Unmarshal(payload, &body) != nil {
		return -1
	}
	missing := -1
	eachDescriptor(r.Root, "$", body, func(path string, p *schema.Property, uri string) {
		if values, asked := f.facts.descriptors[p.Target]; missing < 0 && asked && !values[strings.ToLower(uri)] {
			missing = f.reason("descriptor-unknown", r.Path, fmt.Sprintf("%s: the target has no %s %q", path, p.Target, uri), "")
		}
	})
	return missing
}

// rights checks what the credentials are for: organizations and namespaces in the natural key.
func (f *forecaster) rights(r *scanned, key []byte) int {
	var values []json.RawMessage
	if json.Unmarshal(key, &values) != nil || len(values) != len(r.Key) {
		return -1
	}
	for i, part := range r.Key {
		text := strings.Trim(string(values[i]), `"`)
		switch {
		case part.Name == "namespace" && len(f.facts.namespaces) > 0:
			if !slices.ContainsFunc(f.facts.namespaces, func(prefix string) bool {
				return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
			}) {
				return f.reason("namespace-denied", r.Path, "its namespace is none of the credentials'", "")
			}
		case isOrganizationKey(part.Name) && len(f.facts.organizations) > 0:
			if !f.facts.organizations[text] {
				return f.reason("no-relationship", r.Path, part.Name+" "+text+" is not among the education organizations of the credentials", "")
			}
		}
	}
	return -1
}

// references checks that what a record refers to is at the target, or would be by then.
func (f *forecaster) references(at int, r *scanned, rec *record) (reason int, waits bool) {
	for _, ref := range rec.Refs {
		t := f.scope.targets[ref.Target]
		there, blocked := false, -1
		for _, j := range t.Resources {
			if i, failed := f.failed[j][ref.Hash]; failed && !f.found[j].table.live(ref.Hash) {
				blocked = i
				continue
			}
			slot := f.found[j].table.find(ref.Hash)
			there = there || slot >= 0 && f.found[j].table.flags[slot]&(slotLive|slotNew) != 0
		}
		if there || f.facts.others[t.Entity][ref.Hash] {
			continue
		}
		if blocked >= 0 {
			return blocked, true
		}
		if _, asked := f.facts.others[t.Entity]; !asked && !t.Complete {
			continue // the target may have it; a note says that nobody could tell
		}
		code := "missing-reference"
		if !t.Complete {
			code = "unresolved-reference"
		}
		return f.reason(code, r.Path, "the "+t.Entity+" it refers to is neither in the source nor at the target", ""), false
	}
	return -1, false
}

// conclude adds up and sorts.
func (f *forecaster) conclude() *Forecast {
	out := f.out
	for _, r := range out.Reasons {
		out.Fail += r.Rows + r.Frees
	}
	if out.Unsure > 0 {
		f.note("%d of the rows that would arrive are of people whose enrolment, or assignment, would not: where the host authorises by relationship they do not arrive either, and follow by themselves once it does", out.Unsure)
	}
	slices.SortStableFunc(out.Reasons, func(a, b ForecastReason) int {
		return cmp.Or(-cmp.Compare(a.Rows+a.Frees, b.Rows+b.Frees), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Code, b.Code))
	})
	return out
}

// eachDescriptor calls fn with every descriptor value of a payload.
func eachDescriptor(fields *schema.Fields, path string, body map[string]any, fn func(path string, p *schema.Property, uri string)) {
	if fields == nil {
		return
	}
	for _, p := range fields.Properties {
		value, ok := body[p.Name]
		if !ok {
			continue
		}
		at := path + "." + p.Name
		switch v := value.(type) {
		case string:
			if p.Kind == schema.Descriptor {
				fn(at, p, v)
			}
		case map[string]any:
			eachDescriptor(p.Fields, at, v, fn)
		case []any:
			for _, item := range v {
				if object, ok := item.(map[string]any); ok {
					eachDescriptor(p.Fields, at+"[*]", object, fn)
				}
			}
		}
	}
}

// isOrganizationKey reports whether a key part names an education organization by which access is granted.
func isOrganizationKey(part string) bool {
	switch part {
	case "schoolId", "localEducationAgencyId", "educationOrganizationId", "stateEducationAgencyId", "educationServiceCenterId":
		return true
	}
	return false
}
