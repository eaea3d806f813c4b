package syncdb

import (
	"context"
	"fmt"
)

// Shape says what a ledger is like in two figures that are quick to read.
type Shape struct {
	Schema int64 // newest migration
	Ended  int64 // runs that ended, as far as retention has kept them
}

// Shape reads the ledger's shape.
func (d *DB) Shape(ctx context.Context) (Shape, error) {
	var s Shape
	if err := d.store.reads().QueryRowContext(ctx, d.bind(`SELECT (SELECT max(version_id) FROM ledger_version), (SELECT count(*) FROM run WHERE state IN (?, ?, ?))`),
		RunDone, RunFailed, RunCanceled).Scan(&s.Schema, &s.Ended); err != nil {
		return s, fmt.Errorf("read the shape of the ledger: %w", err)
	}
	return s, nil
}
