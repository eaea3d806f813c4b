package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// definer changes connections of the ledger: the same for the command line and the API.
type definer struct {
	ledger *syncdb.DB
	env    config.Environment
	file   *config.Config // the configuration file, whose connections are not the ledger's
	path   string         // of that
}

// proposal is what would be made of one connection of the ledger.
type proposal struct {
	Name     string               `json:"name"` // as commands call it
	Action   string               `json:"action"`
	Version  int64                `json:"version"` // that it gets; of an unchanged one the version it has
	Changes  []config.FieldChange `json:"changes,omitempty"`
	Secrets  []string             `json:"secrets,omitempty"` // sealed ones that get a new value
	Warnings []string             `json:"warnings,omitempty"`

	written *config.Written
	guarded bool // what it is to be; before that, what the version before was
	from    int64
	secrets map[string][]byte
}

// What a proposal does.
const (
	actionCreate = "create"
	actionChange = "change"
	actionNone   = "unchanged"
)

// propose finds out what keeping these connections would change. The error is Problems: everything that speaks against it.
func (d *definer) propose(ctx context.Context, file string, all []config.Written) ([]proposal, error) {
	var out []proposal
	var problems config.Problems
	for i := range all {
		p, wrong, err := d.proposeOne(ctx, &all[i], false)
		if err != nil {
			return nil, err
		}
		for j := range wrong {
			wrong[j].File, wrong[j].Line = file, all[i].Line
			wrong[j].Path = fmt.Sprintf("connections[%d].%s", i, wrong[j].Path)
			if file != "-" {
				wrong[j].Line = max(config.Line(file, wrong[j].Path), wrong[j].Line)
			}
		}
		p.guarded = false // whoever is at the command line can call what the machine can anyhow
		problems, out = append(problems, wrong...), append(out, p)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

// proposeOne is propose for one connection, whose problems begin below it. A new clone may refer to secrets that are not set yet.
func (d *definer) proposeOne(ctx context.Context, w *config.Written, unset bool) (proposal, config.Problems, error) {
	p := proposal{Name: w.FullName(), Action: actionCreate, Version: 1, written: w, secrets: map[string][]byte{}}
	problems, err := d.wrong(ctx, w, unset)
	if err != nil {
		return p, nil, err
	}
	var before json.RawMessage
	versions, err := d.ledger.DefinitionVersions(ctx, w.Tenant, w.Name)
	if err != nil {
		return p, nil, err
	}
	if len(versions) > 0 {
		p.Version = versions[0].Version + 1
		if before = versions[0].Text; before != nil {
			p.from, p.Action, p.guarded = versions[0].Version, actionChange, versions[0].Guarded
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Secrets)) {
		have, err := d.ledger.OpenSecret(ctx, w.Tenant, name)
		if err != nil && !errors.Is(err, syncdb.ErrNotFound) {
			return p, nil, err
		}
		if err != nil || !bytes.Equal(have, w.Secrets[name]) {
			p.Secrets, p.secrets[name] = append(p.Secrets, name), w.Secrets[name]
		}
	}
	if p.Changes, err = config.Changes(before, w.Text); err != nil {
		return p, nil, err
	}
	if p.from != 0 && len(p.Changes) == 0 && len(p.Secrets) == 0 {
		p.Action, p.Version = actionNone, p.from
	}
	for _, u := range w.Unresolved {
		p.Warnings = append(p.Warnings, u.Path+": "+u.Message+" here; the processes that run the connection need it")
	}
	p.Warnings = append(p.Warnings, switchWarnings(w.Connection)...)
	return p, problems, nil
}

// wrong finds what speaks against a connection besides its own spelling.
func (d *definer) wrong(ctx context.Context, w *config.Written, unset bool) (problems config.Problems, err error) {
	if at := inFile(d.file, w.Tenant, w.Name); at >= 0 {
		problems = append(problems, config.Problem{
			Path: "name", Message: "is the name of a connection in " + d.path, Remedy: "a name is in one place: take it out there first, or choose another one",
		})
	}
	if !unset {
		have, err := d.ledger.Secrets(ctx, w.Tenant)
		if err != nil {
			return nil, err
		}
		for _, name := range w.Sealed {
			if _, comes := w.Secrets[name]; !comes && !slices.ContainsFunc(have, func(s syncdb.Secret) bool { return s.Name == name }) {
				problems = append(problems, config.Problem{
					Path: w.SealedAt[name], Message: fmt.Sprintf("there is no sealed secret %s: this is only the place of one", name), Remedy: setCommand(w.Tenant, name),
				})
			}
		}
	}
	return append(problems, packProblems(w)...), nil
}

// packProblems finds what does not fit the mapping pack, when that can be read here.
func packProblems(w *config.Written) config.Problems {
	if w.Connection.Pack == "" || w.Connection.Source.Driver == "" { // a reference that nothing stands behind here
		return nil
	}
	files, err := packFiles(w.Connection.Pack)
	if err != nil {
		return config.Problems{{Path: "pack", Message: err.Error()}}
	}
	pack, err := source.LoadPack(files, w.Connection.Source.Driver)
	if err != nil {
		return config.Problems{{Path: "pack", Message: err.Error()}}
	}
	if err := narrow(pack, w.Connection); err != nil {
		return config.Problems{{Path: "resources", Message: err.Error()}}
	}
	var setting *settingError
	if _, err := safeguardsOf(w.Connection, pack); errors.As(err, &setting) {
		return config.Problems{{Path: setting.path, Message: setting.err.Error()}}
	}
	if _, err := descriptorsOf(w.Connection, pack); err != nil {
		return config.Problems{{Path: "descriptors", Message: err.Error()}}
	}
	return nil
}

// change is a proposal as the ledger takes it. who is in the audit trail.
func (p *proposal) change(act func(action string, detail map[string]any) syncdb.AuditRow) syncdb.Change {
	detail := map[string]any{"version": p.Version}
	paths := make([]string, len(p.Changes))
	for i, c := range p.Changes {
		paths[i] = c.Path
	}
	if len(paths) > 0 {
		detail["changed"] = paths
	}
	if len(p.Secrets) > 0 {
		detail["secrets"] = p.Secrets // their names
	}
	return syncdb.Change{
		Tenant: p.written.Tenant, Name: p.written.Name, From: p.from, Text: p.written.Text, Secrets: p.secrets, Guarded: p.guarded,
		Act: act("connection."+p.Action, detail),
	}
}

// keep makes what is proposed, all of it or nothing.
func (d *definer) keep(ctx context.Context, proposals []proposal, act func(p *proposal, action string, detail map[string]any) syncdb.AuditRow) error {
	var changes []syncdb.Change
	for i := range proposals {
		p := &proposals[i]
		if p.Action != actionNone {
			changes = append(changes, p.change(func(action string, detail map[string]any) syncdb.AuditRow { return act(p, action, detail) }))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	_, err := d.ledger.Define(ctx, changes...)
	return err
}

// clone is a copy of a connection under another name, without its secrets: they are places of sealed ones that are to be set.
func (d *definer) clone(ctx context.Context, tenant, from, to string, year int) (proposal, config.Problems, error) {
	def, err := d.ledger.Definition(ctx, tenant, from)
	if err != nil {
		return proposal{}, nil, err
	}
	text, err := config.Clone(def.Text, to, year)
	if err != nil {
		return proposal{}, nil, err
	}
	w, problems := config.ReadConnection(text, d.env)
	if len(problems) > 0 {
		return proposal{}, problems, nil
	}
	p, problems, err := d.proposeOne(ctx, w, true)
	p.guarded = def.Guarded
	return p, problems, err
}

// unset lists the sealed secrets a connection refers to and nobody has set.
func (d *definer) unset(ctx context.Context, w *config.Written) ([]string, error) {
	have, err := d.ledger.Secrets(ctx, w.Tenant)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(w.Sealed), func(name string) bool {
		return slices.ContainsFunc(have, func(s syncdb.Secret) bool { return s.Name == name })
	}), nil
}
