package sync

import (
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// Limit is how much of something a run may do without asking: it is exceeded by more than Count of them and more than Percent of all,
// both. A field that is zero means the default of the place it stands in.
type Limit struct {
	Percent float64
	Count   int64
}

func (l Limit) or(d Limit) Limit {
	if l.Percent <= 0 {
		l.Percent = d.Percent
	}
	if l.Count <= 0 {
		l.Count = d.Count
	}
	return l
}

func (l Limit) exceeded(n, of int64) bool {
	return n > l.Count && 100*float64(n) > l.Percent*float64(of)
}

// ResourceSafeguards are the limits of one resource.
type ResourceSafeguards struct {
	Deletes Limit // of its records; default 20 % and 25
	Updates Limit // of its records; default 50 % and 1,000
	// ShortSource is exceeded when so many of its records have lost their row: default 50 % and 5. Below the other limits' counts it is what
	// tells a source that was cut off from one that was edited.
	ShortSource Limit
}

// Safeguards hold back what looks like an accident until a person has judged it (I5e). The zero value has the defaults.
type Safeguards struct {
	ResourceSafeguards                               // of every resource
	Resources          map[string]ResourceSafeguards // of some ("ed-fi/students"), where they are set
	RunDeletes         Limit                         // of all resources together; default 10 % and 250
	RunUpdates         Limit                         // of all resources together; default 30 % and 5,000
	PreventDelete      []string                      // resources nothing is ever deleted of
	// ApproveDeletes lists resources whose deletes an operator let through for this run, whatever the limits say. A source that is behind is
	// not among what it overrules.
	ApproveDeletes []string
}

// of returns the limits of one resource.
func (g Safeguards) of(resource string) ResourceSafeguards {
	own := g.Resources[resource]
	return ResourceSafeguards{
		Deletes:     own.Deletes.or(g.Deletes).or(Limit{Percent: 20, Count: 25}),
		Updates:     own.Updates.or(g.Updates).or(Limit{Percent: 50, Count: 1000}),
		ShortSource: own.ShortSource.or(g.ShortSource).or(Limit{Percent: 50, Count: 5}),
	}
}

// Rule names a safeguard. It is the code of the issue and of the hold, and never changes its meaning.
type Rule string

// The rules.
const (
	RuleEmptySource   Rule = "empty-source"    // no row at all, and the ledger has records
	RuleShortSource   Rule = "short-source"    // most rows are missing
	RuleUnnamedRows   Rule = "unnamed-rows"    // rows that do not say which record is theirs: it may be any of those that seem gone
	RuleRollover      Rule = "year-rollover"   // rows have moved to another school year, and would take last year's records with them
	RuleMassDelete    Rule = "mass-delete"     // more deletes of a resource than its limit
	RuleMassUpdate    Rule = "mass-update"     // more updates of a resource than its limit
	RuleRunDelete     Rule = "run-mass-delete" // more deletes in the run than its limit
	RuleRunUpdate     Rule = "run-mass-update" // more updates in the run than its limit
	RuleSourceBehind  Rule = "source-behind"   // the source shows an older state than the last run saw
	RuleTargetReset   Rule = "target-reset"    // the target was wiped or restored behind our back
	RulePreventDelete Rule = "prevent-delete"  // the configuration says that nothing of the resource is deleted
	RuleOutsidePlan   Rule = "outside-plan"    // not in the plan that is applied
	RuleOutOfScope    Rule = "out-of-scope"    // sent before, and of schools or resources the connection does not sync any more
)

// cause is what an issue says: the same in every run, so that its rows stay one issue. The counts are in the hold.
func (r Rule) cause() string {
	switch r {
	case RuleEmptySource:
		return "the source has no row at all for the resource: its deletes wait until somebody approves or discards them"
	case RuleShortSource:
		return "most rows of the resource are missing in the source: its deletes wait until somebody approves or discards them"
	case RuleUnnamedRows:
		return "rows of the resource have neither _key nor natural key, so a record that seems gone may be theirs: its deletes wait until somebody approves or discards them"
	case RuleRollover:
		return "rows have moved to another school year: deletes of the resource wait until somebody approves or discards them"
	case RuleMassDelete:
		return "more deletes of the resource than its safeguard allows: they wait until somebody approves or discards them"
	case RuleMassUpdate:
		return "more updates of the resource than its safeguard allows: they wait until somebody approves or discards them"
	case RuleRunDelete:
		return "more deletes in one run than its safeguard allows: they wait until somebody approves or discards them"
	case RuleRunUpdate:
		return "more updates in one run than its safeguard allows: they wait until somebody approves or discards them"
	case RuleSourceBehind:
		return "the source shows an older state than an earlier run has seen: nothing is deleted until it has caught up, or somebody approves"
	case RuleTargetReset:
		return "the target was wiped or restored behind our back: nothing is written until somebody adopts what it holds or resyncs"
	case RulePreventDelete:
		return "prevent_delete: the configuration says that nothing of the resource is deleted"
	case RuleOutOfScope:
		return "it was sent before, and is of a school or a resource the connection does not sync: it stays at the target until somebody approves its removal, or discards it"
	default:
		return "not in the plan that was applied: the next run takes it"
	}
}

// HeldPart is what one safeguard keeps back.
type HeldPart struct {
	Resource string `json:"resource,omitempty"` // "" = of the whole run
	Verb     string `json:"verb"`               // delete, update; write = every call
	Rule     Rule   `json:"rule"`
	Reason   string `json:"reason"` // with counts; no student values
	Ops      int64  `json:"ops"`
	Hold     int64  `json:"hold,omitempty"`    // its number in the ledger; 0 = it is not approved with a hold
	Edition  int64  `json:"edition,omitempty"` // of the hold's calls: what a decision is about
	verb     syncdb.Verb
	counts   map[string]int64 // ops by resource
}

// What names the calls for a person: "deletes of ed-fi/students".
func (p HeldPart) What() string {
	switch {
	case p.Rule == RuleOutOfScope:
		return "the removal of what is out of scope"
	case p.Resource == "":
		return "all " + p.Verb + "s"
	}
	return p.Verb + "s of " + p.Resource
}

// asked reports whether the part waits in a hold that a person decides about.
func (p HeldPart) asked() bool { return p.verb == syncdb.Update || p.verb == syncdb.Delete }

// tally is what the safeguards look at: exact totals of one resource, without ops that somebody has decided about.
type tally struct {
	resource      string
	entries, rows int64 // in the ledger before the run; read from the source
	deletes       int64 // key changes that become delete and create among them
	creates       int64
	updates       int64
	rollover      int64 // rows that now are of another school year
	letThrough    bool  // --approve-deletes
	nameless      int64 // invalid rows that do not say which record is theirs

	openDeletes, openUpdates int64 // of these: in a hold nobody has decided about
}

// standing is what a run knows of its source and its target beside the totals.
type standing struct {
	alarm  string // why nothing may be written to the target; "" = it is as we left it
	behind string // why the source is not trusted to say what is gone; "" = it is
	mark   string // the source's watermark
}

// judge decides what is held: a pure function of totals. An alarm holds everything, a source that is behind all deletes; then each resource is
// judged for itself, and what is left of the run as a whole, so that a breach holds the affected part only.
func (g Safeguards) judge(ts []tally, st standing) []HeldPart {
	if st.alarm != "" {
		return []HeldPart{{Verb: "write", Rule: RuleTargetReset, Reason: st.alarm}}
	}
	var (
		held             []HeldPart
		entries          int64
		deletes, updates int64 // that no part holds yet
	)
	for _, t := range ts {
		entries += t.entries
		limits := g.of(t.resource)
		if rule, reason := limits.deletes(t); st.behind == "" && rule != "" {
			held = append(held, HeldPart{Resource: t.resource, Verb: "delete", verb: syncdb.Delete, Rule: rule, Reason: reason})
		} else if !t.letThrough {
			deletes += t.deletes - t.openDeletes
		}
		if limits.Updates.exceeded(t.updates, t.entries) {
			held = append(held, HeldPart{
				Resource: t.resource, Verb: "update", verb: syncdb.Update, Rule: RuleMassUpdate, Reason: tooMany("updated", t.updates, t.entries, limits.Updates),
			})
		} else {
			updates += t.updates - t.openUpdates
		}
	}
	whole := func(verb syncdb.Verb, rule Rule, reason string) {
		held = append(held, HeldPart{Verb: verbName(verb), verb: verb, Rule: rule, Reason: reason})
	}
	if st.behind != "" {
		whole(syncdb.Delete, RuleSourceBehind, st.behind+"; who approves accepts this state of the source")
	} else if l := g.RunDeletes.or(Limit{Percent: 10, Count: 250}); l.exceeded(deletes, entries) {
		whole(syncdb.Delete, RuleRunDelete, tooMany("deleted", deletes, entries, l))
	}
	if l := g.RunUpdates.or(Limit{Percent: 30, Count: 5000}); l.exceeded(updates, entries) {
		whole(syncdb.Update, RuleRunUpdate, tooMany("updated", updates, entries, l))
	}
	return held
}

// deletes returns the rule that holds the deletes of a resource, and why; "" = none.
func (l ResourceSafeguards) deletes(t tally) (rule Rule, reason string) {
	missing := min(t.deletes, t.entries-t.rows)
	switch {
	case t.deletes == 0 || t.letThrough:
		return "", ""
	case t.rows == 0: // F38
		return RuleEmptySource, fmt.Sprintf("the source has no rows at all for it, and the ledger has %d records", t.entries)
	case t.nameless > 0: // I5f
		return RuleUnnamedRows, fmt.Sprintf("%d rows say neither by _key nor by natural key which record is theirs: it may be one of the %d that seem gone", t.nameless, t.deletes)
	case t.rollover > 0: // F68
		return RuleRollover, fmt.Sprintf("%d rows have moved to another school year: %d records would be deleted, and those of last year usually have to stay", t.rollover, t.deletes)
	case l.Deletes.exceeded(t.deletes, t.entries): // F39, F65
		return RuleMassDelete, tooMany("deleted", t.deletes, t.entries, l.Deletes)
	case l.ShortSource.exceeded(missing, t.entries): // F39
		return RuleShortSource, fmt.Sprintf("the source has %d rows for it, and the ledger has %d records", t.rows, t.entries)
	}
	return "", ""
}

func tooMany(done string, n, of int64, l Limit) string {
	share := 100.0
	if of > 0 {
		share = 100 * float64(n) / float64(of)
	}
	return fmt.Sprintf("%d of %d records would be %s (%.1f %%, the limit is %g %% and %d)", n, of, done, share, l.Percent, l.Count)
}

// gate says which ops of one resource may go in this run.
type gate struct {
	approved map[syncdb.Hash]int          // natural key → index of the hold a person approved
	refused  map[syncdb.Hash]*syncdb.Plan // natural key → what a person discarded, or undid
	rest     [syncdb.Delete + 1]*HeldPart // by verb: what holds all other ops; nil = they go

	decided map[syncdb.Verb]int64 // ops in approved and refused

	open  map[syncdb.Hash]waiting // natural key → the open hold the op is in already
	parts []*HeldPart             // by open hold; nil = what holds the resource now holds all of it

	beyond  map[syncdb.Hash]struct{} // natural keys of the deletes that would remove what is out of the connection's scope
	removal *HeldPart                // what holds those nobody has decided about; nil = nothing does

	kept map[syncdb.Hash]struct{} // natural keys of the deletes that are not made because prevent_delete keeps records below theirs (preserve)
	with *HeldPart                // what holds those
}

// removes reports whether the op on a natural key would remove what is out of the connection's scope.
func (g *gate) removes(verb syncdb.Verb, key syncdb.Hash) bool {
	_, beyond := g.beyond[key]
	return beyond && verb == syncdb.Delete
}

// undecided counts the deletes that would remove what is out of the connection's scope, and that nobody has decided about.
func (g *gate) undecided() (n int64) {
	for key := range g.beyond {
		_, approved := g.approved[key]
		if _, refused := g.refused[key]; !approved && !refused && !g.keeps(syncdb.Delete, key) {
			n++
		}
	}
	return n
}

// waiting is an op of a hold nobody has decided about.
type waiting struct {
	hold int // index of the open hold
	verb syncdb.Verb
}

// opens counts the ops of open holds, by verb.
func (g *gate) opens(verb syncdb.Verb) (n int64) {
	for _, w := range g.open {
		if w.verb == verb {
			n++
		}
	}
	return n
}

// newGates returns a gate for each resource through which everything goes.
func newGates(found []*scanned) []*gate {
	out := make([]*gate, len(found))
	for i, r := range found {
		out[i] = &gate{
			approved: map[syncdb.Hash]int{}, refused: map[syncdb.Hash]*syncdb.Plan{}, decided: map[syncdb.Verb]int64{}, open: map[syncdb.Hash]waiting{},
			beyond: r.beyond, kept: map[syncdb.Hash]struct{}{},
		}
	}
	return out
}

// pass is what a gate says of an op.
type pass struct {
	held    *HeldPart    // what holds it; nil = it goes
	refused bool         // a person said no to exactly this op
	by      *syncdb.Plan // the hold they discarded, or the undone run
	hold    int          // index of the approved hold it belongs to, -1 = none
}

// goes reports whether the op may be made.
func (p pass) goes() bool { return p.held == nil && !p.refused }

// judge says whether the op on a natural key may go.
func (g *gate) judge(verb syncdb.Verb, key syncdb.Hash) pass {
	if i, ok := g.approved[key]; ok {
		return pass{hold: i}
	}
	if p, ok := g.refused[key]; ok {
		return pass{refused: true, by: p, hold: -1}
	}
	if g.keeps(verb, key) {
		return pass{held: g.with, hold: -1} // I6
	}
	if g.removal != nil && g.removes(verb, key) {
		return pass{held: g.removal, hold: -1} // I5g
	}
	rest := g.rest[verb]
	if w, ok := g.open[key]; ok && w.verb == verb && (rest == nil || rest.Resource == "") && w.hold < len(g.parts) && g.parts[w.hold] != nil {
		// What a safeguard held stays held until somebody decides or the source does not ask for it any more (I5e): that this run would pass the
		// limit, because the last one created records or took this year's rows over, is no answer.
		return pass{held: g.parts[w.hold], hold: -1}
	}
	return pass{held: rest, hold: -1}
}

// recreate says whether a row whose natural key changed may be created under the new one: its old record is deleted afterwards, so both go
// or both wait. Where the old record is to stay anyway, the new one is created. A create a person approved goes: the saved plan it is in was judged
// as a whole, and has the delete too unless the old record stays (I8).
func (g *gate) recreate(key syncdb.Hash, m move) pass {
	if i, ok := g.approved[key]; ok {
		return pass{hold: i}
	}
	p := g.judge(syncdb.Delete, m.old)
	if stays := m.otherYear || p.held != nil && p.held.Rule == RulePreventDelete; !stays && !p.goes() {
		return p
	}
	return g.judge(syncdb.Create, key)
}

// shut closes the gates for what the parts hold, and counts what each keeps back. A part of one resource comes before one of the run.
func shut(parts []HeldPart, gates []*gate, ts []tally) {
	for i := range parts {
		part := &parts[i]
		for j, g := range gates {
			t := ts[j]
			if part.Resource != "" && part.Resource != t.resource {
				continue
			}
			for verb, n := range map[syncdb.Verb]int64{syncdb.Create: t.creates, syncdb.Update: t.updates, syncdb.Delete: t.deletes} {
				free := verb == syncdb.Delete && t.letThrough && part.Rule == RuleRunDelete
				if part.verb != 0 && part.verb != verb || g.rest[verb] != nil || free {
					continue
				}
				g.rest[verb] = part
				if part.Resource == "" {
					n -= g.opens(verb)
				}
				if n == 0 {
					continue
				}
				part.Ops += n
				if part.counts == nil {
					part.counts = map[string]int64{}
				}
				part.counts[t.resource] += n
			}
		}
	}
}

// keepOpen adds the parts of open holds whose ops the source still asks for though no limit would hold them now, and says so to the gates. The
// slice must have room for them: the gates point into it.
func keepOpen(held []HeldPart, open []syncdb.Plan, gates []*gate, ts []tally) []HeldPart {
	parts := make([]*HeldPart, len(open))
	for i, h := range open {
		at := slices.IndexFunc(held, func(p HeldPart) bool { return p.Resource == h.Resource && p.verb == h.Verb && p.Rule == Rule(h.Rule) })
		if at < 0 {
			part := HeldPart{Resource: h.Resource, Verb: verbName(h.Verb), verb: h.Verb, Rule: Rule(h.Rule), Reason: h.Reason, counts: map[string]int64{}}
			for j, g := range gates {
				for _, w := range g.open {
					if rest := g.rest[w.verb]; w.hold == i && (rest == nil || rest.Resource == "") {
						part.Ops++
						part.counts[ts[j].resource]++
					}
				}
			}
			if part.Ops == 0 {
				continue
			}
			at, held = len(held), append(held, part)
		}
		parts[i] = &held[at]
	}
	for _, g := range gates {
		g.parts = parts
	}
	return held
}

// waitingParts are the parts that keep something back. A source that is behind holds deletes also where there are none, which is no question to anybody.
func waitingParts(held []HeldPart) []HeldPart {
	return slices.DeleteFunc(slices.Clone(held), func(p HeldPart) bool { return p.asked() && p.Ops == 0 })
}

// prevents reports whether the configuration forbids all deletes of a resource.
func (g Safeguards) prevents(resource string) bool { return slices.Contains(g.PreventDelete, resource) }
