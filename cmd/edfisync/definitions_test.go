package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// servedWorld is a service without connections, as a process of its own, and what people at its machine and over its API do.
type servedWorld struct {
	t       *testing.T
	program string
	dir     string
	dsn     string
	address string
	key     string // of the API
	api     *sandbox.Server
	url     string // of the Ed-Fi API

	mu     gosync.Mutex
	logins []string     // client secrets that tokens were asked for with, right ones only
	said   bytes.Buffer // everything that commands printed and the API answered
	log    *os.File     // of the service
}

const (
	oldMaster = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
	newMaster = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"
)

// The client secrets that follow each other. None of them may be anywhere but sealed.
const (
	firstSecret  = "canary-first-s3cret"
	secondSecret = "canary-second-s3cret"
	thirdSecret  = "canary-third-s3cret"
)

func newServedWorld(t *testing.T, dsn string) *servedWorld {
	t.Helper()
	w := &servedWorld{t: t, program: os.Getenv("EDFISYNC_TEST_PROGRAM"), dir: t.TempDir(), dsn: dsn}
	if w.program == "" {
		w.program = "edfisync"
	}
	model, err := schema.Bundled("5.2")
	w.ok(err)
	sis, err := tinysis.Create(t.Context(), filepath.Join(w.dir, "sis.sqlite"), 20)
	w.ok(err)
	w.ok(sis.Close())
	w.ok(os.CopyFS(filepath.Join(w.dir, "pack"), tinysis.Pack()))
	w.api, err = sandbox.New(sandbox.Options{Model: model, ClientID: "id", ClientSecret: firstSecret, SchoolYears: []int{2026}, MaxTokens: 1000})
	w.ok(err)
	handler := w.api.Handler()
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		recorded := httptest.NewRecorder()
		if !strings.HasSuffix(r.URL.Path, "/token") {
			handler.ServeHTTP(rw, r)
			return
		}
		handler.ServeHTTP(recorded, r)
		if _, secret, ok := r.BasicAuth(); ok && recorded.Code == http.StatusOK {
			w.mu.Lock()
			w.logins = append(w.logins, secret)
			w.mu.Unlock()
		}
		for name, values := range recorded.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(recorded.Code)
		_, _ = rw.Write(recorded.Body.Bytes())
	}))
	t.Cleanup(func() { front.Close(); w.api.Close() })
	w.url = front.URL
	w.configure("key: " + oldMaster)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	w.address = listener.Addr().String()
	w.ok(listener.Close())
	var made struct{ Key string }
	w.ok(json.Unmarshal([]byte(w.command(exitOK, "", "keys", "create", "admin", "--role", "admin", "--json")), &made))
	w.key = made.Key
	return w
}

func (w *servedWorld) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// configure writes the configuration with these keys of the ledger.
func (w *servedWorld) configure(ledgerKeys string) {
	w.t.Helper()
	text := fmt.Sprintf("work_dir: work\nlog: {level: info}\nledger: {dsn: %q, %s}\nservice: {egress: {allow: [127.0.0.1]}, references: {folders: [.], variables: [EDFI_*]}}\n", w.dsn, ledgerKeys)
	w.ok(os.WriteFile(filepath.Join(w.dir, "edfisync.yaml"), []byte(text), 0o600))
}

func (w *servedWorld) heard(text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Write(text)
}

// command runs a command that must end with this code, and returns what it printed.
func (w *servedWorld) command(want exitCode, input string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(w.program, args...)
	cmd.Dir, cmd.Stdin = w.dir, strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	w.heard(out.Bytes())
	w.heard(errs.Bytes())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != int(want) {
		w.t.Fatalf("%s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, want, &out, &errs)
	}
	return out.String() + errs.String()
}

// serve starts the service.
func (w *servedWorld) serve() {
	w.t.Helper()
	var err error
	w.log, err = os.Create(filepath.Join(w.t.TempDir(), "log"))
	w.ok(err)
	cmd := exec.Command(w.program, "serve", "--listen", w.address)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, w.log, w.log
	cmd.Env = append(os.Environ(), "EDFI_URL="+w.url)
	w.ok(cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.t.Failed() {
			text, _ := os.ReadFile(w.log.Name())
			w.t.Logf("the service said:\n%s", text)
		}
		_ = w.log.Close()
	})
	w.eventually("the service is ready", func() bool { status, _, _ := w.try("GET", "/readyz", ""); return status == 200 })
}

func (w *servedWorld) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 90 s: %s", what)
		}
	}
}

func (w *servedWorld) try(method, path, body string, header ...string) (status int, answer string, etag string) {
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.address+path, strings.NewReader(body))
	w.ok(err)
	r.Header.Set("Authorization", "Bearer "+w.key)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error(), ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.ok(err)
	w.heard(text)
	return resp.StatusCode, string(text), resp.Header.Get("ETag")
}

// call is try that must get this status.
func (w *servedWorld) call(want int, method, path, body string, header ...string) (answer, etag string) {
	w.t.Helper()
	status, answer, etag := w.try(method, "/api/v1"+path, body, header...)
	if status != want {
		w.t.Fatalf("%s %s: got %d %s, want %d", method, path, status, answer, want)
	}
	return answer, etag
}

// sync asks for a run and waits for its end. It returns state and error.
func (w *servedWorld) sync(connection string) (state, why string) {
	w.t.Helper()
	var run struct {
		ID           int64
		State, Error string
	}
	w.eventually("the service knows "+connection, func() bool { status, _, _ := w.try("GET", "/api/v1/connections/"+connection, ""); return status == 200 })
	answer, _ := w.call(202, "POST", "/connections/"+connection+"/runs", "")
	asked := struct{ Run any }{&run}
	w.ok(json.Unmarshal([]byte(answer), &asked))
	w.eventually("the run ends", func() bool {
		answer, _ := w.call(200, "GET", fmt.Sprint("/runs/", run.ID), "")
		w.ok(json.Unmarshal([]byte(answer), &run))
		return run.State != "waiting" && run.State != "running"
	})
	return run.State, run.Error
}

// synced is sync of a run that must be done, with this client secret for its token.
func (w *servedWorld) synced(connection, secret string) {
	w.t.Helper()
	if state, why := w.sync(connection); state != "done" {
		w.t.Fatalf("the run of %s is %s: %s", connection, state, why)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.logins) == 0 || w.logins[len(w.logins)-1] != secret {
		w.t.Errorf("the last token was asked for with another secret than the one that holds now")
	}
}

const importedConnection = `connections:
  - name: south
    school_year: 2026
    source: {driver: sqlite, dsn: sis.sqlite}
    pack: pack
    target: {url: "${EDFI_URL}", client_id: id, client_secret: ` + firstSecret + `}
    resources: [all]
    settle_delay: 1ms
`

// Connections are made, changed and removed, secrets and the master key replaced while the service runs, on real parts; and no secret is anywhere but
// sealed (I15).
func TestConnectionsAndSecretsChangeWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "ledger.db") },
		"postgres": func(t *testing.T) string { return dbtest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newServedWorld(t, dsn(t))
			stopWatching := watchProcesses(t, w.dir, w.look)
			w.serve()
			w.importAndRun()
			w.rotate()
			w.changeOverTheAPI()
			w.rekey()
			w.remove()
			stopWatching()
			w.nothingTold()
		})
	}
}

func (w *servedWorld) importAndRun() {
	w.ok(os.WriteFile(filepath.Join(w.dir, "south.yaml"), []byte(importedConnection), 0o600))
	if out := w.command(exitOK, "", "connections", "import", "south.yaml"); !strings.Contains(out, "south is made (version 1)") || !strings.Contains(out, "environment variable EDFI_URL is not set here") {
		w.t.Errorf("import said %s", out)
	}
	w.ok(os.Remove(filepath.Join(w.dir, "south.yaml")))
	w.synced("south", firstSecret)
	if created := w.api.Stats().Created; created == 0 {
		w.t.Error("nothing arrived at the target")
	}
}

// rotate changes the secret at the target and in the ledger, without a restart.
func (w *servedWorld) rotate() {
	w.ok(w.api.SetClient(sandbox.Client{ID: "id", Secret: secondSecret}))
	// The value is on standard input, so that no process shows it in its arguments or environment.
	in, write := io.Pipe()
	cmd := exec.Command(w.program, "secrets", "set", "south.client_secret")
	cmd.Dir, cmd.Stdin = w.dir, in
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	w.ok(cmd.Start())
	_, err := io.WriteString(write, secondSecret[:5])
	w.ok(err)
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no such thing outside of Linux
			w.t.Error(err)
		}
		if bytes.Contains(text, []byte("canary-")) {
			w.t.Errorf("the secret is in the process's %s", file)
		}
	}
	_, err = io.WriteString(write, secondSecret[5:]+"\n")
	w.ok(errors.Join(err, write.Close(), cmd.Wait()))
	w.heard(out.Bytes())
	w.synced("south", secondSecret)
}

func (w *servedWorld) changeOverTheAPI() {
	// The one that was imported is changed; what it refers to may stay, and its secret is not sent again.
	definition, etag := w.call(200, "GET", "/connections/south/definition", "")
	changed := strings.Replace(definition, `"settle_delay":"1ms"`, `"settle_delay":"2ms","schedule":{"cron":"0 2 * * *"},"pauses":[{"from":"2020-01-01","to":"2099-01-01","reason":"rollover"}]`, 1)
	w.call(428, "PUT", "/connections/south", changed)
	w.call(412, "PUT", "/connections/south", changed, "If-Match", `"9"`)
	answer, _ := w.call(200, "PUT", "/connections/south", changed, "If-Match", etag)
	if !strings.Contains(answer, `"path":"schedule.cron"`) {
		w.t.Errorf("the change is %s", answer)
	}
	if answer, _ := w.call(200, "GET", "/connections/south", ""); !strings.Contains(answer, `"reason":"rollover"`) || !strings.Contains(answer, `"next":"2099-01-01T02:00:00Z"`) {
		w.t.Errorf("its pause is not shown: %s", answer)
	}
	w.synced("south", secondSecret)

	// Its schedule is kept from the moment it is changed, and no longer when a pause comes.
	_, etag = w.call(200, "GET", "/connections/south/definition", "")
	always := strings.NewReplacer("0 2 * * *", "@every 1s", "2099-01-01", "2020-01-02").Replace(changed)
	_, etag = w.call(200, "PUT", "/connections/south", always, "If-Match", etag)
	w.eventually("a run by schedule", func() bool {
		answer, _ := w.call(200, "GET", "/runs?connection=south", "")
		return strings.Contains(answer, `"reason":"cron"`)
	})
	w.call(200, "PUT", "/connections/south", changed, "If-Match", etag)
	w.eventually("its runs end", func() bool {
		waiting, _ := w.call(200, "GET", "/runs?connection=south&state=waiting", "")
		running, _ := w.call(200, "GET", "/runs?connection=south&state=running", "")
		return strings.Contains(waiting, `"items":[]`) && strings.Contains(running, `"items":[]`)
	})

	// A new one, with its secret in clear: it is sealed. What it may not refer to, and everything else that is wrong, is named by its key.
	made := func(name, secret, extra string) string {
		return fmt.Sprintf(`{"name": %q, "school_year": 2026, "pack": "pack", "resources": ["all"], "settle_delay": "1ms",
			"source": {"driver": "sqlite", "dsn": "sis.sqlite"}, "target": {"url": "${EDFI_URL}", "client_id": "id", "client_secret": %q}%s}`, name, secret, extra)
	}
	for _, wrong := range []struct{ body, path string }{
		{made("north", "${EDFISYNC_KEY}", ""), "target.client_secret"},
		{made("north", "${file:/etc/hostname}", ""), "target.client_secret"},
		{made("north", "${sealed:nobody.set}", ""), "target.client_secret"},
		{made("north", "x", `, "shedule": {}`), "shedule"},
		{made("north", "x", `, "schedule": {"cron": "whenever"}`), "schedule.cron"},
		{made("north", "x", `, "schedule": {"time_zone": "Chicago"}`), "schedule.time_zone"},
		{made("north", "x", `, "safeguards": {"prevent_delete": ["student"]}`), "safeguards.prevent_delete[0]"},
		{strings.Replace(made("north", "x", ""), `["all"]`, `["student"]`, 1), "resources"},
		{strings.Replace(made("north", "x", ""), `"pack": "pack"`, `"pack": "/etc"`, 1), "pack"},
		{strings.Replace(made("north", "x", ""), `"sis.sqlite"`, `"/var/lib/other.sqlite"`, 1), "source.dsn"},
		{strings.Replace(made("north", "x", ""), "${EDFI_URL}", "http://169.254.169.254/", 1), "target.url"},
		{strings.Replace(made("north", "x", ""), "${EDFI_URL}", "http://[::1]:8780/", 1), "target.url"},
	} {
		if answer, _ := w.call(422, "POST", "/connections", wrong.body); !strings.Contains(answer, `"validationErrors":{"`+wrong.path+`":`) {
			w.t.Errorf("of %s is said: %s", wrong.path, answer)
		}
	}
	w.call(201, "POST", "/connections", made("north", secondSecret, ""))
	w.call(409, "POST", "/connections", made("north", secondSecret, ""))
	w.synced("north", secondSecret)

	// A wrong secret: the run fails, the test says why and what to do; the right one over the API mends it.
	w.ok(w.api.SetClient(sandbox.Client{ID: "id", Secret: thirdSecret}))
	w.call(200, "PUT", "/secrets/north.client_secret", `{"value": "canary-wrong"}`)
	if state, why := w.sync("north"); state != "failed" || !strings.Contains(why, "token") {
		w.t.Errorf("with a wrong secret the run is %s: %s", state, why)
	}
	answer, _ = w.call(200, "POST", "/connections/north/test", "")
	if !strings.Contains(answer, `"ok":false`) || !strings.Contains(answer, `"part":"credentials","ok":false`) || !strings.Contains(answer, `"remedy"`) {
		w.t.Errorf("the test says %s", answer)
	}
	w.call(200, "PUT", "/secrets/north.client_secret", `{"value": "`+thirdSecret+`"}`)
	if answer, _ = w.call(200, "POST", "/connections/north/test", ""); !strings.HasPrefix(answer[strings.Index(answer, `"ok"`):], `"ok":true`) {
		w.t.Errorf("the test says %s", answer)
	}
	w.synced("north", thirdSecret)
	w.call(409, "DELETE", "/secrets/north.client_secret", "")

	// A copy does not run before its secret is set.
	if answer, _ := w.call(201, "POST", "/connections/north/clone", `{"name": "north-2027", "schoolYear": 2027}`); !strings.Contains(answer, `"unset":["north-2027.client_secret"]`) {
		w.t.Errorf("the copy is %s", answer)
	}
	if state, why := w.sync("north-2027"); state != "failed" || !strings.Contains(why, "edfisync secrets set north-2027.client_secret") {
		w.t.Errorf("the run of the copy is %s: %s", state, why)
	}
}

// rekey brings the ledger under another master key while the service runs.
func (w *servedWorld) rekey() {
	w.command(exitUsage, "", "secrets", "rekey") // nobody has named the new key
	// Somebody does it with a configuration that the service does not have: it does nothing more, says so, and is there again when it has the key.
	vault := filepath.Join(w.t.TempDir(), "master.key")
	w.ok(os.WriteFile(vault, []byte(newMaster), 0o600))
	both := "key: " + oldMaster + ", next: {key_command: [cat, '" + vault + "']}"
	w.configure(both)
	w.ok(os.Rename(filepath.Join(w.dir, "edfisync.yaml"), filepath.Join(w.dir, "other.yaml")))
	w.configure("key: " + oldMaster)
	w.command(exitOK, "", "secrets", "rekey", "-c", "other.yaml")
	w.eventually("the service is not ready", func() bool { status, _, _ := w.try("GET", "/readyz", ""); return status == 503 })
	if status, answer, _ := w.try("POST", "/api/v1/connections/north/pause", `{"why": "that cannot be audited"}`); status < 500 {
		w.t.Errorf("what cannot be audited is answered %d %s", status, answer)
	}
	w.configure(both)
	w.eventually("the service is ready again", func() bool { status, _, _ := w.try("GET", "/readyz", ""); return status == 200 })
	if out := w.command(exitOK, "", "secrets", "rekey"); !strings.Contains(out, "already") {
		w.t.Errorf("the second time it says %s", out)
	}
	w.eventually("the service has the new key", func() bool {
		status, _, _ := w.try("POST", "/api/v1/connections/north/pause", `{"why": "to see whether it can be audited"}`)
		return status == 200
	})
	w.call(200, "POST", "/connections/north/resume", "")
	w.synced("north", thirdSecret)
	w.configure("key: " + newMaster)
	w.command(exitOK, "", "secrets", "list")
	w.command(exitOK, "", "audit", "verify")
	w.configure("key: " + oldMaster)
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"worker"}, {"run"}, {"connections"}, {"secrets"}} {
		if out := w.command(exitUsage, "", args...); !strings.Contains(out, "master key") {
			w.t.Errorf("%s with the old key says %s", args[0], out)
		}
	}
	w.configure("key: " + newMaster)
}

func (w *servedWorld) remove() {
	answer, _ := w.call(200, "DELETE", "/connections/north", "") // what it syncs was at the target before it: it owns nothing
	if !strings.Contains(answer, `"secrets":["north.client_secret"]`) || !strings.Contains(answer, `"removed":true,"records":0,"met":65`) {
		w.t.Errorf("what is left is %s", answer)
	}
	w.call(404, "POST", "/connections/north/runs", "")
	w.call(204, "DELETE", "/secrets/north.client_secret", "")
	if answer, _ := w.call(409, "DELETE", "/connections/south", ""); !strings.Contains(answer, "still owns 65 records at the target") {
		w.t.Errorf("south is refused with %s", answer)
	}
	var withdrawn struct {
		Removed, Withdrawing bool
		Run                  int64
	}
	answer, _ = w.call(200, "DELETE", "/connections/south?records=withdraw", "")
	if err := json.Unmarshal([]byte(answer), &withdrawn); err != nil || withdrawn.Removed || !withdrawn.Withdrawing || withdrawn.Run == 0 {
		w.t.Errorf("south is withdrawn with %s", answer)
	}
	w.eventually("the run holds the removal", func() bool {
		_, run, _ := w.try("GET", fmt.Sprintf("/api/v1/runs/%d", withdrawn.Run), "")
		return strings.Contains(run, `"state":"done"`)
	})
	w.command(exitUsage, "", "connections", "remove", "south")
	w.command(exitOK, "", "connections", "remove", "south", "--remember")
	w.eventually("the service no longer knows south", func() bool {
		status, _, _ := w.try("POST", "/api/v1/connections/south/runs", "")
		return status == 404
	})
	w.call(200, "GET", "/connections/south/versions", "")
}

// nothingTold looks for the secrets in all that was said, and in every file of the world.
func (w *servedWorld) nothingTold() {
	for _, path := range []string{"/connections", "/secrets", "/audit?limit=500", "/runs", "/connections/south/versions", "/connections/north-2027/definition", "/openapi.json"} {
		w.call(200, "GET", path, "")
	}
	for _, args := range [][]string{{"connections", "--json"}, {"connections", "export"}, {"secrets", "--json"}, {"audit", "--json"}, {"check"}} {
		cmd := exec.Command(w.program, args...)
		cmd.Dir = w.dir
		out, _ := cmd.CombinedOutput() // check finds that EDFI_URL is not set here
		w.heard(out)
	}
	w.look("what was said", w.said.Bytes())
	text, err := os.ReadFile(w.log.Name())
	w.ok(err)
	w.look("the log", text)
	w.configure("key: ''")
	w.ok(os.Remove(filepath.Join(w.dir, "other.yaml")))
	folders := []string{w.dir}
	if file, ok := strings.CutPrefix(w.dsn, "sqlite:"); ok {
		folders = append(folders, filepath.Dir(file))
	}
	for _, folder := range folders {
		w.ok(filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			w.look(path, text)
			return err
		}))
	}
}

// look fails the test when a secret is in a text.
func (w *servedWorld) look(where string, text []byte) {
	for _, secret := range []string{"canary-", oldMaster, newMaster} {
		if bytes.Contains(text, []byte(secret)) {
			w.t.Errorf("a secret is in %s", where)
		}
	}
}

// A target that was named over the API is not called where only the service reaches, whatever its name stands for (SSRF).
func TestATargetNamedOverTheAPIIsGuarded(t *testing.T) {
	t.Parallel()
	called := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer inside.Close()
	conn := &config.Connection{Name: "one", Target: config.Target{
		URL: strings.Replace(inside.URL, "127.0.0.1", "localhost", 1), ClientID: "id", ClientSecret: "secret", Timeout: config.Duration(5 * time.Second), Concurrency: config.Concurrency{Min: 1, Max: 1},
	}}
	conn.Guard = guardOf(t, "10.20.0.0/16", "ods.example.org")
	r := &report{}
	if target := testTarget(t.Context(), r, conn, nil); target != nil || called || len(r.findings) != 1 || r.findings[0].OK {
		t.Errorf("called %v: %+v", called, r.findings)
	}
	conn.Guard = guardOf(t, "localhost")
	if testTarget(t.Context(), &report{}, conn, nil); !called {
		t.Error("a host that is allowed is not called")
	}
}

func guardOf(t *testing.T, allow ...string) *httpd.Egress {
	t.Helper()
	guard, err := config.Egress{Allow: allow}.Guard()
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// A source of a connection of the ledger is not connected to where only the service reaches, whatever its name stands for and whichever database it is
// (SSRF); on real databases.
func TestASourceOfTheLedgerIsGuarded(t *testing.T) {
	t.Parallel()
	postgres := dbtest.Postgres(t)
	at, err := url.Parse(postgres)
	if err != nil {
		t.Fatal(err)
	}
	named := *at
	named.Host = net.JoinHostPort("localhost", at.Port())
	maria, err := mysql.ParseDSN(dbtest.MariaDB(t))
	if err != nil {
		t.Fatal(err)
	}
	address, network := maria.Addr, maria.Net
	if network != "tcp" {
		t.Fatalf("MariaDB is reached by %s", network)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	onName := maria.Clone()
	onName.Addr = net.JoinHostPort("localhost", port)
	onSocket := maria.Clone()
	onSocket.Net, onSocket.Addr = "unix", "/run/mysqld/mysqld.sock"
	loopback, other := []string{"127.0.0.1", "localhost"}, []string{"10.20.0.0/16", "sis.example.org"}
	cases := []struct {
		name, driver, dsn string
		allow             []string
		want              string // "" = it is connected to
	}{
		{"PostgreSQL that is allowed", source.Postgres, postgres, loopback, ""},
		{"PostgreSQL whose name is allowed", source.Postgres, named.String(), []string{"localhost"}, ""},
		{"MariaDB that is allowed", source.MySQL, maria.FormatDSN(), loopback, ""},
		{"MariaDB whose name is allowed", source.MySQL, onName.FormatDSN(), []string{"localhost"}, ""},
		{"PostgreSQL on this machine", source.Postgres, postgres, other, "may not be called"},
		{"PostgreSQL by a name of this machine", source.Postgres, named.String(), other, "may not be called"},
		{"PostgreSQL among several", source.Postgres, "host=192.0.2.1,127.0.0.1 port=" + at.Port() + " user=x dbname=x sslmode=disable", other, "may not be called"},
		{"PostgreSQL behind hostaddr", source.Postgres, "host=sis.example.org hostaddr=127.0.0.1 port=" + at.Port() + " user=x dbname=x sslmode=disable", []string{"10.20.0.0/16"}, "may not be called"},
		{"PostgreSQL by default", source.Postgres, "port=" + at.Port() + " user=x dbname=x sslmode=disable", other, "may not be called"},
		{"PostgreSQL by a socket", source.Postgres, "host=/run/postgresql user=x dbname=x", loopback, "from this machine"},
		{"PostgreSQL with a key of the machine", source.Postgres, postgres + "&sslkey=/etc/ssl/private/key.pem", loopback, "from this machine"},
		{"PostgreSQL with passwords of the machine", source.Postgres, postgres + "&passfile=/etc/pgpass", loopback, "from this machine"},
		{"MariaDB on this machine", source.MySQL, maria.FormatDSN(), other, "may not be called"},
		{"MariaDB by a name of this machine", source.MySQL, onName.FormatDSN(), other, "may not be called"},
		{"MariaDB by a socket", source.MySQL, onSocket.FormatDSN(), loopback, "from this machine"},
		{"SQL Server on this machine", source.SQLServer, "sqlserver://x:y@localhost:1433?database=x", other, "may not be called"},
		{"a named SQL Server on this machine", source.SQLServer, "sqlserver://x:y@127.0.0.1/INSTANCE?database=x", other, "no instance matching"},
		{"SQL Server with a file of the machine", source.SQLServer, "sqlserver://x:y@localhost:1433?database=x&encrypt=true&certificate=/etc/ssl/certs/ca-certificates.crt", loopback, "from this machine"},
		{"SQL Server with a file that is written in another way", source.SQLServer, "server=localhost;user id=x;Server Certificate=/x; ServerCertificate =/etc/passwd", loopback, "from this machine"},
		{"metadata of a cloud", source.Postgres, "postgres://x@169.254.169.254:80/x?sslmode=disable", other, "may not be called"},
	}
	attacks := []string{}
	for _, c := range cases {
		if c.want != "" {
			attacks = append(attacks, c.name)
		}
	}
	attacktest.Played(t, attacktest.Egress, attacks)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, err := source.Open(t.Context(), source.Config{Driver: c.driver, DSN: c.dsn, Dial: sourceDial(guardOf(t, c.allow...))})
			if err == nil {
				err = db.Close()
				if c.want != "" {
					t.Error("it was connected to")
				}
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A connection that is made over the API with a source where only the service reaches does not get there; one that is allowed in the configuration does.
func TestAConnectionOfTheLedgerReadsWhereItMayOnly(t *testing.T) {
	t.Parallel()
	a := &app{globals: globals{Config: filepath.Join(t.TempDir(), "edfisync.yaml")}}
	text := `{"name": "one", "school_year": 2026, "pack": "embedded:limitless", "resources": ["all"], "source": {"driver": "postgres", "dsn": "postgres://x@127.0.0.1/x"},
		"target": {"url": "https://ods.example.org", "client_id": "id", "client_secret": "${sealed:x}"}}`
	for _, guarded := range []bool{false, true} {
		file := &config.Config{Service: config.Service{Egress: config.Egress{Allow: []string{"10.1.0.0/16"}}}}
		all, broken, err := a.withDefined(file, []syncdb.Definition{{Tenant: "default", Name: "one", Version: 1, Text: []byte(text), Guarded: guarded}})
		if err != nil || len(broken) > 0 || len(all.Connections) != 1 {
			t.Fatalf("%v %v", err, broken)
		}
		conn := all.Connections[0]
		if conn.SourceGuard == nil || (conn.Guard != nil) != guarded {
			t.Fatalf("target named over the API %t: guards %v, %v", guarded, conn.Guard, conn.SourceGuard)
		}
		dial := sourceConfig(&conn, &source.Pack{}).Dial
		if _, err := dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "service.egress.allow") {
			t.Errorf("got %v", err)
		}
	}
}

// Killed at any point of it, rekey leaves the ledger under the old key or under the new one, and can be repeated.
func TestKill9InRekey(t *testing.T) {
	t.Parallel()
	program := failpointProgram(t)
	for _, c := range []struct {
		point string
		done  bool // the ledger is under the new key then
	}{{"transaction.begun", false}, {"transaction.written", false}, {"transaction.after", true}} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			w := &servedWorld{t: t, program: program, dir: t.TempDir(), dsn: "sqlite:ledger.db"}
			w.configure("key: " + oldMaster)
			w.command(exitOK, "a secret", "secrets", "set", "pw")
			w.configure("key: " + oldMaster + ", next: {key: " + newMaster + "}")
			cmd := exec.Command(program, "secrets", "rekey")
			cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "EDFISYNC_FAILPOINT="+c.point+":1")
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Fatalf("it was not killed: %s", out)
			}
			under := func(master string) error {
				m, err := keys.ParseMaster(master)
				w.ok(err)
				db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(w.dir, "ledger.db"), Master: m})
				if err != nil {
					return err
				}
				defer db.Close()
				value, err := db.OpenSecret(t.Context(), "default", "pw")
				if err == nil && string(value) != "a secret" {
					t.Errorf("the secret is %q", value)
				}
				return err
			}
			right, wrong := oldMaster, newMaster
			if c.done {
				right, wrong = newMaster, oldMaster
			}
			w.ok(under(right))
			if err := under(wrong); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it opens with the other key: %v", err)
			}
			w.command(exitOK, "", "secrets", "list")
			if out := w.command(exitOK, "", "secrets", "rekey"); strings.Contains(out, "already") != c.done {
				t.Errorf("repeated it says %s", out)
			}
			w.ok(under(newMaster))
			w.configure("key: " + newMaster)
			w.command(exitOK, "", "audit", "verify")
			if out := w.command(exitOK, "", "audit"); strings.Count(out, "ledger.rekey") != 1 {
				t.Errorf("the audit trail has %s", out)
			}
		})
	}
}

// A program that prints the key may fail in every way; what it says is in no message.
func TestKeyCommandThatFails(t *testing.T) {
	t.Parallel()
	w := &servedWorld{t: t, program: "edfisync", dir: t.TempDir(), dsn: "sqlite:ledger.db"}
	cases := map[string]struct{ command, want string }{
		"is not there":           {"[/no/such/program]", "no such file"},
		"ends with an error":     {"[sh, -c, 'echo canary-; echo canary- >&2; exit 3']", "exit status 3 (run it by hand"},
		"prints something else":  {"[echo, canary-]", "printed something else: master key must be 32 bytes"},
		"prints another's key":   {"[echo, " + newMaster + "]", "the master key is not the one this ledger was made with"},
		"prints the ledger's":    {"[echo, " + oldMaster + "]", ""},
		"is none beside another": {"[echo, " + oldMaster + "], key_file: x", "ledger.key_command: is given beside key_file"},
	}
	attacktest.Played(t, attacktest.Secrets, slices.DeleteFunc(slices.Collect(maps.Keys(cases)), func(name string) bool { return cases[name].want == "" }))
	for name, c := range cases {
		w.configure("key: " + oldMaster)
		w.command(exitOK, "a secret", "secrets", "set", "pw")
		w.configure("key_command: " + c.command)
		want := exitUsage
		if c.want == "" {
			want = exitOK
		}
		if out := w.command(want, "", "secrets", "list"); !strings.Contains(out, c.want) || strings.Contains(out, "canary-") {
			t.Errorf("a program that %s: %s", name, out)
		}
	}
}
