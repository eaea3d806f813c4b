package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
)

// checkDefined adds the connections of the ledger to what is checked, and opens the secrets of all. What is wrong with the ledger itself is left to
// checkLedger. secrets says of each connection, by its name, why its secrets do not open.
func (a *app) checkDefined(ctx context.Context, r *report, file *config.Config) (cfg *config.Config, broken []unusable, secrets map[string]error) {
	secrets = map[string]error{}
	sealed := func(conn *config.Connection) []string {
		return append(conn.Source.DSN.Sealed(), conn.Target.ClientSecret.Sealed()...)
	}
	lost := func(cfg *config.Config) {
		for i := range cfg.Connections {
			if names := sealed(&cfg.Connections[i]); len(names) > 0 {
				secrets[cfg.Connections[i].FullName()] = usageError(notSet(&cfg.Connections[i], names[0]))
			}
		}
	}
	if unmade(file) {
		lost(file)
		return file, nil, secrets
	}
	ledger, err := existingLedger(ctx, file)
	if err != nil {
		lost(file)
		return file, nil, secrets
	}
	defer ledger.Close() //nolint:errcheck // nothing was written
	definitions, err := ledger.Definitions(ctx)
	if err != nil {
		r.fail(ctx, "ledger", err, "")
		lost(file)
		return file, nil, secrets
	}
	if cfg, broken, err = a.withDefined(file, definitions); err != nil {
		r.fail(ctx, "configuration", usageError(err), "")
		cfg = file
	}
	for i := range cfg.Connections {
		conn, err := unsealed(ctx, ledger, &cfg.Connections[i])
		if err != nil {
			secrets[cfg.Connections[i].FullName()] = err
			continue
		}
		cfg.Connections[i] = *conn
	}
	return cfg, broken, secrets
}

type connectionsTestCmd struct {
	Name string `arg:"" help:"The connection, of the file or of the ledger, or TENANT/NAME."`
}

// Help is the long help of the command.
func (connectionsTestCmd) Help() string {
	return `Tries what a run needs, in seconds: the mapping pack, the source (it answers, can be read in a read-only transaction, and takes the queries of the pack),
the target (its root document, a token, a read). No row is read and nothing is sent; edfisync check also counts rows. Each failure says what to do.`
}

// Run tests a connection.
func (c *connectionsTestCmd) Run(ctx context.Context, a *app) error {
	_, conn, err := a.picked(ctx, c.Name)
	if err != nil {
		return err
	}
	r := testConnection(ctx, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.printReport(r, nil)
	code := exitOK
	for _, f := range r.findings {
		code = worst(code, f.code)
	}
	return quietly(code)
}

// testTime bounds a test as a whole: whoever asks for one over HTTP waits for it.
const testTime = 45 * time.Second

// testConnection tries what a run of a connection needs. It reads no row and sends nothing.
func testConnection(ctx context.Context, conn *config.Connection) *report {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	r := &report{connection: conn.FullName()}
	pack, err := loadPack(conn)
	if err != nil {
		r.fail(ctx, "pack", usageError(err), "correct pack or resources of the connection")
	} else {
		r.ok("pack", "%s: %d queries", pack.Name, len(pack.Queries))
		if _, err := safeguardsOf(conn, pack); err != nil {
			r.fail(ctx, "safeguards", usageError(err), "correct safeguards of the connection")
		}
	}
	for _, warning := range switchWarnings(conn) {
		r.warn("resources", warning, "turn it on, or leave it when the host of the target keeps those records")
	}
	target := testTarget(ctx, r, conn, pack)
	if target != nil {
		defer target.Close()
	}
	if pack != nil {
		testSource(ctx, r, conn, pack, target)
	}
	return r
}

var errEnough = errors.New("one is enough")

// testTarget tries discovery, a token and a read, and returns the client when the target answers.
func testTarget(ctx context.Context, r *report, conn *config.Connection, pack *source.Pack) *edfi.Client {
	quick := *conn
	quick.Target.Retries, quick.Target.Timeout = 0, min(quick.Target.Timeout, config.Duration(10*time.Second))
	target, err := edfi.Connect(ctx, targetConfig(&quick, slog.New(slog.DiscardHandler)))
	if err != nil {
		r.failWith(ctx, "target", err, "look at target.url: it must be the API's root, as it is opened in a browser")
		return nil
	}
	info := target.Info()
	r.ok("target", "%s %s, data standard %s", orElse(info.ApplicationName, "Ed-Fi API"), orElse(info.InformationalVersion, info.Version), orElse(info.Standard, "not told"))
	if err := target.Login(ctx); err != nil {
		r.failWith(ctx, "credentials", err, "look at client_id and client_secret; ask the host of the API for new ones when they are right")
		return target
	}
	r.ok("credentials", "accepted")
	if pack == nil || len(pack.Queries) == 0 {
		return target
	}
	resource := pack.Queries[0].Resource
	err = target.Each(ctx, resource, edfi.PageOptions{Limit: 1}, func(json.RawMessage) error { return errEnough })
	if err != nil && !errors.Is(err, errEnough) {
		r.failWith(ctx, "read", fmt.Errorf("%s: %w", resource, err), "ask the host of the API for a claim set that allows it")
		return target
	}
	r.ok("read", "%s can be read", resource)
	checkClaims(ctx, r, target, pack)
	return target
}

// testSource tries to connect, to begin a read-only snapshot, and has the database prepare the queries.
func testSource(ctx context.Context, r *report, conn *config.Connection, pack *source.Pack, target *edfi.Client) {
	if err := sourceThere(conn); err != nil {
		r.fail(ctx, "source", err, "correct source.dsn")
		return
	}
	db, err := source.Open(ctx, sourceConfig(conn, pack))
	if err != nil {
		r.fail(ctx, "source", err, "look at source.dsn, and whether this machine reaches the database")
		return
	}
	defer db.Close() //nolint:errcheck // nothing was written
	r.ok("source", "%s answers", conn.Source.Driver)
	if may, err := db.MayWrite(ctx); err == nil && may {
		r.warn("rights", "the account may change data of the SIS; edfisync only reads", "give it an account that may only read")
	} else if err == nil {
		r.ok("rights", "the account may only read")
	}
	snapshot, err := db.Snapshot(ctx)
	if err != nil {
		r.fail(ctx, "snapshot", err, "the account needs the right to read in a transaction that sees one moment")
		return
	}
	defer snapshot.Close() //nolint:errcheck // nothing was written
	r.ok("snapshot", "begins read-only")
	model, err := schema.Bundled(likelyStandard(conn, pack))
	if target != nil {
		model, err = chooseModel(ctx, target, conn.Target.Standard)
	}
	if err != nil {
		r.fail(ctx, "model", err, "set target.standard to a bundled version if the documents of the target cannot be had")
		return
	}
	if _, err := bind(ctx, db, pack, model, conn); err != nil {
		var exit *exitError
		if errors.As(err, &exit) {
			err = exit.err
		}
		r.failWith(ctx, "mapping", err, "correct the query, or give the account the right to read the table")
		return
	}
	r.ok("mapping", "the source takes %d queries, and they fit the model %s", len(pack.Queries), model.Name)
}

// failWith is fail with a remedy for errors that have none of their own.
func (r *report) failWith(ctx context.Context, part string, err error, remedy string) {
	before := len(r.findings)
	r.fail(ctx, part, err, remedy)
	for i := range r.findings[before:] {
		r.findings[before+i].Remedy = orElse(r.findings[before+i].Remedy, remedy)
	}
}
