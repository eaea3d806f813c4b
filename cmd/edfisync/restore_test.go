package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// Whatever is not exactly what a backup is, is refused before anything is touched.
func TestRestoreTakesNothingButABackup(t *testing.T) {
	t.Parallel()
	ctx, dir, master := t.Context(), t.TempDir(), keys.GenerateMaster()
	open := func(file string, master *keys.Master) *syncdb.DB {
		t.Helper()
		db, err := syncdb.Open(ctx, syncdb.Config{DSN: "sqlite:" + file, Master: master})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	ledger := open(filepath.Join(dir, "ledger.sqlite"), master)
	defer ledger.Close()
	good := filepath.Join(dir, "good.zip")
	out, err := os.Create(good)
	if err != nil {
		t.Fatal(err)
	}
	said, err := backUp(ctx, ledger, out, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain.sqlite")
	if err := ledger.Backup(ctx, plain); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, files map[string][]byte) string {
		t.Helper()
		path := filepath.Join(dir, name+".zip")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(f)
		for name, text := range files {
			w, err := z.Create(name)
			if err == nil {
				_, err = w.Write(text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	with := func(change func(*manifest)) []byte {
		m := said
		change(&m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := with(func(*manifest) {})
	for name, tt := range map[string]struct {
		files map[string][]byte
		says  string
	}{
		"nothing":          {nil, "no backup"},
		"no ledger":        {map[string][]byte{backupManifest: same}, "has no ledger.sqlite"},
		"no manifest":      {map[string][]byte{backupLedger: pages}, "has no manifest.json"},
		"a manifest cut":   {map[string][]byte{backupManifest: same[:40], backupLedger: pages}, "manifest cannot be read"},
		"a newer schema":   {map[string][]byte{backupManifest: with(func(m *manifest) { m.Schema = syncdb.NewestSchema() + 1 }), backupLedger: pages}, "use the program that made it"},
		"another format":   {map[string][]byte{backupManifest: with(func(m *manifest) { m.Format = 2 }), backupLedger: pages}, "format 2"},
		"a longer ledger":  {map[string][]byte{backupManifest: same, backupLedger: append(pages[:len(pages):len(pages)], 0)}, "not what its manifest says"},
		"a shorter ledger": {map[string][]byte{backupManifest: same, backupLedger: pages[:len(pages)/2]}, "not what its manifest says"},
		"a bomb":           {map[string][]byte{backupManifest: with(func(m *manifest) { m.Bytes = 10 << 30 }), backupLedger: make([]byte, 1<<20)}, "would become 10737418240"},
		"no length":        {map[string][]byte{backupManifest: with(func(m *manifest) { m.Bytes = 0 }), backupLedger: pages}, "names no length"},
	} {
		to := filepath.Join(dir, "restoring.sqlite")
		_, err := unpackBackup(write(strings.ReplaceAll(name, " ", "-"), tt.files), to)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, tt.says)
		}
		if seen, err := os.Stat(to); name == "a bomb" && err == nil {
			t.Errorf("%s: %d bytes were written", name, seen.Size())
		}
		_ = os.Remove(to)
	}

	inner := filepath.Join(dir, "inner", "restoring.sqlite")
	if err := os.Mkdir(filepath.Dir(inner), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := unpackBackup(write("outside", map[string][]byte{backupManifest: same, backupLedger: pages, "../outside": pages, "beside": pages}), inner); err != nil {
		t.Errorf("with files that lead elsewhere: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "outside")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was written outside: %v", err)
	}
	if files, err := os.ReadDir(filepath.Dir(inner)); err != nil || len(files) != 1 {
		t.Errorf("it unpacked %v, %v; want the ledger only", files, err)
	}

	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut.zip")
	for _, left := range []int{0, 1, 100, len(text) / 2, len(text) - 23, len(text) - 1} {
		if err := os.WriteFile(cut, text[:left], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := unpackBackup(cut, filepath.Join(dir, "restoring.sqlite")); err == nil || !strings.Contains(err.Error(), "its end is missing") {
			t.Errorf("of %d bytes the first %d: got %v, want an error that says its end is missing", len(text), left, err)
		}
	}

	unpacked := filepath.Join(dir, "unpacked.sqlite")
	m, err := unpackBackup(good, unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if m.Schema != syncdb.NewestSchema() || m.Anchor == "" {
		t.Errorf("the manifest: %+v", m)
	}
	other := m
	other.Generation++
	if err := tryBackup(ctx, master, unpacked, other); err == nil || !strings.Contains(err.Error(), "not the one its manifest names") {
		t.Errorf("another generation: %v", err)
	}
	if err := tryBackup(ctx, keys.GenerateMaster(), unpacked, m); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("another key: %v", err)
	}
	if err := tryBackup(ctx, master, unpacked, m); err != nil {
		t.Errorf("what it is: %v", err)
	}
}

// A ledger that a process has open is not moved away under it.
// A log that lies where a ledger was is not one of the backup: SQLite would write it into it.
func TestALogWithoutItsLedgerIsPutAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := &config.Config{WorkDir: dir}
	file, fresh := filepath.Join(dir, "ledger.sqlite"), filepath.Join(dir, "fresh")
	for name, text := range map[string]string{fresh: "the backup", file + "-wal": "of another ledger"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := swapLedger(t.Context(), cfg, fresh, file)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "the backup" {
		t.Errorf("in place is %q, %v", text, err)
	}
	if _, err := os.Stat(file + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log of the ledger before is beside it: %v", err)
	}
	if text, err := os.ReadFile(kept + "-wal"); err != nil || string(text) != "of another ledger" {
		t.Errorf("put aside is %q, %v", text, err)
	}
}

func TestALedgerInUseIsNotReleased(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.sqlite")
	db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + file, Master: keys.GenerateMaster()})
	if err != nil {
		t.Fatal(err)
	}
	if err := syncdb.Release(t.Context(), file); !errors.Is(err, syncdb.ErrInUse) {
		t.Errorf("while it is open: got %v, want %v", err, syncdb.ErrInUse)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syncdb.Release(t.Context(), file); err != nil {
		t.Errorf("after it was closed: %v", err)
	}
}
