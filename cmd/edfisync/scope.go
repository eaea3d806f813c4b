package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// scoped reports whether a part of what changed is asked for.
func (c *runCmd) scoped() bool {
	return len(c.Resource)+len(c.School)+len(c.Record)+len(c.SourceRow) > 0
}

// scope is what the flags ask for.
func (c *runCmd) scope(scoper *sync.Scoper) (syncdb.RunScope, error) {
	ask := sync.Ask{Resources: c.Resource, Schools: c.School}
	for _, text := range c.Record {
		resource, key, ok := strings.Cut(text, ":")
		if !ok {
			return syncdb.RunScope{}, usageError(errors.New("--record: want RESOURCE:name=value,name=value"))
		}
		parts, err := sync.ParseNaturalKey(key)
		if err != nil {
			return syncdb.RunScope{}, usageError(fmt.Errorf("--record: %w", err))
		}
		ask.Records = append(ask.Records, sync.RecordName{Resource: resource, Key: parts})
	}
	for _, text := range c.SourceRow {
		resource, key, ok := strings.Cut(text, ":")
		if !ok || key == "" {
			return syncdb.RunScope{}, usageError(errors.New("--source-row: want RESOURCE:KEY, the key as _key of the resource's query gives it"))
		}
		ask.Records = append(ask.Records, sync.RecordName{Resource: resource, SourceKey: key})
	}
	scope, err := scoper.Scope(ask)
	var wrong *sync.AskError
	if errors.As(err, &wrong) {
		return scope, usageError(err)
	}
	return scope, err
}

// scoper makes scopes of runs of a connection. It reads the mapping pack, and asks the target for its model only when a natural key has to be read and
// no data standard is configured.
func (o *opened) scoper(ctx context.Context, conn *config.Connection, log *slog.Logger) (*sync.Scoper, error) {
	pack, err := loadPack(conn)
	if err != nil {
		return nil, usageError(err)
	}
	_, ring, err := o.ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return nil, err
	}
	s := &sync.Scoper{
		Rules: rulesOf(conn), Parts: map[string][]string{},
		Hash: func(text []byte) syncdb.Hash { return schema.NewHasher(ring.HashMAC()).Sum(text) },
		Model: func() (*schema.Model, error) {
			if slices.Contains(schema.BundledVersions(), conn.Target.Standard) {
				return schema.Bundled(conn.Target.Standard)
			}
			_, model, err := o.connect(ctx, conn, log)
			return model, err
		},
	}
	for _, q := range pack.Queries {
		s.Parts[q.Resource] = append(s.Parts[q.Resource], q.Part)
	}
	return s, nil
}

// scope is what somebody asks a run of a connection to send.
func (s *service) scope(ctx context.Context, c console.Connection, ask sync.Ask) (syncdb.RunScope, error) {
	cfg := s.config(ctx)
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		if conn.Tenant != c.Tenant || conn.Name != c.Name {
			continue
		}
		o := &opened{ledger: s.ledger, clients: s.clients}
		defer o.close()
		scoper, err := o.scoper(ctx, conn, s.log)
		if err != nil {
			return syncdb.RunScope{}, err
		}
		return scoper.Scope(ask)
	}
	return syncdb.RunScope{}, fmt.Errorf("connection %s/%s is not in the configuration", c.Tenant, c.Name)
}

// scopeText says a scope in words. Records are named by the beginning of their hashes (I14).
func scopeText(s syncdb.RunScope) string {
	if s.All() {
		return "everything"
	}
	parts := make([]string, 0, len(s.Parts))
	const most = 5
	for i, p := range s.Parts {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(s.Parts)-most))
			break
		}
		var words []string
		if p.Resource != "" {
			words = append(words, p.Resource)
		}
		if p.School != 0 {
			words = append(words, fmt.Sprintf("school %d", p.School))
		}
		if !p.Key.IsZero() {
			words = append(words, fmt.Sprintf("record %x", p.Key[:6]))
		}
		if !p.Source.IsZero() {
			words = append(words, fmt.Sprintf("row %x", p.Source[:6]))
		}
		parts = append(parts, strings.Join(words, " "))
	}
	return strings.Join(parts, ", ")
}
