package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/mappings"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const attendance = "ed-fi/studentSchoolAttendanceEvents"

// body is a record of the size of an attendance event, for the bare loop.
const body = `{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#In Attendance","eventDate":"2025-09-01",` +
	`"schoolReference":{"schoolId":255901001},"sessionReference":{"schoolId":255901001,"schoolYear":2026,"sessionName":"2025-2026 Fall Semester"},` +
	`"studentReference":{"studentUniqueId":"604822001"},"attendanceEventReason":"present"}`

func child(ctx context.Context, args []string) error {
	if args[0] == "serve" {
		return serve(ctx, args[1:])
	}
	scenario := map[string]func(context.Context, []string) (result, error){
		"encode": encode, "generate": generate, "edit": edit, "bare": bare, "load": load, "bare-rows": bareRows,
	}[args[0]]
	if scenario == nil {
		return fmt.Errorf("no scenario %q", args[0])
	}
	if file := os.Getenv("BENCH_CPUPROFILE"); file != "" { // for finding out where the time goes
		f, err := os.Create(file + "." + args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	r, err := scenario(ctx, args[1:])
	if err != nil {
		return err
	}
	r.PeakMiB, r.Processor = peakMiB(), processorSeconds()
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Count) / r.Seconds
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// encode measures map + validate + canonical + both hashes of one row with 15 elements.
func encode(context.Context, []string) (result, error) {
	m, err := schema.Bundled("5.2")
	if err != nil {
		return result{}, err
	}
	res, ok := m.Resource("ed-fi/studentSchoolAssociations")
	if !ok {
		return result{}, errors.New("no studentSchoolAssociations")
	}
	values := [][2]string{
		{"schoolReference.schoolId", "255901001"}, {"studentReference.studentUniqueId", "604822001"}, {"entryDate", "2025-08-18"},
		{"entryGradeLevelDescriptor", "uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"},
		{"entryTypeDescriptor", "uri://ed-fi.org/EntryTypeDescriptor#Next year school"}, {"exitWithdrawDate", "2026-05-29"},
		{"exitWithdrawTypeDescriptor", "uri://ed-fi.org/ExitWithdrawTypeDescriptor#End of school year"}, {"primarySchool", "1"},
		{"repeatGradeIndicator", "0"}, {"schoolChoiceTransfer", "0"}, {"fullTimeEquivalency", "1.0"},
		{"residencyStatusDescriptor", "uri://ed-fi.org/ResidencyStatusDescriptor#Resident of admin unit and school area"},
		{"calendarReference.calendarCode", "2025-26-A"}, {"calendarReference.schoolId", "255901001"}, {"calendarReference.schoolYear", "2026"},
	}
	var columns []schema.Column
	var row [][]byte
	for _, v := range values {
		columns, row = append(columns, schema.Column{Name: v[0], Path: v[0]}), append(row, []byte(v[1]))
	}
	t, problems := m.Compile(res, columns, nil, schema.Rules{Version: 1})
	if len(problems) > 0 {
		return result{}, fmt.Errorf("compile: %v", problems)
	}
	hasher := schema.NewHasher(hmac.New(sha256.New, []byte("bench")))
	var out schema.Encoded
	var sink byte
	b := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t.Encode(row, &out)
			key, record := hasher.Sum(out.Key), hasher.Sum(out.Body)
			sink ^= key[0] ^ record[0]
		}
	})
	if len(out.Problems) > 0 {
		return result{}, fmt.Errorf("row has problems: %v", out.Problems)
	}
	_ = sink
	ns := float64(b.T.Nanoseconds()) / float64(b.N)
	data := make([]byte, 731)
	plain := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			sum := sha256.Sum256(data)
			sink ^= sum[0]
		}
	})
	return result{Calibration: float64(plain.T.Nanoseconds()) / float64(plain.N), Ns: ns, Allocs: float64(b.AllocsPerOp()), Count: int64(b.N), Seconds: b.T.Seconds()}, nil
}

// generate fills a demo SIS. args: driver, source, students, attendance rows per student.
func generate(ctx context.Context, args []string) (result, error) {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return result{}, err
	}
	perStudent, err := strconv.Atoi(args[3])
	if err != nil {
		return result{}, err
	}
	db, err := sqlx.Open(args[0], args[1])
	if err != nil {
		return result{}, err
	}
	defer db.Close()
	begun := time.Now()
	if err := limitless.Create(ctx, db, limitless.Dialect(args[0])); err != nil {
		return result{}, err
	}
	stats, err := limitless.Generate(ctx, db, limitless.Dialect(args[0]), limitless.Options{
		Students: max(limitless.MinStudents, n), AttendancePerStudent: perStudent,
	})
	if err != nil {
		return result{}, err
	}
	return result{Count: int64(stats.Total()), Seconds: time.Since(begun).Seconds()}, nil
}

// edit changes every nth attendance row. args: driver, source, nth.
func edit(ctx context.Context, args []string) (result, error) {
	nth, err := strconv.Atoi(args[2])
	if err != nil {
		return result{}, err
	}
	db, err := sqlx.Open(args[0], args[1])
	if err != nil {
		return result{}, err
	}
	defer db.Close()
	begun := time.Now()
	predicted, err := limitless.EditAttendance(ctx, db, limitless.Dialect(args[0]), nth)
	if err != nil {
		return result{}, err
	}
	return result{Count: int64(predicted.Put[attendance]), Seconds: time.Since(begun).Seconds()}, nil
}

// bare is the loop anybody would write: connections goroutines that post a ready body. args: url, posts, connections.
func bare(ctx context.Context, args []string) (result, error) {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return result{}, err
	}
	connections, err := strconv.Atoi(args[2])
	if err != nil {
		return result{}, err
	}
	token, err := tokenOf(ctx, args[0])
	if err != nil {
		return result{}, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	var next atomic.Int64
	var failed atomic.Value
	var wg gosync.WaitGroup
	begun := time.Now()
	for range connections {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, args[0]+"/data/v3/"+attendance, strings.NewReader(body))
				if err != nil {
					failed.Store(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if err != nil {
					failed.Store(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
	if err, ok := failed.Load().(error); ok {
		return result{}, err
	}
	return result{Count: int64(n), Seconds: time.Since(begun).Seconds()}, nil
}

func tokenOf(ctx context.Context, base string) (string, error) {
	form := strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/oauth/token", form)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("bench", "bench")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var t struct {
		Token string `json:"access_token"`
	}
	return t.Token, json.NewDecoder(resp.Body).Decode(&t)
}

// load is one run of the real engine, from SQL to folded ledger. args: url, driver, source, ledger DSN, connections, scope (all or
// attendance), and for how long history is kept. Run twice, the second one has nothing to write.
func load(ctx context.Context, args []string) (result, error) {
	connections, err := strconv.Atoi(args[4])
	if err != nil {
		return result{}, err
	}
	m, err := schema.Bundled("5.2")
	if err != nil {
		return result{}, err
	}
	history, err := time.ParseDuration(args[6])
	if err != nil {
		return result{}, err
	}
	db, bound, err := openSource(ctx, m, args[1], args[2], args[5] == "attendance")
	if err != nil {
		return result{}, err
	}
	defer db.Close()
	client, err := edfi.Connect(ctx, edfi.Config{
		BaseURL: args[0], ClientID: "bench", ClientSecret: "bench", MinConcurrency: 4, MaxConcurrency: connections,
	})
	if err != nil {
		return result{}, err
	}
	defer client.Close()
	deps, err := client.Dependencies(ctx)
	if err != nil {
		return result{}, err
	}
	master, err := keys.LoadOrCreateFile(filepath.Join(os.TempDir(), "edfisync-bench-key", "key"))
	if err != nil {
		return result{}, err
	}
	ledger, err := syncdb.Open(ctx, syncdb.Config{DSN: args[3], Master: master})
	if err != nil {
		return result{}, err
	}
	defer ledger.Close()
	connection, ring, err := ledger.Connection(ctx, "default", "bench")
	if err != nil {
		return result{}, err
	}
	e := &sync.Engine{
		Model: m, Dependencies: deps, Source: sync.FromSource(db, bound), Ledger: ledger, Keys: ring, Connection: connection,
		Target:  func(check func() error) sync.Target { return client.Guarded(check) },
		Options: sync.Options{Workers: connections, Rules: schema.Rules{Version: 1}, History: history},
	}
	begun := time.Now()
	s, err := e.Run(ctx)
	if err != nil {
		return result{}, err
	}
	took := time.Since(begun).Seconds()
	if s.Held+s.Failed > 0 {
		return result{}, fmt.Errorf("%d records held and %d failed", s.Held, s.Failed)
	}
	if s.Calls > 0 {
		return result{Count: s.Calls, Calls: s.Calls, Seconds: took}, nil
	}
	return result{Count: s.Totals.Rows, Seconds: took}, nil
}

func openSource(ctx context.Context, m *schema.Model, driver, dsn string, onlyAttendance bool) (*source.DB, []*source.Bound, error) {
	pack, err := source.LoadPack(mappings.Limitless(), driver)
	if err != nil {
		return nil, nil, err
	}
	if onlyAttendance {
		var kept []*source.Query
		for _, q := range pack.Queries {
			if q.Resource == attendance {
				kept = append(kept, q)
			}
		}
		pack.Queries = kept
	}
	db, err := source.Open(ctx, source.Config{Driver: driver, DSN: dsn})
	if err != nil {
		return nil, nil, err
	}
	bound, err := db.Bind(ctx, nil, pack, m, schema.Rules{Version: 1}, nil)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return db, bound, nil
}

// bareRows is the loop anybody would write over the same query: sqlx, the driver's rows, and both hashes. args: driver, source.
func bareRows(ctx context.Context, args []string) (result, error) {
	m, err := schema.Bundled("5.2")
	if err != nil {
		return result{}, err
	}
	db, bound, err := openSource(ctx, m, args[0], args[1], true)
	if err != nil {
		return result{}, err
	}
	defer db.Close()
	statement, params, err := db.Statement(bound[0].Query)
	if err != nil {
		return result{}, err
	}
	conn, err := sqlx.Open(args[0], args[1])
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	begun := time.Now()
	rows, err := conn.QueryxContext(ctx, statement, params...)
	if err != nil {
		return result{}, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return result{}, err
	}
	raw := make([]sql.RawBytes, len(columns))
	dest := make([]any, len(columns))
	for i := range raw {
		dest[i] = &raw[i]
	}
	key, record := hmac.New(sha256.New, []byte("k")), hmac.New(sha256.New, []byte("k"))
	var n int64
	var sum []byte
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return result{}, err
		}
		key.Reset()
		record.Reset()
		for i := range raw {
			if i < 6 {
				key.Write(raw[i])
			}
			record.Write(raw[i])
		}
		sum = record.Sum(key.Sum(sum[:0]))
		n++
	}
	if err := rows.Err(); err != nil {
		return result{}, err
	}
	return result{Count: n, Seconds: time.Since(begun).Seconds()}, nil
}

// databases makes two empty databases on a server, for source and ledger.
func databases(ctx context.Context, server string) (sourceDSN, ledgerDSN string, drop func(), err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", "", nil, fmt.Errorf("PostgreSQL DSN: %w", err)
	}
	db, err := sqlx.Open("postgres", server)
	if err != nil {
		return "", "", nil, err
	}
	names := []string{fmt.Sprintf("bench_sis_%d", os.Getpid()), fmt.Sprintf("bench_ledger_%d", os.Getpid())}
	drop = func() {
		for _, name := range names {
			_, _ = db.ExecContext(context.WithoutCancel(ctx), `drop database if exists `+name+` with (force)`)
		}
		_ = db.Close()
	}
	for _, name := range names {
		if _, err := db.ExecContext(ctx, `create database `+name); err != nil {
			drop()
			return "", "", nil, err
		}
	}
	dsn := func(name string) string {
		v := *u
		v.Path = "/" + name
		return v.String()
	}
	return dsn(names[0]), dsn(names[1]), drop, nil
}
