package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
)

func TestConfigVersionChangesWithWhatGoesIntoRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	version := func(change func(*config.Connection)) string {
		t.Helper()
		conn := config.Connection{Name: "one", SchoolYear: 2026, Pack: dir, Target: config.Target{URL: "https://a", ClientID: "id", ClientSecret: "secret"}}
		change(&conn)
		v, err := configVersion(&conn)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	same := func(*config.Connection) {}
	write("students.sql", "select 1")
	first := version(same)
	for name, change := range map[string]func(*config.Connection){
		"nothing":     same,
		"the secret":  func(c *config.Connection) { c.Target.ClientSecret = "other" },
		"a limit":     func(c *config.Connection) { c.Safeguards.Deletes.Count = 3 },
		"the history": func(c *config.Connection) { c.History = 1 },
	} {
		if version(change) != first {
			t.Errorf("%s changes the version", name)
		}
	}
	for name, change := range map[string]func(*config.Connection){
		"the school year": func(c *config.Connection) { c.SchoolYear = 2027 },
		"a descriptor":    func(c *config.Connection) { c.Descriptors = map[string]map[string]string{"Sex": {"M": "Male"}} },
		"the key":         func(c *config.Connection) { c.Target.ClientID = "other" },
	} {
		if version(change) == first {
			t.Errorf("%s does not change the version", name)
		}
	}
	write("students.sql", "select 2")
	edited := version(same)
	write("schools.sql", "select 1")
	if added := version(same); edited == first || added == edited || added == first {
		t.Errorf("versions of three packs are %s, %s and %s", first, edited, added)
	}
}
