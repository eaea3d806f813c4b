package syncdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

const runColumns = `id, connection_id, state, reason, errand, scope, created_at, started_at, ended_at, totals, error, failure, asked, waits_for, waits_until, waits_at`

type runRow struct {
	ID           int64          `db:"id"`
	ConnectionID int64          `db:"connection_id"`
	State        string         `db:"state"`
	Reason       string         `db:"reason"`
	Errand       bool           `db:"errand"`
	Scope        RunScope       `db:"scope"`
	CreatedAt    int64          `db:"created_at"`
	StartedAt    sql.NullInt64  `db:"started_at"`
	EndedAt      sql.NullInt64  `db:"ended_at"`
	Totals       sql.NullString `db:"totals"`
	Error        string         `db:"error"`
	Failure      string         `db:"failure"`
	Asked        int            `db:"asked"`
	WaitsFor     string         `db:"waits_for"`
	WaitsUntil   sql.NullInt64  `db:"waits_until"`
	WaitsAt      sql.NullInt64  `db:"waits_at"`
}

func (r *runRow) run() Run {
	run := Run{
		ID: r.ID, ConnectionID: r.ConnectionID, State: RunState(r.State), Reason: r.Reason, Errand: r.Errand, Scope: r.Scope, CreatedAt: time.UnixMilli(r.CreatedAt).UTC(),
		StartedAt: instant(r.StartedAt), EndedAt: instant(r.EndedAt), Totals: raw(r.Totals), Error: r.Error, Failure: r.Failure,
	}
	if run.State == RunWaiting && r.WaitsFor != "" {
		run.Wait = &Wait{For: r.WaitsFor, Until: instant(r.WaitsUntil), At: instant(r.WaitsAt)}
	}
	return run
}

func instant(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}

func raw(s sql.NullString) json.RawMessage {
	if !s.Valid {
		return nil
	}
	return json.RawMessage(s.String)
}

func nullable(totals json.RawMessage) any {
	if totals == nil {
		return nil
	}
	return string(totals)
}

// RequestRun asks for a run of the connection that sends all that changed. Requests coalesce: when a run already waits, it is returned and joined is
// true. When a person joins a run that only a schedule asked for, it is theirs from then on. Safe to call from any number of processes at once (F60).
func (d *DB) RequestRun(ctx context.Context, connID int64, reason string) (run Run, joined bool, err error) {
	return d.RequestScoped(ctx, connID, reason, RunScope{})
}

// RequestScoped is RequestRun for a run that sends a part. The scope of a run that waits becomes the union with it, in the transaction that joins it.
func (d *DB) RequestScoped(ctx context.Context, connID int64, reason string, scope RunScope) (run Run, joined bool, err error) {
	return d.request(ctx, connID, reason, scope, nil)
}

// RequestAudited is RequestScoped for a person or a program, and writes to the audit trail, in the same transaction, who it was (I16). Who joins a run
// that waits, and sends all that he asks for, and is somebody's already, changes nothing, and no row is written.
func (d *DB) RequestAudited(ctx context.Context, connID int64, reason string, scope RunScope, act AuditRow) (run Run, joined bool, err error) {
	return d.request(ctx, connID, reason, scope, &act)
}

func (d *DB) request(ctx context.Context, connID int64, reason string, scope RunScope, act *AuditRow) (run Run, joined bool, err error) {
	var row runRow
	waiting := d.bind(`SELECT ` + runColumns + ` FROM run WHERE connection_id = ? AND state = 'waiting'`)
	err = d.store.reads().GetContext(ctx, &row, waiting, connID)
	if err == nil && row.joins(reason, scope) { // it has not begun to read the source: it will see what the caller has changed
		return row.run(), true, nil
	}
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		err = d.transact(ctx, func(tx *sqlx.Tx) error {
			var changed bool
			row, joined, changed, err = d.ask(ctx, tx, connID, reason, scope)
			if err != nil || act == nil || !changed {
				return err
			}
			return d.audit(ctx, tx, *act)
		})
	}
	if err != nil {
		return Run{}, false, fmt.Errorf("request run: %w", err)
	}
	return row.run(), joined, nil
}

// joins reports whether nothing of a run that waits changes when it is asked for once more.
func (r *runRow) joins(reason string, scope RunScope) bool {
	return r.Scope.Covers(scope) && r.Asked >= asked(reason)
}

// ask makes a waiting run of the connection, or widens the scope of the one there is. changed is false when that was so already.
func (d *DB) ask(ctx context.Context, tx *sqlx.Tx, connID int64, reason string, scope RunScope) (row runRow, joined, changed bool, err error) {
	w := d.store.words()
	for { // the run we lost against may have been started before we could lock it
		row = runRow{}
		err = tx.GetContext(ctx, &row, d.bind(`SELECT `+runColumns+` FROM run WHERE connection_id = ? AND state = 'waiting'`+w.lock), connID)
		if err == nil {
			changed = !row.joins(reason, scope)
			if asked(reason) > row.Asked {
				row.Asked = asked(reason)
				if _, err := d.exec(ctx, tx, `UPDATE run SET asked = ? WHERE id = ?`, row.Asked, row.ID); err != nil {
					return row, true, changed, err
				}
			}
			return row, true, changed, d.widen(ctx, tx, &row, scope)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return row, false, false, err
		}
		err = tx.GetContext(ctx, &row, d.bind(`INSERT INTO run (connection_id, state, reason, scope, asked, created_at) VALUES (?, 'waiting', ?, ?, ?, `+w.now+`)
			ON CONFLICT (connection_id) WHERE state = 'waiting' DO NOTHING RETURNING `+runColumns), connID, reason, scope, asked(reason), d.now())
		if !errors.Is(err, sql.ErrNoRows) {
			return row, false, true, err
		}
	}
}

// widen adds a scope to that of a run whose row is locked.
func (d *DB) widen(ctx context.Context, tx *sqlx.Tx, row *runRow, scope RunScope) error {
	if row.Scope.Covers(scope) {
		return nil
	}
	row.Scope = row.Scope.Union(scope)
	_, err := d.exec(ctx, tx, `UPDATE run SET scope = ? WHERE id = ?`, row.Scope, row.ID)
	return err
}

// StartRun takes the waiting run of the connection to running, under a new lease of the given length. It returns a *BusyError while
// another lease lives, a *LimitError while target or source have enough runs (SetLimits), and ErrNoRun when no run waits. A running run whose
// lease expired more than the grace ago is failed with LostProcess, and asked for anew when none waits; its holder is fenced out by the token (I7). The
// run that takes over does what was left of the lost one, too: its scope is the union. A lost errand is failed with LostErrand, and that is all.
func (d *DB) StartRun(ctx context.Context, connID int64, holder string, ttl time.Duration) (Run, Lease, error) {
	run, lease, err := d.lend(ctx, connID, holder, ttl, func(tx *sqlx.Tx, row *runRow, lost *RunScope) error {
		err := tx.GetContext(ctx, row, d.bind(`UPDATE run SET state = 'running', waits_for = '', started_at = `+d.store.words().now+`
			WHERE connection_id = ? AND state = 'waiting' RETURNING `+runColumns), d.now(), connID)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoRun
		}
		if err != nil || lost == nil {
			return err
		}
		return d.widen(ctx, tx, row, *lost)
	})
	if err != nil {
		return Run{}, Lease{}, fmt.Errorf("start run: %w", err)
	}
	return run, lease, nil
}

// StartErrand starts a run that never waits, for what a person has his process do under the connection's lease and that is no sync of what changed:
// adopt, apply, sync-one, undo. It leaves the run that waits as it is, for StartRun to take afterwards: what others asked for is not an errand's to do
// (F60). It returns a *BusyError or a *LimitError as StartRun does, and then nothing is left of the wish. A run that it finds lost is asked for anew.
func (d *DB) StartErrand(ctx context.Context, connID int64, reason, holder string, ttl time.Duration) (Run, Lease, error) {
	run, lease, err := d.lend(ctx, connID, holder, ttl, func(tx *sqlx.Tx, row *runRow, lost *RunScope) error {
		if err := d.again(ctx, tx, connID, lost); err != nil {
			return err
		}
		now := d.store.words().now
		return tx.GetContext(ctx, row, d.bind(`INSERT INTO run (connection_id, state, reason, errand, asked, created_at, started_at)
			VALUES (?, 'running', ?, 1, 1, `+now+`, `+now+`) RETURNING `+runColumns), connID, reason, d.now(), d.now())
	})
	if err != nil {
		return Run{}, Lease{}, fmt.Errorf("start %s: %w", reason, err)
	}
	return run, lease, nil
}

// lend gives a new lease to the run that next makes a running one; lost is what a run had to do that lost its process, nil = there is none. When the run
// may not begin, because of a *LimitError or of ErrNoRun from next, the loss is noted all the same: a lost run must not look running for ever (I20).
func (d *DB) lend(ctx context.Context, connID int64, holder string, ttl time.Duration, next func(tx *sqlx.Tx, row *runRow, lost *RunScope) error) (Run, Lease, error) {
	lease := Lease{ConnectionID: connID, Holder: holder, TTL: ttl}
	var row runRow
	var none error
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		none, row = nil, runRow{}
		lease.RenewedAt = d.cfg.Now()
		lost, err := d.retire(ctx, tx, connID)
		if err != nil {
			return err
		}
		if err = d.admit(ctx, tx, connID); err == nil {
			err = next(tx, &row, lost)
		}
		if limit := (*LimitError)(nil); errors.As(err, &limit) || errors.Is(err, ErrNoRun) {
			none = err
			return d.again(ctx, tx, connID, lost)
		}
		if err != nil {
			return err
		}
		lease.RunID = row.ID
		if err := d.advance(ctx, tx); err != nil {
			return err
		}
		now := d.store.words().now
		return tx.GetContext(ctx, &lease.Token, d.bind(`UPDATE lease
			SET token = token + 1, run_id = ?, holder = ?, cancel = 0, expires_at = `+now+` + ? WHERE connection_id = ? RETURNING token`),
			row.ID, holder, d.now(), ttl.Milliseconds(), connID)
	})
	if err == nil {
		err = none
	}
	if err != nil {
		return Run{}, Lease{}, err
	}
	return row.run(), lease, nil
}

// retire ends what a lost process left running, and returns the scope of that run; nil = there was none, or it was an errand. It returns a *BusyError
// when the process may still be there. It locks the lease row, so it waits for the transactions the old holder has open (I7).
func (d *DB) retire(ctx context.Context, tx *sqlx.Tx, connID int64) (lost *RunScope, err error) {
	var old struct {
		RunID     int64  `db:"run_id"`
		Holder    string `db:"holder"`
		ExpiresAt int64  `db:"expires_at"`
		Now       int64  `db:"now"`
	}
	w := d.store.words()
	err = tx.GetContext(ctx, &old, d.bind(`SELECT run_id, holder, expires_at, `+w.now+` AS now FROM lease WHERE connection_id = ?`+w.lock),
		d.now(), connID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("no connection %d", connID)
	}
	if err != nil || old.RunID == 0 {
		return nil, err
	}
	if until := old.ExpiresAt + d.grace.Load(); until > old.Now {
		return nil, &BusyError{Holder: old.Holder, RunID: old.RunID, Until: time.UnixMilli(until).UTC()}
	}
	var row runRow
	err = tx.GetContext(ctx, &row, d.bind(`UPDATE run SET state = 'failed', error = CASE errand WHEN 0 THEN ? ELSE ? END, failure = ?, ended_at = ?
		WHERE id = ? AND state = 'running' RETURNING `+runColumns), LostProcess, LostErrand, FailureProcess, old.Now, old.RunID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return nil, err
	case !row.Errand: // only its person can go on with an errand
		lost = &row.Scope
		if err := d.count(ctx, tx, connID, RunFailed); err != nil { // a run that kills its process each time must not do so for ever (I18)
			return nil, err
		}
	}
	return lost, d.release(ctx, tx, connID)
}

// again asks for a run that goes on with a lost one; nil = there is none. It does not look running any more, so that nobody else would.
func (d *DB) again(ctx context.Context, tx *sqlx.Tx, connID int64, lost *RunScope) error {
	if lost == nil {
		return nil
	}
	_, _, _, err := d.ask(ctx, tx, connID, "recovery", *lost)
	return err
}

// release ends a lease. The token grows so that nobody can go on under the old one (I7).
func (d *DB) release(ctx context.Context, tx *sqlx.Tx, connID int64) error {
	_, err := d.exec(ctx, tx, `UPDATE lease SET token = token + 1, run_id = 0, holder = '', expires_at = 0, cancel = 0
		WHERE connection_id = ?`, connID)
	return err
}

// keptMarks is how many generations back the ledger knows its marks: a year of a run a minute.
const keptMarks = 1_000_000

// advance makes the ledger's generation a later one than any copy of the ledger has, with a mark no copy gets.
func (d *DB) advance(ctx context.Context, tx *sqlx.Tx) error {
	var generation int64
	if err := tx.GetContext(ctx, &generation, `UPDATE meta SET generation = generation + 1 RETURNING generation`); err != nil {
		return err
	}
	var mark [16]byte
	_, _ = rand.Read(mark[:]) // it never fails
	if _, err := d.exec(ctx, tx, `INSERT INTO generation_mark (generation, mark) VALUES (?, ?)`, generation, mark[:]); err != nil {
		return err
	}
	_, err := d.exec(ctx, tx, `DELETE FROM generation_mark WHERE generation <= ?`, generation-keptMarks)
	return err
}

// Renew extends the lease by its TTL from now and reports whether the run was canceled. It returns ErrFenced when the lease expired or
// was taken over. RenewedAt of the result was read before the statement was sent.
func (d *DB) Renew(ctx context.Context, l Lease) (renewed Lease, cancel bool, err error) {
	now := d.store.words().now
	var flag int
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		l.RenewedAt = d.cfg.Now()
		return tx.GetContext(ctx, &flag, d.bind(`UPDATE lease SET expires_at = `+now+` + ?
			WHERE connection_id = ? AND token = ? AND run_id = ? AND expires_at > `+now+` RETURNING cancel`),
			d.now(), l.TTL.Milliseconds(), l.ConnectionID, l.Token, l.RunID, d.now())
	})
	if errors.Is(err, sql.ErrNoRows) {
		return l, false, fmt.Errorf("renew lease: %w", ErrFenced)
	}
	if err != nil {
		return l, false, fmt.Errorf("renew lease: %w", err)
	}
	return l, flag != 0, nil
}

// ExpireLease ends the lease of the running run as if it had expired long ago, provided exactly this holder has it; otherwise it does
// nothing. The next StartRun may then take over at once. Call it only when it is certain that the holder's process is dead: the wait it
// spares is what keeps two writers apart (I7).
func (d *DB) ExpireLease(ctx context.Context, connID int64, holder string) error {
	if _, err := d.exec(ctx, d.store.writes(), `UPDATE lease SET expires_at = 0 WHERE connection_id = ? AND holder = ? AND run_id <> 0`,
		connID, holder); err != nil {
		return fmt.Errorf("expire lease: %w", err)
	}
	return nil
}

// Cancel asks the running run to stop; its process learns it at its next Renew (I19). It returns ErrNoRun when none is running. It may
// be called twice.
func (d *DB) Cancel(ctx context.Context, connID int64) error {
	n, err := d.exec(ctx, d.store.writes(), `UPDATE lease SET cancel = 1 WHERE connection_id = ? AND run_id <> 0`, connID)
	if err == nil && n == 0 {
		err = ErrNoRun
	}
	if err != nil {
		return fmt.Errorf("cancel run: %w", err)
	}
	return nil
}

// FinishRun closes the run of the lease as done, failed or canceled, and releases the lease. totals are counts and errText says why
// the run failed; neither may hold student values (I14). What the journal still holds stays there for the next run's Recover.
func (d *DB) FinishRun(ctx context.Context, l Lease, state RunState, totals json.RawMessage, errText string) error {
	if !state.Final() {
		return fmt.Errorf("finish run: %q is not a final state", state)
	}
	w := d.store.words()
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		if err := d.fence(ctx, tx, l, w.lock); err != nil {
			return err
		}
		var errand bool
		if err := tx.GetContext(ctx, &errand, d.bind(`UPDATE run SET state = ?, totals = ?, error = ?, ended_at = `+w.now+` WHERE id = ? RETURNING errand`),
			string(state), nullable(totals), errText, d.now(), l.RunID); err != nil {
			return err
		}
		if !errand || state != RunFailed { // that an errand is refused says nothing of the runs a schedule asks for (I18)
			if err := d.count(ctx, tx, l.ConnectionID, state); err != nil {
				return err
			}
		}
		if err := d.advance(ctx, tx); err != nil {
			return err
		}
		return d.release(ctx, tx, l.ConnectionID)
	})
	if err != nil {
		return fmt.Errorf("finish run: %w", err)
	}
	return nil
}

// NoteFailure keeps why the run of the lease is about to fail, when it is one of the reasons that operators are told apart. It is called before FinishRun, so
// that nobody sees a failed run without it, and is not worth failing a run for.
func (d *DB) NoteFailure(ctx context.Context, l Lease, failure string) error {
	err := d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		_, err := d.exec(ctx, tx, `UPDATE run SET failure = ? WHERE id = ?`, failure, l.RunID)
		return err
	})
	if err != nil {
		return fmt.Errorf("note why the run fails: %w", err)
	}
	return nil
}

// Runs returns the connection's runs, newest first, at most limit of them; 0 means all.
func (d *DB) Runs(ctx context.Context, connID int64, limit int) ([]Run, error) {
	return d.FindRuns(ctx, RunFilter{Connection: connID, Limit: limit})
}

// RunByID returns one run, or ErrNoRun.
func (d *DB) RunByID(ctx context.Context, id int64) (Run, error) {
	var row runRow
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT `+runColumns+` FROM run WHERE id = ?`), id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRun
	}
	if err != nil {
		return Run{}, fmt.Errorf("read run %d: %w", id, err)
	}
	return row.run(), nil
}

// SaveStep writes a step of the lease's run, replacing the one at its position.
func (d *DB) SaveStep(ctx context.Context, l Lease, s Step) error {
	resource, err := d.ensureResource(ctx, s.Resource)
	if err != nil {
		return fmt.Errorf("save step: %w", err)
	}
	err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		_, err := d.exec(ctx, tx, `INSERT INTO step (run_id, position, resource_id, verb, state, totals) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (run_id, position) DO UPDATE
			SET resource_id = excluded.resource_id, verb = excluded.verb, state = excluded.state, totals = excluded.totals`,
			l.RunID, s.Position, resource, s.Verb, s.State, nullable(s.Totals))
		return err
	})
	if err != nil {
		return fmt.Errorf("save step: %w", err)
	}
	return nil
}

// Steps returns the steps of a run by position.
func (d *DB) Steps(ctx context.Context, runID int64) ([]Step, error) {
	var rows []struct {
		Position int            `db:"position"`
		Path     string         `db:"path"`
		Verb     Verb           `db:"verb"`
		State    string         `db:"state"`
		Totals   sql.NullString `db:"totals"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT s.position, r.path, s.verb, s.state, s.totals
		FROM step s JOIN resource r ON r.id = s.resource_id WHERE s.run_id = ? ORDER BY s.position`), runID); err != nil {
		return nil, fmt.Errorf("read steps: %w", err)
	}
	steps := make([]Step, len(rows))
	for i, r := range rows {
		steps[i] = Step{Position: r.Position, Resource: r.Path, Verb: r.Verb, State: r.State, Totals: raw(r.Totals)}
	}
	return steps, nil
}
