package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// ofLedger names a connection that is kept in the ledger.
type ofLedger struct {
	Connection string `placeholder:"NAME" help:"Connection of the ledger, or TENANT/NAME; not needed when there is only one."`
}

type descriptorsSetCmd struct {
	Descriptor string `arg:"" help:"Descriptor, such as GradeLevelDescriptor."`
	Code       string `arg:"" help:"Code in the SIS."`
	Value      string `arg:"" help:"What it stands for: a URI, or the bare value, which gets the namespace of the mapping pack."`
	ofLedger
}

// Run maps a code.
func (c *descriptorsSetCmd) Run(ctx context.Context, a *app) error {
	return a.editDescriptors(ctx, c.Connection, console.DescriptorEdit{Set: []console.MappedCode{{Descriptor: c.Descriptor, Code: c.Code, URI: c.Value}}})
}

type descriptorsRemoveCmd struct {
	Descriptor string `arg:"" help:"Descriptor, such as GradeLevelDescriptor."`
	Code       string `arg:"" help:"Code in the SIS."`
	ofLedger
}

// Run maps a code no more.
func (c *descriptorsRemoveCmd) Run(ctx context.Context, a *app) error {
	return a.editDescriptors(ctx, c.Connection, console.DescriptorEdit{Remove: []console.MappedCode{{Descriptor: c.Descriptor, Code: c.Code}}})
}

// editDescriptors changes the descriptor maps of a connection of the ledger, and says what it did.
func (a *app) editDescriptors(ctx context.Context, name string, edit console.DescriptorEdit) error {
	return a.define(ctx, false, func(d *definer) error {
		def, err := d.named(ctx, name)
		if err != nil {
			return err
		}
		text, err := edit.Apply(def.Text)
		if wrong := (*console.DescriptorEditError)(nil); errors.As(err, &wrong) {
			return usageError(err)
		}
		if err != nil {
			return err
		}
		return a.redefine(ctx, d, def, text)
	})
}

// named is the definition of a connection that is kept in the ledger; "" is the only one.
func (d *definer) named(ctx context.Context, full string) (syncdb.Definition, error) {
	if full == "" {
		all, err := d.ledger.Definitions(ctx)
		if err != nil || len(all) == 1 {
			if err != nil {
				return syncdb.Definition{}, err
			}
			return all[0], nil
		}
		return syncdb.Definition{}, usageError(fmt.Errorf("the ledger keeps %d connections: say with --connection which one is meant", len(all)))
	}
	tenant, name := splitName(full)
	def, err := d.ledger.Definition(ctx, tenant, name)
	if err != nil {
		return def, d.notThere(tenant, name, err)
	}
	return def, nil
}

// redefine makes a new version of a connection of the ledger from the one that was read, and says what changed. When somebody made another one meanwhile it is
// refused.
func (a *app) redefine(ctx context.Context, d *definer, def syncdb.Definition, text json.RawMessage) error {
	w, problems := config.ReadConnection(text, d.env)
	if len(problems) > 0 {
		return usageError(problems)
	}
	p, problems, err := d.proposeOne(ctx, w, true)
	switch {
	case err != nil:
		return err
	case len(problems) > 0:
		return usageError(problems)
	case p.from != def.Version:
		return syncdb.ErrVersion
	}
	if err := d.keep(ctx, []proposal{p}, func(p *proposal, action string, detail map[string]any) syncdb.AuditRow {
		return byOperator(action, p.written.Tenant, p.written.Name, detail)
	}); err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(p)
		return nil
	}
	printProposals(a.out, []proposal{p}, true)
	return nil
}
