package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

type checkCmd struct {
	Connection string `placeholder:"NAME" help:"Check this connection only."`
	Forecast   bool   `help:"Predict how many rows would not arrive, why, and who must act. Reads every row; sends nothing."`
}

// Help is the long help of the command.
func (checkCmd) Help() string {
	return `Tests everything a run needs and reports every problem at once, with its remedy. Nothing is sent to the target. The source counts
the rows of every query to find source keys and natural keys that are missing or there twice; that reads all of them. A ledger on PostgreSQL
gets its tables when they are missing; a ledger in a file, its key and work_dir are left for the first run to make.

Examples:

    edfisync check
    edfisync check --connection lincoln-2027 --json
    edfisync check --forecast`
}

// finding is one line of a check.
type finding struct {
	Connection string `json:"connection,omitempty"`
	Part       string `json:"part"` // ledger, witness, alarm, definition, secrets, pack, resources, safeguards, source, target, credentials, claims, model, mapping, rows, forecast
	OK         bool   `json:"ok"`
	Warning    bool   `json:"warning,omitempty"` // worth knowing; a run works
	Detail     string `json:"detail"`
	Remedy     string `json:"remedy,omitempty"`
	code       exitCode
}

// report gathers findings.
type report struct {
	connection string
	findings   []finding
}

func (r *report) ok(part, format string, args ...any) {
	r.findings = append(r.findings, finding{Connection: r.connection, Part: part, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (r *report) warn(part, detail, remedy string) {
	r.findings = append(r.findings, finding{Connection: r.connection, Part: part, OK: true, Warning: true, Detail: detail, Remedy: remedy})
}

// fail notes one finding for each problem that err joins.
func (r *report) fail(ctx context.Context, part string, err error, remedy string) {
	code := codeOf(ctx, err)
	if problems := source.Problems(err); len(problems) > 0 {
		for _, problem := range problems {
			code := exitUsage
			if problem.Rows {
				code = exitProblems // a run holds these rows and goes on
			}
			r.findings = append(r.findings, finding{Connection: r.connection, Part: part, Detail: problem.Error(), code: code})
		}
		return
	}
	var target *edfi.Error
	if errors.As(err, &target) {
		remedy = target.Hint
	}
	r.findings = append(r.findings, finding{Connection: r.connection, Part: part, Detail: err.Error(), Remedy: remedy, code: code})
}

// Run checks and prints the findings.
func (c *checkCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	var r report
	cfg, broken, secrets := a.checkDefined(ctx, &r, cfg)
	connections := cfg.Connections
	if c.Connection != "" {
		i := slices.IndexFunc(broken, func(b unusable) bool { return c.Connection == b.conn.FullName() })
		if i >= 0 {
			connections, broken = nil, broken[i:i+1]
		} else {
			conn, err := pick(cfg, c.Connection)
			if err != nil {
				return err
			}
			connections, broken = []config.Connection{*conn}, nil
		}
	}
	r.ok("configuration", "%s", a.Config)
	if len(connections)+len(broken) == 0 {
		r.warn("configuration", "there is no connection", "write one into the configuration, or import one with edfisync connections import")
	}
	checkLedger(ctx, &r, cfg, a.witnessesOf(cfg), connections)
	var forecasts []*forecastOf
	for i := range connections {
		r.connection = connections[i].FullName()
		if err := secrets[r.connection]; err != nil {
			r.fail(ctx, "secrets", err, "")
			continue
		}
		a.checkConnection(ctx, &r, cfg, &connections[i])
		if c.Forecast && r.foreseeable() {
			f, err := a.forecast(ctx, cfg, &connections[i])
			if err != nil {
				r.fail(ctx, "forecast", err, "")
				continue
			}
			forecasts = append(forecasts, f)
		}
	}
	for _, b := range broken {
		r.connection = b.conn.FullName()
		r.fail(ctx, "definition", usageError(b.err), "correct it with: edfisync connections import")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.printReport(&r, forecasts)
	code := exitOK
	for _, f := range forecasts {
		code = worst(code, f.code())
	}
	for _, f := range r.findings {
		code = worst(code, f.code)
	}
	return quietly(code)
}

// foreseeable reports whether nothing failed that a forecast of the connection at hand needs. Rights that are missing and rows that are wrong are what
// it is for.
func (r *report) foreseeable() bool {
	return !slices.ContainsFunc(r.findings, func(f finding) bool {
		return !f.OK && (f.Connection == "" || f.Connection == r.connection) && f.Part != "claims" && f.Part != "alarm" && f.code != exitProblems
	})
}

func (a *app) printReport(r *report, forecasts []*forecastOf) {
	if a.JSON {
		a.printJSON(struct {
			OK        bool          `json:"ok"`
			Findings  []finding     `json:"findings"`
			Forecasts []*forecastOf `json:"forecasts,omitempty"`
		}{!slices.ContainsFunc(r.findings, func(f finding) bool { return !f.OK }), r.findings, forecasts})
		return
	}
	defer func() {
		for _, f := range forecasts {
			f.print(a.out)
		}
	}()
	problems := 0
	for _, f := range r.findings {
		mark := "ok"
		switch {
		case !f.OK:
			mark = "FAIL"
			problems++
		case f.Warning:
			mark = "warn"
		}
		name := f.Part
		if f.Connection != "" {
			name = f.Connection + " " + name
		}
		fmt.Fprintf(a.out, "%-4s  %s: %s\n", mark, name, strings.ReplaceAll(f.Detail, "\n", "\n        "))
		if f.Remedy != "" {
			fmt.Fprintf(a.out, "      → %s\n", f.Remedy)
		}
	}
	switch problems {
	case 0:
		fmt.Fprintln(a.out, "\nready: edfisync plan shows what a run would send")
	case 1:
		fmt.Fprintln(a.out, "\n1 problem")
	default:
		fmt.Fprintf(a.out, "\n%d problems\n", problems)
	}
}

// checkLedger tests ledger and key as a run finds them, and makes neither.
func checkLedger(ctx context.Context, r *report, cfg *config.Config, w witnesses, connections []config.Connection) {
	master, err := masterKey(cfg)
	unmade := errors.Is(err, errNoKey)
	if err != nil && !unmade {
		r.fail(ctx, "ledger", usageError(fmt.Errorf("ledger key: %w", err)), "")
		return
	}
	if err := usableFolder(cfg.WorkDir); err != nil {
		r.fail(ctx, "ledger", usageError(fmt.Errorf("work_dir: %w", err)), "choose a work_dir that can be made")
		return
	}
	if missing(cfg) {
		if err := w.missed(); err != nil {
			r.fail(ctx, "ledger", fmt.Errorf("%s is not there, and there was a ledger before: %w", ledgerFile(cfg), err), strangeRemedy)
			return
		}
		checkWitness(r, w, 0)
		if unmade {
			r.ok("ledger", "not there yet; the first run makes it and its key: %s, %s", ledgerFile(cfg), keyFile(cfg))
		} else {
			r.ok("ledger", "not there yet; the first run makes it: %s", ledgerFile(cfg))
		}
		return
	}
	if unmade {
		r.ok("ledger", "there is no key yet; the first run makes it: %s", keyFile(cfg))
		return
	}
	ledger, err := openLedgerWith(ctx, cfg, master)
	if err != nil {
		r.fail(ctx, "ledger", err, "")
		return
	}
	state, err := observe(ctx, ledger)
	var alarms []finding
	var shape syncdb.Shape
	if err == nil {
		shape, err = ledger.Shape(ctx)
	}
	if err == nil {
		alarms, err = standingAlarms(ctx, ledger, connections)
	}
	strange := map[string]error{}
	for i := range connections {
		var why error
		if err == nil {
			why, err = w.refusedFor(ctx, ledger, state, connections[i].Tenant+"/"+connections[i].Name)
		}
		if why != nil {
			strange[connections[i].FullName()] = why
		}
	}
	if err = errors.Join(err, ledger.Close()); err != nil {
		r.fail(ctx, "ledger", err, "")
		return
	}
	for _, why := range strangeReasons(strange, len(connections)) {
		r.fail(ctx, "ledger", fmt.Errorf("%w (it is %s)", why, ledgerPlace(cfg)), strangeRemedy)
	}
	if len(strange) > 0 {
		return
	}
	checkWitness(r, w, state.Generation)
	r.findings = append(r.findings, alarms...)
	r.ok("ledger", "opens with its key, id %s, schema %d, %s", state.Ledger, shape.Schema, counted(shape.Ended, "finished run"))
}

// strangeReasons says why connections may not go on with the ledger: once when it is the same for all of them.
func strangeReasons(strange map[string]error, all int) (out []error) {
	for _, name := range slices.Sorted(maps.Keys(strange)) {
		out = append(out, fmt.Errorf("connection %s: %w", name, strange[name]))
	}
	texts := map[string]error{}
	for _, why := range strange {
		texts[why.Error()] = why
	}
	if len(strange) == all && len(texts) == 1 {
		return slices.Collect(maps.Values(texts))
	}
	return out
}

// standingAlarms finds the connections whose target was wiped or restored, and nobody has dealt with it: a run writes nothing.
func standingAlarms(ctx context.Context, ledger *syncdb.DB, connections []config.Connection) ([]finding, error) {
	alarms, err := ledger.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	var out []finding
	for _, al := range alarms {
		i := slices.IndexFunc(connections, func(c config.Connection) bool { return c.Tenant == al.Tenant && c.Name == al.Name })
		if i >= 0 {
			out = append(out, finding{
				Connection: connections[i].FullName(), Part: "alarm", Remedy: alarmRemedy, code: exitHeld,
				Detail: fmt.Sprintf("nothing is written since run %d: %s", al.AlarmRun, al.Alarm),
			})
		}
	}
	return out, nil
}

// strangeRemedy is what helps with a ledger that its witness contradicts.
const strangeRemedy = "look whether ledger.dsn or work_dir is wrong; if the ledger was lost or restored: edfisync adopt, which keeps the records ours; edfisync run --accept-ledger goes on without"

// checkWitness tells where a run notes the state of the ledger, and what would not be noticed.
func checkWitness(r *report, w witnesses, generation int64) {
	const remedy = "make that folder writable for edfisync, or name a file with ledger.witness"
	there := w.there()
	switch {
	case w.second != "" && there == w.second, w.second != "" && !writable(filepath.Dir(w.first)):
		r.warn("witness", fmt.Sprintf("%s cannot be written, so the witness of the ledger is kept in work_dir: %s", w.first, w.unprotected()), remedy)
	case !writable(filepath.Dir(w.first)):
		r.warn("witness", fmt.Sprintf("%s cannot be written: a ledger that is lost or restored is not noticed", w.first), remedy)
	case there == "" && generation > 0:
		r.warn("witness", unwitnessed, "the next run makes a witness: "+w.first)
	case there == "":
		r.ok("witness", "the first run makes it: %s", w.first)
	default:
		r.ok("witness", "%s: a ledger that is lost or restored is noticed", w.first)
	}
}

// usableFolder tells what keeps a folder from being made, if anything does. It does not make it.
func usableFolder(path string) error {
	for {
		info, err := os.Stat(path)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is not a folder", path)
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path:
			return err
		}
		path = filepath.Dir(path)
	}
}

// checkConnection tests the parts of a connection as far as one does not need another that failed.
func (a *app) checkConnection(ctx context.Context, r *report, cfg *config.Config, conn *config.Connection) {
	pack, err := loadPack(conn)
	if err != nil {
		r.fail(ctx, "pack", usageError(err), "")
	} else {
		r.ok("pack", "%s: %d queries", pack.Name, len(pack.Queries))
		for _, warning := range switchWarnings(conn) {
			r.warn("resources", warning, "")
		}
		if _, err := safeguardsOf(conn, pack); err != nil {
			r.fail(ctx, "safeguards", a.located(cfg, conn, err), "")
		}
	}
	model := checkTarget(ctx, r, conn, pack)
	if pack == nil {
		return
	}
	if err := sourceThere(conn); err != nil {
		r.fail(ctx, "source", err, "")
		return
	}
	db, err := source.Open(ctx, sourceConfig(conn, pack))
	if err != nil {
		r.fail(ctx, "source", err, "")
		return
	}
	defer db.Close() //nolint:errcheck // nothing was written
	r.ok("source", "%s answers", conn.Source.Driver)
	if model == nil {
		return
	}
	checkMapping(ctx, r, conn, db, pack, model)
}

// checkMapping compiles the pack against source and model, and counts what only the rows can show.
func checkMapping(ctx context.Context, r *report, conn *config.Connection, db *source.DB, pack *source.Pack, model *schema.Model) {
	extra, err := descriptorsOf(conn, pack)
	if err != nil {
		r.fail(ctx, "mapping", err, "")
		return
	}
	queries, err := db.Check(ctx, pack, model, rulesOf(conn), extra)
	if len(queries) > 0 {
		fit := fmt.Sprintf("%d queries fit", len(queries))
		if len(queries) == 1 {
			fit = "1 query fits"
		}
		r.ok("mapping", "%s the model %s", fit, model.Name)
	}
	if err != nil {
		r.fail(ctx, "mapping", err, "")
	} else {
		r.ok("rows", "every source key is there once, and so is every natural key")
	}
	for _, q := range queries {
		for _, warning := range q.Warnings {
			r.warn("mapping", q.Query.File+": "+warning, "")
		}
	}
}

// checkTarget tests the API as far as it answers, and returns its model when there is one.
func checkTarget(ctx context.Context, r *report, conn *config.Connection, pack *source.Pack) *schema.Model {
	target, err := edfi.Connect(ctx, targetConfig(conn, slog.New(slog.DiscardHandler)))
	if err != nil {
		r.fail(ctx, "target", err, "")
		return nil
	}
	defer target.Close()
	info := target.Info()
	r.ok("target", "%s %s, data standard %s", orElse(info.ApplicationName, "Ed-Fi API"), orElse(info.InformationalVersion, info.Version), orElse(info.Standard, "not told"))
	if err := target.Login(ctx); err != nil {
		r.fail(ctx, "credentials", err, "")
	} else {
		r.ok("credentials", "accepted")
		checkClaims(ctx, r, target, pack)
	}
	model, err := chooseModel(ctx, target, conn.Target.Standard)
	if err != nil {
		r.fail(ctx, "model", err, "set target.standard to a bundled version if the documents cannot be had")
		return nil
	}
	r.ok("model", "%s", model.Name)
	return model
}

// checkClaims compares what the credentials may do with what a run of the pack does.
func checkClaims(ctx context.Context, r *report, target *edfi.Client, pack *source.Pack) {
	info, err := target.TokenInfo(ctx)
	switch {
	case notOffered(err):
		r.warn("claims", "the target does not tell what the credentials may do", "")
		return
	case err != nil:
		r.fail(ctx, "claims", err, "")
		return
	case len(info.Resources) == 0:
		r.warn("claims", "the target tells the organizations of the credentials, not their resources (before ODS/API 7.3)", "")
		return
	case pack == nil:
		return
	}
	may := map[string][]string{}
	for _, claim := range info.Resources {
		may[strings.ToLower(strings.TrimPrefix(claim.Resource, "/"))] = claim.Operations
	}
	var lacking []string
	for _, q := range pack.Queries {
		for _, operation := range []string{"Create", "Read", "Update", "Delete"} {
			if line := operation + " " + q.Resource; !slices.Contains(may[strings.ToLower(q.Resource)], operation) && !slices.Contains(lacking, line) {
				lacking = append(lacking, line)
			}
		}
	}
	if len(lacking) > 0 {
		r.fail(ctx, "claims", fmt.Errorf("claim set %q does not allow: %s", info.ClaimSet.Name, strings.Join(lacking, ", ")), "ask the host of the API for a claim set that allows it")
		return
	}
	r.ok("claims", "claim set %q allows all that the pack sends, for %s", info.ClaimSet.Name, counted(int64(len(info.EducationOrganizations)), "education organization"))
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
