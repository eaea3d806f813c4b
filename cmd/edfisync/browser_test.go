package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/edfisync/edfisync/limitless"
)

// The environment of browser tests.
const (
	envRequireBrowser = "EDFISYNC_TEST_REQUIRE_BROWSER" // 1: a missing browser fails tests instead of skipping them
	envScreenshots    = "EDFISYNC_TEST_SCREENSHOTS"     // a folder that pictures of the pages are put in
)

// browser is a tab of a real browser.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string
}

// newBrowser starts Chromium.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		if os.Getenv(envRequireBrowser) == "1" {
			t.Fatalf("there is no Chromium on PATH (%s=1)", envRequireBrowser)
		}
		t.Skip("there is no Chromium on PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox) // our own pages only; containers have no sandbox
	allocated, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocated)
	t.Cleanup(closeTab)
	b := &browser{t: t, ctx: tab, shots: os.Getenv(envScreenshots)}
	b.do(chromedp.EmulateViewport(1280, 800))
	return b
}

// do takes steps, which may last for a minute each.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx); err != nil { // starts the browser, which must not end with the time of a step
		b.t.Fatal(err)
	}
	for i, step := range steps {
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		err := chromedp.Do(ctx, step)
		cancel()
		if err != nil {
			b.picture("failed")
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
			b.t.Fatalf("step %d: %v\n%s", i, err, text)
		}
	}
}

// until waits until an expression of JavaScript is true on the page, whichever page it is by then.
func (b *browser) until(what string) {
	b.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+what+")")); err == nil && yes {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.picture("failed")
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	b.t.Fatalf("never true: %s\n%s %v", what, text, err)
}

// eval returns the value of an expression of JavaScript.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// scheme makes the browser prefer light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		b.t.Fatal(err)
	}
}

// picture puts a picture of the page into the folder for them, if there is one.
func (b *browser) picture(name string) {
	b.t.Helper()
	if b.shots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.shots, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// pictures takes pictures of the page, light and dark, and as on a phone.
func (b *browser) pictures(name string) {
	b.t.Helper()
	if b.shots == "" {
		return
	}
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		b.picture(name + "-" + scheme)
	}
	b.do(chromedp.EmulateViewport(390, 800))
	b.picture(name + "-phone")
	b.do(chromedp.EmulateViewport(1280, 800))
}

// serveDemo starts serve --demo, and returns what it printed and the file of its SIS.
func serveDemo(t *testing.T, students, latency string) (served servedDemo, sis string) {
	t.Helper()
	dir := t.TempDir()
	program := os.Getenv("EDFISYNC_TEST_PROGRAM")
	if program == "" {
		program = "edfisync"
	}
	cmd := exec.Command(program, "serve", "--demo", "--students", students, "--latency", latency, "--listen", "127.0.0.1:0", "--json")
	cmd.Env, cmd.Stderr = append(os.Environ(), "TMPDIR="+dir), os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != int(exitOK) {
			t.Errorf("serve --demo: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &served)
	}
	if err != nil {
		t.Fatalf("serve --demo printed %q: %v", line, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "edfisync-demo-*", "sis.sqlite"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the SIS of the demo: %v %v", found, err)
	}
	return served, found[0]
}

// Whoever logs in with the printed key and clicks Sync now sees the run go on, and how it ended, without loading the page again.
func TestSyncNowInARealBrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	served, sis := serveDemo(t, "150", "40ms") // 16,205 calls, 32 at once: no computer does that before the page is there
	logged := chromedp.Console(b.ctx)

	b.do(chromedp.Navigate(served.URL+"/connections/"+served.Connection), chromedp.WaitVisible(chromedp.CSS("#key")))
	b.pictures("login")
	b.accessible("/login")
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), served.Key+"x"), chromedp.Click(chromedp.CSS("main button")), chromedp.WaitVisible(chromedp.CSS("[role=alert]")))
	b.do(chromedp.SendKeys(chromedp.CSS("#key"), served.Key), chromedp.Click(chromedp.CSS("main button")), chromedp.WaitVisible(chromedp.CSS("#sync-now")))
	if got := eval[string](b, "location.pathname"); got != "/connections/"+served.Connection {
		t.Errorf("after logging in: %s, want the page that was asked for first", got)
	}
	if got := eval[string](b, "document.cookie"); got != "" {
		t.Errorf("scripts can read the cookie %q", got)
	}
	b.do(chromedp.Click(chromedp.CSS("#sync-now")), chromedp.WaitVisible(chromedp.CSS("#steps")))
	b.until(`location.pathname === "/runs/1" && document.querySelector("#state .running")`)
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; undefined"))
	b.until(`/\d of \d/.test(document.querySelector(".numbers")?.textContent)`)
	b.pictures("run-live")
	b.until(`document.querySelector("#state .done")`)
	if !eval[bool](b, "window.loadedOnce === true") {
		t.Error("the page was loaded again; it must follow the run by itself")
	}
	if created := eval[string](b, "document.querySelector('#facts dd').textContent"); len(created) < 4 {
		t.Errorf("the finished run shows %s created", created)
	}
	if eval[bool](b, "document.querySelector('progress') !== null") {
		t.Error("a finished run shows no progress")
	}

	// Something to look at: rows that cannot be sent, and deletes that a safeguard holds.
	db, err := limitless.OpenSQLite(sis)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE person SET last_name = '' WHERE per_id IN (SELECT per_id FROM student ORDER BY stu_id LIMIT 3)`,
		`DELETE FROM att_daily WHERE att_id % 3 > 0`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(served.URL+"/connections/"+served.Connection), chromedp.Click(chromedp.CSS("#sync-now")), chromedp.WaitVisible(chromedp.CSS("#steps")))
	b.until(`location.pathname === "/runs/2" && document.querySelector("#state .done")`)
	b.pictures("run")
	for name, path := range pathsOfPages(b, served.URL) {
		b.do(chromedp.Navigate(served.URL+path), chromedp.WaitVisible(chromedp.CSS("h1")))
		b.pictures(name)
		b.accessible(path)
		if wide := eval[float64](b, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
			t.Errorf("%s is %v pixels wider than the window", path, wide)
		}
	}
	b.do(chromedp.Navigate(served.URL+"/connections/demo"), chromedp.Click(chromedp.CSS("form[action$='/test'] button")), chromedp.WaitVisible(chromedp.CSS("tbody .ok")))
	b.pictures("test")
	b.accessible("the test of a connection")
	b.do(chromedp.Navigate(served.URL+"/connections/demo/holds"), chromedp.SendKeys(chromedp.CSS("article input[name=why]"), "a test deleted them"),
		chromedp.Click(chromedp.CSS("article button.primary")), chromedp.WaitVisible(chromedp.CSS("#decided-title")))
	b.do(chromedp.Navigate(served.URL+"/connections/demo"), chromedp.SendKeys(chromedp.CSS("#why"), "a test"), chromedp.Click(chromedp.CSS("section form button")))
	b.until(`document.querySelector("#state .paused")`)
	b.do(chromedp.Click(chromedp.CSS("header form button")), chromedp.WaitVisible(chromedp.CSS("#key")))
	b.do(chromedp.Navigate(served.URL + "/"))
	b.until(`location.pathname === "/login"`)

	if err := chromedp.Cancel(b.ctx); err != nil {
		t.Error(err)
	}
	for m, err := range logged {
		if err != nil {
			break
		}
		// A page that is refused on purpose is logged as a resource that was not loaded.
		if text := m.String(); !strings.HasPrefix(text, "debug:") && !strings.Contains(text, "status of 40") {
			t.Errorf("the browser's console: %s", text)
		}
	}
}
