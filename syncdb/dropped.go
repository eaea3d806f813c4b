package syncdb

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"
)

// DropProblems removes the problems of these source hashes, those with OutcomeMet too, and returns how many there were: records that were adopted,
// or set right at the target. Issues left without rows are marked as cleared by the lease's run. It may be called again.
func (d *DB) DropProblems(ctx context.Context, l Lease, resource string, sources []Hash) (dropped int, err error) {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return 0, err
	}
	sources = slices.SortedFunc(slices.Values(sources), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		dropped = 0
		for part := range slices.Chunk(sources, maxProblems) {
			args := []any{l.ConnectionID, id}
			for i := range part {
				args = append(args, part[i][:])
			}
			n, err := d.exec(ctx, tx, `DELETE FROM problem WHERE connection_id = ? AND resource_id = ? AND source_hash IN (`+list("?", len(part))+`)`, args...)
			if err != nil {
				return err
			}
			dropped += int(n)
		}
		if dropped > 0 {
			if err := d.outrank(ctx, tx, l.ConnectionID); err != nil {
				return err
			}
		}
		return d.clearIssues(ctx, tx, l, `resource_id = ?`, id)
	})
	if err != nil {
		return 0, fmt.Errorf("drop problems of %s: %w", resource, err)
	}
	return dropped, nil
}
