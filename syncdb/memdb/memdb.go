// Package memdb is the ledger in memory, for tests and simulations: the API of syncdb.DB without a disk. It passes the same suite
// (syncdbtest), so what holds against it holds against the real one. Data is lost with the process.
package memdb

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// DB is a ledger in memory. Safe for concurrent use. Dropping a *DB and going on with it later is a crash and a restart: it keeps
// everything a durable ledger would keep, and nothing else.
type DB struct {
	master *keys.Master
	clock  func() time.Time
	grace  time.Duration
	id     string

	mu          sync.Mutex
	generation  int64
	lastRun     int64
	lastIssue   int64
	lastPlan    int64
	auditRing   *keys.Ring
	acts        []syncdb.AuditRow // [id-1]
	connections []*connection     // [id-1]
	runs        map[int64]*run
}

type connection struct {
	syncdb.Connection
	ring     *keys.Ring
	runs     []*run // oldest first
	lease    lease
	scopes   map[string]*scope
	journal  []frame
	problems map[string]map[syncdb.Hash]*problem
	issues   []*syncdb.Issue
	ranking  syncdb.Ranking
	ranks    map[int64]syncdb.Rank // of ranking, by issue
	plans    []*plan               // oldest first
	history  []*segment            // oldest first
	receipts []syncdb.Receipt
	target   syncdb.TargetState
}

type run struct {
	syncdb.Run
	steps map[int]syncdb.Step
}

type lease struct {
	token   int64
	runID   int64
	holder  string
	expires time.Time
	cancel  bool
}

type scope struct {
	syncdb.Scope
	entries map[syncdb.Hash]*syncdb.Entry
}

// Open makes an empty ledger. DSN is ignored; without a master key it makes one.
func Open(cfg syncdb.Config) *DB {
	cfg = cfg.WithDefaults()
	if cfg.Master == nil {
		cfg.Master = keys.GenerateMaster()
	}
	id := keys.GenerateMaster().Check(nil) // any unique bytes
	d := &DB{master: cfg.Master, clock: cfg.Now, grace: cfg.Grace, id: hex.EncodeToString(id[:16]), runs: map[int64]*run{}}
	d.auditRing, _ = cfg.Master.Ring(cfg.Master.NewDataKey(nil), nil, 1) // opens what the same key wrapped just now
	return d
}

// Close does nothing; the ledger can still be used. It may be called twice.
func (d *DB) Close() error { return nil }

// Identity is syncdb.DB.Identity.
func (d *DB) Identity(context.Context) (ledger string, generation int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id, d.generation, nil
}

// Connection is syncdb.DB.Connection.
func (d *DB) Connection(ctx context.Context, tenant, name string) (syncdb.Connection, *keys.Ring, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Connection{}, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.connections {
		if c.Tenant == tenant && c.Name == name {
			return c.Connection, c.ring, nil
		}
	}
	ring, err := d.master.Ring(d.master.NewDataKey(nil), nil, 1)
	if err != nil {
		return syncdb.Connection{}, nil, err
	}
	c := &connection{
		Connection: syncdb.Connection{ID: int64(len(d.connections) + 1), Tenant: tenant, Name: name},
		ring:       ring,
		scopes:     map[string]*scope{},
		problems:   map[string]map[syncdb.Hash]*problem{},
	}
	d.connections = append(d.connections, c)
	return c.Connection, c.ring, nil
}

// connection returns the connection, or one without anything when there is none: reads of it then find nothing. Called with d.mu held.
func (d *DB) connection(id int64) *connection {
	if id < 1 || id > int64(len(d.connections)) {
		return &connection{}
	}
	return d.connections[id-1]
}

// fenced returns the connection of the lease, or ErrFenced when the lease is not the newest or has expired (I7). Called with d.mu held.
func (d *DB) fenced(ctx context.Context, l syncdb.Lease) (*connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := d.connection(l.ConnectionID)
	if c.lease.token != l.Token || c.lease.runID != l.RunID || l.Token == 0 || !c.lease.expires.After(d.clock()) {
		return nil, syncdb.ErrFenced
	}
	return c, nil
}

func (c *connection) scope(resource string) *scope {
	s := c.scopes[resource]
	if s == nil {
		s = &scope{Scope: syncdb.Scope{Resource: resource}, entries: map[syncdb.Hash]*syncdb.Entry{}}
		c.scopes[resource] = s
	}
	return s
}

// clone copies what the caller may change or reuse later.
func clone(e *syncdb.Entry) *syncdb.Entry {
	if e == nil {
		return nil
	}
	c := *e
	c.Key, c.SentKey = slices.Clone(e.Key), slices.Clone(e.SentKey)
	return &c
}
