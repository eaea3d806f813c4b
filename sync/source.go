package sync

import (
	"context"

	"github.com/edfisync/edfisync/source"
)

// FromSource makes a Source of an open database and the queries bound to it.
func FromSource(db *source.DB, queries []*source.Bound) Source {
	return database{db: db, queries: queries}
}

type database struct {
	db      *source.DB
	queries []*source.Bound
}

func (d database) Queries() []*source.Bound { return d.queries }

func (d database) Begin(ctx context.Context) (Snapshot, error) {
	s, err := d.db.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return databaseSnapshot{s}, nil
}

type databaseSnapshot struct{ *source.Snapshot }

func (s databaseSnapshot) Open(ctx context.Context, q *source.Bound) (Rows, error) {
	return s.Snapshot.Open(ctx, q.Query)
}
