package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/syncdb"
)

// What becomes of the records that a connection has at the target when it is removed. In each way nothing at the target is deleted that nobody approved.
const (
	recordsRemember = "remember" // they stay, and the ledger goes on knowing them: a connection of that name goes on from there
	recordsKeep     = "keep"     // they stay, and the ledger forgets them
	recordsWithdraw = "withdraw" // the connection stays and syncs nothing any more; a run holds the removal of its records for approval
)

// leftError says that a connection owns records at the target and nobody said what is to become of them.
type leftError struct {
	name string
	have syncdb.Holdings
}

func (e *leftError) Error() string {
	return fmt.Sprintf("connection %s still owns %s; say what is to become of them", e.name, ownedText(e.have))
}

// ownedText says how many records a connection owns at the target.
func ownedText(h syncdb.Holdings) string {
	text := counted(h.Owned, "record") + " at the target"
	var parts []string
	for _, r := range h.Resources {
		parts = append(parts, grouped(r.Owned)+" "+r.Resource)
	}
	if len(parts) > 1 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if h.CutOff > 0 {
		text += fmt.Sprintf(", and up to %s of a run that was cut off", counted(h.CutOff, "more"))
	}
	return text
}

// remains is what is left when a connection is removed, or what it is withdrawn from.
type remains struct {
	Records     int64                    `json:"records"` // that it owns at the target
	Met         int64                    `json:"met,omitempty"`
	Resources   []syncdb.ResourceHolding `json:"resources,omitempty"`
	Removed     bool                     `json:"removed"`
	Forgotten   bool                     `json:"forgotten,omitempty"`   // the ledger does not know the records any more
	Withdrawing bool                     `json:"withdrawing,omitempty"` // it syncs nothing any more; its records are removed once somebody approved that
	Version     int64                    `json:"version,omitempty"`     // of the definition that syncs nothing
	Run         int64                    `json:"run,omitempty"`         // that holds the removal
	Secrets     []string                 `json:"secrets,omitempty"`     // sealed, that only it referred to
}

func remainsOf(h syncdb.Holdings) *remains {
	return &remains{Records: h.Owned, Met: h.Met, Resources: h.Resources}
}

// remove removes a connection. Unless somebody says what is to become of the records it owns, a *leftError. What the ledger is to forget it forgets also for
// a connection that is defined nowhere any more.
func (d *definer) remove(ctx context.Context, tenant, name string, from int64, records string, act syncdb.AuditRow) (*remains, error) {
	def, err := d.ledger.Definition(ctx, tenant, name)
	defined := err == nil
	if err != nil && !errors.Is(err, syncdb.ErrNotFound) {
		return nil, err
	}
	have, herr := d.ledger.HoldingsOf(ctx, tenant, name)
	if herr != nil {
		return nil, herr
	}
	known := have.Met > 0 || !have.None()
	if !defined && (records != recordsKeep || !known || inFile(d.file, tenant, name) >= 0) {
		return nil, err
	}
	if records == "" && !have.None() {
		return nil, &leftError{fullName(tenant, name), have}
	}
	out := remainsOf(have)
	out.Removed, out.Forgotten = defined, records == recordsKeep
	act = withDetail(act, map[string]any{"records": have.Owned, "forgotten": out.Forgotten})
	if !defined {
		return out, d.ledger.Forget(ctx, tenant, name, act)
	}
	if from == 0 {
		from = def.Version
	}
	if _, err := d.ledger.Define(ctx, syncdb.Change{Tenant: tenant, Name: name, From: from, Forget: out.Forgotten, Act: act}); err != nil {
		return nil, err
	}
	out.Secrets, err = d.unneeded(ctx, &def)
	return out, err
}

// unneeded are the sealed secrets that a connection referred to and no other does.
func (d *definer) unneeded(ctx context.Context, def *syncdb.Definition) (out []string, err error) {
	all, err := d.ledger.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	secrets, err := d.ledger.Secrets(ctx, def.Tenant)
	if err != nil {
		return nil, err
	}
	for _, s := range secrets {
		reference := []byte(syncdb.SecretReference(s.Name))
		if bytes.Contains(def.Text, reference) && !slices.ContainsFunc(all, func(o syncdb.Definition) bool { return o.Tenant == def.Tenant && bytes.Contains(o.Text, reference) }) {
			out = append(out, s.Name)
		}
	}
	return out, nil
}

// withdraw switches all resources of a connection off, so that its next run holds the removal of what it sent for approval (I5g). Doing it again changes
// nothing. The caller asks for the run.
func (d *definer) withdraw(ctx context.Context, tenant, name string, from int64, act syncdb.AuditRow) (*remains, error) {
	def, err := d.ledger.Definition(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	if from != 0 && from != def.Version {
		return nil, syncdb.ErrVersion
	}
	have, err := d.ledger.HoldingsOf(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	out := remainsOf(have)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(def.Text, &fields); err != nil {
		return nil, fmt.Errorf("read the definition of %s: %w", fullName(tenant, name), err)
	}
	fields["resources"] = json.RawMessage(`["none"]`)
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	w, problems := config.ReadConnection(text, d.env)
	if len(problems) > 0 {
		return nil, problems
	}
	p, problems, err := d.proposeOne(ctx, w, false)
	switch {
	case err != nil:
		return nil, err
	case len(problems) > 0:
		return nil, problems
	case p.from != def.Version:
		return nil, syncdb.ErrVersion
	}
	p.guarded = def.Guarded
	out.Withdrawing, out.Version = true, p.Version
	return out, d.keep(ctx, []proposal{p}, func(_ *proposal, _ string, detail map[string]any) syncdb.AuditRow {
		detail["records"] = have.Owned
		return withDetail(act, detail)
	})
}
