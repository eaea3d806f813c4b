//go:build unix

package syncdb_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// benchEntries is how many entries the benchmarks work on; divide by ns/op for rates.
const benchEntries = 1_000_000

// BenchmarkLedger measures what a run of a million records asks of the ledger. One iteration is enough: -benchtime 1x.
func BenchmarkLedger(b *testing.B) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(b.TempDir(), "ledger.db") },
		"postgres": func() string { return dbtest.Postgres(b) },
	} {
		b.Run(name, func(b *testing.B) {
			address := dsn()
			db, err := syncdb.Open(b.Context(), syncdb.Config{DSN: address, Master: keys.GenerateMaster()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { db.Close() })
			for b.Loop() {
				measure(b, db)
			}
			if file := strings.TrimPrefix(address, "sqlite:"); file != address {
				info, err := os.Stat(file)
				ok(b, err)
				b.ReportMetric(float64(info.Size())/1e6, "file_MB")
			}
		})
	}
}

func measure(b *testing.B, db *syncdb.DB) {
	const resource, batch = "ed-fi/studentSchoolAttendanceEvents", 1000
	ctx := b.Context()
	c, _, err := db.Connection(ctx, "bench", time.Now().String())
	ok(b, err)
	_, _, err = db.RequestRun(ctx, c.ID, "cli")
	ok(b, err)
	_, l, err := db.StartRun(ctx, c.ID, "bench", time.Hour)
	ok(b, err)
	rate := func(what string, work func()) { // per second of wall, and of this process's processor time, which a busy machine leaves alone
		start, used := time.Now(), processor(b)
		work()
		b.ReportMetric(benchEntries/time.Since(start).Seconds()/1000, what+"_k/s")
		b.ReportMetric(benchEntries/(processor(b)-used).Seconds()/1000, what+"_k/cpu-s")
	}
	key := []byte(`["2024-01-05","uri://ed-fi.org/absenceeventcategorydescriptor#excused absence",255901001,2024,"fall semester","604822"]`)
	journal := func(step int, verb syncdb.Verb) func() {
		return func() {
			var results []syncdb.Result
			op := uint64(0)
			for range benchEntries / batch {
				var intents []syncdb.Intent
				var next []syncdb.Result
				for range batch {
					op++
					id := "0123456789abcdef0123456789abcdef"
					in := syncdb.Intent{Op: op, Verb: verb, Resource: resource, Key: key, RecordHash: mixed(op + uint64(step)), SourceHash: mixed(op), PersonHash: mixed(op / 10), KeyHash: mixed(op)}
					r := syncdb.Result{Op: op, Effect: syncdb.EffectLive, EdfiID: id}
					if verb == syncdb.Create {
						r.Origin = syncdb.Created
					} else {
						in.EdfiID = id
					}
					intents, next = append(intents, in), append(next, r)
				}
				ok(b, db.Append(ctx, l, step, intents, results))
				results = next
			}
			ok(b, db.Append(ctx, l, step, nil, results))
		}
	}
	fold := func(step int) func() {
		return func() {
			n, err := db.Fold(ctx, l, step)
			ok(b, err)
			if n != benchEntries {
				b.Fatalf("folded %d", n)
			}
		}
	}
	hashes := func() {
		n := 0
		ok(b, db.Hashes(ctx, c.ID, resource, func(_, _, _ syncdb.Hash, _ syncdb.State) error { n++; return nil }))
		if n != benchEntries {
			b.Fatalf("%d entries", n)
		}
	}
	rate("append_create", journal(1, syncdb.Create))
	rate("fold_create", func() { b.ReportMetric(peak(fold(1)), "fold_MB") })
	rate("hashes", hashes)
	rate("append_update", journal(2, syncdb.Update))
	rate("fold_update", fold(2))
	rate("hashes_again", hashes)
	rate("each", func() { ok(b, db.Each(ctx, c.ID, resource, func(*syncdb.Entry) error { return nil })) })
	ok(b, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
}

// processor is the processor time this process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	ok(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak runs work and returns the most live heap seen beside it, in MB.
func peak(work func()) float64 {
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		var m runtime.MemStats
		for {
			select {
			case <-done:
				result <- most
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	work()
	close(done)
	return float64(<-result) / 1e6
}
