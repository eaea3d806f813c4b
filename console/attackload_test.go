package console_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
)

// drip sends a text letter by letter until it is sent or the server has had enough, which must be soon.
func (a *attacked) drip(begin, rest string) (took time.Duration) {
	a.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(a.t.Context(), "tcp", a.addr)
	a.ok(err)
	defer conn.Close()
	began := time.Now()
	a.ok(conn.SetDeadline(began.Add(30 * time.Second)))
	_, err = io.WriteString(conn, begin)
	a.ok(err)
	go func() {
		for i := 0; i < len(rest); i++ {
			if _, err := io.WriteString(conn, rest[i:i+1]); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	_, _ = io.Copy(io.Discard, conn) // until the server closes it
	return time.Since(began)
}

// Whatever a client sends much of, or slowly, it is refused or cut off, and everybody else is served.
func TestTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, func(c *console.Config) { c.Router.ReadBody = time.Second }, httpd.Options{ReadHeader: time.Second, Idle: time.Second})
	key := a.key(console.NewKey{Role: "admin"})
	head := func(line string, header ...string) string {
		return line + " HTTP/1.1\r\nHost: " + a.addr + "\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/json\r\nConnection: close\r\n" + strings.Join(header, "") + "\r\n"
	}
	const mega = 1 << 20
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 100*mega))
	_ = z.Close()
	chunks := strings.Repeat("100000\r\n"+strings.Repeat("a", mega)+"\r\n", 10) + "0\r\n\r\n"
	is := func(want ...int) func(*attacked, answer) {
		return func(a *attacked, got answer) {
			for _, w := range want {
				if got.status == w {
					return
				}
			}
			a.t.Errorf("got %d %.300s, want one of %v", got.status, got.body, want)
		}
	}
	problem := func(status int, code string) func(*attacked, answer) {
		return func(a *attacked, got answer) { a.isProblem(got, status, code) }
	}
	cases := []struct {
		name  string
		try   func(a *attacked) answer
		check func(a *attacked, got answer)
	}{
		{"a body that says it has 10 MB", func(a *attacked) answer {
			return a.wire(head("POST /api/v1/keys", fmt.Sprintf("Content-Length: %d\r\n", 10*mega)) + "{")
		}, problem(413, "too-large")},
		{"a body of 10 MB that does not say how long it is", func(a *attacked) answer {
			return a.wire(head("POST /api/v1/keys", "Transfer-Encoding: chunked\r\n") + chunks)
		}, is(413, 0)}, // 0: the connection was closed before all was sent
		{"a body of 10 MB that asks first", func(a *attacked) answer {
			return a.wire(head("POST /api/v1/keys", fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", 10*mega)))
		}, problem(413, "too-large")},
		{"a body of 10 MB for the log-in", func(a *attacked) answer {
			return a.wire(fmt.Sprintf("POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", 10*mega))
		}, problem(413, "too-large")},
		{"a body that says it has less than nothing", func(a *attacked) answer { return a.wire(head("POST /api/v1/keys", "Content-Length: -1\r\n")) }, is(400)},
		{"a body that says it has more than there are numbers", func(a *attacked) answer {
			return a.wire(head("POST /api/v1/keys", "Content-Length: 99999999999999999999\r\n"))
		}, is(400)},
		{"a body packed a hundred times smaller", func(a *attacked) answer {
			return a.send("POST", "/api/v1/keys", bomb.String(), append(bearer(key), "Content-Encoding", "gzip")...)
		}, is(400, 415, 422)},
		{"objects a hundred thousand deep", func(a *attacked) answer {
			return a.send("POST", "/api/v1/keys", strings.Repeat(`{"name":`, 100_000), bearer(key)...)
		}, problem(400, "invalid")},
		{"lists half a million deep", func(a *attacked) answer {
			return a.send("POST", "/api/v1/keys", strings.Repeat("[", 500_000)+strings.Repeat("]", 500_000), bearer(key)...)
		}, problem(400, "invalid")},
		{"an object of a hundred thousand fields", func(a *attacked) answer {
			var b strings.Builder
			b.WriteString(`{"name": "x", "role": "viewer"`)
			for i := range 70_000 {
				fmt.Fprintf(&b, `,"a%06d":1`, i)
			}
			return a.send("POST", "/api/v1/keys", b.String()+"}", bearer(key)...)
		}, problem(422, "invalid")},
		{"a name of almost a megabyte", func(a *attacked) answer {
			return a.send("POST", "/api/v1/keys", `{"role": "viewer", "name": "`+strings.Repeat("a", mega-1000)+`"}`, bearer(key)...)
		}, problem(422, "invalid")},
		{"a number of half a million digits", func(a *attacked) answer {
			return a.send("POST", "/api/v1/holds/1/approve", `{"why": "x", "edition": `+strings.Repeat("9", 500_000)+`}`, bearer(key)...)
		}, is(400, 422)},
		{"fifty thousand networks for a key", func(a *attacked) answer {
			return a.send("POST", "/api/v1/keys", `{"name": "x", "role": "viewer", "networks": [`+strings.Repeat(`"10.0.0.0/8",`, 50_000)+`"10.0.0.0/8"]}`, bearer(key)...)
		}, problem(422, "invalid")},
		{"a form of two hundred thousand fields", func(a *attacked) answer { return a.send("POST", "/login", strings.Repeat("a=&", 200_000)+"key=x") }, is(401, 413)},
		{"a form in ten thousand parts", func(a *attacked) answer {
			part := "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n\r\n"
			return a.send("POST", "/login", strings.Repeat(part, 10_000)+"--x--\r\n", "Content-Type", "multipart/form-data; boundary=x")
		}, is(401, 413)},
		{"a header of a megabyte", func(a *attacked) answer {
			return a.wire(head("GET /api/v1/me", "X-A: "+strings.Repeat("a", mega)+"\r\n"))
		}, is(431)},
		{"fifty thousand headers", func(a *attacked) answer { return a.wire(head("GET /api/v1/me", strings.Repeat("X-A: a\r\n", 50_000))) }, is(431)},
		{"a cookie of a megabyte", func(a *attacked) answer {
			return a.wire(head("GET /api/v1/me", "Cookie: edfisync="+strings.Repeat("a", mega)+"\r\n"))
		}, is(431)},
		{"a path of a megabyte", func(a *attacked) answer { return a.wire(head("GET /" + strings.Repeat("a", mega))) }, is(431, 414)},
		{"a query of fifty thousand letters", func(a *attacked) answer {
			return a.wire(head("GET /api/v1/runs?connection=" + strings.Repeat("a", 50_000)))
		}, problem(422, "invalid")},
		{"the name of a connection in fifty thousand letters", func(a *attacked) answer {
			return a.wire(head("GET /api/v1/connections/" + strings.Repeat("a", 50_000)))
		}, is(404, 422)},
		{"a list of a million items", func(a *attacked) answer { return a.send("GET", "/api/v1/audit?limit=1000000", "", bearer(key)...) }, problem(422, "invalid")},
		{"a page at the end of all numbers", func(a *attacked) answer {
			return a.send("GET", "/api/v1/keys?cursor=djE6OTIyMzM3MjAzNjg1NDc3NTgwNw", "", bearer(key)...) // v1:9223372036854775807
		}, is(200, 422)},
		{"a file in a thousand pieces", func(a *attacked) answer {
			return a.send("GET", "/assets/console.css", "", "Range", "bytes="+strings.Repeat("0-,", 1000)+"0-")
		}, is(200, 416)},
	}
	before := a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			got := c.try(a)
			c.check(a, got)
			if !strings.Contains(c.name, "a file in") {
				a.tells(got)
			}
			if got := a.send("GET", "/api/v1/me", "", bearer(key)...); got.status != 200 {
				t.Errorf("then somebody else is answered %d %s", got.status, got.body)
			}
		})
	}
	slow := []struct{ name, begin, rest string }{
		{"a header that comes letter by letter", "GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-A: ", strings.Repeat("a", 600)},
		{"a header of many that come line by line", "GET /api/v1/me HTTP/1.1\r\nHost: x\r\n", strings.Repeat("A:b\r\n", 120)},
		{"a connection on which nothing comes", "", strings.Repeat("", 1)},
		{"a connection that is kept and not used", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"a body that comes letter by letter", head("POST /api/v1/keys", "Content-Length: 600\r\n"), strings.Repeat(" ", 600)},
		{"a body that never comes", head("POST /api/v1/keys", "Content-Length: 600\r\n"), ""},
		{"a chunk that never ends", head("POST /api/v1/keys", "Transfer-Encoding: chunked\r\n") + "258\r\n", strings.Repeat(" ", 600)},
		{"a form for the log-in that comes letter by letter", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 600\r\n\r\n", strings.Repeat("a", 600)},
	}
	t.Run("slow", func(t *testing.T) {
		for _, c := range slow {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if took := a.on(t).drip(c.begin, c.rest); took > 20*time.Second {
					t.Errorf("the connection was kept for %s", took)
				}
			})
		}
	})
	a.unchanged(before)
	a.verified()
	all := names(cases, func(c struct {
		name  string
		try   func(a *attacked) answer
		check func(a *attacked, got answer)
	}) string {
		return c.name
	})
	attacktest.Played(t, attacktest.Load, append(all, names(slow, func(c struct{ name, begin, rest string }) string { return c.name })...))
}

// What a request costs grows with its length and no faster, and what it is told does not grow at all, though each of its fields is wrong. Allocations are
// counted, not time: so it is not parallel.
func TestManyFieldsCostNoMoreThanTheirLength(t *testing.T) {
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "admin"})
	answers := map[int]int{}
	cost := func(fields int) float64 {
		var b strings.Builder
		b.WriteString(`{"name": "x", "role": "viewer"`)
		for i := range fields {
			fmt.Fprintf(&b, `,"a%06d":1`, i)
		}
		body := b.String() + "}"
		return testing.AllocsPerRun(1, func() {
			got := s.do("POST", "/api/v1/keys", key, body)
			s.refused(got, 422, "invalid", "")
			answers[fields] = len(got.body)
		})
	}
	few, many := cost(6_000), cost(60_000)
	if many > 12*few || many > 60*60_000 {
		t.Errorf("6,000 fields cost %.0f allocations, 60,000 cost %.0f: want at most 12 times as many, and 60 for a field", few, many)
	}
	if answers[60_000] > answers[6_000]+10 || answers[60_000] == 0 {
		t.Errorf("the answers have %v bytes by number of fields, want the same but for the digits of how many there are", answers)
	}
}

// One who asks too often waits, and those who are exempt are the triggers that coalesce.
func TestFloodsAreDammed(t *testing.T) {
	t.Parallel()
	limited := func(c *console.Config) {
		c.Router.PerClient, c.Router.PerPrincipal = httpd.Limit{PerSecond: 1, Burst: 60}, httpd.Limit{PerSecond: 1, Burst: 30}
		c.Poll = time.Minute
	}
	cases := []struct {
		name string
		try  func(a *attacked, key string, i int) int // status of the request
		most int                                      // so many of 100 pass
	}{
		{"requests with a key", func(a *attacked, key string, _ int) int {
			return a.send("GET", "/api/v1/me", "", bearer(key)...).status
		}, 32},
		{"requests that claim another address each", func(a *attacked, key string, i int) int {
			return a.send("GET", "/api/v1/me", "", append(bearer(key), "X-Forwarded-For", fmt.Sprintf("10.0.0.%d", i))...).status
		}, 32},
		{"requests without a key", func(a *attacked, _ string, _ int) int { return a.send("GET", "/login", "").status }, 62},
		{"requests for what is not there, with a key", func(a *attacked, key string, i int) int {
			if got := a.send("GET", fmt.Sprintf("/api/v1/runs/%d", 10_000+i), "", bearer(key)...).status; got != 404 {
				return got
			}
			return 200
		}, 32},
		{"streams of events", func(a *attacked, key string, _ int) int {
			_, status := a.listen("/events", key)
			return status
		}, 20},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAttacked(t, false, limited, httpd.Options{})
			key := a.key(console.NewKey{Role: "operator"})
			if c.most == 20 { // only the limit of streams is meant
				a = newAttacked(t, false, func(c *console.Config) { c.Poll = time.Minute }, httpd.Options{})
				key = a.key(console.NewKey{Role: "operator"})
			}
			passed, refused := 0, 0
			began := time.Now()
			for i := range 100 {
				switch status := c.try(a, key, i); status {
				case 200:
					passed++
				case 429:
					refused++
				default:
					t.Fatalf("request %d: %d", i, status)
				}
			}
			if allowed := c.most + int(time.Since(began).Seconds()); passed > allowed || refused == 0 {
				t.Errorf("%d passed and %d were refused, want at most %d to pass", passed, refused, allowed)
			}
		})
	}
	attacktest.Played(t, attacktest.Load, names(cases, func(c struct {
		name string
		try  func(a *attacked, key string, i int) int
		most int
	}) string {
		return c.name
	}))
}
