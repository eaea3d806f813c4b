package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/chromedp"
)

// pathsOfPages are the pages of a demo with two runs, an issue and a hold, by a name for their pictures.
func pathsOfPages(b *browser, base string) map[string]string {
	b.t.Helper()
	paths := map[string]string{
		"overview": "/", "connection": "/connections/demo", "issues": "/connections/demo/issues", "holds": "/connections/demo/holds", "refused": "/runs/99",
		"issue": "/issues/1", "issue-data": "/issues/1/data", "badge": "/connections/demo/badge",
		"receipts": "/connections/demo/receipts", "receipt": "/runs/2/receipt", "audit": "/audit", "audit-verify": "/audit/verify", "keys": "/keys", "settings": "/settings", "alerts": "/alerts?connection=demo", "connection-settings": "/connections/demo/settings", "descriptors": "/connections/demo/descriptors", "hold": "/holds/1", "hold-changes": "/holds/1/changes", "hold-data": "/holds/1/data",
	}
	b.do(chromedp.Navigate(base+"/issues/1"), chromedp.WaitVisible(chromedp.CSS("tbody th a")))
	record := eval[string](b, "document.querySelector('tbody th a').pathname")
	if !strings.Contains(record, "/records/ed-fi/") {
		b.t.Errorf("the row of an issue leads to %s", record)
	}
	paths["record"], paths["record-trace"], paths["record-data"] = record, record+"/trace", record+"/data"
	return paths
}

// envAxe names a file with axe-core (npm pack axe-core; package/axe.min.js), whose rules every page has to keep as well when it is set.
const envAxe = "EDFISYNC_TEST_AXE"

// accessible checks that everybody can use the page that is shown: light and dark, and on a narrow window.
func (b *browser) accessible(what string) {
	b.t.Helper()
	check, err := os.ReadFile(filepath.Join("testdata", "accessible.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.KeyEvent("\t")) // who uses the keyboard sees where the focus is
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for _, wrong := range eval[[]string](b, string(check)) {
			b.t.Errorf("%s, %s: %s", what, scheme, wrong)
		}
		b.axe(what + ", " + scheme)
	}
	b.scheme("light")
	b.do(chromedp.EmulateViewport(320, 640))
	if wide := eval[float64](b, "document.documentElement.scrollWidth"); wide > 320 {
		b.t.Errorf("%s is %v pixels wide in a window of 320", what, wide)
	}
	const cut = `[...document.querySelectorAll("a, button, input, select, summary, h1, h2, h3")].filter((e) => e.checkVisibility() && !e.closest(".hidden, .skip, pre") && e.getBoundingClientRect().right > 320.5).map((e) => e.outerHTML.slice(0, 100))`
	for _, e := range eval[[]string](b, cut) {
		b.t.Errorf("%s in a window of 320: cut off: %s", what, e)
	}
	b.do(chromedp.EmulateViewport(1280, 800))
}

// axe runs axe-core, if there is one.
func (b *browser) axe(what string) {
	b.t.Helper()
	file := os.Getenv(envAxe)
	if file == "" {
		return
	}
	program, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.Evaluate[chromedp.Void](string(program) + ";undefined"))
	b.do(chromedp.Evaluate[chromedp.Void](`window.axeSays = null; axe.run().then((r) => { window.axeSays = r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 160) + " " + n.failureSummary)); }); undefined`))
	b.until("window.axeSays !== null")
	for _, wrong := range eval[[]string](b, "window.axeSays") {
		b.t.Errorf("%s: axe: %s", what, wrong)
	}
}
