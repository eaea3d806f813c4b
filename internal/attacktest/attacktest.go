// Package attacktest counts attacks, so that what docs/guarantees.md says about their number is a fact: each test that plays a table of attacks says how
// many it played, and fails when the document says something else. It knows nothing of the attacks.
package attacktest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Groups of attacks with the least number of cases each must have.
const (
	LogIn       = "authentication"
	Objects     = "objects of other tenants"
	SQL         = "SQL injection"
	Egress      = "addresses to call"
	Text        = "HTML, script and log injection"
	Mapping     = "mapping files"
	Identity    = "identity provider"
	Supply      = "supply chain"
	Load        = "denial of service"
	Webhook     = "webhooks"
	Secrets     = "secrets"
	documentRow = "(?m)^\\| %s \\| (\\d+) \\| (\\d+) \\| (.*) \\|$"
)

// Minimum is how many cases a group must have at least.
func Minimum() map[string]int {
	return map[string]int{LogIn: 30, Objects: 20, SQL: 40, Egress: 25, Load: 15, Text: 25, Mapping: 10, Identity: 10, Supply: 6, Webhook: 8, Secrets: 12}
}

// Played fails t when a table of attacks holds a name twice or none, or when docs/guarantees.md says another number for the test.
func Played(t testing.TB, group string, names []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, name := range names {
		if strings.TrimSpace(name) == "" || seen[name] {
			t.Errorf("the attack %q is there twice, or has no name", name)
		}
		seen[name] = true
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	tests, _, err := Documented(group)
	if err != nil {
		t.Fatal(err)
	}
	if got := tests[test]; got != len(names) {
		t.Errorf("docs/guarantees.md says that %s plays %d attacks of the group %q, it plays %d", test, got, group, len(names))
	}
}

// Documented is what docs/guarantees.md says about a group: how many attacks each test plays, and their sum.
func Documented(group string) (tests map[string]int, sum int, err error) {
	text, err := os.ReadFile(filepath.Join(root(), "docs", "guarantees.md"))
	if err != nil {
		return nil, 0, err
	}
	row := regexp.MustCompile(fmt.Sprintf(documentRow, regexp.QuoteMeta(group))).FindSubmatch(text)
	if row == nil {
		return nil, 0, fmt.Errorf("docs/guarantees.md has no row %q in its table of attacks", group)
	}
	if sum, err = strconv.Atoi(string(row[2])); err != nil {
		return nil, 0, err
	}
	tests = map[string]int{}
	for _, m := range regexp.MustCompile("`(Test\\w+)` (\\d+)").FindAllSubmatch(row[3], -1) {
		if tests[string(m[1])], err = strconv.Atoi(string(m[2])); err != nil {
			return nil, 0, err
		}
	}
	return tests, sum, nil
}

// root is the directory of the module that the running test belongs to.
func root() string {
	dir := "."
	for range 10 {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Join(dir, "..")
	}
	return "."
}
