package console_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/edfisync/edfisync/console"
)

// A real browser is logged in after it came back from the provider's site: it sends the session's cookie with the page it is led on to, though it sends it
// with nothing that another site began.
func TestABrowserComesBackFromTheProviderLoggedIn(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("EDFISYNC_TEST_REQUIRE_BROWSER") == "1" {
			t.Fatal("there is no Chromium on PATH")
		}
		t.Skip("there is no Chromium on PATH")
	}
	p := newProvider(t)
	var handler atomic.Pointer[console.Console]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.Load().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	at := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) // another site than the provider's
	s := newService(t, func(c *console.Config) {
		c.Identity = identityOf(p)
		c.Identity.URL = at
	})
	handler.Store(s.console)

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox) // our own pages only; containers have no sandbox
	allocated, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(allocated)
	t.Cleanup(closeTab)
	s.ok(chromedp.Do(tab))
	ctx, cancel := context.WithTimeout(tab, 2*time.Minute)
	defer cancel()
	for _, step := range []chromedp.Action[chromedp.Void]{
		chromedp.Navigate(at + "/connections/lincoln"), chromedp.Click(chromedp.CSS("main a.primary")), chromedp.WaitVisible(chromedp.CSS("#go")), chromedp.Click(chromedp.CSS("#go")),
		chromedp.WaitVisible(chromedp.CSS("#sync-now")),
	} {
		if err := chromedp.Do(ctx, step); err != nil {
			text, _ := chromedp.Run(tab, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
			t.Fatalf("%v\n%s", err, text)
		}
	}
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.pathname + ' ' + document.querySelector('header').innerText + ' ' + document.cookie"))
	s.ok(err)
	if !strings.HasPrefix(text, "/connections/lincoln ") || !strings.Contains(text, "Grace Hopper") || strings.Contains(text, "edfisync=") {
		t.Errorf("the browser shows %q", text)
	}
}
