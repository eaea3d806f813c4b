package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// definitions changes connections of the ledger for the API. Safe for concurrent use.
type definitions struct{ s *service }

var (
	_ console.Definitions = (*definitions)(nil)
	_ console.Secrets     = (*sealedSecrets)(nil)
)

func (d *definitions) definer() *definer {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return &definer{ledger: d.s.ledger, env: d.s.environment(), file: d.s.file, path: "the configuration file"}
}

// changed makes the schedules and the lists be read again.
func (d *definitions) changed() {
	d.s.shown.forget()
	d.s.jobs.Reload()
}

// Versions implements console.Definitions.
func (d *definitions) Versions(ctx context.Context, tenant, name string) ([]syncdb.Definition, error) {
	return d.s.ledger.DefinitionVersions(ctx, tenant, name)
}

// invalid is what is wrong with a definition as the API says it.
func invalid(problems config.Problems) error {
	out := &console.InvalidDefinition{Problems: map[string][]string{}}
	for _, p := range problems {
		text := p.Message
		if p.Remedy != "" {
			text += " (" + p.Remedy + ")"
		}
		out.Problems[p.Path] = append(out.Problems[p.Path], text)
	}
	return out
}

// written reads a definition that came over the API. It looks at nothing on this machine before it is known that it may (I13, I15).
func (d *definitions) written(ctx context.Context, e *definer, tenant, name string, text json.RawMessage) (*config.Written, error) {
	blind := e.env
	blind.Blind = true
	w, problems := config.ReadConnection(text, blind)
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	if w.Name != name {
		problems = append(problems, config.Problem{Path: "name", Message: "is not the name in the path"})
	}
	if w.Tenant != tenant {
		problems = append(problems, config.Problem{Path: "tenant", Message: "is not the tenant in the path"})
	}
	var before []config.Need
	if def, err := d.s.ledger.Definition(ctx, tenant, name); err == nil {
		if was, wrong := config.ReadConnection(def.Text, blind); len(wrong) == 0 {
			before = was.Needs
		}
	} else if !errors.Is(err, syncdb.ErrNotFound) {
		return nil, err
	}
	problems = append(problems, w.Refused(e.file.Service.References, before, e.env.Dir)...)
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	if w, problems = config.ReadConnection(text, e.env); len(problems) > 0 {
		return nil, invalid(problems)
	}
	guard, err := e.file.Service.Egress.Guard()
	if err != nil {
		return nil, err
	}
	if err := guard.CheckURL(w.Connection.Target.URL); w.Connection.Target.URL != "" && err != nil {
		if before, wrong := d.targetBefore(ctx, tenant, name); wrong != nil || before != w.Connection.Target.URL {
			return nil, invalid(config.Problems{{Path: "target.url", Message: err.Error(), Remedy: "service.egress.allow allows it"}})
		}
	}
	return w, nil
}

// targetBefore is the target's address in the version there is.
func (d *definitions) targetBefore(ctx context.Context, tenant, name string) (string, error) {
	def, err := d.s.ledger.Definition(ctx, tenant, name)
	if err != nil {
		return "", err
	}
	conn := config.Decode([]syncdb.Definition{def}, d.s.environment())[0]
	return conn.Target.URL, conn.Err
}

// Put implements console.Definitions.
func (d *definitions) Put(ctx context.Context, tenant, name string, from int64, text json.RawMessage, dry bool, act syncdb.AuditRow) (console.DefinitionChange, error) {
	e := d.definer()
	w, err := d.written(ctx, e, tenant, name, text)
	if err != nil {
		return console.DefinitionChange{}, err
	}
	p, problems, err := e.proposeOne(ctx, w, false)
	if err != nil {
		return console.DefinitionChange{}, err
	}
	if p.from != from {
		return console.DefinitionChange{}, syncdb.ErrVersion
	}
	// What was named at the command line may be anywhere, as long as nobody changes it here.
	p.guarded = p.guarded || p.from == 0 || slices.ContainsFunc(p.Changes, func(c config.FieldChange) bool { return c.Path == "target.url" })
	return d.keep(ctx, e, p, problems, dry, act)
}

// keep makes a proposal, and says what it did.
func (d *definitions) keep(ctx context.Context, e *definer, p proposal, problems config.Problems, dry bool, act syncdb.AuditRow) (console.DefinitionChange, error) {
	out := console.DefinitionChange{Version: p.Version, Action: p.Action, Secrets: p.Secrets, Warnings: p.Warnings}
	if len(problems) > 0 {
		return out, invalid(problems)
	}
	for _, c := range p.Changes {
		out.Changes = append(out.Changes, console.SettingChange(c))
	}
	if !dry {
		err := e.keep(ctx, []proposal{p}, func(_ *proposal, _ string, detail map[string]any) syncdb.AuditRow { return withDetail(act, detail) })
		if err != nil {
			return out, err
		}
		d.changed()
	}
	unset, err := e.unset(ctx, p.written)
	out.Unset = slices.DeleteFunc(unset, func(name string) bool { return dry && p.written.Secrets[name] != nil })
	return out, err
}

// withDetail completes an audit row.
func withDetail(act syncdb.AuditRow, detail map[string]any) syncdb.AuditRow {
	all := map[string]any{}
	if err := json.Unmarshal(act.Detail, &all); err != nil {
		all = map[string]any{} // there was none
	}
	for name, value := range detail {
		all[name] = value
	}
	act.Detail, _ = json.Marshal(all) // strings and numbers always marshal
	return act
}

// Clone implements console.Definitions.
func (d *definitions) Clone(ctx context.Context, tenant, from, to string, year int, act syncdb.AuditRow) (console.DefinitionChange, error) {
	e := d.definer()
	p, problems, err := e.clone(ctx, tenant, from, to, year)
	if err != nil {
		return console.DefinitionChange{}, err
	}
	if p.from != 0 {
		return console.DefinitionChange{}, syncdb.ErrVersion
	}
	return d.keep(ctx, e, p, problems, false, act)
}

// Remove implements console.Definitions.
func (d *definitions) Remove(ctx context.Context, tenant, name string, from int64, records string, act syncdb.AuditRow) (console.RemovedDefinition, error) {
	var left *remains
	var err error
	if records == console.RecordsWithdraw {
		left, err = d.withdraw(ctx, tenant, name, from, act)
	} else {
		left, err = d.definer().remove(ctx, tenant, name, from, records, act)
	}
	var owns *leftError
	var problems config.Problems
	switch {
	case errors.As(err, &owns):
		return console.RemovedDefinition{}, &console.RecordsLeft{Text: owns.Error()}
	case errors.As(err, &problems):
		return console.RemovedDefinition{}, invalid(problems)
	case err != nil:
		return console.RemovedDefinition{}, err
	}
	d.changed()
	out := console.RemovedDefinition{
		Removed: left.Removed, Records: left.Records, Met: left.Met, Forgotten: left.Forgotten, Withdrawing: left.Withdrawing,
		Version: left.Version, Run: left.Run, Secrets: left.Secrets,
	}
	for _, r := range left.Resources {
		if out.Resources == nil {
			out.Resources = map[string]int64{}
		}
		out.Resources[r.Resource] = r.Owned
	}
	return out, nil
}

// withdraw has what a connection sent be offered for removal.
func (d *definitions) withdraw(ctx context.Context, tenant, name string, from int64, act syncdb.AuditRow) (*remains, error) {
	left, err := d.definer().withdraw(ctx, tenant, name, from, act)
	if err != nil {
		return nil, err
	}
	id, _, err := d.s.ledger.Connection(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	asks := act
	asks.Action, asks.Detail = "run.ask", nil
	run, _, err := d.s.jobs.AskAs(ctx, id.ID, "api", syncdb.RunScope{}, asks)
	if err != nil {
		return nil, err
	}
	left.Run = run.ID
	return left, nil
}

// Test implements console.Definitions.
func (d *definitions) Test(ctx context.Context, tenant, name string) ([]console.Finding, error) {
	cfg := d.s.config(ctx)
	for _, lost := range d.s.unusable() {
		if lost.conn.Tenant == tenant && lost.conn.Name == name {
			return []console.Finding{{Part: "definition", Detail: lost.err.Error(), Remedy: "correct the connection, or give this machine what it refers to"}}, nil
		}
	}
	i := inFile(cfg, tenant, name)
	if i < 0 {
		return nil, syncdb.ErrNotFound
	}
	conn, err := unsealed(ctx, d.s.ledger, &cfg.Connections[i])
	var exit *exitError
	if errors.As(err, &exit) {
		return []console.Finding{{Part: "secrets", Detail: err.Error(), Remedy: "set the secret"}}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []console.Finding
	for _, f := range testConnection(ctx, conn).findings {
		out = append(out, console.Finding{Part: f.Part, OK: f.OK, Warning: f.Warning, Detail: f.Detail, Remedy: f.Remedy})
	}
	return out, ctx.Err()
}

// sealedSecrets changes sealed secrets for the API. Safe for concurrent use.
type sealedSecrets struct{ s *service }

// Secrets implements console.Secrets.
func (x *sealedSecrets) Secrets(ctx context.Context, tenant string) ([]syncdb.Secret, error) {
	return x.s.ledger.Secrets(ctx, tenant)
}

// SetSecret implements console.Secrets.
func (x *sealedSecrets) SetSecret(ctx context.Context, tenant, name string, value []byte, act syncdb.AuditRow) (syncdb.Secret, error) {
	set, err := x.s.ledger.SetSecret(ctx, tenant, name, value, act)
	if err == nil {
		x.s.jobs.Reload() // a connection may have waited for it
	}
	return set, err
}

// RemoveSecret implements console.Secrets.
func (x *sealedSecrets) RemoveSecret(ctx context.Context, tenant, name string, act syncdb.AuditRow) error {
	x.s.mu.Lock()
	file := x.s.file
	x.s.mu.Unlock()
	used := &syncdb.SecretUsedError{Name: name}
	for i := range file.Connections {
		conn := &file.Connections[i]
		if conn.Tenant == tenant && slices.Contains(append(conn.Source.DSN.Sealed(), conn.Target.ClientSecret.Sealed()...), name) {
			used.Connections = append(used.Connections, conn.Name)
		}
	}
	if len(used.Connections) > 0 {
		return used
	}
	return x.s.ledger.RemoveSecret(ctx, tenant, name, act)
}
