package syncdb

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
)

// maxProblems is how many problems one transaction saves.
const maxProblems = 1000

// problemRow is a problem about to be saved.
type problemRow struct {
	*Problem
	resource int64
	issue    int64
	archived bool   // the issue is out of sight
	blocker  int64  // resource of what is missing; 0 = not known
	content  []byte // in clear
	hash     []byte
}

// SaveProblems writes the source rows that are not in sync, each replacing what was said of the same source row, and groups them into
// issues by code, resource and cause. Of rows about which nothing changed only the run is written. Of two problems of one source row in
// one call the last counts. Large calls are split into several transactions; a repeated call does no harm.
func (d *DB) SaveProblems(ctx context.Context, l Lease, problems []Problem) error {
	c, err := d.connection(ctx, l.ConnectionID)
	if err != nil {
		return fmt.Errorf("save problems: %w", err)
	}
	rows, err := d.problemRows(ctx, problems)
	if err != nil {
		return fmt.Errorf("save problems: %w", err)
	}
	for part := range slices.Chunk(rows, maxProblems) {
		if err := d.fenced(ctx, l, func(tx *sqlx.Tx) error { return d.saveProblems(ctx, tx, c, l, part) }); err != nil {
			return fmt.Errorf("save problems: %w", err)
		}
	}
	return nil
}

// problemRows sorts the problems and drops all but the last of each source row. The order is that of the table, so that two processes
// that write at once wait for each other instead of deadlocking.
func (d *DB) problemRows(ctx context.Context, problems []Problem) ([]problemRow, error) {
	rows := make([]problemRow, 0, len(problems))
	for i := range slices.Backward(problems) {
		p := &problems[i]
		id, err := d.ensureResource(ctx, p.Resource)
		if err != nil {
			return nil, err
		}
		row := problemRow{Problem: p, resource: id}
		if p.BlockedResource != "" {
			if row.blocker, err = d.ensureResource(ctx, p.BlockedResource); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row)
	}
	inOrder := func(a, b problemRow) int {
		return cmp.Or(cmp.Compare(a.resource, b.resource), bytes.Compare(a.SourceHash[:], b.SourceHash[:]))
	}
	slices.SortStableFunc(rows, inOrder)
	return slices.CompactFunc(rows, func(a, b problemRow) bool { return inOrder(a, b) == 0 }), nil
}

func (d *DB) saveProblems(ctx context.Context, tx *sqlx.Tx, c connection, l Lease, rows []problemRow) error {
	if err := d.saveIssues(ctx, tx, l, rows); err != nil {
		return err
	}
	mac := c.ring.HashMAC()
	for i := range rows {
		rows[i].seal(mac)
	}
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].resource == rows[0].resource {
			n++
		}
		if err := d.saveProblemsOf(ctx, tx, c, l, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// seal fills in the content and its keyed hash, by which unchanged rows are told without opening them.
func (r *problemRow) seal(mac hash.Hash) {
	r.content = appendBytes(appendBytes(appendBytes(nil, r.SourceKey), r.Detail), r.BlockedBy)
	mac.Reset()
	mac.Write(binary.BigEndian.AppendUint64([]byte(r.Outcome+"\x00"), uint64(r.issue)))
	mac.Write(r.KeyHash[:])
	mac.Write(r.RecordHash[:])
	mac.Write(r.content)
	if r.blocker != 0 || !r.BlockedKey.IsZero() {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(r.blocker)))
		mac.Write(r.BlockedKey[:])
	}
	r.hash = mac.Sum(nil)[:16]
}

func (d *DB) saveIssues(ctx context.Context, tx *sqlx.Tx, l Lease, rows []problemRow) error {
	type group struct {
		resource    int64
		code, cause string
	}
	ids, archived, groups := map[group]int64{}, map[int64]bool{}, []*problemRow{}
	for i := range rows {
		r := &rows[i]
		if g := (group{r.resource, r.Code, r.Cause}); ids[g] == 0 {
			ids[g] = -1
			groups = append(groups, r)
		}
	}
	slices.SortFunc(groups, func(a, b *problemRow) int {
		return cmp.Or(cmp.Compare(a.resource, b.resource), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Cause, b.Cause))
	})
	for _, r := range groups {
		var issue struct {
			ID       int64 `db:"id"`
			Archived bool  `db:"hidden"`
		}
		cause := sha256.Sum256([]byte(r.Cause))
		if err := tx.GetContext(ctx, &issue, d.bind(`INSERT INTO issue
			(connection_id, resource_id, code, cause_hash, cause, owner, outcome, first_run, last_run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (connection_id, resource_id, code, cause_hash) DO UPDATE
			SET owner = excluded.owner, outcome = excluded.outcome, last_run = excluded.last_run, cleared_run = 0 RETURNING id, archived <> '' AS hidden`),
			l.ConnectionID, r.resource, r.Code, cause[:], r.Cause, r.Owner, r.Outcome, l.RunID, l.RunID); err != nil {
			return fmt.Errorf("save issue: %w", err)
		}
		ids[group{r.resource, r.Code, r.Cause}] = issue.ID
		archived[issue.ID] = issue.Archived
	}
	for i := range rows {
		rows[i].issue = ids[group{rows[i].resource, rows[i].Code, rows[i].Cause}]
		rows[i].archived = archived[rows[i].issue]
	}
	return nil
}

// saveProblemsOf saves rows of one resource.
func (d *DB) saveProblemsOf(ctx context.Context, tx *sqlx.Tx, c connection, l Lease, rows []problemRow) error {
	had, err := d.savedProblems(ctx, tx, l.ConnectionID, rows)
	if err != nil {
		return err
	}
	same, changed, back := []any{l.RunID, l.ConnectionID, rows[0].resource}, []any{}, []any{}
	for i := range rows {
		r := &rows[i]
		if bytes.Equal(had[r.SourceHash].hash, r.hash) {
			same = append(same, r.SourceHash[:])
			continue
		}
		if r.archived && had[r.SourceHash].issue != r.issue && !slices.Contains(back, any(r.issue)) {
			back = append(back, r.issue)
		}
		sealed := c.ring.Seal(nil, r.content, c.problemAAD(r.resource, &r.SourceHash))
		changed = append(changed, l.ConnectionID, r.resource, r.SourceHash[:], r.issue, r.Outcome, nullHash(&r.KeyHash),
			nullHash(&r.RecordHash), l.RunID, r.hash, sealed, nullID(r.blocker), nullHash(&r.BlockedKey))
	}
	if n := len(same) - 3; n > 0 {
		if _, err := d.exec(ctx, tx, `UPDATE problem SET last_run = ? WHERE connection_id = ? AND resource_id = ?
			AND source_hash IN (`+list("?", n)+`)`, same...); err != nil {
			return err
		}
	}
	if n := len(changed) / 12; n > 0 {
		if _, err := d.exec(ctx, tx, `INSERT INTO problem (connection_id, resource_id, source_hash, issue_id, outcome, natural_key_hash,
			full_record_hash, last_run, content_hash, content_sealed, blocked_resource_id, blocked_key_hash)
			VALUES `+list("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", n)+`
			ON CONFLICT (connection_id, resource_id, source_hash) DO UPDATE SET issue_id = excluded.issue_id, outcome = excluded.outcome,
			natural_key_hash = excluded.natural_key_hash, full_record_hash = excluded.full_record_hash, last_run = excluded.last_run,
			content_hash = excluded.content_hash, content_sealed = excluded.content_sealed,
			blocked_resource_id = excluded.blocked_resource_id, blocked_key_hash = excluded.blocked_key_hash`, changed...); err != nil {
			return err
		}
		if err := d.returnIssues(ctx, tx, l.ConnectionID, back); err != nil {
			return err
		}
		return d.outrank(ctx, tx, l.ConnectionID)
	}
	return nil
}

// savedProblem is what the ledger has of a source row already.
type savedProblem struct {
	issue int64
	hash  []byte
}

func (d *DB) savedProblems(ctx context.Context, tx *sqlx.Tx, connID int64, rows []problemRow) (map[Hash]savedProblem, error) {
	args := []any{connID, rows[0].resource}
	for i := range rows {
		args = append(args, rows[i].SourceHash[:])
	}
	var had []struct {
		Source []byte `db:"source_hash"`
		Issue  int64  `db:"issue_id"`
		Hash   []byte `db:"content_hash"`
	}
	if err := tx.SelectContext(ctx, &had, d.bind(`SELECT source_hash, issue_id, content_hash FROM problem
		WHERE connection_id = ? AND resource_id = ? AND source_hash IN (`+list("?", len(rows))+`)`), args...); err != nil {
		return nil, err
	}
	saved := make(map[Hash]savedProblem, len(had))
	for _, h := range had {
		saved[hashOf(h.Source)] = savedProblem{h.Issue, h.Hash}
	}
	return saved, nil
}

// KeepProblems marks the problems of these source rows as seen by the lease's run, as they are: rows that were not sent again. Rows
// without a problem are passed over. It may be called again.
func (d *DB) KeepProblems(ctx context.Context, l Lease, resource string, sources []Hash) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	sources = slices.SortedFunc(slices.Values(sources), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	for part := range slices.Chunk(sources, maxProblems) {
		args := []any{l.RunID, l.ConnectionID, id}
		for i := range part {
			args = append(args, part[i][:])
		}
		of := ` WHERE connection_id = ? AND resource_id = ? AND source_hash IN (` + list("?", len(part)) + `)`
		err := d.fenced(ctx, l, func(tx *sqlx.Tx) error {
			if _, err := d.exec(ctx, tx, `UPDATE problem SET last_run = ?`+of, args...); err != nil {
				return err
			}
			_, err := d.exec(ctx, tx, `UPDATE issue SET last_run = ?, cleared_run = 0 WHERE id IN (SELECT issue_id FROM problem`+of+`)`, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("keep problems: %w", err)
		}
	}
	return nil
}

// CloseProblems removes the problems of these resources that the lease's run neither saved nor kept, and returns how many; nil means all resources,
// those the connection no longer syncs too. Those with OutcomeMet stay. Issues left without rows are marked as cleared by this run. It may be called
// again.
func (d *DB) CloseProblems(ctx context.Context, l Lease, resources []string) (cleared int, err error) {
	of := `1 = 1`
	ids := make([]any, 0, len(resources))
	for _, name := range resources {
		id, err := d.resourceID(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("close problems: %w", err)
		}
		if id != 0 {
			ids = append(ids, id)
		}
	}
	if resources != nil {
		if len(ids) == 0 {
			return 0, nil
		}
		of = `resource_id IN (` + list("?", len(ids)) + `)`
	}
	err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		n, err := d.exec(ctx, tx, `DELETE FROM problem WHERE connection_id = ? AND last_run <> ? AND outcome <> ? AND `+of,
			append([]any{l.ConnectionID, l.RunID, OutcomeMet}, ids...)...)
		if err != nil {
			return err
		}
		if cleared = int(n); n > 0 {
			if err := d.outrank(ctx, tx, l.ConnectionID); err != nil {
				return err
			}
		}
		return d.clearIssues(ctx, tx, l, of, ids...)
	})
	if err != nil {
		return 0, fmt.Errorf("close problems: %w", err)
	}
	return cleared, nil
}

// CloseProblemsOf is CloseProblems for these source rows of one resource only.
func (d *DB) CloseProblemsOf(ctx context.Context, l Lease, resource string, sources []Hash) (cleared int, err error) {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 || len(sources) == 0 {
		return 0, err
	}
	sources = slices.SortedFunc(slices.Values(sources), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		cleared = 0
		for part := range slices.Chunk(sources, maxProblems) {
			args := []any{l.ConnectionID, id, l.RunID, OutcomeMet}
			for i := range part {
				args = append(args, part[i][:])
			}
			n, err := d.exec(ctx, tx, `DELETE FROM problem WHERE connection_id = ? AND resource_id = ? AND last_run <> ? AND outcome <> ?
				AND source_hash IN (`+list("?", len(part))+`)`, args...)
			if err != nil {
				return err
			}
			cleared += int(n)
		}
		if cleared > 0 {
			if err := d.outrank(ctx, tx, l.ConnectionID); err != nil {
				return err
			}
		}
		return d.clearIssues(ctx, tx, l, `resource_id = ?`, id)
	})
	if err != nil {
		return 0, fmt.Errorf("close problems: %w", err)
	}
	return cleared, nil
}

// clearIssues marks those of the lease's connection that are left without rows as cleared by its run; of narrows them. The connection is named twice, so
// that PostgreSQL looks into one partition of the rows instead of all of them, for each issue.
func (d *DB) clearIssues(ctx context.Context, tx *sqlx.Tx, l Lease, of string, args ...any) error {
	_, err := d.exec(ctx, tx, `UPDATE issue SET cleared_run = ? WHERE connection_id = ? AND cleared_run = 0
		AND NOT EXISTS (SELECT 1 FROM problem p WHERE p.connection_id = ? AND p.issue_id = issue.id) AND `+of,
		append([]any{l.RunID, l.ConnectionID, l.ConnectionID}, args...)...)
	return err
}

// Issues returns the connection's issues, oldest first, with the number of rows each has now.
func (d *DB) Issues(ctx context.Context, connID int64, openOnly bool) ([]Issue, error) {
	query := `SELECT i.id, i.code, r.path AS resource, i.cause, i.owner, i.outcome, i.first_run AS firstrun, i.last_run AS lastrun,
		i.cleared_run AS clearedrun, i.archived, (SELECT count(*) FROM problem p WHERE p.issue_id = i.id AND p.connection_id = ?) AS rows
		FROM issue i JOIN resource r ON r.id = i.resource_id WHERE i.connection_id = ?` // named, so that PostgreSQL looks into one partition
	if openOnly {
		query += ` AND i.cleared_run = 0`
	}
	var issues []Issue
	if err := d.store.reads().SelectContext(ctx, &issues, d.bind(query+` ORDER BY i.id`), connID, connID); err != nil {
		return nil, fmt.Errorf("read issues: %w", err)
	}
	return issues, nil
}

// ClearedIssues returns the connection's settled issues, the newest first. They have no rows any more.
func (d *DB) ClearedIssues(ctx context.Context, connID int64) ([]Issue, error) {
	var issues []Issue
	if err := d.store.reads().SelectContext(ctx, &issues, d.bind(`SELECT i.id, i.code, r.path AS resource, i.cause, i.owner, i.outcome, i.first_run AS firstrun, i.last_run AS lastrun,
		i.cleared_run AS clearedrun, i.archived, 0 AS rows FROM issue i JOIN resource r ON r.id = i.resource_id WHERE i.connection_id = ? AND i.cleared_run <> 0 ORDER BY i.id DESC`), connID); err != nil {
		return nil, fmt.Errorf("read settled issues: %w", err)
	}
	return issues, nil
}

// query is the part of a SELECT after its columns, in which p is the problem, r its resource, i its issue and b the resource of what blocks it.
func (f ProblemFilter) query(connID int64) (from string, args []any) {
	where, args := []string{`p.connection_id = ?`}, []any{connID}
	narrow := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	order := `r.path, p.source_hash`
	if f.Resource != "" { // rows come in the order of an index then, and the first are there at once
		narrow(`p.resource_id = (SELECT id FROM resource WHERE path = ?)`, f.Resource)
		order = `p.source_hash`
	}
	if f.Outcome != "" {
		narrow(`p.outcome = ?`, f.Outcome)
	}
	if f.IssueID != 0 {
		narrow(`p.issue_id = ?`, f.IssueID)
	}
	if !f.After.IsZero() {
		narrow(`p.source_hash > ?`, f.After[:])
	}
	from = `FROM problem p JOIN resource r ON r.id = p.resource_id JOIN issue i ON i.id = p.issue_id
		LEFT JOIN resource b ON b.id = p.blocked_resource_id WHERE ` + strings.Join(where, " AND ") + ` ORDER BY ` + order
	if f.Limit > 0 {
		from, args = from+` LIMIT ?`, append(args, f.Limit)
	}
	return from, args
}

// Problems returns the connection's problems that pass the filter, by resource and source hash.
func (d *DB) Problems(ctx context.Context, connID int64, f ProblemFilter) ([]Problem, error) {
	c, err := d.connection(ctx, connID)
	if err != nil {
		return nil, fmt.Errorf("read problems: %w", err)
	}
	from, args := f.query(connID)
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT p.resource_id, r.path, p.source_hash, p.outcome, i.code, i.cause, i.owner,
		p.natural_key_hash, p.full_record_hash, p.content_sealed, coalesce(b.path, ''), p.blocked_key_hash `+from), args...)
	if err != nil {
		return nil, fmt.Errorf("read problems: %w", err)
	}
	defer rows.Close()
	var problems []Problem
	for rows.Next() {
		var p Problem
		var resource int64
		var source, key, record, sealed, blocked []byte
		if err := rows.Scan(&resource, &p.Resource, &source, &p.Outcome, &p.Code, &p.Cause, &p.Owner, &key, &record, &sealed,
			&p.BlockedResource, &blocked); err != nil {
			return nil, fmt.Errorf("read problems: %w", err)
		}
		p.SourceHash, p.KeyHash, p.RecordHash, p.BlockedKey = hashOf(source), hashOf(key), hashOf(record), hashOf(blocked)
		content, err := c.ring.Open(nil, sealed, c.problemAAD(resource, &p.SourceHash))
		if err == nil {
			err = p.read(content)
		}
		if err != nil {
			return nil, fmt.Errorf("open problem: %w", err)
		}
		problems = append(problems, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read problems: %w", err)
	}
	return problems, nil
}

func (p *Problem) read(content []byte) error {
	r := frameReader{b: content}
	p.SourceKey = string(r.bytes())
	for _, field := range []*[]byte{&p.Detail, &p.BlockedBy} {
		if b := r.bytes(); len(b) > 0 {
			*field = b
		}
	}
	if r.err != nil {
		return errors.New("content is malformed")
	}
	return nil
}

// Rejected returns, by source hash, the record hash of each source row of the resource that the target last rejected: it is not sent
// again while it is the same.
func (d *DB) Rejected(ctx context.Context, connID int64, resource string) (map[Hash]Hash, error) {
	rejected := map[Hash]Hash{}
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return rejected, err
	}
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT source_hash, full_record_hash FROM problem
		WHERE connection_id = ? AND resource_id = ? AND outcome = ? AND full_record_hash IS NOT NULL`), connID, id, OutcomeRejected)
	if err != nil {
		return nil, fmt.Errorf("read rejected rows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var source, record []byte
		if err := rows.Scan(&source, &record); err != nil {
			return nil, fmt.Errorf("read rejected rows: %w", err)
		}
		rejected[hashOf(source)] = hashOf(record)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read rejected rows: %w", err)
	}
	return rejected, nil
}

// problemAAD binds the sealed content to its row.
func (c connection) problemAAD(resourceID int64, source *Hash) []byte {
	place := binary.BigEndian.AppendUint64(nil, uint64(resourceID))
	return c.aad("problem", append(place, source[:]...)...)
}
