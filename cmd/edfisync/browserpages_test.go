package main

import (
	"strings"

	"github.com/chromedp/chromedp"
)

// pathsOfPages are the pages of a demo with two runs, an issue and a hold, by a name for their pictures.
func pathsOfPages(b *browser, base string) map[string]string {
	b.t.Helper()
	paths := map[string]string{
		"overview": "/", "connection": "/connections/demo", "issues": "/connections/demo/issues", "holds": "/connections/demo/holds", "refused": "/runs/99",
		"issue": "/issues/1", "issue-data": "/issues/1/data", "badge": "/connections/demo/badge",
		"receipts": "/connections/demo/receipts", "receipt": "/runs/2/receipt", "audit": "/audit", "audit-verify": "/audit/verify", "keys": "/keys", "settings": "/settings",
	}
	b.do(chromedp.Navigate(base+"/issues/1"), chromedp.WaitVisible(chromedp.CSS("tbody th a")))
	record := eval[string](b, "document.querySelector('tbody th a').pathname")
	if !strings.Contains(record, "/records/ed-fi/") {
		b.t.Errorf("the row of an issue leads to %s", record)
	}
	paths["record"], paths["record-trace"], paths["record-data"] = record, record+"/trace", record+"/data"
	return paths
}
