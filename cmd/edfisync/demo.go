package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
)

type demoCmd struct {
	Students int    `default:"2000" placeholder:"N" help:"Students of the district (default: 2000, about 200,000 records)."`
	Standard string `default:"5.2" enum:"5.2,4.0" placeholder:"VERSION" help:"Data standard of the API: 5.2 (default) or 4.0."`
	Keep     string `type:"path" placeholder:"DIR" help:"Leave SIS, sandbox records, ledger and configuration in this new folder."`
}

// Help is the long help of the command.
func (demoCmd) Help() string {
	return `Makes a student information system with invented people, starts an Ed-Fi API beside it and syncs three times: the first load, a run
without any change, and a run after edits in the SIS. The calls are counted by the API. In the end every record of the API is compared with
what the SIS says, by code that uses neither ledger nor engine.

Examples:

    edfisync demo
    edfisync demo --students 200 --keep try`
}

// demoResult is what --json prints.
type demoResult struct {
	Runs        []demoRun    `json:"runs"`
	Verified    bool         `json:"verified"`
	Differences []difference `json:"differences,omitempty"`
	Unmet       []string     `json:"unmetExpectations,omitempty"`
}

// demoRun is one sync. What was written is what the API counted; what was not is what the engine says.
type demoRun struct {
	Created   int64 `json:"created"`
	Updated   int64 `json:"updated"`
	Deleted   int64 `json:"deleted"`
	Unchanged int64 `json:"unchanged"`
	Held      int64 `json:"held"`
	Failed    int64 `json:"failed"`
	Calls     int64 `json:"calls"`
}

// demo is one demonstration under way.
type demo struct {
	*app
	dir     string
	model   *schema.Model
	pack    string // its name in a configuration
	sis     *sqlx.DB
	options limitless.Options
	latency time.Duration // of its answers
	server  *sandbox.Server
	cfg     *config.Config
	result  demoResult
}

// calls are the write calls a sync is expected to make, by method and resource.
type calls map[string]map[string]int

func (c calls) total(method string) int64 {
	var n int64
	for _, count := range c[method] {
		n += int64(count)
	}
	return n
}

// Run tells the story and checks it.
func (c *demoCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Students < limitless.MinStudents || c.Students > limitless.MaxStudents {
		return usageError(fmt.Errorf("--students: want %d to %d", limitless.MinStudents, limitless.MaxStudents))
	}
	dir, discard, err := demoDir(c.Keep)
	if err != nil {
		return err
	}
	defer discard()
	d := &demo{app: a, dir: dir, pack: demoPack(c.Standard), result: demoResult{Runs: []demoRun{}}}
	if d.model, err = schema.Bundled(c.Standard); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()

	stats, err := d.district(ctx, c.Students)
	if err != nil {
		return err
	}
	if err := d.api(ctx, c.Keep != ""); err != nil {
		return err
	}
	if err := d.configure(); err != nil {
		return err
	}
	d.say("\nFirst sync: the API is empty, so every record is sent.")
	if err := d.sync(ctx, calls{http.MethodPost: stats.Records}); err != nil {
		return err
	}
	d.say("\nSecond sync: nothing has changed.")
	if err := d.sync(ctx, calls{}); err != nil {
		return err
	}
	d.say("\nThird sync, after a day's work in the SIS:")
	predicted, err := d.edit(ctx)
	if err != nil {
		return err
	}
	if err := d.sync(ctx, predicted); err != nil {
		return err
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	return d.finish(c.Keep)
}

// demoPack is the pack of the demo SIS for a data standard.
func demoPack(standard string) string {
	if standard == "4.0" {
		return config.EmbeddedPack + "limitless-4.0"
	}
	return config.EmbeddedPack + "limitless"
}

// demoDir is the folder the demo works in, and what to do with it in the end.
func demoDir(keep string) (dir string, discard func(), err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "edfisync-demo-*")
		if err != nil {
			return "", nil, fmt.Errorf("make a folder for the demo: %w", err)
		}
		return dir, func() { _ = os.RemoveAll(dir) }, nil
	}
	if entries, err := os.ReadDir(keep); err == nil && len(entries) > 0 {
		return "", nil, usageError(fmt.Errorf("--keep: %s is not empty", keep))
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return "", nil, usageError(fmt.Errorf("--keep: %w", err))
	}
	return keep, func() {}, nil
}

func (d *demo) close() error {
	var err error
	if d.server != nil {
		err = d.server.Close()
	}
	if d.sis != nil {
		err = errors.Join(err, d.sis.Close())
	}
	return err
}

// say prints a line of the story.
func (d *demo) say(format string, args ...any) {
	if !d.JSON {
		fmt.Fprintf(d.out, format+"\n", args...)
	}
}

// expect notes an expectation that is not met.
func (d *demo) expect(what string, got, want int64) {
	if got == want {
		return
	}
	unmet := fmt.Sprintf("%s: got %s, expected %s", what, grouped(got), grouped(want))
	d.result.Unmet = append(d.result.Unmet, unmet)
	d.say("  NOT AS EXPECTED: %s", unmet)
}

// district makes the SIS.
func (d *demo) district(ctx context.Context, students int) (limitless.Stats, error) {
	begun := time.Now()
	var err error
	if d.sis, err = limitless.OpenSQLite(filepath.Join(d.dir, "sis.sqlite")); err != nil {
		return limitless.Stats{}, err
	}
	if err := limitless.Create(ctx, d.sis, limitless.SQLite); err != nil {
		return limitless.Stats{}, err
	}
	shown := d.newProgress()
	d.options = limitless.Options{Students: students}
	options := d.options
	if shown != nil {
		options.Progress = func(done, total int) { shown.show("inventing students", "", int64(done), int64(total)) }
		defer shown.finish()
	}
	stats, err := limitless.Generate(ctx, d.sis, limitless.SQLite, options)
	if err != nil {
		return stats, err
	}
	rows := 0
	for _, n := range stats.Rows {
		rows += n
	}
	d.say("The SIS: a made-up district with %s students, %s rows in %d tables of a vendor's own design (SQLite, %s).",
		grouped(int64(students)), grouped(int64(rows)), len(stats.Rows), seconds(begun))
	d.say("As Ed-Fi records that is %s, of %d resources.", grouped(int64(stats.Total())), len(stats.Records))
	return stats, nil
}

// api starts the sandbox.
func (d *demo) api(ctx context.Context, keep bool) error {
	year := limitless.DefaultSchoolYear
	options := sandbox.Options{Model: d.model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{year - 1, year, year + 1}, Latency: d.latency}
	if keep {
		options.Store = filepath.Join(d.dir, "sandbox.sqlite")
	}
	server, err := sandbox.New(options)
	if err != nil {
		return err
	}
	d.server = server
	if err := d.server.Start(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	d.say("The Ed-Fi API: a sandbox of data standard %s at %s.", d.model.Standard, d.server.URL())
	return nil
}

// demoConfig is the configuration the demo uses and, with --keep, leaves behind.
const demoConfig = `# The configuration of the demo. config.example.yaml in the source explains every key.
work_dir: work
log:
  level: warn
connections:
  - name: demo
    school_year: %d
    source:
      driver: sqlite
      dsn: sis.sqlite
    pack: %s
    target:
      url: http://%s
      client_id: %s
      client_secret: %s
      concurrency: { min: 4, max: 32 }
`

func (d *demo) configure() error {
	file := filepath.Join(d.dir, "edfisync.yaml")
	text := fmt.Sprintf(demoConfig, limitless.DefaultSchoolYear, d.pack, sandboxAddr, sandboxClientID, sandboxSecret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	cfg, err := config.Load(file, d.lookupEnv)
	if err != nil {
		return err
	}
	cfg.Connections[0].Target.URL = d.server.URL() // the port is a free one; the file names the one "edfisync sandbox" takes
	d.cfg = cfg
	return nil
}

// sync runs the product once, as "edfisync run" does, and holds what the API counted against what was expected.
func (d *demo) sync(ctx context.Context, want calls) error {
	begun := time.Now()
	d.server.ResetStats()
	summary, err := d.once(ctx)
	if err != nil {
		return hinted(err)
	}
	took := time.Since(begun)
	stats := d.server.Stats()
	d.result.Runs = append(d.result.Runs, demoRun{
		Created: stats.Created, Updated: stats.Updated, Deleted: stats.Deleted, Calls: stats.Writes,
		Unchanged: summary.Unchanged, Held: summary.Held, Failed: summary.Failed,
	})
	post, put, del := stats.ByMethod["POST"], stats.ByMethod["PUT"], stats.ByMethod["DELETE"]
	d.say("  the API counted  %s POST, %s PUT, %s DELETE: %s created, %s updated, %s deleted, %s refused",
		grouped(post), grouped(put), grouped(del), grouped(stats.Created), grouped(stats.Updated), grouped(stats.Deleted), grouped(stats.Rejected))
	d.say("  expected         %s POST, %s PUT, %s DELETE", grouped(want.total("POST")), grouped(want.total("PUT")), grouped(want.total("DELETE")))
	rate := ""
	if stats.Writes > 0 {
		rate = fmt.Sprintf(", %s calls/s", grouped(int64(float64(stats.Writes)/took.Seconds())))
	}
	d.say("  unchanged %s, held %s, failed %s; %s%s", grouped(summary.Unchanged), grouped(summary.Held), grouped(summary.Failed), took.Round(10*time.Millisecond), rate)

	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		d.expectCalls(method, stats, want[method])
	}
	d.expect("refused writes", stats.Rejected, 0)
	d.expect("records held or failed", summary.Held+summary.Failed, 0)
	d.expect("created, as the run reports it", summary.Created, stats.Created)
	d.expect("updated, as the run reports it", summary.Updated, stats.Updated)
	d.expect("deleted, as the run reports it", summary.Deleted, stats.Deleted)
	return nil
}

// expectCalls compares the calls of one method, resource by resource.
func (d *demo) expectCalls(method string, stats sandbox.Stats, want map[string]int) {
	resources := map[string]bool{}
	for resource := range stats.Resources {
		resources[resource] = true
	}
	for resource := range want {
		resources[resource] = true
	}
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		var got int64
		for _, n := range stats.Resources[resource].Calls[method] {
			got += n
		}
		d.expect(method+" "+resource, got, int64(want[resource]))
	}
}

func (d *demo) once(ctx context.Context) (*sync.Summary, error) {
	o, err := d.open(ctx, d.cfg, &d.cfg.Connections[0])
	if err != nil {
		return nil, err
	}
	defer o.close()
	if shown := d.newProgress(); shown != nil {
		o.engine.Progress = shown.event
		defer shown.finish()
	}
	return d.runOnce(ctx, d.cfg, o, false)
}

// edit does a day's work in the SIS and says which calls must come of it.
func (d *demo) edit(ctx context.Context) (calls, error) {
	predicted, err := limitless.Edit(ctx, d.sis, limitless.SQLite, d.options)
	if err != nil {
		return nil, err
	}
	d.say("  names and addresses corrected, a withdrawal, a day's attendance, new students with all that belongs to one, a student deleted, …")
	return calls{http.MethodPost: predicted.Post, http.MethodPut: predicted.Put, http.MethodDelete: predicted.Delete}, nil
}

// verify compares target and source without ledger and engine.
func (d *demo) verify(ctx context.Context) error {
	d.say("\nIs it true? The SIS is mapped once more and every record of the API is read back and compared.")
	begun := time.Now()
	conn := &d.cfg.Connections[0]
	pack, err := loadPack(conn)
	if err != nil {
		return err
	}
	db, err := source.Open(ctx, sourceConfig(conn, pack))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing was written
	bound, err := bind(ctx, db, pack, d.model, conn)
	if err != nil {
		return err
	}
	target, err := edfi.Connect(ctx, targetConfig(conn, slog.New(slog.DiscardHandler)))
	if err != nil {
		return hinted(err)
	}
	defer target.Close()
	v := verifier{model: d.model, rules: rulesOf(conn), db: db, bound: bound, target: target}
	shown := d.newProgress()
	checked, err := v.verify(ctx, func(resource string, done int) {
		if shown != nil {
			shown.show("comparing", resource, int64(done), 0)
		}
	})
	if shown != nil {
		shown.finish()
	}
	if err != nil {
		return hinted(err)
	}
	d.result.Differences = checked.Differences
	d.result.Verified = len(checked.Differences) == 0
	for _, diff := range checked.Differences {
		d.say("  NOT EQUAL: %s: %d expected, %d found: %d missing, %d extra, %d different", diff.Resource, diff.Expected, diff.Found, diff.Missing, diff.Extra, diff.Different)
	}
	if d.result.Verified {
		d.say("  yes: %s records of %d resources are equal, none is missing and none is left over (%s).", grouped(int64(checked.Records)), checked.Resources, seconds(begun))
	}
	return nil
}

// finish tells where to go from here, and fails when something was not as it must be.
func (d *demo) finish(keep string) error {
	failed := !d.result.Verified || len(d.result.Unmet) > 0
	if d.JSON {
		d.printJSON(d.result)
		if failed {
			return quietly(exitFailed)
		}
		return nil
	}
	if failed {
		return fmt.Errorf("the demo did not go as expected: %d counts differ, %d resources differ", len(d.result.Unmet), len(d.result.Differences))
	}
	d.say("\nWhere to look next")
	if keep == "" {
		d.say("  edfisync demo --students 200 --keep try   the same, kept, so that you can go on with it")
	} else {
		flag := " --config " + filepath.Join(keep, "edfisync.yaml")
		d.say("  edfisync sandbox --standard %s --db %s   the API again, in another terminal; then", d.model.Standard, filepath.Join(keep, "sandbox.sqlite"))
		for _, command := range []string{"check", "plan", "run", "runs", "issues"} {
			d.say("  edfisync %s", strings.TrimSpace(command+flag))
		}
	}
	d.say("  edfisync catalog students                 what a resource consists of")
	d.say("  docs/quickstart.md                        your own SIS and API")
	d.say("  docs/mapping-guide.md                     how rows become records")
	return nil
}

func seconds(since time.Time) string { return time.Since(since).Round(10 * time.Millisecond).String() }
