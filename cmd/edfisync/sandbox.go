package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// What the sandbox of the demo, and any other that is not told otherwise, uses.
const (
	sandboxAddr     = "127.0.0.1:8765"
	sandboxClientID = "demo"
	sandboxSecret   = "demo-secret"
)

type sandboxCmd struct {
	Listen       string        `aliases:"addr" default:"127.0.0.1:8765" placeholder:"HOST:PORT" help:"Where to listen (default: 127.0.0.1:8765)."`
	Personality  string        `default:"ods-7.3" enum:"ods-5.3,ods-6.1,ods-7.3,dms" placeholder:"NAME" help:"Version of the API to pass for: ods-5.3, ods-6.1, ods-7.3 or dms (default: ods-7.3)."`
	Standard     string        `placeholder:"VERSION" help:"Data standard (default: 5.2; 4.0 of ods-5.3 and ods-6.1)."`
	Tenant       string        `placeholder:"NAME" help:"Tenant in the addresses (ods-7.3 and dms)."`
	RouteYear    int           `placeholder:"YEAR" help:"School year in the addresses."`
	DB           string        `name:"db" type:"path" placeholder:"FILE" help:"Keep the records in this SQLite file. Default: in memory only."`
	ClientID     string        `default:"demo" placeholder:"ID" help:"API key (default: demo)."`
	ClientSecret string        `default:"demo-secret" placeholder:"SECRET" help:"API secret (default: demo-secret)."`
	ClaimSet     string        `placeholder:"NAME" help:"What the API key may do: 'SIS Vendor', 'District Hosted SIS Vendor', 'Ed-Fi Sandbox' (default: everything). A key 'admin' with the same secret then may do everything."`
	EdOrgs       []int64       `name:"ed-org" placeholder:"ID" help:"Education organization of the API key; may be repeated. What lies below it is the key's too."`
	Namespaces   []string      `name:"namespace" placeholder:"PREFIX" help:"Namespace prefix of the API key, such as uri://ed-fi.org; may be repeated."`
	Clients      string        `placeholder:"FILE" help:"YAML or JSON file with further keys and what they may do."`
	SchoolYears  []int         `name:"school-year" placeholder:"YEAR" help:"School year that exists at start, the year it ends in; may be repeated. Default: last, this and next year."`
	FoldKeys     bool          `help:"Compare natural keys without case and trailing spaces, as an ODS on SQL Server does."`
	Tokens       int           `default:"15" placeholder:"N" help:"Access tokens of a key that are alive at once, for 30 minutes each (default: 15, as an ODS has it)."`
	Latency      time.Duration `placeholder:"DURATION" help:"Wait this long before each answer, to imitate a distant host."`
	Faults       string        `placeholder:"SPEC|FILE" help:"Break calls: seed=7,rate=5%[,kinds=NAME+NAME][,attempts=N], or a YAML or JSON file with a script."`
}

// Help is the long help of the command.
func (sandboxCmd) Help() string {
	return `Serves an Ed-Fi API for trying and testing: OAuth2, discovery, OpenAPI, dependencies, and every resource and descriptor of the data
standard with validation, references, upsert, key changes, paging and problem details. It is a sandbox: do not put real students in it.

Examples:

    edfisync sandbox
    edfisync sandbox --db records.sqlite --standard 4.0
    curl -s http://127.0.0.1:8765/                     what it says it is
    curl -s http://127.0.0.1:8765/sandbox/stats        what it was asked
    edfisync sandbox --personality ods-6.1 --route-year 2026
    edfisync sandbox --claim-set 'SIS Vendor' --ed-org 255901
    edfisync sandbox --faults seed=7,rate=5%           break one call in twenty, the same ones each time
    edfisync sandbox --faults faults.yaml              break what a script says (docs/sandbox.md)`
}

// Run serves until it is interrupted, which is how a sandbox is meant to end.
func (c *sandboxCmd) Run(ctx context.Context, a *app) (err error) {
	like := sandbox.Personality(c.Personality)
	model, err := schema.Bundled(cmp.Or(c.Standard, like.Standard()))
	if err != nil {
		return usageError(err)
	}
	years := c.SchoolYears
	if len(years) == 0 {
		years = yearsAround(time.Now())
	}
	clients, err := c.clients()
	if err != nil {
		return usageError(err)
	}
	server, err := sandbox.New(sandbox.Options{
		Model: model, Personality: like, Route: sandbox.Route{Tenant: c.Tenant, SchoolYear: c.RouteYear}, Clients: clients, Store: c.DB, SchoolYears: years, CaseInsensitiveKeys: c.FoldKeys, Latency: c.Latency, MaxTokens: c.Tokens,
		Logger: logger(a.err, config.Log{Level: slog.LevelWarn, Format: "text"}),
	})
	if err != nil {
		return usageError(err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	faults, err := c.faults()
	if err != nil {
		return usageError(err)
	}
	if err := server.SetFaults(faults); err != nil {
		return usageError(err)
	}
	if err := server.Start(ctx, c.Listen); err != nil {
		return taken(err, "--listen")
	}
	if a.JSON {
		a.printJSON(map[string]string{"url": server.URL(), "clientId": c.ClientID, "standard": model.Standard, "personality": c.Personality})
	} else {
		fmt.Fprintf(a.out, "Ed-Fi API (%s) of data standard %s at %s\nclient id %s, Ctrl-C stops it\n", c.Personality, model.Standard, server.URL(), c.ClientID)
	}
	<-ctx.Done()
	return nil
}

// adminID is the key that may do everything beside one with a claim set: somebody has to load the schools a SIS may not.
const adminID = "admin"

// clients are the API key of the flags and those of --clients.
func (c *sandboxCmd) clients() ([]sandbox.Client, error) {
	clients := []sandbox.Client{{
		ID: c.ClientID, Secret: c.ClientSecret, ClaimSet: c.ClaimSet, EducationOrganizations: c.EdOrgs, NamespacePrefixes: c.Namespaces,
	}}
	if c.ClaimSet != "" && c.ClaimSet != sandbox.FullAccess {
		clients = append(clients, sandbox.Client{ID: adminID, Secret: c.ClientSecret})
	}
	if c.Clients == "" {
		return clients, nil
	}
	document, err := os.ReadFile(c.Clients)
	if err != nil {
		return nil, fmt.Errorf("read the clients: %w", err)
	}
	more, err := sandbox.ReadClients(document)
	return append(clients, more...), err
}

// faults reads --faults: text with an equals sign is a specification, anything else names a file.
func (c *sandboxCmd) faults() (sandbox.Faults, error) {
	switch {
	case c.Faults == "":
		return sandbox.Faults{}, nil
	case strings.Contains(c.Faults, "="):
		return sandbox.ParseFaults(c.Faults)
	}
	document, err := os.ReadFile(c.Faults)
	if err != nil {
		return sandbox.Faults{}, fmt.Errorf("read the faults: %w", err)
	}
	return sandbox.ReadFaults(document)
}

// yearsAround are last, this and next school year. A school year changes in July.
func yearsAround(now time.Time) []int {
	year := now.Year()
	if now.Month() >= time.July {
		year++
	}
	return []int{year - 1, year, year + 1}
}
