package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
)

// world is a small SIS in SQLite, its mapping pack, a sandbox behind a recording proxy, and a ledger: every part real.
type world struct {
	t        *testing.T
	sis      *sqlx.DB
	sisPath  string
	model    *schema.Model
	api      sandbox.Personality
	sandbox  *sandbox.Server
	front    *front
	ledger   ledger
	conn     syncdb.Connection
	ring     *keys.Ring
	options  sync.Options
	pack     fstest.MapFS
	foldKeys bool
	config   *string // version of configuration and mapping
	ran      bool    // the ledger may have issues
	tune     func(*edfi.Config)
}

// ledger is what tests use of a ledger beside the engine's part.
type ledger interface {
	sync.Ledger
	sync.RankingLedger
	RequestRun(ctx context.Context, connID int64, reason string) (run syncdb.Run, joined bool, err error)
	Connection(ctx context.Context, tenant, name string) (syncdb.Connection, *keys.Ring, error)
	Issues(ctx context.Context, connID int64, openOnly bool) ([]syncdb.Issue, error)
	Problems(ctx context.Context, connID int64, f syncdb.ProblemFilter) ([]syncdb.Problem, error)
	Cancel(ctx context.Context, connID int64) error
	DecidePlan(ctx context.Context, connID, id int64, decision syncdb.Decision) (syncdb.Plan, error)
	RetryProblems(ctx context.Context, connID int64, f syncdb.ProblemFilter) (int, error)
	ProblemLinks(ctx context.Context, connID int64, fn func(syncdb.ProblemLink) error) error
	Attempts(ctx context.Context, connID int64, resource string, key syncdb.Hash, fn func(*syncdb.Attempt) error) error
	AttemptsOfRun(ctx context.Context, connID, runID int64, fn func(*syncdb.Attempt) error) error
}

// front stands before the sandbox: it records write calls and lets a test answer in the sandbox's place.
type front struct {
	next http.Handler
	mu   gosync.Mutex
	log  []string // "POST ed-fi/students", in order of arrival
	// before, when set, may answer a call itself (true), after the sandbox handled it (lost response) or instead of it.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	before := f.before
	if _, path, ok := strings.Cut(r.URL.Path, "/ed-fi/"); ok && r.Method != http.MethodGet {
		resource, _, _ := strings.Cut(path, "/")
		f.log = append(f.log, r.Method+" ed-fi/"+resource)
	}
	f.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	f.next.ServeHTTP(w, r)
}

func (f *front) intercept(fn func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = fn
}

// take returns the calls recorded since the last take.
func (f *front) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.log
	f.log = nil
	return out
}

const sisSchema = `
create table agency (id integer primary key, name text, parent integer);
create table school (id integer primary key, name text, agency integer);
create table period (id integer primary key, name text, school integer);
create table student (id integer primary key, uid text, first text, last text, birth text);
create table enrolment (id integer primary key, student integer, school integer, entry text, grade text);
create table demographic (id integer primary key, student integer, agency integer, login text);
`

var sisPack = map[string]string{
	"pack.yaml": "name: tiny\ndescription: a tiny SIS\nedfi: [\"4.0\", \"5.2\"]\n",
	"localEducationAgencies.sql": `select id as "_key", id as "localEducationAgencyId", name as "nameOfInstitution",
		parent as "parentLocalEducationAgencyReference.localEducationAgencyId",
		'Independent' as "localEducationAgencyCategoryDescriptor",
		json_array(json_object('educationOrganizationCategoryDescriptor', 'Local Education Agency')) as "categories" from agency`,
	"schools.sql": `select id as "_key", id as "schoolId", name as "nameOfInstitution", agency as "localEducationAgencyReference.localEducationAgencyId",
		json_array(json_object('educationOrganizationCategoryDescriptor', 'School')) as "educationOrganizationCategories",
		json_array(json_object('gradeLevelDescriptor', '9')) as "gradeLevels" from school`,
	"classPeriods.sql": `select id as "_key", name as "classPeriodName", school as "schoolReference.schoolId" from period`,
	"students.sql":     `select id as "_key", uid as "studentUniqueId", first as "firstName", last as "lastSurname", birth as "birthDate" from student`,
	"studentSchoolAssociations.sql": `select e.id as "_key", s.uid as "studentReference.studentUniqueId", e.school as "schoolReference.schoolId",
		e.entry as "entryDate", e.grade as "entryGradeLevelDescriptor" from enrolment e join student s on s.id = e.student`,
	"studentEducationOrganizationAssociations.sql": `select d.id as "_key", s.uid as "studentReference.studentUniqueId",
		d.agency as "educationOrganizationReference.educationOrganizationId", d.login as "loginId"
		from demographic d join student s on s.id = d.student`,
	"descriptors.yaml": `GradeLevelDescriptor:
  "9": Ninth grade
  "10": Tenth grade
EducationOrganizationCategoryDescriptor:
  Local Education Agency: Local Education Agency
  School: School
LocalEducationAgencyCategoryDescriptor:
  Independent: Independent
`,
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, sandbox.ODS73, "5.2")
}

// newWorldOn is newWorld against another version of the API and data standard.
func newWorldOn(t *testing.T, api sandbox.Personality, standard string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, api: api, sisPath: filepath.Join(dir, "sis.db"), pack: fstest.MapFS{}}
	var err error
	if w.sis, err = sqlx.Open("sqlite", w.sisPath); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.sis.Close() })
	w.exec(sisSchema)
	for name, text := range sisPack {
		w.pack[name] = &fstest.MapFile{Data: []byte(text)}
	}
	if standard == "4.0" { // where demographics must name the sex
		demographics, descriptors := w.pack["studentEducationOrganizationAssociations.sql"], w.pack["descriptors.yaml"]
		demographics.Data = bytes.Replace(demographics.Data, []byte("d.login as"), []byte(`'F' as "sexDescriptor", d.login as`), 1)
		descriptors.Data = append(descriptors.Data, "SexDescriptor:\n  F: Female\n"...)
	}
	if w.model, err = schema.Bundled(standard); err != nil {
		t.Fatal(err)
	}
	if w.sandbox, err = sandbox.New(sandbox.Options{
		Model: w.model, Personality: api, ClientID: "id", ClientSecret: "secret", SchoolYears: []int{2026}, MaxTokens: 1000, // each run logs in
	}); err != nil {
		t.Fatal(err)
	}
	w.front = &front{next: w.sandbox.Handler()}
	w.ledger = newMemLedger(t)
	if w.conn, w.ring, err = w.ledger.Connection(t.Context(), "default", "tiny"); err != nil {
		t.Fatal(err)
	}
	w.options = sync.Options{WorkDir: dir, SettleDelay: 10 * time.Millisecond}
	return w
}

func newMemLedger(t *testing.T) ledger {
	t.Helper()
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	return memdb.Open(syncdb.Config{Master: master, Grace: time.Millisecond})
}

func (w *world) exec(statement string, args ...any) {
	w.t.Helper()
	if _, err := w.sis.Exec(statement, args...); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

// fill writes a district with n enrolled students.
func (w *world) fill(n int) {
	w.t.Helper()
	w.exec(`insert into agency values (1, 'District', null)`)
	w.exec(`insert into school values (10, 'North', 1), (11, 'South', 1)`)
	w.exec(`insert into period values (1, 'P1', 10), (2, 'P2', 10)`)
	for i := 1; i <= n; i++ {
		w.exec(`insert into student values (?, ?, ?, 'Surname', '2010-02-03')`, i, fmt.Sprintf("S%04d", i), fmt.Sprintf("First%d", i))
		w.exec(`insert into enrolment values (?, ?, ?, '2025-08-18', '9')`, i, i, 10+i%2)
		w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
	}
}

// engine connects everything for one run.
func (w *world) engine() (*sync.Engine, func()) {
	w.t.Helper()
	ctx := w.t.Context()
	srv := httptest.NewServer(w.front)
	config := edfi.Config{
		BaseURL: srv.URL, ClientID: "id", ClientSecret: "secret", MaxConcurrency: 8, MinConcurrency: 1,
		RetryWait: time.Millisecond, MaxRetries: 1,
	}
	if w.tune != nil {
		w.tune(&config)
	}
	client, err := edfi.Connect(ctx, config)
	if err != nil {
		w.t.Fatal(err)
	}
	deps, err := client.Dependencies(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	pack, err := source.LoadPack(w.pack, source.SQLite)
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := source.Open(ctx, source.Config{Driver: source.SQLite, DSN: w.sisPath, Watermark: pack.Watermark})
	if err != nil {
		w.t.Fatal(err)
	}
	rules := schema.Rules{Version: 1, FoldKeys: w.foldKeys}
	bound, err := db.Bind(ctx, nil, pack, w.model, rules, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	o := w.options
	o.Rules = rules
	e := &sync.Engine{
		Model: w.model, Dependencies: deps, Source: sync.FromSource(db, bound), Ledger: w.ledger, Keys: w.ring, Connection: w.conn, Options: o,
		Target: func(check func() error) sync.Target { return client.Guarded(check) }, Reader: client,
	}
	if w.config != nil {
		e.Config = *w.config
	}
	return e, func() { client.Close(); db.Close(); srv.Close() }
}

// run syncs once and returns the summary and the write calls that arrived.
func (w *world) run() (*sync.Summary, []string, error) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	s, err := e.Run(w.t.Context())
	return s, w.front.take(), err
}

// mustRun is run without an error.
func (w *world) mustRun() (*sync.Summary, []string) {
	w.t.Helper()
	s, calls, err := w.run()
	if err != nil {
		w.t.Fatalf("run: %v", err)
	}
	return s, calls
}

// converged fails unless another run writes nothing (I1).
func (w *world) converged() {
	w.t.Helper()
	s, calls := w.mustRun()
	if len(calls) != 0 {
		w.t.Errorf("a run without changes made calls %v, totals %+v", calls, s.Totals)
	}
}

// count returns how many records the target has of a resource.
func (w *world) count(resource string) int {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	n := 0
	client, ok := e.Target(func() error { return nil }).(*edfi.Client)
	if !ok {
		w.t.Fatal("target is not a client")
	}
	if err := client.Each(w.t.Context(), resource, edfi.PageOptions{}, func(json.RawMessage) error { n++; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// lenient are safeguards that hold nothing but the deletes of an empty source.
func lenient() sync.Safeguards {
	all := sync.Limit{Percent: 100, Count: 1 << 40}
	return sync.Safeguards{
		ResourceSafeguards: sync.ResourceSafeguards{Deletes: all, Updates: all, ShortSource: all}, RunDeletes: all, RunUpdates: all,
	}
}

// loseLedger gives the connection a new, empty ledger.
func (w *world) loseLedger() {
	w.t.Helper()
	w.ledger = newMemLedger(w.t)
	var err error
	if w.conn, w.ring, err = w.ledger.Connection(w.t.Context(), "default", "tiny"); err != nil {
		w.t.Fatal(err)
	}
}

// other is another client of the target. What it does is not in the log of calls.
func (w *world) other(do func(ctx context.Context, c *edfi.Client)) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	do(w.t.Context(), e.Reader.(*edfi.Client))
	w.front.take()
}

// idsBy returns the ids of a resource's records by the value of a property.
func (w *world) idsBy(resource, property string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	w.other(func(ctx context.Context, c *edfi.Client) {
		err := c.Each(ctx, resource, edfi.PageOptions{}, func(item json.RawMessage) error {
			var fields map[string]any
			if err := json.Unmarshal(item, &fields); err != nil {
				return err
			}
			out[fmt.Sprint(fields[property])] = fmt.Sprint(fields["id"])
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	})
	return out
}

// wipe deletes every record of the target.
func (w *world) wipe() {
	w.t.Helper()
	w.other(func(ctx context.Context, c *edfi.Client) {
		for _, resource := range []string{
			"studentEducationOrganizationAssociations", "studentSchoolAssociations", "students", "classPeriods", "schools", "localEducationAgencies",
		} {
			var ids []string
			err := c.Each(ctx, "ed-fi/"+resource, edfi.PageOptions{}, func(item json.RawMessage) error {
				var named struct{ ID string }
				ids = append(ids, "")
				err := json.Unmarshal(item, &named)
				ids[len(ids)-1] = named.ID
				return err
			})
			if err != nil {
				w.t.Fatal(err)
			}
			for _, id := range ids {
				if _, err := c.Delete(ctx, "ed-fi/"+resource, id); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	})
}

// entries returns the ledger's entries of a resource.
func (w *world) entries(resource string) []syncdb.Entry {
	w.t.Helper()
	var out []syncdb.Entry
	if err := w.ledger.Each(w.t.Context(), w.conn.ID, resource, func(e *syncdb.Entry) error { out = append(out, *e); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func tally(calls []string) map[string]int {
	out := map[string]int{}
	for _, c := range calls {
		out[c]++
	}
	return out
}
