package console_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// starter is a worker that begins the run that waits in the moment somebody asks to join it.
type starter struct{ asker }

func (a starter) AskAs(ctx context.Context, connection int64, reason string, scope syncdb.RunScope, act syncdb.AuditRow) (syncdb.Run, bool, error) {
	if _, _, err := a.StartRun(ctx, connection, "a worker", time.Minute); err != nil && !errors.Is(err, syncdb.ErrNoRun) {
		return syncdb.Run{}, false, err
	}
	return a.asker.AskAs(ctx, connection, reason, scope, act)
}

// I16: who asks while the run he would have joined begins has asked for another one, and that is in the audit trail.
func TestWhoAsksInTheMomentTheWaitingRunBeginsIsAudited(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *console.Config) {
		if a, ok := c.Runs.(asker); ok {
			c.Runs = starter{a}
		}
	}, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "operator"})
		first, _ := s.ask(key, "lincoln")
		second, _ := s.ask(key, "lincoln")
		if second.Joined || second.Run.ID == first.Run.ID {
			t.Fatalf("the second got %+v, want another run than %d, which has begun", second, first.Run.ID)
		}
		asked := 0
		for _, act := range s.acts() {
			if act == "run.ask" {
				asked++
			}
		}
		if asked != 2 {
			t.Errorf("%d asks are in the audit trail, want one of each run", asked)
		}
	})
}

// I16: what cannot be audited is not done.
func TestARunThatCannotBeAuditedIsNotAskedFor(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.db")
	s := newServiceOn(t, "sqlite:"+file, nil)
	key := s.key(console.NewKey{Role: "operator"})
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(5000)")
	s.ok(err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
	s.ok(err)
	ask := func() answer { return s.do("POST", "/api/v1/connections/lincoln/runs", key, "") }
	s.refused(ask(), 500, "internal", "")
	runs, err := s.ledger.FindRuns(t.Context(), syncdb.RunFilter{})
	s.ok(err)
	if len(runs) != 0 {
		t.Errorf("%+v was asked for without an audit row", runs[0])
	}
	_, err = db.ExecContext(t.Context(), `DROP TRIGGER full`)
	s.ok(err)
	if a := ask(); a.status != 202 {
		t.Errorf("once it can be audited: %d %s", a.status, a.body)
	}
}
