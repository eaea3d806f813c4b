package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	gosync "sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/canary"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// canaries is how many students have values of their own in every field.
const canaries = 18

// canaryWorld is a district with planted values, a target that repeats them in every way an answer can, and a service that must not.
type canaryWorld struct {
	t       *testing.T
	dir     string
	sis     *sqlx.DB
	markers []canary.Marker
	scanner *canary.Scanner
	sandbox *sandbox.Server
	front   *httptest.Server
	stop    chan struct{} // ends calls that hang

	mu     gosync.Mutex
	sent   bytes.Buffer // what the target was sent: the place where student data belongs
	calm   atomic.Bool  // the target does as it should
	silent atomic.Bool  // the target answers no write
	hung   atomic.Int64 // calls that hang

	hooked, mailed lockedBuffer // what alerts sent
	traced         *collector
}

// hook is a receiver of webhooks.
func (w *canaryWorld) hook() string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		header, _ := json.Marshal(r.Header)
		_, _ = fmt.Fprintf(&w.hooked, "%s %s\n%s\n", r.URL, header, body)
	}))
	w.t.Cleanup(server.Close)
	return server.URL
}

// mails is a mail server that takes everything.
func (w *canaryWorld) mails() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
				say("220 canary")
				in, data := bufio.NewScanner(conn), false
				for in.Scan() {
					_, _ = w.mailed.Write(append(in.Bytes(), '\n'))
					switch text := strings.ToUpper(in.Text()); {
					case data && text == ".":
						data = false
						say("250 taken")
					case data:
					case text == "DATA":
						data = true
						say("354 go on")
					case text == "QUIT":
						say("221 bye")
						return
					default:
						say("250 good")
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// plant gives some students values that are nowhere else, in every field that is about them.
func (w *canaryWorld) plant() {
	t, ctx := w.t, w.t.Context()
	var students []struct {
		Student int64 `db:"stu_id"`
		Person  int64 `db:"per_id"`
	}
	if err := w.sis.SelectContext(ctx, &students, `select s.stu_id, s.per_id from student s where
		(select count(*) from enrolment e where e.stu_id = s.stu_id and e.year_id = 2026) = 1 order by s.stu_id limit ?`, canaries); err != nil || len(students) < canaries {
		t.Fatalf("%d students to plant in, %v", len(students), err)
	}
	mark := func(i int, field, text string) string {
		w.markers = append(w.markers, canary.Marker{Text: text, Field: fmt.Sprintf("%s of student %d", field, i)})
		return text
	}
	exec := func(query string, args ...any) {
		if _, err := w.sis.ExecContext(ctx, query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	for i, s := range students {
		m := func(field, format string, args ...any) string { return mark(i, field, fmt.Sprintf(format, args...)) }
		exec(`update person set first_name = ?, middle_name = ?, last_name = ?, suffix = ?, pref_first = ?, dob = ?, birth_city = ? where per_id = ?`,
			m("first_name", "Qanary%02dfn", i), m("middle_name", "Qanary%02dmn", i), m("last_name", "Qanary%02d O'Żółć-ln", i), m("suffix", "Qan%02dsx", i), m("pref_first", "Qanary%02dpf", i),
			m("dob", "19%02d-02-07", 13+i), m("birth_city", "Qanaryville %02d", i), s.Person)
		exec(`delete from person_phone where per_id = ?`, s.Person)
		exec(`insert into person_phone (per_id, seq_no, type_code, phone_no) values (?, 1, 'H', ?)`, s.Person, m("phone_no", "(817) 350-77%02d", i))
		exec(`delete from person_email where per_id = ?`, s.Person)
		exec(`insert into person_email (per_id, seq_no, type_code, email) values (?, 1, 'PER', ?)`, s.Person, m("email", "q%02dmail@canary.example", i))
		exec(`delete from person_addr where per_id = ?`, s.Person)
		exec(`insert into person_addr (per_id, addr_code, street, apt, city, state_abbr, zip, county) values (?, 'HOM', ?, ?, ?, 'TX', ?, ?)`, s.Person,
			m("street", "%02d Qanary & Lane", i), m("apt", "Apt-Q%02da", i), m("city", "Qanarytown%02d", i), m("zip", "81735-77%02d", i), m("county", "Qanaryshire%02d", i))
		id := 817350000 + int64(i)
		exec(`update student set stu_id = ?, state_id = ?, local_no = ? where stu_id = ?`, id, m("state_id", "Q81735S%02d", i), m("local_no", "Q8173L%02d", i), s.Student)
		m("stu_id", "%d", id)
		for _, table := range []string{"student_trait", "enrolment", "roster", "att_daily"} {
			exec(`update `+table+` set stu_id = ? where stu_id = ?`, id, s.Student)
		}
		exec(`update enrolment set enr_id = ? where stu_id = ? and year_id = 2026`, 917350000+i, id)
		m("enr_id", "%d", 917350000+i)
		exec(`update att_daily set att_id = ?, reason = ? where att_id = (select min(att_id) from att_daily where stu_id = ?)`, 927350000+i, m("reason", "Qanary%02d was ill", i), id)
		m("att_id", "%d", 927350000+i)
	}
	// What the model refuses must not be repeated either.
	exec(`update person set dob = 'Qanary-dob-of-3' where first_name = 'Qanary03fn'`)
	mark(3, "dob", "Qanary-dob-of-3")
	long := "Qanary02-long-" + strings.Repeat("x", 90)
	exec(`update person set middle_name = ? where first_name = 'Qanary02fn'`, long)
	mark(2, "middle_name", long)
	exec(`update student set state_id = 'Q81735S04' where stu_id = 817350005`) // two rows with one natural key
	var err error
	if w.scanner, err = canary.New(w.markers); err != nil {
		t.Fatal(err)
	}
	if len(w.markers) < 200 {
		t.Fatalf("%d values are planted, want at least 200", len(w.markers))
	}
}

// answer is a target that repeats what it was sent: in texts, headers, addresses and ids, as hosts and the proxies before them do.
func (w *canaryWorld) answer(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") {
		w.mu.Lock()
		w.sent.Write(body)
		w.mu.Unlock()
		if w.silent.Load() {
			w.hung.Add(1)
			<-w.stop
			return
		}
		if i := w.whose(body); i >= 0 && !w.calm.Load() && w.repeat(rw, r, i, body) {
			return
		}
	}
	w.sandbox.Handler().ServeHTTP(rw, r)
}

// whose is the number of the student a body is about, -1 for none.
func (w *canaryWorld) whose(body []byte) int {
	for i := range canaries {
		if bytes.Contains(body, fmt.Appendf(nil, "Q81735S%02d", i)) {
			return i
		}
	}
	return -1
}

// repeat answers in the way of the student with that number; false when the call takes its course.
func (w *canaryWorld) repeat(rw http.ResponseWriter, r *http.Request, i int, body []byte) bool {
	var said map[string]any
	_ = json.Unmarshal(body, &said)
	first := fmt.Sprintf("Qanary%02dfn", i)
	problem := func(status int, kind string) {
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.Header().Set("X-Trace", first)
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"type": "urn:ed-fi:api:" + kind, "title": "Refused " + first, "detail": "The value " + string(body) + " of " + first + " is not what it should be.", "status": status,
			"correlationId": first, "validationErrors": map[string]any{"$." + first: []string{"The value '" + first + "' is wrong.", string(body)}},
			"errors": []string{"duplicate key is (StudentUniqueId) = (Q81735S" + fmt.Sprintf("%02d", i) + ")", first}, "message": first,
		})
	}
	switch i {
	case 1:
		problem(http.StatusConflict, "conflict:non-unique-identity")
	case 4:
		problem(http.StatusConflict, "data-conflict:unresolved-reference")
	case 14: // 5 is never sent: another row has its natural key
		problem(http.StatusBadRequest, "bad-request:data-validation-failed")
	case 6:
		problem(http.StatusForbidden, "security:authorization:"+strings.ToLower(first))
	case 7:
		rw.Header().Set("Content-Type", "text/html")
		rw.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(rw, "<html><title>%s</title>System.Exception: %s</html>", first, body)
	case 8:
		rw.Header().Set("Location", "https://"+first+".example/data/v3/ed-fi/students?studentUniqueId=Q81735S08")
		rw.WriteHeader(http.StatusFound)
	case 9:
		if r.Method != http.MethodPost {
			return false
		}
		answer := httptest.NewRecorder()
		w.sandbox.Handler().ServeHTTP(answer, r)
		if at := answer.Header().Get("Location"); at != "" {
			rw.Header().Set("Location", at+"?of="+first+"#"+first)
		}
		rw.WriteHeader(answer.Code)
	case 10:
		rw.Header().Set("Retry-After", first)
		rw.WriteHeader(http.StatusTooManyRequests)
	case 11:
		w.hung.Add(1)
		select {
		case <-w.stop:
		case <-r.Context().Done():
		}
	case 12:
		panic(http.ErrAbortHandler)
	case 13:
		rw.Header().Set("Content-Type", "application/json; name="+first)
		rw.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(rw, `{"error": %q}`, first+"\r\n\x1b[31m"+string(body))
	default:
		return false
	}
	return true
}

const canaryConfig = `work_dir: work
log: {level: debug, format: json}
service:
  workers: 2
  drain: 2s
  egress: {allow: ["127.0.0.1"]}
  traces: {endpoint: %[5]q}
  alerts:
    every: 100ms
    webhooks: [{name: hook, url: %[3]q, secret: sixteen-characters-or-more}]
    smtp: {address: %[4]q, from: edfisync@canary.example, to: [ops@canary.example], tls: none}
connections:
  - name: demo
    school_year: 2026
    source: {driver: sqlite, dsn: sis.sqlite}
    pack: embedded:limitless
    settle_delay: 1ms
    target: {url: %[1]q, client_id: demo, client_secret: demo-secret, timeout: 1s, retries: 1, concurrency: {min: 4, max: 8}}
  - name: broken
    school_year: 2026
    source: {driver: postgres, dsn: %[2]q}
    pack: pack
    target: {url: %[1]q, client_id: demo, client_secret: demo-secret, timeout: 1s, retries: 0}
`

func newCanaryWorld(t *testing.T) *canaryWorld {
	t.Helper()
	server := dbtest.Postgres(t)
	w := &canaryWorld{t: t, dir: t.TempDir(), stop: make(chan struct{})}
	var err error
	if w.sis, err = limitless.OpenSQLite(filepath.Join(w.dir, "sis.sqlite")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.sis.Close() })
	if err := limitless.Create(t.Context(), w.sis, limitless.SQLite); err != nil {
		t.Fatal(err)
	}
	if _, err := limitless.Generate(t.Context(), w.sis, limitless.SQLite, limitless.Options{Students: limitless.MinStudents, AttendancePerStudent: 10}); err != nil {
		t.Fatal(err)
	}
	w.plant()
	w.brokenSource(server)
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	if w.sandbox, err = sandbox.New(sandbox.Options{
		Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2025, 2026, 2027}, MaxTokens: 1000,
	}); err != nil {
		t.Fatal(err)
	}
	w.traced = newCollector(t)
	w.front = httptest.NewUnstartedServer(http.HandlerFunc(w.answer))
	w.front.Config.ErrorLog = nil
	w.front.Start()
	t.Cleanup(func() { w.calm.Store(true); close(w.stop); w.front.Close(); w.sandbox.Close() })
	w.write("edfisync.yaml", fmt.Sprintf(canaryConfig, w.front.URL, server, w.hook(), w.mails(), w.traced.URL))
	return w
}

// brokenSource is a SIS whose database repeats values in its errors, and the pack that makes it do so.
func (w *canaryWorld) brokenSource(server string) {
	w.t.Helper()
	db, err := sqlx.Connect("postgres", server)
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	db.MustExec(`create table pupil (id int, uid text, name text)`)
	db.MustExec(`insert into pupil values (817350000, 'Q81735S00', 'Qanary00fn')`)
	w.write("pack/pack.yaml", "name: broken\nedfi: [\"5.2\"]\ndrivers: [postgres]\n")
	w.write("pack/students.sql", `select id as "_key", uid as "studentUniqueId", name as "firstName", name as "lastSurname", cast(name as date) as "birthDate" from pupil`)
}

func (w *canaryWorld) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *canaryWorld) program() string {
	if program := os.Getenv("EDFISYNC_TEST_PROGRAM"); program != "" {
		return program
	}
	return "edfisync"
}

// command runs a command and returns all it said, whatever its exit code.
func (w *canaryWorld) command(args ...string) []byte {
	w.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), w.program(), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &out
	cmd.Stdin = strings.NewReader("817350001\n") // for a key that is not to stand among the arguments
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		w.t.Fatalf("%v: %v", args, err)
	}
	return out.Bytes()
}

// canaryService is a serve that runs.
type canaryService struct {
	*canaryWorld
	cmd    *exec.Cmd
	url    string
	out    bytes.Buffer
	errs   lockedBuffer
	keys   map[string]string // by role
	client *http.Client
}

// lockedBuffer is written by a process and read meanwhile.
type lockedBuffer struct {
	mu gosync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

func (w *canaryWorld) serve() *canaryService {
	w.t.Helper()
	s := &canaryService{canaryWorld: w, keys: map[string]string{}, client: &http.Client{Timeout: 30 * time.Second}}
	for _, role := range []string{"viewer", "operator", "approver", "admin", "auditor"} {
		var made struct{ Key string }
		if err := json.Unmarshal(w.quiet("keys", "create", role, "--role", role, "--json"), &made); err != nil || made.Key == "" {
			w.t.Fatalf("make a key: %v", err)
		}
		s.keys[role] = made.Key
	}
	s.cmd = exec.Command(w.program(), "serve", "--listen", "127.0.0.1:0", "--json")
	s.cmd.Dir, s.cmd.Stderr = w.dir, &s.errs
	stdout, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	var said struct{ URL string }
	if err := json.NewDecoder(io.TeeReader(stdout, &s.out)).Decode(&said); err != nil {
		w.t.Fatalf("serve said nothing: %v\n%s", err, s.errs.bytes())
	}
	s.url = said.URL
	return s
}

// quiet runs a command and returns its standard output.
func (w *canaryWorld) quiet(args ...string) []byte {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.program(), args...)
	cmd.Dir = w.dir
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// call makes a request as a role and returns status and body. What it gets is a surface.
func (s *canaryService) call(role, method, path, body string) (int, []byte) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+s.keys[role])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for {
		resp, err := s.client.Do(r.Clone(s.t.Context()))
		if err != nil {
			s.t.Fatalf("%s %s: %v", method, path, err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		if resp.StatusCode == http.StatusTooManyRequests {
			time.Sleep(500 * time.Millisecond)
			continue
		}
		header, _ := json.Marshal(resp.Header)
		s.scanner.Scan("answer of "+method+" "+path+" to "+role, append(header, text...))
		return resp.StatusCode, text
	}
}

// sync asks for a run of a connection and waits for its end.
func (s *canaryService) sync(connection string) map[string]any {
	s.t.Helper()
	status, text := s.call("operator", "POST", "/api/v1/connections/"+connection+"/runs", `{}`)
	var asked struct{ Run struct{ ID int64 } }
	if err := json.Unmarshal(text, &asked); err != nil || status != http.StatusAccepted {
		s.t.Fatalf("ask: %d %s", status, text)
	}
	path := fmt.Sprintf("/api/v1/runs/%d", asked.Run.ID)
	var run map[string]any
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, text := s.call("viewer", "GET", path, "")
		if err := json.Unmarshal(text, &run); err != nil {
			s.t.Fatalf("%s: %s", path, text)
		}
		if state := run["state"]; state != "waiting" && state != "running" {
			return run
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the run does not end: %s\n%s", text, s.errs.bytes())
		}
	}
}

// crawl reads all that can be read over HTTP: every GET of the API document, and every page that is linked, as each role.
func (s *canaryService) crawl() {
	s.t.Helper()
	_, text := s.call("", "GET", "/api/v1/openapi.json", "")
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		s.t.Fatal(err)
	}
	read := 0
	for path, methods := range document.Paths {
		if _, ok := methods["get"]; !ok || strings.HasSuffix(path, "/events") {
			continue
		}
		for _, concrete := range s.concrete(path) {
			for role := range s.keys {
				if status, _ := s.call(role, "GET", concrete, ""); status == http.StatusOK {
					read++
				}
			}
		}
	}
	if read < 50 {
		s.t.Errorf("%d answers of the API were read, want many", read)
	}
	link := regexp.MustCompile(`(?:href|src|action)="(/[^"#]*)"`)
	seen, queue := map[string]bool{"/": true}, []string{"/", "/metrics", "/healthz", "/readyz"}
	pages := 0
	for len(queue) > 0 && len(seen) < 400 {
		path := queue[0]
		queue = queue[1:]
		status, text := s.call("admin", "GET", path, "")
		s.call("viewer", "GET", path, "")
		if status == http.StatusOK && bytes.Contains(text, []byte("<html")) {
			pages++
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			to := strings.ReplaceAll(string(m[1]), "&amp;", "&")
			if !seen[to] && !strings.HasPrefix(to, "/logout") && !strings.Contains(to, "/events") {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	if pages < 5 {
		s.t.Errorf("%d pages were read, want the overview, connections, runs, issues and holds", pages)
	}
}

// concrete fills the parameters of a path with what the ledger has. A parameter nobody knows is 1.
func (s *canaryService) concrete(path string) []string {
	values := map[string][]string{"{connection}": {"demo", "broken"}}
	if strings.Contains(path, "/keys/") {
		_, text := s.call("admin", "GET", "/api/v1/keys", "")
		for _, m := range regexp.MustCompile(`"id":"([^"]+)"`).FindAllSubmatch(text, 2) {
			values["{id}"] = append(values["{id}"], string(m[1]))
		}
	} else {
		values["{id}"] = []string{"1", "2", "3", "4"}
	}
	out := []string{path}
	for _, param := range regexp.MustCompile(`\{[^}]+\}`).FindAllString(path, -1) {
		known := values[param]
		if known == nil {
			known = []string{"1"}
		}
		var next []string
		for _, p := range out {
			for _, v := range known {
				next = append(next, strings.Replace(p, param, url.PathEscape(v), 1))
			}
		}
		out = next
	}
	return out
}

// listen follows the events until the test ends, and scans them.
func (s *canaryService) listen() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var events bytes.Buffer
	done := make(chan struct{})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/events", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.keys["viewer"])
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(done)
		_, _ = io.Copy(&events, resp.Body)
		resp.Body.Close()
	}()
	return func() {
		cancel()
		<-done
		s.scanner.Scan("events", events.Bytes())
	}
}

// files scans what is kept in the work folder and beside it: names of files too. There, student data is sealed.
func (w *canaryWorld) files() {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(w.dir, path)
		if err != nil || strings.HasPrefix(name, "sis.sqlite") || strings.HasPrefix(name, "allowed") {
			return err // the source
		}
		text, err := os.ReadFile(path)
		w.scanner.Scan("names of files", []byte(name))
		w.scanner.Scan("file "+filepath.Base(name), text)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// 200 values of students are planted, a service syncs them to a target that repeats them in everything it answers, from a source whose errors repeat
// them, and none of them comes out where no student data may be (I14). What may hold it: the source, the target, and what is sealed in the ledger.
//
// A new surface is one line: w.scanner.Scan("its name", its bytes). New routes of the API and new pages are read by crawl.
func TestNoStudentDataComesOut(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("signals are different")
	}
	w := newCanaryWorld(t)
	stopWatching := watchProcesses(t, w.dir, func(where string, text []byte) {
		if !strings.HasPrefix(where, "the cmdline of edfisync trace ") { // there stands what a person typed
			w.scanner.Scan(where, text)
		}
	})
	s := w.serve()
	stopListening := s.listen()

	if first := s.sync("demo"); first["state"] != "done" {
		t.Errorf("the first run: %v", first)
	}
	if broken := s.sync("broken"); broken["state"] != "failed" || !strings.Contains(fmt.Sprint(broken["error"]), "22007") {
		t.Errorf("the run from a source that repeats values: %v, want it failed by SQLSTATE 22007", broken)
	}
	// A day's changes, most attendance gone: deletes are held, updates and deletes are answered with faults again.
	for _, query := range []string{
		`delete from att_daily where att_id < (select avg(att_id) from att_daily)`, `update person set pref_first = 'Qanary-changed' where first_name like 'Qanary%'`,
		`update enrolment set entry_code = 'E4' where enr_id >= 917350000`,
	} {
		if _, err := w.sis.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	s.sync("demo")
	s.crawl()
	stopListening()
	for _, surface := range w.commands() {
		w.scanner.Scan("command "+strings.Join(surface, " "), w.command(surface...))
	}
	_, bundle := s.call("admin", "GET", "/api/v1/support-bundle?goroutines=true", "")
	if !bytes.HasPrefix(bundle, []byte("PK")) {
		t.Errorf("the support bundle: %.200s", bundle)
	}
	w.command("support-bundle", "bundle.zip")
	if status, text := s.call("viewer", "GET", "/metrics", ""); status != http.StatusOK || !bytes.Contains(text, []byte("edfisync_")) {
		t.Errorf("metrics: %d %.200s", status, text)
	}
	shown := w.shown()

	// The target does as it should: now everything arrives.
	w.calm.Store(true)
	w.command("retry", "--all", "--connection", "demo")
	s.sync("demo")

	// A run is under way, its calls hang, and the process dies with a dump of all it does.
	w.silent.Store(true)
	if _, err := w.sis.Exec(`update person set middle_name = 'again'`); err != nil {
		t.Fatal(err)
	}
	before := w.hung.Load()
	s.call("operator", "POST", "/api/v1/connections/demo/runs", `{}`)
	for deadline := time.Now().Add(30 * time.Second); w.hung.Load() == before && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	w.spans()
	stopWatching()
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	logged := s.errs.bytes()
	if !bytes.Contains(logged, []byte("SIGQUIT")) || !bytes.Contains(logged, []byte("goroutine ")) {
		t.Error("the process left no dump")
	}
	if !bytes.Contains(logged, []byte(`"level":"DEBUG"`)) {
		t.Error("nothing was logged at level debug")
	}
	w.scanner.Scan("log and crash dump", logged)
	w.scanner.Scan("standard output", s.out.Bytes())
	for surface, text := range map[string][]byte{"webhooks": w.hooked.bytes(), "mails": w.mailed.bytes()} {
		w.scanner.Scan(surface, text)
		if !bytes.Contains(text, []byte("broken")) {
			t.Errorf("no notice about the broken connection came by %s: %.300s", surface, text)
		}
	}
	w.files()

	// The values were in play: the target was sent them, and those who may see student data do.
	w.mu.Lock()
	sent := w.scanner.Distinct(w.sent.Bytes())
	w.mu.Unlock()
	if sent < 200 {
		t.Errorf("the target was sent %d of %d planted values: the test looks for what was never there", sent, len(w.markers))
	}
	if n := w.scanner.Distinct(shown); n < 20 {
		t.Errorf("issues show %d planted values to those who may see them, want more: the scanner or the plants are broken", n)
	}

	for _, hit := range w.scanner.Hits() {
		t.Error(hit)
	}
}

// spans waits for the traces of what was done so far, those of calls that were refused and of runs that failed among them, and scans them.
func (w *canaryWorld) spans() {
	w.t.Helper()
	counted := func() map[string]int {
		w.traced.mu.Lock()
		defer w.traced.mu.Unlock()
		out := map[string]int{}
		for _, span := range w.traced.spans {
			a := attributes(span)
			switch {
			case a["edfisync.run"] != "":
				out["runs of "+a["edfisync.connection"]]++
			case a["edfisync.verb"] != "":
				out["steps"]++
			case a["http.response.status_code"] != "":
				out["answers "+a["http.response.status_code"]]++
			default:
				out["no answer"]++
			}
		}
		return out
	}
	var got map[string]int
	enough := func() bool {
		got = counted()
		return got["runs of demo"] >= 3 && got["runs of broken"] >= 1 && got["steps"] > 10 && got["no answer"] > 0 &&
			!slices.ContainsFunc([]string{"400", "403", "409", "418", "429", "500", "302"}, func(status string) bool { return got["answers "+status] == 0 })
	}
	for deadline := time.Now().Add(30 * time.Second); !enough(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Errorf("spans came of %v only: the test looks for what was never there", got)
			break
		}
	}
	w.traced.mu.Lock()
	defer w.traced.mu.Unlock()
	w.scanner.Scan("traces", w.traced.raw.Bytes())
}

// shown is what those who may see student data see of the issues.
func (w *canaryWorld) shown() []byte {
	w.t.Helper()
	var issues []struct {
		ID   int64
		Code string
	}
	if err := json.Unmarshal(w.quiet("issues", "--connection", "demo", "--json"), &issues); err != nil {
		w.t.Fatal(err)
	}
	codes, shown := []string{}, []byte{}
	for _, i := range issues {
		codes = append(codes, i.Code)
		shown = append(shown, w.command("issues", fmt.Sprint(i.ID), "--answer", "--connection", "demo")...)
	}
	for _, want := range []string{"not-a-date", "too-long", "duplicate-natural-key", "mass-delete"} {
		if !slices.Contains(codes, want) {
			w.t.Errorf("there is no issue %s, only %v", want, codes)
		}
	}
	return shown
}

// commands are those whose output may not hold student data; issues ID, issues export, holds show --ops, plan --details, trace and sync-one with --show-data may.
func (w *canaryWorld) commands() [][]string {
	on := func(args ...string) []string { return append(args, "--connection", "demo") }
	return [][]string{
		on("plan"), on("plan", "--json"), on("runs"), on("runs", "--json"), on("issues"), on("issues", "--json"), on("holds"), on("holds", "--json"), on("receipts"), on("receipts", "--json"),
		on("issues", "export", "--summary"), {"audit", "--limit", "1000"}, {"audit", "--json", "--limit", "1000"}, {"audit", "verify"}, on("verify"), on("check"), {"check", "--json", "--connection", "broken"},
		{"plan", "--connection", "broken"}, on("trace", "students", "--source-row", "-"), on("run"), {"keys"}, {"version"},
	}
}
