package syncdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/jmoiron/sqlx"
)

// Append writes intents of calls about to be made and results of calls that came back, in one durable transaction that begins with the
// fence (I3, I7). Only when it has returned nil may the calls be made. Calls for one key must not overlap: the intent of the second
// follows the result of the first. After any error the caller must not make the calls and must end the run: whether the frame was
// written is then not known, and the next run's Recover finds out. Safe for concurrent use.
func (d *DB) Append(ctx context.Context, l Lease, step int, intents []Intent, results []Result) error {
	if len(intents) == 0 && len(results) == 0 {
		return nil
	}
	if err := CheckIntents(intents); err != nil {
		return err
	}
	c, err := d.connection(ctx, l.ConnectionID)
	if err != nil {
		return err
	}
	sealed := c.sealFrame(l.RunID, step, intents, results)
	err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		_, err := d.exec(ctx, tx, `INSERT INTO journal (connection_id, run_id, step, token, intents, results, frame_sealed)
			VALUES (?, ?, ?, ?, ?, ?, ?)`, l.ConnectionID, l.RunID, step, l.Token, len(intents), len(results), sealed)
		return err
	})
	if err != nil {
		return fmt.Errorf("append to journal: %w", err)
	}
	return nil
}

// plainFrames lends buffers for frames before they are sealed.
var plainFrames = sync.Pool{New: func() any { return new([]byte) }}

func (c connection) sealFrame(runID int64, step int, intents []Intent, results []Result) []byte {
	buf := plainFrames.Get().(*[]byte)
	defer plainFrames.Put(buf)
	*buf = appendFrame((*buf)[:0], intents, results)
	sealed := c.ring.Seal(nil, *buf, c.frameAAD(runID, step))
	clear(*buf) // a pooled buffer must not keep natural keys for longer than needed
	return sealed
}

func (c connection) frameAAD(runID int64, step int) []byte {
	place := binary.BigEndian.AppendUint64(nil, uint64(runID))
	return c.aad("journal", binary.BigEndian.AppendUint64(place, uint64(int64(step)))...)
}

// Fold brings the results of a step into the entries and drops its frames. Every intent of the step must have its result, else it
// returns ErrUnsettled. It works in transactions of up to maxFold results, each of which drops what it folded: when one fails or the
// process dies, Fold may be called again, or the next run's Recover does it. A step must not be folded and appended to at once; two
// steps may be folded at once.
func (d *DB) Fold(ctx context.Context, l Lease, step int) (folded int, err error) {
	f, err := d.newFolder(ctx, l, `run_id = ? AND step = ?`, l.RunID, step)
	if err == nil {
		err = f.run(ctx)
	}
	if err == nil && len(f.open) > 0 {
		err = fmt.Errorf("%d calls: %w", len(f.open), ErrUnsettled)
	}
	if err == nil {
		err = f.flush(ctx)
	}
	if f != nil {
		folded = f.folded
	}
	if err != nil {
		return folded, fmt.Errorf("fold step %d: %w", step, err)
	}
	return folded, nil
}

// Open returns how many intents of the connection have no result in the journal: calls in flight, or calls a lost process made that
// the next run's Recover turns into Unknown entries.
func (d *DB) Open(ctx context.Context, connID int64) (int, error) {
	var n int
	if err := d.store.reads().GetContext(ctx, &n, d.bind(`SELECT coalesce(sum(intents - results), 0) FROM journal WHERE connection_id = ?`),
		connID); err != nil {
		return 0, fmt.Errorf("count open intents: %w", err)
	}
	return n, nil
}

// Recover folds the frames that earlier runs of the connection left. An intent without a result means that a call may or may not have
// been made: its entry becomes Unknown, or is inserted as Unknown, so that it stays visible until it is settled (I3). It may be
// interrupted and called again; nothing is lost.
func (d *DB) Recover(ctx context.Context, l Lease) (RecoverStats, error) {
	f, err := d.newFolder(ctx, l, `run_id <> ?`, l.RunID)
	if err == nil {
		err = f.run(ctx)
	}
	var stats RecoverStats
	if err == nil {
		stats.Open = len(f.open)
		f.giveUp()
		err = f.flush(ctx)
		stats.Folded = f.folded - stats.Open
	}
	if err != nil {
		return stats, fmt.Errorf("recover journal: %w", err)
	}
	return stats, nil
}
