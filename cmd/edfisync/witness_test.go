package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// restoredLedger is a ledger of several connections that was restored from a backup, and what two machines knew of it before.
type restoredLedger struct {
	t    *testing.T
	file string
	dir  string
	cfg  *config.Config
	conn map[string]syncdb.Connection
	db   *syncdb.DB
}

func newRestoredLedger(t *testing.T, names ...string) *restoredLedger {
	t.Helper()
	w := &restoredLedger{t: t, dir: t.TempDir(), conn: map[string]syncdb.Connection{}}
	w.file = filepath.Join(w.dir, "ledger.sqlite")
	w.cfg = &config.Config{WorkDir: w.dir}
	for _, name := range names {
		w.cfg.Connections = append(w.cfg.Connections, config.Connection{Tenant: "default", Name: name})
	}
	w.open()
	for _, name := range names {
		c, _, err := w.db.Connection(t.Context(), "default", name)
		w.ok(err)
		w.conn[name] = c
	}
	return w
}

func (w *restoredLedger) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *restoredLedger) open() {
	w.t.Helper()
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	w.ok(err)
	w.db, err = syncdb.Open(w.t.Context(), syncdb.Config{DSN: "sqlite:" + w.file, Master: master})
	w.ok(err)
	w.t.Cleanup(func() { w.db.Close() })
}

// on is what a machine has of the ledger for a connection: a program with a witness of its own.
func (w *restoredLedger) on(machine, name string) (*app, *opened) {
	a := &app{streams: streams{out: io.Discard, err: io.Discard}}
	a.Config = filepath.Join(w.dir, machine, "edfisync.yaml")
	w.ok(os.MkdirAll(filepath.Dir(a.Config), 0o700))
	return a, &opened{ledger: w.db, engine: &sync.Engine{Connection: w.conn[name]}}
}

// bare is a run that ends before anything is sent, as one does whose ledger is refused: no witness knows of it.
func (w *restoredLedger) bare(name string) {
	w.t.Helper()
	_, _, err := w.db.RequestRun(w.t.Context(), w.conn[name].ID, "test")
	w.ok(err)
	_, lease, err := w.db.StartRun(w.t.Context(), w.conn[name].ID, "test", time.Minute)
	w.ok(err)
	w.ok(w.db.FinishRun(w.t.Context(), lease, syncdb.RunFailed, nil, "refused"))
}

func (w *restoredLedger) run(machine, name string) {
	w.t.Helper()
	w.bare(name)
	a, o := w.on(machine, name)
	a.witnessed(w.t.Context(), w.cfg, o)
}

func (w *restoredLedger) copyTo(from, to string) {
	w.t.Helper()
	w.ok(w.db.Close())
	text, err := os.ReadFile(from)
	w.ok(err)
	for _, tail := range []string{"-wal", "-shm"} {
		_ = os.Remove(to + tail)
	}
	w.ok(os.WriteFile(to, text, 0o600))
	w.open()
}

// refused tells for each connection whether a machine refuses to go on with the ledger.
func (w *restoredLedger) refused(machine string) map[string]bool {
	w.t.Helper()
	out := map[string]bool{}
	for name := range w.conn {
		a, o := w.on(machine, name)
		err := a.known(w.t.Context(), w.cfg, o, a.witnessesOf(w.cfg), false)
		out[name] = err != nil
	}
	return out
}

func (w *restoredLedger) want(machine string, refused ...string) {
	w.t.Helper()
	got := w.refused(machine)
	for name, is := range got {
		want := false
		for _, r := range refused {
			want = want || r == name
		}
		if is != want {
			w.t.Errorf("on %s: connection %s refused: %v, want %v (F54)", machine, name, is, want)
		}
	}
}

func (w *restoredLedger) accept(machine, name string) {
	w.t.Helper()
	a, o := w.on(machine, name)
	w.ok(a.adoptedLedger(w.t.Context(), w.cfg, o))
}

// F54: a ledger that was restored is refused until a person accepts it, however many runs end on it meanwhile: each is refused, and counts.
func TestARestoredLedgerIsRefusedHoweverManyRunsWereRefused(t *testing.T) {
	t.Parallel()
	w := newRestoredLedger(t, "a")
	w.run("one", "a")
	backup := filepath.Join(w.dir, "backup")
	w.copyTo(w.file, backup)
	w.run("one", "a")
	w.want("one")
	w.copyTo(backup, w.file)
	w.want("one", "a")
	for range 5 {
		w.bare("a")
		w.want("one", "a")
	}
	w.accept("one", "a")
	w.want("one")
	w.run("one", "a")
	w.want("one")
}

// F54: what a person says of one connection of a restored ledger is said of that one, on every machine.
func TestARestoredLedgerIsAcceptedForEachConnection(t *testing.T) {
	t.Parallel()
	w := newRestoredLedger(t, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		w.run("one", name)
		w.run("two", name)
	}
	backup := filepath.Join(w.dir, "backup")
	w.copyTo(w.file, backup)
	w.run("one", "b")
	w.run("two", "c")
	w.copyTo(backup, w.file)
	w.want("one", "a", "b", "c")
	w.want("two", "a", "b", "c")
	time.Sleep(5 * time.Millisecond) // the audit trail counts milliseconds
	w.accept("one", "a")
	w.want("one", "b", "c")
	w.want("two", "b", "c")
	w.run("one", "a")
	w.run("two", "a")
	w.want("one", "b", "c")
	w.want("two", "b", "c")
	w.accept("two", "b")
	w.want("one", "c")
	w.want("two", "c")
	w.accept("one", "c")
	w.want("one")
	w.want("two")
	for _, name := range []string{"a", "b", "c"} {
		w.run("two", name)
	}
	w.want("one")

	// The same again: what was accepted before is no acceptance of another restore.
	w.copyTo(w.file, backup)
	time.Sleep(5 * time.Millisecond)
	w.run("one", "a")
	w.copyTo(backup, w.file)
	w.want("one", "a", "b", "c")
	w.want("two")
}
