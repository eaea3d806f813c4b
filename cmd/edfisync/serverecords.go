package main

import (
	"context"
	"fmt"
	gosync "sync"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// askedRecords asks sources and targets about single records, for people who look at one. Safe for concurrent use; of one connection it asks for one
// record at a time, so that nobody loads a SIS by looking.
type askedRecords struct {
	*service

	mu   gosync.Mutex
	busy map[int64]chan struct{} // by connection: one place
}

var _ console.Records = (*askedRecords)(nil)

// Trace implements console.Records.
func (r *askedRecords) Trace(ctx context.Context, c console.Connection, name sync.RecordName, o sync.TraceOptions) (t *sync.Trace, err error) {
	err = r.with(ctx, c, func(opened *opened) error {
		t, err = opened.engine.Trace(ctx, opened.ledger, name, o)
		return err
	})
	return t, err
}

// HeldChanges implements console.Records.
func (r *askedRecords) HeldChanges(ctx context.Context, c console.Connection, ops []syncdb.PlanOp, data bool) (changes []sync.HeldChange, err error) {
	err = r.with(ctx, c, func(opened *opened) error {
		changes, err = opened.engine.HeldChanges(ctx, opened.ledger, ops, data)
		return err
	})
	return changes, err
}

// Find implements console.Records.
func (r *askedRecords) Find(ctx context.Context, c console.Connection, name sync.RecordName) (id sync.RecordID, err error) {
	err = r.with(ctx, c, func(opened *opened) error {
		id, err = opened.engine.Find(ctx, name)
		return err
	})
	return id, err
}

// with opens a connection and waits for its turn.
func (r *askedRecords) with(ctx context.Context, c console.Connection, fn func(*opened) error) error {
	r.mu.Lock()
	place := r.busy[c.ID]
	if place == nil {
		place = make(chan struct{}, 1)
		r.busy[c.ID] = place
	}
	r.mu.Unlock()
	select {
	case place <- struct{}{}:
		defer func() { <-place }()
	case <-ctx.Done():
		return ctx.Err()
	}
	cfg := r.config(ctx)
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		if conn.Tenant != c.Tenant || conn.Name != c.Name {
			continue
		}
		conn, err := unsealed(ctx, r.ledger, conn)
		if err != nil {
			return err
		}
		o, err := r.openWith(ctx, cfg, conn, &opened{ledger: r.ledger, clients: r.clients})
		if err != nil {
			return err
		}
		defer o.close()
		return fn(o)
	}
	return fmt.Errorf("connection %s/%s is not in the configuration", c.Tenant, c.Name)
}
