package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
)

// A newcomer who copies the files of the quickstart and types its commands gets what it says.
func TestTheQuickstartIsTrue(t *testing.T) {
	t.Parallel()
	text, dir, dsn := document(t, "docs/quickstart.md"), t.TempDir(), dbtest.Postgres(t)
	db, err := sqlx.Connect("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	api, err := sandbox.New(sandbox.Options{Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026, 2027}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	if err := api.Start(context.WithoutCancel(t.Context()), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, m := range regexp.MustCompile("(?s)```(?:sql|yaml) (\\S+)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		name, body := m[1], m[2]
		files++
		if name == "sis.sql" {
			if _, err := db.Exec(body); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if name == "edfisync.yaml" {
			if !strings.Contains(body, sandboxAddr) {
				t.Errorf("the quickstart's sandbox is not at %s, where edfisync sandbox is", sandboxAddr)
			}
			body = strings.Replace(body, "http://"+sandboxAddr, api.URL(), 1)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if files != 7 {
		t.Fatalf("the quickstart has %d files, want 7", files)
	}
	c := commandLine{t: t, file: filepath.Join(dir, "edfisync.yaml"), env: map[string]string{"SIS_DSN": dsn}}
	c.run(exitOK, "check", nil)
	var plan sync.Plan
	c.run(exitOK, "plan", &plan)
	var first, second, third, fourth sync.Summary
	c.run(exitOK, "run", &first)
	c.run(exitOK, "run", &second)
	if plan.Writes() != 7 || first.Calls != 7 || second.Calls != 0 {
		t.Errorf("planned %d calls, made %d and %d; the quickstart says 7, 7 and 0", plan.Writes(), first.Calls, second.Calls)
	}
	wrong := regexp.MustCompile(`psql "\$SIS_DSN" -c "(update [^"]+)"`).FindStringSubmatch(text)
	if wrong == nil {
		t.Fatal("the quickstart makes nothing wrong")
	}
	if _, err := db.Exec(wrong[1]); err != nil {
		t.Fatal(err)
	}
	c.run(exitProblems, "run", &third)
	var issues []struct{ Code string }
	c.run(exitOK, "issues", &issues)
	if third.Held != 2 || len(issues) != 2 || issues[0].Code != "descriptor-unmapped" {
		t.Errorf("%d rows are held and the issues are %v; the quickstart says 2, descriptor-unmapped", third.Held, issues)
	}
	mend := regexp.MustCompile("`(\"11\": [^`]+)`").FindStringSubmatch(text)
	if mend == nil {
		t.Fatal("the quickstart does not say how to mend it")
	}
	file, err := os.OpenFile(filepath.Join(dir, "pack", "descriptors.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("  " + mend[1] + "\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	c.run(exitOK, "run", &fourth)
	c.run(exitOK, "issues", &issues)
	if fourth.Calls != 2 || len(issues) != 0 {
		t.Errorf("after it was mended %d calls were made, and the issues are %v; want 2 and none", fourth.Calls, issues)
	}
}
