//go:build unix

package syncdb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// BenchmarkSaveAttempts measures what keeping history adds to one call of a run: one op is one attempt, saved a thousand at a time. The
// payload is an attendance event of 15 elements, as most of a first load is.
func BenchmarkSaveAttempts(b *testing.B) {
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(b.TempDir(), "ledger.db") },
		"postgres": func() string { return dbtest.Postgres(b) },
	} {
		b.Run(name, func(b *testing.B) {
			ctx, address := b.Context(), dsn()
			db, err := syncdb.Open(ctx, syncdb.Config{DSN: address, Master: keys.GenerateMaster()})
			ok(b, err)
			b.Cleanup(func() { db.Close() })
			conn, _, err := db.Connection(ctx, "bench", "bench")
			ok(b, err)
			_, _, err = db.RequestRun(ctx, conn.ID, "cli")
			ok(b, err)
			_, l, err := db.StartRun(ctx, conn.ID, "bench", time.Hour)
			ok(b, err)
			const batch = 1000
			batches := make([][]syncdb.Attempt, 20) // alike, but not the same
			plain := 0
			for i := range batches {
				for j := range batch {
					batches[i] = append(batches[i], attendance(uint64(i*batch+j)))
					plain += len(batches[i][j].Payload)
				}
			}
			b.ReportAllocs()
			used := processor(b)
			n := 0
			for b.Loop() {
				if n%batch == 0 {
					ok(b, db.SaveAttempts(ctx, l, batches[n/batch%len(batches)]))
				}
				n++
			}
			b.ReportMetric(float64((processor(b)-used).Nanoseconds())/float64(n), "cpu-ns/op")
			b.ReportMetric(float64(plain)/float64(batch*len(batches)), "payload_B/op")
			if name == "sqlite" {
				size := int64(0)
				for _, suffix := range []string{"", "-wal"} {
					info, err := os.Stat(address[len("sqlite:"):] + suffix)
					ok(b, err)
					size += info.Size()
				}
				b.ReportMetric(float64(size)/float64(n), "file_B/op")
			}
		})
	}
}

func attendance(n uint64) syncdb.Attempt {
	h := mixed(n)
	student, day := 604000+n/180, n%180
	return syncdb.Attempt{
		Op: n, Resource: "ed-fi/studentSchoolAttendanceEvents", Verb: syncdb.Create, KeyHash: h, RecordHash: mixed(n + 1), SourceHash: mixed(n + 2),
		EdfiID: fmt.Sprintf("%x%x", h[:8], mixed(n+3)), At: time.UnixMilli(int64(1_790_000_000_000 + n)), Status: 201, Effect: syncdb.EffectLive,
		Key: fmt.Appendf(nil, `["uri://ed-fi.org/attendanceeventcategorydescriptor#excused absence","2026-%02d-%02d",%d,2027,"2026-2027 fall semester","%d"]`, 1+day/30, 1+day%30, 255901000+n%40, student),
		Payload: fmt.Appendf(nil, `{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Excused Absence","eventDate":"2026-%02d-%02d","schoolReference":{"schoolId":%d},"sessionReference":{"schoolId":%d,"schoolYear":2027,"sessionName":"2026-2027 Fall Semester"},"studentReference":{"studentUniqueId":"%d"},"attendanceEventReason":"%s","educationalEnvironmentDescriptor":"uri://ed-fi.org/EducationalEnvironmentDescriptor#Classroom","eventDuration":%d.5,"arrivalTime":"0%d:%02d:00","departureTime":"15:%02d:00"}`,
			1+day/30, 1+day%30, 255901000+n%40, 255901000+n%40, student, []string{"ill", "appointment", "family", ""}[h[0]%4], h[1]%2, 7+h[2]%3, h[3]%60, h[4]%60),
	}
}
