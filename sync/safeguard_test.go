package sync

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// F66: one below, exactly at, and one above each threshold.
func TestSafeguardsJudgeExactTotals(t *testing.T) {
	t.Parallel()
	limits := func(percent float64, count int64) Limit { return Limit{Percent: percent, Count: count} }
	for name, tt := range map[string]struct {
		guards Safeguards
		st     standing
		in     []tally
		want   []Rule // nil = everything goes
	}{
		"one below the count of deletes goes":              {in: []tally{{entries: 26, rows: 20, deletes: 24}}},
		"exactly the count of deletes goes":                {in: []tally{{entries: 26, rows: 20, deletes: 25}}},
		"one above the count and the share is held":        {in: []tally{{entries: 26, rows: 20, deletes: 26}}, want: []Rule{RuleMassDelete}},
		"one below the share of deletes goes":              {in: []tally{{entries: 1000, rows: 801, deletes: 199}}},
		"exactly the share of deletes goes":                {in: []tally{{entries: 1000, rows: 800, deletes: 200}}},
		"one above the share of deletes is held":           {in: []tally{{entries: 1000, rows: 799, deletes: 201}}, want: []Rule{RuleMassDelete}},
		"an empty source is held, however few the records": {in: []tally{{entries: 1, deletes: 1}}, want: []Rule{RuleEmptySource}},
		"an empty source of which nothing is left goes":    {in: []tally{{entries: 3}}},
		"an empty source is held at 100 percent too": {
			guards: Safeguards{ResourceSafeguards: ResourceSafeguards{Deletes: limits(100, 1<<40), ShortSource: limits(100, 1<<40)}},
			in:     []tally{{entries: 5000, deletes: 5000}}, want: []Rule{RuleEmptySource},
		},
		"exactly the count of missing rows goes":                          {in: []tally{{entries: 8, rows: 3, deletes: 5}}},
		"one above the count of missing rows is held":                     {in: []tally{{entries: 8, rows: 2, deletes: 6}}, want: []Rule{RuleShortSource}},
		"exactly the share of missing rows goes":                          {in: []tally{{entries: 20, rows: 10, deletes: 10}}},
		"one above the share of missing rows is held":                     {in: []tally{{entries: 20, rows: 9, deletes: 11}}, want: []Rule{RuleShortSource}},
		"rows under other keys are no missing rows":                       {in: []tally{{entries: 20, rows: 20, creates: 20, deletes: 20}}},
		"one below the count of updates goes":                             {in: []tally{{entries: 1001, rows: 1001, updates: 999}}},
		"exactly the count of updates goes":                               {in: []tally{{entries: 1001, rows: 1001, updates: 1000}}},
		"one above the count of updates is held (F67)":                    {in: []tally{{entries: 1001, rows: 1001, updates: 1001}}, want: []Rule{RuleMassUpdate}},
		"exactly the share of updates goes":                               {in: []tally{{entries: 4000, rows: 4000, updates: 2000}}},
		"one above the share of updates is held":                          {in: []tally{{entries: 4000, rows: 4000, updates: 2001}}, want: []Rule{RuleMassUpdate}},
		"creates are never held":                                          {in: []tally{{rows: 1 << 20, creates: 1 << 20}}},
		"last year's records wait for a person, even one":                 {in: []tally{{entries: 50, rows: 50, deletes: 1, rollover: 1}}, want: []Rule{RuleRollover}},
		"a limit of the configuration counts":                             {guards: Safeguards{ResourceSafeguards: ResourceSafeguards{Deletes: limits(1, 2)}}, in: []tally{{entries: 100, rows: 97, deletes: 3}}, want: []Rule{RuleMassDelete}},
		"half a limit is filled with the default":                         {guards: Safeguards{ResourceSafeguards: ResourceSafeguards{Deletes: limits(0, 2)}}, in: []tally{{entries: 100, rows: 80, deletes: 20}}},
		"a limit of the resource goes before that of all":                 {guards: Safeguards{Resources: map[string]ResourceSafeguards{"r": {Deletes: limits(50, 0)}}}, in: []tally{{resource: "r", entries: 100, rows: 60, deletes: 40}}},
		"what an operator let through goes":                               {in: []tally{{entries: 900, deletes: 900, letThrough: true}}},
		"the run: exactly the count of deletes goes":                      {in: []tally{{entries: 1300, rows: 1100, deletes: 200}, {entries: 400, rows: 350, deletes: 50}}},
		"the run: one above the count and share is held":                  {in: []tally{{entries: 1300, rows: 1100, deletes: 200}, {entries: 400, rows: 349, deletes: 51}}, want: []Rule{RuleRunDelete}},
		"the run: exactly the share of deletes goes":                      {in: []tally{{entries: 3000, rows: 2700, deletes: 300}, {entries: 100, rows: 90, deletes: 10}}},
		"the run: one above the share of deletes is held":                 {in: []tally{{entries: 3000, rows: 2700, deletes: 300}, {entries: 100, rows: 89, deletes: 11}}, want: []Rule{RuleRunDelete}},
		"the run: what a resource's own limit holds is not counted twice": {in: []tally{{resource: "a", entries: 1000, rows: 1, deletes: 999}, {entries: 1000, rows: 900, deletes: 100}}, want: []Rule{RuleMassDelete}},
		"the run: exactly the count of updates goes":                      {in: []tally{{entries: 5000, rows: 5000, updates: 2500}, {entries: 5000, rows: 5000, updates: 2500}}},
		"the run: one above the count of updates is held":                 {in: []tally{{entries: 5000, rows: 5000, updates: 2500}, {entries: 5002, rows: 5002, updates: 2501}}, want: []Rule{RuleRunUpdate}},
		"a source that is behind holds all deletes":                       {st: standing{behind: "why"}, in: []tally{{entries: 900, rows: 899, deletes: 1}}, want: []Rule{RuleSourceBehind}},
		"a source that is behind is not overruled":                        {st: standing{behind: "why"}, in: []tally{{entries: 900, rows: 0, deletes: 900, letThrough: true}}, want: []Rule{RuleSourceBehind}},
		"a source that is behind holds no updates":                        {st: standing{behind: "why"}, in: []tally{{entries: 2000, rows: 2000, updates: 1500}}, want: []Rule{RuleMassUpdate, RuleSourceBehind}},
		"an alarm holds everything":                                       {st: standing{alarm: "why", behind: "why"}, in: []tally{{entries: 900, rows: 900, updates: 900}}, want: []Rule{RuleTargetReset}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []Rule
			for _, h := range tt.guards.judge(tt.in, tt.st) {
				got = append(got, h.Rule)
				if h.Reason == "" || h.Rule.cause() == "" {
					t.Errorf("%s gives no reason", h.Rule)
				}
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("held (-got +want):\n%s", diff)
			}
		})
	}
}

func TestPartsCloseExactlyTheGatesTheyAffect(t *testing.T) {
	t.Parallel()
	open := func() *gate { return newGates([]*scanned{{}})[0] }
	tallies := []tally{
		{resource: "a", creates: 5, updates: 3, deletes: 7},
		{resource: "b", creates: 1, updates: 2, deletes: 4, letThrough: true},
		{resource: "c", creates: 2, updates: 8, deletes: 9},
	}
	for name, tt := range map[string]struct {
		parts []HeldPart
		want  map[string]string // resource → verbs that are held
		ops   []int64
	}{
		"deletes of one resource":                      {[]HeldPart{{Resource: "a", verb: 3}}, map[string]string{"a": "delete"}, []int64{7}},
		"deletes of the run pass what was let through": {[]HeldPart{{Rule: RuleRunDelete, verb: 3}}, map[string]string{"a": "delete", "c": "delete"}, []int64{16}},
		"a source that is behind holds that too":       {[]HeldPart{{Rule: RuleSourceBehind, verb: 3}}, map[string]string{"a": "delete", "b": "delete", "c": "delete"}, []int64{20}},
		"a resource's own part keeps its ops":          {[]HeldPart{{Resource: "c", verb: 2}, {Rule: RuleRunUpdate, verb: 2}}, map[string]string{"a": "update", "b": "update", "c": "update"}, []int64{8, 5}},
		"an alarm":                                     {[]HeldPart{{Rule: RuleTargetReset}}, map[string]string{"a": "create update delete", "b": "create update delete", "c": "create update delete"}, []int64{41}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gates := []*gate{open(), open(), open()}
			shut(tt.parts, gates, tallies)
			got := map[string]string{}
			for i, g := range gates {
				for _, verb := range []int{1, 2, 3} {
					if g.rest[verb] == nil {
						continue
					}
					if got[tallies[i].resource] != "" {
						got[tallies[i].resource] += " "
					}
					got[tallies[i].resource] += []string{"", "create", "update", "delete"}[verb]
				}
			}
			var ops []int64
			for _, p := range tt.parts {
				ops = append(ops, p.Ops)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("held (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(ops, tt.ops); diff != "" {
				t.Errorf("ops (-got +want):\n%s", diff)
			}
		})
	}
}
