package memdb

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// segment is what one SaveAttempts kept of one resource: it is purged as a whole.
type segment struct {
	newest   time.Time
	attempts []syncdb.Attempt
}

// SaveAttempts is syncdb.DB.SaveAttempts.
func (d *DB) SaveAttempts(ctx context.Context, l syncdb.Lease, attempts []syncdb.Attempt) error {
	if len(attempts) == 0 {
		return nil
	}
	if err := syncdb.CheckAttempts(attempts); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	var order []string
	segments := map[string]*segment{}
	for i := range attempts {
		a := cloneAttempt(&attempts[i])
		a.RunID, a.At = l.RunID, a.At.UTC().Truncate(time.Millisecond)
		s := segments[a.Resource]
		if s == nil {
			s = &segment{}
			segments[a.Resource] = s
			order = append(order, a.Resource)
		}
		if a.At.After(s.newest) {
			s.newest = a.At
		}
		s.attempts = append(s.attempts, *a)
	}
	slices.Sort(order)
	for _, resource := range order {
		c.history = append(c.history, segments[resource])
	}
	return nil
}

func cloneAttempt(a *syncdb.Attempt) *syncdb.Attempt {
	c := *a
	for _, b := range [...]*[]byte{&c.Key, &c.Payload, &c.Answer} {
		if *b = bytes.Clone(*b); len(*b) == 0 {
			*b = nil
		}
	}
	return &c
}

// attempts returns copies of what passes. Called with d.mu held.
func (c *connection) attempts(want func(*syncdb.Attempt) bool) []*syncdb.Attempt {
	var out []*syncdb.Attempt
	for _, s := range c.history {
		for i := range s.attempts {
			if want(&s.attempts[i]) {
				out = append(out, cloneAttempt(&s.attempts[i]))
			}
		}
	}
	return out
}

func each(ctx context.Context, attempts []*syncdb.Attempt, fn func(*syncdb.Attempt) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, a := range attempts {
		if err := fn(a); err != nil {
			return err
		}
	}
	return nil
}

// Attempts is syncdb.DB.Attempts.
func (d *DB) Attempts(ctx context.Context, connID int64, resource string, key syncdb.Hash, fn func(*syncdb.Attempt) error) error {
	d.mu.Lock()
	found := d.connection(connID).attempts(func(a *syncdb.Attempt) bool {
		return a.Resource == resource && (a.KeyHash == key || a.OldKeyHash == key)
	})
	d.mu.Unlock()
	slices.SortStableFunc(found, func(a, b *syncdb.Attempt) int { return a.At.Compare(b.At) })
	return each(ctx, found, fn)
}

// AttemptsOfRun is syncdb.DB.AttemptsOfRun.
func (d *DB) AttemptsOfRun(ctx context.Context, connID, runID int64, fn func(*syncdb.Attempt) error) error {
	d.mu.Lock()
	found := d.connection(connID).attempts(func(a *syncdb.Attempt) bool { return a.RunID == runID })
	d.mu.Unlock()
	return each(ctx, found, fn)
}

// PurgeAttempts is syncdb.DB.PurgeAttempts.
func (d *DB) PurgeAttempts(ctx context.Context, connID int64, before time.Time) (purged int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	c.history = slices.DeleteFunc(c.history, func(s *segment) bool {
		if !s.newest.Before(before.Truncate(time.Millisecond)) {
			return false
		}
		purged += int64(len(s.attempts))
		return true
	})
	return purged, nil
}
