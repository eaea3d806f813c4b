//go:build unix

package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load is a sandbox with a school, a session and students, ready for attendance.
func load(tb testing.TB, students int) (*Server, http.Handler, string) {
	tb.Helper()
	s, err := New(Options{Model: model(tb, "5.2"), ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2026}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	token, _ := s.tokens.issue(testID, 0)
	h := s.Handler()
	w := newNullWriter()
	put := func(path, body string) {
		w.reset()
		h.ServeHTTP(w, postRequest(token, path, []byte(body)))
		if w.status != http.StatusCreated {
			tb.Fatalf("%s: %d %s", path, w.status, w.body.String())
		}
	}
	put("schools", schoolBody)
	put("sessions", sessionBody)
	for i := range students {
		put("students", strings.Replace(studentBody, "604822", fmt.Sprint(604822+i), 1))
	}
	return s, h, token
}

func attendance(dst []byte, students, n int) []byte {
	day := time.Date(2025, 8, 20, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n/students)
	dst = append(dst, `{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Excused Absence","eventDate":"`...)
	dst = day.AppendFormat(dst, "2006-01-02")
	dst = append(dst, `","schoolReference":{"schoolId":255901001},"sessionReference":{"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"},"studentReference":{"studentUniqueId":"`...)
	dst = fmt.Appendf(dst, "%d", 604822+n%students)
	return append(dst, `"}}`...)
}

func postRequest(token, path string, body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/data/v3/ed-fi/"+path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	return r
}

type nullWriter struct {
	h      http.Header
	status int
	body   bytes.Buffer
}

func newNullWriter() *nullWriter                  { return &nullWriter{h: http.Header{}} }
func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(b []byte) (int, error) { return w.body.Write(b) }
func (w *nullWriter) reset()                      { w.status = 0; w.body.Reset(); clear(w.h) }

const benchStudents = 10_000

// BenchmarkHandlerPost is one POST of a small new record through the handler, without HTTP around it.
func BenchmarkHandlerPost(b *testing.B) {
	_, h, token := load(b, benchStudents)
	benchPost(b, h, token)
}

// BenchmarkHandlerPostAuthorized is the same by a client with the SIS Vendor claim set: each POST looks up the school's agency and the student's
// enrolment.
func BenchmarkHandlerPostAuthorized(b *testing.B) {
	s, h, token := load(b, benchStudents)
	w := newNullWriter()
	enrol := func(n int) {
		w.reset()
		h.ServeHTTP(w, postRequest(token, "studentSchoolAssociations", []byte(strings.Replace(enrolBody, "604822", fmt.Sprint(604822+n), 1))))
		if w.status != http.StatusCreated {
			b.Fatalf("%d %s", w.status, w.body.String())
		}
	}
	for n := range benchStudents {
		enrol(n)
	}
	if err := s.SetClient(Client{ID: testID, Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{255901001}}); err != nil {
		b.Fatal(err)
	}
	benchPost(b, h, token)
}

func benchPost(b *testing.B, h http.Handler, token string) {
	b.Helper()
	var next atomic.Int64
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		w := newNullWriter()
		r := postRequest(token, "studentSchoolAttendanceEvents", nil)
		rd := bytes.NewReader(nil)
		r.Body = io.NopCloser(rd)
		var body []byte
		for pb.Next() {
			body = attendance(body[:0], benchStudents, int(next.Add(1)))
			rd.Reset(body)
			r.ContentLength = int64(len(body))
			w.reset()
			h.ServeHTTP(w, r)
			if w.status != http.StatusCreated {
				b.Fatalf("%d %s", w.status, w.body.String())
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// cpuTime is the processor time this process has used. Beside the wall time it tells what a benchmark would reach on a machine of its own.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoopbackPost is the same over loopback with net/http's client in this process.
func BenchmarkLoopbackPost(b *testing.B) {
	s, _, token := load(b, benchStudents)
	if err := s.Start(b.Context(), "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	loopback(b, s.URL(), token)
}

// BenchmarkLoopbackBare is the same against a server that only answers 201: what HTTP costs without the sandbox.
func BenchmarkLoopbackBare(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "http://127.0.0.1/data/v3/ed-fi/studentSchoolAttendanceEvents/0123456789abcdef0123456789abcdef")
		w.Header().Set("Etag", `"5250995123699605310"`)
		w.WriteHeader(http.StatusCreated)
	}))
	b.Cleanup(s.Close)
	loopback(b, s.URL, "token")
}

// BenchmarkLoopbackRaw is the same with a client that does as little as a client can: what the server alone can carry.
func BenchmarkLoopbackRaw(b *testing.B) {
	s, _, token := load(b, benchStudents)
	if err := s.Start(b.Context(), "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	b.SetParallelism(16)
	cpu := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		var body, request []byte
		answer := make([]byte, 1024)
		for pb.Next() {
			body = attendance(body[:0], benchStudents, int(next.Add(1)))
			request = fmt.Appendf(request[:0], "POST /data/v3/ed-fi/studentSchoolAttendanceEvents HTTP/1.1\r\nHost: x\r\n"+
				"Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body)
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			n, err := conn.Read(answer) // headers only, always one segment
			if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 201")) {
				b.Errorf("%v: %s", err, answer[:n])
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

func loopback(b *testing.B, base, token string) {
	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(cl.CloseIdleConnections)
	url := base + "/data/v3/ed-fi/studentSchoolAttendanceEvents"
	var next atomic.Int64
	b.SetParallelism(16)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := attendance(nil, benchStudents, int(next.Add(1)))
			r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("Content-Type", "application/json")
			a, err := cl.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
			if a.StatusCode != http.StatusCreated {
				b.Fatal(a.Status)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkHandlerPage is one record of a GET of 500 by page token.
func BenchmarkHandlerPage(b *testing.B) {
	_, h, token := load(b, 100)
	w := newNullWriter()
	for i := range 1000 {
		w.reset()
		h.ServeHTTP(w, postRequest(token, "studentSchoolAttendanceEvents", attendance(nil, 100, i)))
	}
	r := httptest.NewRequest(http.MethodGet, "/data/v3/ed-fi/studentSchoolAttendanceEvents?pageSize=500&pageToken=AAAAAP____8", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	for n := 0; n < b.N; n += 500 {
		w.reset()
		h.ServeHTTP(w, r)
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// BenchmarkBytesPerRecord measures the memory of small records: b.N of them are loaded.
func BenchmarkBytesPerRecord(b *testing.B) {
	_, h, token := load(b, benchStudents)
	w := newNullWriter()
	r := postRequest(token, "studentSchoolAttendanceEvents", nil)
	rd := bytes.NewReader(nil)
	r.Body = io.NopCloser(rd)
	var body []byte
	before := heap()
	b.ResetTimer()
	for i := range b.N {
		body = attendance(body[:0], benchStudents, i)
		rd.Reset(body)
		r.ContentLength = int64(len(body))
		w.reset()
		h.ServeHTTP(w, r)
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "B/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
	runtime.KeepAlive(h)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
