package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
)

// safeguardsOf are the connection's safeguards as the engine takes them. A resource they name that the pack does not map is an error: what
// it was meant to protect would silently not be. One that is off stays protected: the removal of what was sent of it is offered (I5g).
func safeguardsOf(conn *config.Connection, pack *source.Pack) (sync.Safeguards, error) {
	c := conn.Safeguards
	g := sync.Safeguards{
		ResourceSafeguards: sync.ResourceSafeguards{Deletes: limit(c.Deletes), Updates: limit(c.Updates), ShortSource: limit(c.ShortSource)},
		RunDeletes:         limit(c.Run.Deletes),
		RunUpdates:         limit(c.Run.Updates),
		Resources:          map[string]sync.ResourceSafeguards{},
	}
	known := slices.Concat(mapped(pack), pack.Off)
	for i, name := range c.PreventDelete {
		path, err := resourcesOf(known, []string{name})
		if err != nil {
			return g, &settingError{fmt.Sprintf("safeguards.prevent_delete[%d]", i), err}
		}
		g.PreventDelete = append(g.PreventDelete, path[0])
	}
	for name, own := range c.Resources {
		path, err := resourcesOf(known, []string{name})
		if err != nil {
			return g, &settingError{"safeguards.resources." + name, err}
		}
		g.Resources[path[0]] = sync.ResourceSafeguards{
			Deletes: limit(config.Limit(own.Deletes)), Updates: limit(config.Limit(own.Updates)), ShortSource: limit(config.Limit(own.ShortSource)),
		}
	}
	return g, nil
}

// settingError is a setting of a connection that does not fit what it meets: the mapping pack.
type settingError struct {
	path string // below the connection
	err  error
}

func (e *settingError) Error() string { return e.path + ": " + e.err.Error() }

func (e *settingError) Unwrap() error { return e.err }

// located names the line of the configuration that a setting which does not fit is on. Other errors stay as they are.
func (a *app) located(cfg *config.Config, conn *config.Connection, err error) error {
	var setting *settingError
	if !errors.As(err, &setting) {
		return err
	}
	i := slices.IndexFunc(cfg.Connections, func(c config.Connection) bool { return c.FullName() == conn.FullName() })
	path := fmt.Sprintf("connections[%d].%s", i, setting.path)
	return usageError(config.Problems{{File: a.Config, Line: config.Line(a.Config, path), Path: path, Message: setting.err.Error()}})
}

func limit(l config.Limit) sync.Limit { return sync.Limit{Percent: l.Percent, Count: int64(l.Count)} }
