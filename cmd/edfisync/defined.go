package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/syncdb"
)

// environment is what references in connections of the ledger are resolved against: as in the configuration file.
func (a *app) environment() config.Environment {
	dir, err := filepath.Abs(filepath.Dir(a.Config))
	if err != nil {
		dir = filepath.Dir(a.Config) // without a working directory; what is relative will not be found
	}
	return config.Environment{Dir: dir, Lookup: a.lookupEnv}
}

// unusable is a connection of the ledger that cannot be used on this machine as it is defined.
type unusable struct {
	conn *config.Connection // as far as it can be read; its name is right
	err  error
}

// withDefined adds the connections of the ledger to those of the configuration file. The error is Problems: a name that is in both places.
func (a *app) withDefined(file *config.Config, definitions []syncdb.Definition) (merged *config.Config, broken []unusable, err error) {
	all := *file
	all.Connections = slices.Clone(file.Connections)
	var problems config.Problems
	guard, err := file.Service.Egress.Guard()
	if err != nil {
		return nil, nil, usageError(err)
	}
	for i, decoded := range config.Decode(definitions, a.environment()) {
		d, conn := &definitions[i], decoded.Connection
		if at := inFile(file, d.Tenant, d.Name); at >= 0 {
			problems = append(problems, a.clash(file, at))
			continue
		}
		if decoded.Err != nil {
			broken = append(broken, unusable{conn, decoded.Err})
			continue
		}
		conn.SourceGuard = guard
		if d.Guarded {
			conn.Guard = guard
		}
		all.Connections = append(all.Connections, *conn)
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return &all, broken, nil
}

// inFile is the index of a connection in the configuration file, -1 when it is not there.
func inFile(file *config.Config, tenant, name string) int {
	return slices.IndexFunc(file.Connections, func(c config.Connection) bool { return c.Tenant == tenant && c.Name == name })
}

func (a *app) clash(file *config.Config, at int) config.Problem {
	path := fmt.Sprintf("connections[%d].name", at)
	return config.Problem{
		File: a.Config, Line: config.Line(a.Config, path), Path: path, Message: "is the name of a connection in the ledger, too",
		Remedy: "take it out here, or there: edfisync connections remove " + file.Connections[at].FullName(),
	}
}

// all loads the configuration with the connections of the ledger, if there is one yet.
func (a *app) all(ctx context.Context) (cfg *config.Config, broken []unusable, err error) {
	file, err := a.load()
	if err != nil || unmade(file) {
		return file, nil, err
	}
	ledger, err := existingLedger(ctx, file)
	if err != nil {
		return nil, nil, err
	}
	definitions, err := ledger.Definitions(ctx)
	if err = errors.Join(err, ledger.Close()); err != nil {
		return nil, nil, err
	}
	if cfg, broken, err = a.withDefined(file, definitions); err != nil {
		return nil, nil, usageError(err)
	}
	return cfg, broken, nil
}

// picked loads configuration and ledger and returns the connection a flag names, or the only one there is, with its secrets.
func (a *app) picked(ctx context.Context, name string) (*config.Config, *config.Connection, error) {
	cfg, broken, err := a.all(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, b := range broken {
		if name == b.conn.FullName() || name == b.conn.Name || name == "" && len(cfg.Connections) == 0 && len(broken) == 1 {
			return nil, nil, usageError(b.err)
		}
	}
	conn, err := pick(cfg, name)
	if err != nil || len(conn.Source.DSN.Sealed())+len(conn.Target.ClientSecret.Sealed()) == 0 {
		return cfg, conn, err
	}
	if unmade(cfg) {
		return nil, nil, usageError(notSet(conn, append(conn.Source.DSN.Sealed(), conn.Target.ClientSecret.Sealed()...)[0]))
	}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	whole, err := unsealed(ctx, ledger, conn)
	if err = errors.Join(err, ledger.Close()); err != nil {
		return nil, nil, err
	}
	*conn = *whole
	return cfg, conn, nil
}

// unsealed returns a copy of a connection with the sealed secrets it refers to, as they are now.
func unsealed(ctx context.Context, ledger *syncdb.DB, conn *config.Connection) (*config.Connection, error) {
	out := *conn
	open := func(name string) (string, error) {
		value, err := ledger.OpenSecret(ctx, conn.Tenant, name)
		if errors.Is(err, syncdb.ErrNotFound) {
			return "", usageError(notSet(conn, name))
		}
		return string(value), err
	}
	var err error
	if out.Source.DSN, err = conn.Source.DSN.Unseal(open); err != nil {
		return nil, err
	}
	if out.Target.ClientSecret, err = conn.Target.ClientSecret.Unseal(open); err != nil {
		return nil, err
	}
	return &out, nil
}

// notSet says that a connection refers to a secret that nobody has set.
func notSet(conn *config.Connection, name string) error {
	return fmt.Errorf("connection %s refers to the sealed secret %s, which is not set (%s)", conn.FullName(), name, setCommand(conn.Tenant, name))
}

func setCommand(tenant, name string) string {
	command := "edfisync secrets set " + name
	if tenant != "default" {
		command += " --tenant " + tenant
	}
	return command
}

// fullName is how commands call a connection.
func fullName(tenant, name string) string {
	return (&config.Connection{Tenant: tenant, Name: name}).FullName()
}

// splitName is the reverse of fullName.
func splitName(text string) (tenant, name string) {
	tenant, name, found := strings.Cut(text, "/")
	if !found {
		return "default", text
	}
	return tenant, name
}
