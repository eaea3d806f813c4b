package syncdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// RunFilter narrows FindRuns. Zero fields do not narrow.
type RunFilter struct {
	Tenant     string // of the connection
	Connection int64
	State      RunState
	Before     int64 // only runs with a smaller id, for paging
	Limit      int   // 0 = all
}

// FindRuns returns runs of all connections that pass the filter, newest first.
func (d *DB) FindRuns(ctx context.Context, f RunFilter) ([]Run, error) {
	query, args := `SELECT `+runColumns+` FROM run WHERE 1 = 1`, []any{}
	narrow := func(condition string, arg any) { query, args = query+` AND `+condition, append(args, arg) }
	if f.Tenant != "" {
		narrow(`connection_id IN (SELECT id FROM connection WHERE tenant = ?)`, f.Tenant)
	}
	if f.Connection != 0 {
		narrow(`connection_id = ?`, f.Connection)
	}
	if f.State != "" {
		narrow(`state = ?`, string(f.State))
	}
	if f.Before != 0 {
		narrow(`id < ?`, f.Before)
	}
	query += ` ORDER BY id DESC`
	if f.Limit > 0 {
		query, args = query+` LIMIT ?`, append(args, f.Limit)
	}
	var rows []runRow
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(query), args...); err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	runs := make([]Run, len(rows))
	for i := range rows {
		runs[i] = rows[i].run()
	}
	return runs, nil
}

// whole is the condition on a run that it was to send all that changed. No errand is, but for apply: it reads everything, and sends what a person chose.
func whole(run string) string {
	return run + `.scope IS NULL AND (` + run + `.errand = 0 OR ` + run + `.reason = 'apply')`
}

// LastRuns returns the newest run of each connection, and the newest that was done and sent all that changed, by connection; those without any are left out. A run that was canceled
// before it began is none.
func (d *DB) LastRuns(ctx context.Context) (last, done map[int64]Run, err error) {
	read := func(condition string) (map[int64]Run, error) {
		var rows []runRow
		err := d.store.reads().SelectContext(ctx, &rows, `SELECT `+runColumns+` FROM run WHERE id IN (
			SELECT (SELECT max(r.id) FROM run r WHERE r.connection_id = c.id`+condition+`) FROM connection c)`)
		out := make(map[int64]Run, len(rows))
		for i := range rows {
			out[rows[i].ConnectionID] = rows[i].run()
		}
		return out, err
	}
	if last, err = read(` AND (r.started_at IS NOT NULL OR r.state = 'waiting')`); err == nil {
		done, err = read(` AND r.state = 'done' AND ` + whole("r"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the last runs: %w", err)
	}
	return last, done, nil
}

// OpenCount is how much of a connection waits for a person.
type OpenCount struct {
	Holds    int64 // open ones
	Issues   int64 // causes that are neither settled nor archived
	Archived int64 // causes that are archived
}

// OpenCounts returns what waits for a person, by connection; those of which nothing does are left out.
func (d *DB) OpenCounts(ctx context.Context) (map[int64]OpenCount, error) {
	var rows []struct {
		ID       int64 `db:"connection_id"`
		Holds    int64 `db:"holds"`
		Issues   int64 `db:"issues"`
		Archived int64 `db:"archived"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT connection_id, count(*) AS holds, 0 AS issues, 0 AS archived FROM plan WHERE kind = 'hold' AND state = 'open' GROUP BY connection_id
		UNION ALL SELECT connection_id, 0, sum(CASE WHEN archived = '' THEN 1 ELSE 0 END), sum(CASE WHEN archived = '' THEN 0 ELSE 1 END) FROM issue WHERE cleared_run = 0 GROUP BY connection_id`); err != nil {
		return nil, fmt.Errorf("count what is open: %w", err)
	}
	out := map[int64]OpenCount{}
	for _, r := range rows {
		c := out[r.ID]
		out[r.ID] = OpenCount{c.Holds + r.Holds, c.Issues + r.Issues, c.Archived + r.Archived}
	}
	return out, nil
}

// CountIssues returns how many open issues in sight each connection has whose code is one of these; connections without any are left out.
func (d *DB) CountIssues(ctx context.Context, codes []string) (map[int64]int64, error) {
	out := map[int64]int64{}
	if len(codes) == 0 {
		return out, nil
	}
	args := make([]any, len(codes))
	for i, c := range codes {
		args[i] = c
	}
	var rows []struct {
		ID int64 `db:"connection_id"`
		N  int64 `db:"n"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT connection_id, count(*) AS n FROM issue WHERE cleared_run = 0 AND archived = '' AND code IN (`+list("?", len(codes))+`)
		GROUP BY connection_id`), args...); err != nil {
		return nil, fmt.Errorf("count issues: %w", err)
	}
	for _, r := range rows {
		out[r.ID] = r.N
	}
	return out, nil
}

// CancelRun ends a run that waits, or asks the process of one that runs to end it (I19), and writes who did so to the audit trail in the same transaction
// (I16). It returns the run as it is then, ErrNoRun when there is none, and a *RunStateError when it has ended. It may be called twice while the run runs.
func (d *DB) CancelRun(ctx context.Context, id int64, act AuditRow) (Run, error) {
	var row runRow
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		w := d.store.words()
		read := `SELECT ` + runColumns + ` FROM run WHERE id = ?`
		err := tx.GetContext(ctx, &row, d.bind(read+w.lock), id)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoRun
		}
		if err != nil {
			return err
		}
		n := int64(0)
		switch RunState(row.State) {
		case RunWaiting:
			n, err = d.exec(ctx, tx, `UPDATE run SET state = 'canceled', ended_at = `+w.now+`, error = ? WHERE id = ? AND state = 'waiting'`,
				d.now(), "canceled before it began", id)
		case RunRunning:
			n, err = d.exec(ctx, tx, `UPDATE lease SET cancel = 1 WHERE connection_id = ? AND run_id = ?`, row.ConnectionID, id)
		}
		if err != nil {
			return err
		}
		if n == 0 { // it has ended, or lost its process
			return &RunStateError{ID: id, State: RunState(row.State)}
		}
		if err := tx.GetContext(ctx, &row, d.bind(read), id); err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return Run{}, fmt.Errorf("cancel run %d: %w", id, err)
	}
	return row.run(), nil
}

// RunStateError says that a run is in a state in which it cannot be canceled.
type RunStateError struct {
	ID    int64
	State RunState
}

func (e *RunStateError) Error() string { return fmt.Sprintf("run %d is %s", e.ID, e.State) }

// AuditFilter narrows FindAudit. Zero fields do not narrow.
type AuditFilter struct {
	Tenant     string // only rows about its connections, keys and sessions
	Action     string // only this act, or, when it ends with a dot, all whose name begins so: "key."
	Who        string // only rows of whoever has this in their name
	Connection string // only rows about this one, tenant/name
	Before     int64  // only rows with a smaller id, for paging
	Limit      int    // 0 = all
}

// likeText makes text stand for itself in a LIKE pattern.
var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`) //nolint:gochecknoglobals // never changed

// FindAudit returns rows of the audit trail that pass the filter, newest first. A row is about a tenant when its Connection begins with the tenant's name
// and a slash.
func (d *DB) FindAudit(ctx context.Context, f AuditFilter) ([]AuditRow, error) {
	query, args := `SELECT `+auditColumns+` FROM audit WHERE 1 = 1`, []any{}
	if f.Tenant != "" {
		query, args = query+` AND substr(connection, 1, ?) = ?`, append(args, len([]rune(f.Tenant))+1, f.Tenant+"/")
	}
	switch {
	case strings.HasSuffix(f.Action, "."):
		query, args = query+` AND substr(action, 1, ?) = ?`, append(args, len([]rune(f.Action)), f.Action)
	case f.Action != "":
		query, args = query+` AND action = ?`, append(args, f.Action)
	}
	if f.Who != "" {
		query, args = query+` AND lower(who) LIKE ? ESCAPE '\'`, append(args, "%"+likeText.Replace(strings.ToLower(f.Who))+"%")
	}
	if f.Connection != "" {
		query, args = query+` AND connection = ?`, append(args, f.Connection)
	}
	if f.Before != 0 {
		query, args = query+` AND id < ?`, append(args, f.Before)
	}
	query += ` ORDER BY id DESC`
	if f.Limit > 0 {
		query, args = query+` LIMIT ?`, append(args, f.Limit)
	}
	rows, err := d.store.reads().QueryContext(ctx, d.bind(query), args...)
	var out []AuditRow
	if err == nil {
		err = scanAudit(rows, func(a *AuditRow) error { out = append(out, *a); return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("read audit rows: %w", err)
	}
	return out, nil
}

// ReceiptsBefore returns the connection's receipts of runs before one, newest first, at most limit of them; before 0 means the newest, limit 0 all.
func (d *DB) ReceiptsBefore(ctx context.Context, connID, before int64, limit int) ([]Receipt, error) {
	query, args := `SELECT run_id, at, document FROM receipt WHERE connection_id = ?`, []any{connID}
	if before != 0 {
		query, args = query+` AND run_id < ?`, append(args, before)
	}
	query += ` ORDER BY run_id DESC`
	if limit > 0 {
		query, args = query+` LIMIT ?`, append(args, limit)
	}
	var rows []receiptRow
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(query), args...); err != nil {
		return nil, fmt.Errorf("read receipts: %w", err)
	}
	out := make([]Receipt, len(rows))
	for i := range rows {
		out[i] = rows[i].receipt()
	}
	return out, nil
}

// FindPlan returns a plan of whichever connection, or ErrNotFound.
func (d *DB) FindPlan(ctx context.Context, id int64) (Plan, error) {
	var row planRow
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT `+planColumns+` FROM plan WHERE id = ?`), id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Plan{}, fmt.Errorf("read plan %d: %w", id, err)
	}
	return row.plan(), nil
}

// FindIssue returns an issue of whichever connection, and whose it is, or ErrNotFound.
func (d *DB) FindIssue(ctx context.Context, id int64) (Issue, int64, error) {
	var row struct {
		Issue
		ConnectionID int64 `db:"connection_id"`
	}
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT i.id, i.connection_id, i.code, r.path AS resource, i.cause, i.owner, i.outcome, i.first_run AS firstrun,
		i.last_run AS lastrun, i.cleared_run AS clearedrun, i.archived, 0 AS rows FROM issue i JOIN resource r ON r.id = i.resource_id WHERE i.id = ?`), id)
	if err == nil && row.ClearedRun == 0 { // the connection is named, so that PostgreSQL looks into one partition
		err = d.store.reads().GetContext(ctx, &row.Rows, d.bind(`SELECT count(*) FROM problem WHERE connection_id = ? AND issue_id = ?`), row.ConnectionID, id)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Issue{}, 0, fmt.Errorf("read issue %d: %w", id, err)
	}
	return row.Issue, row.ConnectionID, nil
}

// RunProgress is a run with its last note of SaveProgress.
type RunProgress struct {
	Run
	Progress   json.RawMessage // nil = none yet
	ProgressAt time.Time
}

// FindProgress returns one run with how far it is, or ErrNoRun. It is one small read: many may ask it often.
func (d *DB) FindProgress(ctx context.Context, id int64) (RunProgress, error) {
	var row struct {
		runRow
		Progress   sql.NullString `db:"progress"`
		ProgressAt sql.NullInt64  `db:"progress_at"`
	}
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT `+runColumns+`, progress, progress_at FROM run WHERE id = ?`), id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRun
	}
	if err != nil {
		return RunProgress{}, fmt.Errorf("read run %d: %w", id, err)
	}
	return RunProgress{Run: row.run(), Progress: raw(row.Progress), ProgressAt: instant(row.ProgressAt)}, nil
}

// OpenProgress returns the runs that wait or run, with how far they are, oldest first: those of a tenant, or of all when it is "".
func (d *DB) OpenProgress(ctx context.Context, tenant string) ([]RunProgress, error) {
	var rows []struct {
		runRow
		Progress   sql.NullString `db:"progress"`
		ProgressAt sql.NullInt64  `db:"progress_at"`
	}
	of, args := ``, []any{}
	if tenant != "" {
		of, args = ` AND connection_id IN (SELECT id FROM connection WHERE tenant = ?)`, []any{tenant, tenant}
	}
	one := `SELECT ` + runColumns + `, progress, progress_at FROM run WHERE state = `
	query := one + `'waiting'` + of + ` UNION ALL ` + one + `'running'` + of + ` ORDER BY id` // a partial index each
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(query), args...); err != nil {
		return nil, fmt.Errorf("read open runs: %w", err)
	}
	out := make([]RunProgress, len(rows))
	for i := range rows {
		out[i] = RunProgress{Run: rows[i].run(), Progress: raw(rows[i].Progress), ProgressAt: instant(rows[i].ProgressAt)}
	}
	return out, nil
}
