package mappings_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/source"
)

// compare says what calls turn what was read before into what is read now: by source key, a new one is a POST, a missing one a DELETE,
// another payload a PUT.
func compare(before, after extract) limitless.Predicted {
	p := limitless.Predicted{Post: map[string]int{}, Put: map[string]int{}, Delete: map[string]int{}}
	for resource, rows := range after {
		for key, rec := range rows {
			old, known := before[resource][key]
			switch {
			case !known:
				p.Post[resource]++
			case old.Wire != rec.Wire:
				p.Put[resource]++
			}
		}
		for key := range before[resource] {
			if _, kept := rows[key]; !kept {
				p.Delete[resource]++
			}
		}
	}
	return p
}

// checkEdits edits a generated database and holds the prediction against what the pack reads.
func checkEdits(t *testing.T, cfg source.Config, db *sqlx.DB, dialect limitless.Dialect, opts limitless.Options) {
	t.Helper()
	ctx := context.Background()
	before := read(t, cfg)
	for _, step := range []struct {
		name string
		edit func() (limitless.Predicted, error)
	}{
		{"Edit", func() (limitless.Predicted, error) { return limitless.Edit(ctx, db, dialect, opts) }},
		{"EditKeys", func() (limitless.Predicted, error) { return limitless.EditKeys(ctx, db, dialect, opts) }},
		{"EditAttendance", func() (limitless.Predicted, error) { return limitless.EditAttendance(ctx, db, dialect, 10) }},
	} {
		want, err := step.edit()
		if err != nil {
			t.Fatal(err)
		}
		after := read(t, cfg)
		if diff := cmp.Diff(want, compare(before, after)); diff != "" {
			t.Errorf("%s (-predicted +read):\n%s", step.name, diff)
		}
		if _, invalid, blocked := judge(t, after); len(invalid)+len(blocked) > 0 {
			t.Errorf("%s left invalid %v and blocked %v records", step.name, invalid, blocked)
		}
		before = after
	}
}

func TestEditsLeadToThePredictedCalls(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]limitless.Options{
		"the smallest district": {Students: limitless.MinStudents, AttendancePerStudent: 1},
		"more rounds than one":  {Students: 800, AttendancePerStudent: 2, Seed: 7},
		"late in the year":      {Students: 50, AttendancePerStudent: limitless.MaxAttendancePerStudent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := demo(t, opts)
			db, err := limitless.OpenSQLite(cfg.DSN)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			checkEdits(t, cfg, db, limitless.SQLite, opts)
		})
	}
}
