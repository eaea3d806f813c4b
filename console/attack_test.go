package console_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/lib/pq" // the ledger's database, past the ledger

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// attacked is a service that answers over TCP, with objects of three tenants, its log, and a look past the ledger at all that is stored.
type attacked struct {
	*service
	addr string
	db   *sql.DB
	log  *lockedBuffer
	own  map[string]objects // by tenant
	pg   bool
}

// lockedBuffer is a log that is written from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newAttacked makes one on an embedded ledger, or on PostgreSQL.
func newAttacked(t *testing.T, postgres bool, change func(*console.Config), options httpd.Options) *attacked {
	t.Helper()
	a := &attacked{log: &lockedBuffer{}, own: map[string]objects{}, pg: postgres}
	path := filepath.Join(t.TempDir(), "ledger.db")
	driver, direct, dsn := "sqlite", path+"?_pragma=busy_timeout(10000)", "sqlite:"+path
	if postgres {
		dsn = dbtest.Postgres(t)
		driver, direct = "postgres", dsn
	}
	a.service = newServiceOn(t, dsn, func(c *console.Config) {
		c.Router.Logger = slog.New(slog.NewJSONHandler(a.log, nil))
		if change != nil {
			change(c)
		}
	})
	var err error
	a.db, err = sql.Open(driver, direct)
	a.ok(err)
	t.Cleanup(func() { a.db.Close() })
	server, err := httpd.Listen(t.Context(), "127.0.0.1:0", a.console, options)
	a.ok(err)
	t.Cleanup(func() { server.Close() })
	a.addr = strings.TrimPrefix(server.URL(), "http://")
	for tenant, connection := range map[string]string{"default": "lincoln", "acme": "acme~north", "other": "other~north"} {
		o := objects{connection: connection}
		o.issue = a.troubled(connection)
		o.run, o.hold, _ = a.hold(connection)
		o.plan, o.record = a.saved(connection), "/records/ed-fi/students/r01"+strings.Repeat("00", 15)
		o.key = a.keyID(a.key(console.NewKey{Role: "viewer", Tenant: tenant}))
		o.mute = a.muted(tenant, connection)
		a.own[tenant] = o
	}
	return a
}

// stored is a digest of all that the ledger's database holds, table by table. The audit trail is not in it, nor when a key was used last.
func (a *attacked) stored() map[string]string {
	a.t.Helper()
	list := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`
	if a.pg {
		list = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`
	}
	out := map[string]string{}
	for _, table := range a.column(list) {
		if table == "audit" || table == "audit_head" {
			continue
		}
		out[table] = a.digest(table)
	}
	return out
}

func (a *attacked) column(query string) (out []string) {
	a.t.Helper()
	rows, err := a.db.QueryContext(a.t.Context(), query)
	a.ok(err)
	defer rows.Close()
	for rows.Next() {
		var s string
		a.ok(rows.Scan(&s))
		out = append(out, s)
	}
	a.ok(rows.Err())
	return out
}

func (a *attacked) digest(table string) string {
	a.t.Helper()
	rows, err := a.db.QueryContext(a.t.Context(), `SELECT * FROM "`+table+`"`)
	a.ok(err)
	defer rows.Close()
	columns, err := rows.Columns()
	a.ok(err)
	var lines []string
	for rows.Next() {
		values, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		a.ok(rows.Scan(to...))
		for i, c := range columns {
			if c == "used_at" {
				values[i] = nil
			}
			if b, ok := values[i].([]byte); ok {
				values[i] = string(b)
			}
		}
		lines = append(lines, fmt.Sprintf("%q", values))
	}
	a.ok(rows.Err())
	slices.Sort(lines)
	return fmt.Sprintf("%d rows %x", len(lines), sha256.Sum256([]byte(strings.Join(lines, "\n"))))
}

// unchanged expects that nothing is stored that was not stored before.
func (a *attacked) unchanged(before map[string]string) {
	a.t.Helper()
	for table, is := range a.stored() {
		if was := before[table]; was != is {
			a.t.Errorf("the table %s has changed: %s, before %s", table, is, was)
		}
	}
}

// wire sends bytes and returns the first answer: status 0 = the connection was closed without one.
func (a *attacked) wire(text string) (got answer) {
	a.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(a.t.Context(), "tcp", a.addr)
	a.ok(err)
	defer conn.Close()
	a.ok(conn.SetDeadline(time.Now().Add(20 * time.Second)))
	go io.WriteString(conn, text) //nolint:errcheck // the server may have closed it
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// send makes a request over TCP as a client that follows nothing and keeps no cookies; header is pairs of name and value, Host among them.
func (a *attacked) send(method, path, body string, header ...string) answer {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	var in io.Reader = http.NoBody
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+a.addr+path, in)
	a.ok(err)
	switch {
	case body != "" && strings.HasPrefix(path, "/api/"):
		r.Header.Set("Content-Type", "application/json")
	case body != "":
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	a.ok(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	a.ok(err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// bearer is the header of a key.
func bearer(key string) []string { return []string{"Authorization", "Bearer " + key} }

// tells expects that an answer shows nothing of what is inside: no stack, path, statement, hash of a secret or student.
func (a *attacked) tells(got answer) {
	a.t.Helper()
	text := got.body + fmt.Sprint(got.header)
	for _, inside := range []string{
		"goroutine ", ".go:", "runtime error", "SQLSTATE", "pq: ", "sqlite", "SQL logic", "syntax error", "no such table", "api_key", "secret_hash", "SELECT ", "INSERT ", "ledger.db", "/tmp/",
		"Lovelace", "604822", "4711",
	} {
		if strings.Contains(text, inside) {
			a.t.Errorf("the answer tells %q: %d %s", inside, got.status, text)
		}
	}
	if len(got.body) > 20_000 {
		a.t.Errorf("the answer has %d bytes", len(got.body))
	}
}

// noted expects that the audit trail has a row of an action that it did not have before a request. The clock goes on, so that equal refusals are told apart.
func (a *attacked) noted(action string, request func()) {
	a.t.Helper()
	a.clock.Add(int64(2 * time.Minute))
	last := a.last()
	request()
	rows, err := a.ledger.FindAudit(a.t.Context(), syncdb.AuditFilter{})
	a.ok(err)
	for _, r := range rows {
		if r.ID > last && r.Action == action {
			return
		}
	}
	if action != "" {
		a.t.Errorf("the audit trail has no new row %s", action)
	}
}

// last is the number of the last audit row.
func (a *attacked) last() int64 {
	a.t.Helper()
	rows, err := a.ledger.FindAudit(a.t.Context(), syncdb.AuditFilter{Limit: 1})
	a.ok(err)
	if len(rows) == 0 {
		return 0
	}
	return rows[0].ID
}

// verified expects that the audit trail is whole.
func (a *attacked) verified() {
	a.t.Helper()
	if bad, err := a.ledger.VerifyAudit(a.t.Context()); bad != 0 || err != nil {
		a.t.Errorf("audit row %d does not verify, %v", bad, err)
	}
}

// on is the service with another test to tell failures to.
func (a *attacked) on(t *testing.T) *attacked {
	t.Helper()
	s := *a.service
	s.t = t
	b := *a
	b.service = &s
	return &b
}

// isProblem expects a documented problem.
func (a *attacked) isProblem(got answer, status int, code string) {
	a.t.Helper()
	a.refused(got, status, code, "")
}

// session logs a browser in with a key, and returns its cookie.
func (a *attacked) session(key string, header ...string) string {
	a.t.Helper()
	got := a.send("POST", "/api/v1/session", `{"key": "`+key+`"}`, header...)
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	if got.status != 204 || cookie == "" {
		a.t.Fatalf("log in: %d %s", got.status, got.body)
	}
	return cookie
}

// names are those of a table of attacks.
func names[C any](cases []C, name func(C) string) []string {
	out := make([]string, len(cases))
	for i := range cases {
		out[i] = name(cases[i])
	}
	return out
}
