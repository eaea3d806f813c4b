package syncdb

import (
	"context"

	"github.com/pressly/goose/v3"
)

// SetMaxFold makes folds use transactions of n results, so that small tests cross their borders.
func (d *DB) SetMaxFold(n int) { d.fold = n }

// MigrateDownTo takes the schema back to an earlier version, as an operator does who goes back to an earlier program.
func (d *DB) MigrateDownTo(ctx context.Context, version int64) error {
	dialect, folder := goose.DialectSQLite3, "sqlite"
	if _, ok := d.store.(*postgresStore); ok {
		dialect, folder = goose.DialectPostgres, "postgres"
	}
	p, err := provider(d.store.writes(), dialect, folder)
	if err == nil {
		_, err = p.DownTo(ctx, version)
	}
	return err
}

// AppendPlanOps and ReadPlanOps are the encoding of a plan's segments.
func AppendPlanOps(dst []byte, ops []PlanOp) []byte { return appendPlanOps(dst, ops) }

// ReadPlanOps decodes a segment.
func ReadPlanOps(b []byte) ([]PlanOp, error) { return readPlanOps(b) }

// PackAttempts and ReadAttempts are the encoding of history.
func PackAttempts(attempts []Attempt) ([]byte, error) {
	p := newPacker()
	for i := range attempts {
		p.add(&attempts[i])
	}
	return p.pack()
}

// ReadAttempts decodes a segment.
func ReadAttempts(b []byte, fn func(*Attempt) error) error {
	return readAttempts(b, "ed-fi/students", 1, fn)
}

// AppendFrame and ReadFrame are the journal's encoding.
func AppendFrame(dst []byte, intents []Intent, results []Result) []byte {
	return appendFrame(dst, intents, results)
}

// ReadFrame decodes a whole frame.
func ReadFrame(b []byte) (intents []Intent, results []Result, err error) {
	r, err := newFrameReader(b, func(name []byte) string { return string(name) })
	if err != nil {
		return nil, nil, err
	}
	for range r.count() {
		var in Intent
		if r.intent(&in); r.err != nil {
			return nil, nil, r.err
		}
		intents = append(intents, in)
	}
	for range r.count() {
		res, at := r.result()
		if r.err != nil {
			return nil, nil, r.err
		}
		id := frameReader{b: b, at: at}
		res.EdfiID = string(id.bytes())
		results = append(results, res)
	}
	return intents, results, r.err
}

// ExecForTest changes the ledger as somebody does who has access to the database.
func (d *DB) ExecForTest(ctx context.Context, statement string) error {
	_, err := d.exec(ctx, d.store.writes(), statement)
	return err
}
