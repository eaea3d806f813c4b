//go:build unix

package syncdb_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// TestKilledProcessLosesNoIntent kills a process at random moments while it appends, folds and appends again. Every intent it was told
// is durable must show up in the next process: as an entry, settled or Unknown (I3).
func TestKilledProcessLosesNoIntent(t *testing.T) {
	t.Parallel()
	const env = "EDFISYNC_TEST_KILLED"
	master := strings.Repeat("5a", keys.Size)
	if path := os.Getenv(env); path != "" {
		writeUntilKilled(t, path, master)
		return
	}
	for round := range 6 {
		path := filepath.Join(t.TempDir(), "ledger.db")
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), env+"="+path)
		out, err := child.StdoutPipe()
		ok(t, err)
		ok(t, child.Start())
		var told []uint64
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var op uint64
			if _, err := fmt.Sscanf(lines.Text(), "durable %d", &op); err != nil {
				continue
			}
			if told = append(told, op); len(told) == 5+round*23 {
				ok(t, child.Process.Kill())
			}
		}
		_ = child.Wait() // killed
		if len(told) < 5+round*23 {
			t.Fatalf("the process ended by itself after %d intents", len(told))
		}

		m, err := keys.ParseMaster(master)
		ok(t, err)
		later := func() time.Time { return time.Now().Add(time.Hour) }
		db := open(t, syncdb.Config{DSN: "sqlite:" + path, Master: m, Clock: later})
		conn, _, err := db.Connection(t.Context(), "t", "c")
		ok(t, err)
		_, _, err = db.RequestRun(t.Context(), conn.ID, "cli")
		ok(t, err)
		_, l, err := db.StartRun(t.Context(), conn.ID, "next", time.Minute)
		ok(t, err)
		stats, err := db.Recover(t.Context(), l)
		ok(t, err)
		missing := 0
		for _, op := range told {
			found, err := db.Lookup(t.Context(), conn.ID, "ed-fi/students", []syncdb.Hash{mixed(op)})
			ok(t, err)
			missing += 1 - len(found)
		}
		if missing > 0 {
			t.Errorf("round %d: %d of %d durable intents are gone (recovered %+v)", round, missing, len(told), stats)
		}
	}
}

func writeUntilKilled(t *testing.T, path, master string) {
	m, err := keys.ParseMaster(master)
	ok(t, err)
	db := open(t, syncdb.Config{DSN: "sqlite:" + path, Master: m})
	ctx := t.Context()
	conn, _, err := db.Connection(ctx, "t", "c")
	ok(t, err)
	_, _, err = db.RequestRun(ctx, conn.ID, "cli")
	ok(t, err)
	_, l, err := db.StartRun(ctx, conn.ID, "killed", time.Minute)
	ok(t, err)
	for op := uint64(1); op < 100_000; op++ {
		in := syncdb.Intent{Op: op, Verb: syncdb.Create, Resource: "ed-fi/students", KeyHash: mixed(op), RecordHash: mixed(op), Key: []byte("[1]")}
		ok(t, db.Append(ctx, l, 1, []syncdb.Intent{in}, nil))
		fmt.Println("durable", op)
		ok(t, db.Append(ctx, l, 1, nil, []syncdb.Result{{Op: op, Effect: syncdb.EffectLive, EdfiID: "id", Origin: syncdb.Created}}))
		if op%10 == 0 {
			_, err := db.Fold(ctx, l, 1)
			ok(t, err)
		}
	}
}
