package source

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/lib/pq"
)

// What the environment of the service knows of databases is not for who names a connection string over the API (I15).
func TestNoPasswordOfTheEnvironmentIsSentForAConnectionOfTheLedger(t *testing.T) {
	t.Setenv("PGPASSWORD", "of the service")
	t.Setenv("PGPASSFILE", "/run/secrets/pgpass")
	t.Setenv("PGSSLKEY", "/run/secrets/key.pem")
	for dsn, want := range map[string]string{
		"postgres://sync@sis.example.org/sis":        "",
		"postgres://sync:theirs@sis.example.org/sis": "theirs",
		"host=sis.example.org user=sync":             "",
	} {
		c, err := pq.NewConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err := guardPostgres(&c, dsn); err != nil {
			t.Fatal(err)
		}
		if c.Password != want || strings.Contains(c.Passfile, "secrets") {
			t.Errorf("%s: password %q of file %q", dsn, c.Password, c.Passfile)
		}
	}
}

// Everything goes through the dialer, a query that is canceled too.
func TestTheDialerIsAskedForEachConnection(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		asked := make(chan string, 100)
		d, _ := v.start(t, Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			asked <- network
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}})
		s := snapshot(t, d)
		opened := len(asked)
		if opened == 0 {
			t.Fatal("the dialer was not asked")
		}
		ctx, cancel := context.WithCancel(t.Context())
		rows, err := s.Open(ctx, query(t, v.driver, "select i as \"_key\" from "+v.count(5_000_000)))
		if err == nil {
			cancel()
			err = rows.Close()
		}
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if v.driver == Postgres && len(asked) == opened {
			t.Error("the query was canceled over a connection that the dialer did not make")
		}
	})
}

func TestADialerThatRefusesIsHeard(t *testing.T) {
	t.Parallel()
	refused := &Error{Op: "connect", Err: errors.New("not there"), Hint: "elsewhere"}
	for driver, dsn := range map[string]string{
		Postgres: "postgres://x@sis.example.org/x", MySQL: "x@tcp(sis.example.org:3306)/x", SQLServer: "sqlserver://x:y@sis.example.org?database=x",
	} {
		_, err := Open(t.Context(), Config{Driver: driver, DSN: dsn, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
		if err == nil || !strings.Contains(err.Error(), "not there") || !strings.Contains(err.Error(), "elsewhere") {
			t.Errorf("%s: %v", driver, err)
		}
	}
}
