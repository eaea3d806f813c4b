package memdb

import (
	"context"

	"github.com/edfisync/edfisync/syncdb"
)

// DropProblems is syncdb.DB.DropProblems.
func (d *DB) DropProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return 0, err
	}
	dropped := 0
	for _, source := range sources {
		if _, ok := c.problems[resource][source]; ok {
			delete(c.problems[resource], source)
			c.ranking.Current = false
			dropped++
		}
	}
	for _, i := range c.issues {
		if i.Resource == resource && i.ClearedRun == 0 && c.rows(i) == 0 {
			i.ClearedRun = l.RunID
		}
	}
	return dropped, nil
}
