package main

import (
	"fmt"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
)

// safeguardsOf are the connection's safeguards as the engine takes them. A resource they name that the connection does not sync is an
// error: what it was meant to protect would silently not be.
func safeguardsOf(conn *config.Connection, pack *source.Pack) (sync.Safeguards, error) {
	c := conn.Safeguards
	g := sync.Safeguards{
		ResourceSafeguards: sync.ResourceSafeguards{Deletes: limit(c.Deletes), Updates: limit(c.Updates), ShortSource: limit(c.ShortSource)},
		RunDeletes:         limit(c.Run.Deletes),
		RunUpdates:         limit(c.Run.Updates),
		Resources:          map[string]sync.ResourceSafeguards{},
	}
	var err error
	if g.PreventDelete, err = resourcesOf(pack, c.PreventDelete); err != nil {
		return g, fmt.Errorf("connection %s: safeguards.prevent_delete: %w", conn.FullName(), err)
	}
	for name, own := range c.Resources {
		path, err := resourcesOf(pack, []string{name})
		if err != nil {
			return g, fmt.Errorf("connection %s: safeguards.resources: %w", conn.FullName(), err)
		}
		g.Resources[path[0]] = sync.ResourceSafeguards{
			Deletes: limit(config.Limit(own.Deletes)), Updates: limit(config.Limit(own.Updates)), ShortSource: limit(config.Limit(own.ShortSource)),
		}
	}
	return g, nil
}

func limit(l config.Limit) sync.Limit { return sync.Limit{Percent: l.Percent, Count: int64(l.Count)} }
