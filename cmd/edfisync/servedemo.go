package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// demoKeyName names the key that serve --demo makes.
const demoKeyName = "demo"

// demoMaker is who made what the demo comes with, in the audit trail.
const demoMaker = "edfisync serve --demo"

// servedDemo is what serve --demo --json prints, on one line.
type servedDemo struct {
	URL        string `json:"url"`
	Key        string `json:"key"`
	Connection string `json:"connection"`
}

// demo serves a made-up district and an Ed-Fi API of its own, which are gone when it ends.
func (c *serveCmd) demo(ctx context.Context, a *app) (err error) {
	if c.Students < limitless.MinStudents || c.Students > limitless.MaxStudents {
		return usageError(fmt.Errorf("--students: want %d to %d", limitless.MinStudents, limitless.MaxStudents))
	}
	if c.Latency < 0 {
		return usageError(fmt.Errorf("--latency: want 0 or more, not %s", c.Latency))
	}
	dir, discard, err := demoDir("")
	if err != nil {
		return err
	}
	defer discard()
	d := &demo{app: a, dir: dir, pack: demoPack("5.2"), latency: c.Latency}
	if d.model, err = schema.Bundled("5.2"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if _, err := d.district(ctx, c.Students); err != nil {
		return err
	}
	if err := d.api(ctx, false); err != nil {
		return err
	}
	if err := d.configure(); err != nil {
		return err
	}
	d.cfg.Ledger.Witness = filepath.Join(dir, "witness") // not beside a configuration that it has nothing to do with
	c.change(d.cfg)
	if err := d.define(ctx); err != nil {
		return fmt.Errorf("keep the connection in the ledger: %w", err)
	}
	return a.serve(ctx, d.cfg, serving{schedules: true, fixed: true, tell: d.tellServing})
}

// demoConnection is the connection of the demo.
const demoConnection = "demo"

// define keeps the connection in the ledger instead of the configuration: there it can be changed in the console.
func (d *demo) define(ctx context.Context) (err error) {
	text, err := json.Marshal(map[string]any{
		"name": demoConnection, "school_year": limitless.DefaultSchoolYear, "pack": d.pack, "resources": []string{"all"}, "schedule": map[string]any{"cron": "0 2 * * *"},
		"source": map[string]any{"driver": source.SQLite, "dsn": filepath.Join(d.dir, "sis.sqlite")},
		"target": map[string]any{
			"url": d.server.URL(), "client_id": sandboxClientID, "client_secret": sandboxSecret, "concurrency": map[string]any{"min": 4, "max": 32},
		},
	})
	if err != nil {
		return err
	}
	w, problems := config.ReadConnection(text, d.environment())
	if len(problems) > 0 {
		return problems
	}
	d.cfg.Connections = nil
	ledger, err := openLedger(ctx, d.cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	definer := &definer{ledger: ledger, env: d.environment(), file: d.cfg, path: "the configuration"}
	p, problems, err := definer.proposeOne(ctx, w, false)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return problems
	}
	return definer.keep(ctx, []proposal{p}, func(p *proposal, action string, detail map[string]any) syncdb.AuditRow {
		row := byOperator(action, p.written.Tenant, p.written.Name, detail)
		row.Who = demoMaker
		return row
	})
}

// tellServing makes a key, and says where the console is and how to log in.
func (d *demo) tellServing(ctx context.Context, s *service, server *httpd.Server) error {
	// The students are made up: whoever tries it may see them.
	_, key, err := console.CreateKey(ctx, s.ledger, console.NewKey{Name: demoKeyName, Role: httpd.Admin.String(), StudentData: true}, demoMaker)
	if err != nil {
		return err
	}
	name := demoConnection
	if d.JSON {
		return json.NewEncoder(d.out).Encode(servedDemo{URL: server.URL(), Key: key, Connection: name})
	}
	d.say("\nThe console:  %s", server.URL())
	d.say("The key:      %s", key)
	d.say("\nLog in with the key, open %q and click Sync now. Programs do the same over the API, %s/api/v1.", name, server.URL())
	d.say("The SIS is %s: change a row and sync again. Everything is gone when this ends; Ctrl-C ends it.", filepath.Join(d.dir, "sis.sqlite"))
	return nil
}
