package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Killed at any point of it, a backup is whole under its name, or there is none of that name. What is left of it goes when a later one is made and it is a
// day old: until then another process may be at it.
func TestKill9InBackup(t *testing.T) {
	t.Parallel()
	program := failpointProgram(t)
	for _, c := range []struct {
		point string
		whole bool // the backup is there then
	}{{"backup.before", false}, {"backup.copied", false}, {"backup.written", false}, {"backup.after", true}} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			w := &servedWorld{t: t, program: program, dir: t.TempDir(), dsn: "sqlite:ledger.db"}
			w.configure("key: " + oldMaster)
			w.command(exitOK, "a secret", "secrets", "set", "pw")
			folder := filepath.Join(w.dir, "backups")
			w.ok(os.Mkdir(folder, 0o700))
			cmd := exec.Command(program, "backup", "backups/one.zip")
			cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "EDFISYNC_FAILPOINT="+c.point+":1")
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Fatalf("it was not killed: %s", out)
			}
			left := func() (out []string) {
				t.Helper()
				entries, err := os.ReadDir(folder)
				w.ok(err)
				for _, e := range entries {
					if e.Name() != "one.zip" && e.Name() != "two.zip" {
						out = append(out, filepath.Join(folder, e.Name()))
					}
				}
				return out
			}
			one := filepath.Join(folder, "one.zip")
			if _, err := os.Stat(one); (err == nil) != c.whole {
				t.Errorf("a file is under the backup's name: %t, want %t", err == nil, c.whole)
			}
			if _, err := unpackBackup(one, filepath.Join(t.TempDir(), "ledger")); (err == nil) != c.whole {
				t.Errorf("what is there: %v", err)
			}
			unfinished := left()
			if (len(unfinished) == 1) == c.whole {
				t.Errorf("beside it is %v", unfinished)
			}
			w.command(exitOK, "", "backup", "backups/two.zip")
			if got := left(); len(got) != len(unfinished) {
				t.Errorf("of %v a second backup leaves %v: another process may be at it", unfinished, got)
			}
			for _, path := range unfinished {
				w.ok(os.Chtimes(path, time.Time{}, time.Now().Add(-25*time.Hour)))
			}
			w.ok(os.Remove(filepath.Join(folder, "two.zip")))
			w.command(exitOK, "", "backup", "backups/two.zip")
			if got := left(); len(got) > 0 {
				t.Errorf("a day later %v is left", got)
			}
			w.command(exitUsage, "", "backup", "backups/two.zip")
			if got := left(); len(got) > 0 {
				t.Errorf("a refused backup leaves %v", got)
			}
		})
	}
}
