package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	mssql "github.com/microsoft/go-mssqldb"

	"github.com/edfisync/edfisync/internal/dbtest"
)

const password = "s3cr3t/pass"

func TestOpenSaysWhatIsWrongAndKeepsThePassword(t *testing.T) {
	t.Parallel()
	pg := func(edit func(*url.URL)) func(testing.TB) string {
		return func(t testing.TB) string {
			u, err := url.Parse(dbtest.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword(u.User.Username(), password)
			edit(u)
			return u.String()
		}
	}
	my := func(edit func(*mysql.Config)) func(testing.TB) string {
		return func(t testing.TB) string {
			c, err := mysql.ParseDSN(dbtest.MariaDB(t))
			if err != nil {
				t.Fatal(err)
			}
			edit(c)
			return c.FormatDSN()
		}
	}
	is := func(dsn string) func(testing.TB) string { return func(testing.TB) string { return dsn } }
	tests := map[string]struct {
		driver string
		dsn    func(testing.TB) string
		want   []string
	}{
		"unknown driver":                     {"oracle", is("x"), []string{`unknown driver "oracle"`, "sqlite postgres mysql sqlserver"}},
		"SQLite file that is missing":        {SQLite, is("/no/such/file.db"), []string{"connect", "no such file", "never created"}},
		"SQLite file that is no database":    {SQLite, is("errors_test.go"), []string{"no SQLite database"}},
		"SQLite without a file":              {SQLite, is(""), []string{"names no file"}},
		"PostgreSQL host unknown":            {Postgres, is("postgres://u:" + url.QueryEscape(password) + "@nosuchhost.invalid/d?sslmode=disable"), []string{"connect", "host name"}},
		"PostgreSQL port closed":             {Postgres, is("postgres://u:" + url.QueryEscape(password) + "@127.0.0.1:1/d?sslmode=disable"), []string{"connect", "nothing answers there"}},
		"PostgreSQL DSN that is none":        {Postgres, is("postgres://u:" + password + "@host:port/d"), []string{"read the connection string"}},
		"PostgreSQL DSN with a wrong option": {Postgres, is("host=x password='" + password + "' sslmode=maybe"), []string{"read the connection string"}},
		"PostgreSQL server without TLS":      {Postgres, pg(func(u *url.URL) { u.RawQuery = "" }), []string{"SSL is not enabled on the server", "add sslmode=disable"}},
		"PostgreSQL database unknown":        {Postgres, pg(func(u *url.URL) { u.Path = "/nowhere" }), []string{"SQLSTATE 3D000", "no database of that name"}},
		"PostgreSQL user unknown":            {Postgres, pg(func(u *url.URL) { u.User = url.UserPassword("nobody_here", password) }), []string{"SQLSTATE 28000", "user or password"}},
		"MySQL DSN that is none":             {MySQL, is("user:" + password + "@tcp(host:3306"), []string{"read the connection string"}},
		"MySQL port closed":                  {MySQL, is("user:" + password + "@tcp(127.0.0.1:1)/d"), []string{"nothing answers there"}},
		"MySQL database unknown":             {MySQL, my(func(c *mysql.Config) { c.DBName = "nowhere" }), []string{"error 1049", "no database of that name"}},
		"MySQL password wrong":               {MySQL, my(func(c *mysql.Config) { c.User, c.Passwd = "nobody_here", password }), []string{"user or password"}},
		"SQL Server port closed":             {SQLServer, is("sqlserver://u:" + url.QueryEscape(password) + "@127.0.0.1:1?database=d&dial+timeout=1"), []string{"connect"}},
		"SQL Server DSN that is none":        {SQLServer, is("sqlserver://u:" + password + "@host:port?x=%zz"), []string{"read the connection string"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Open(t.Context(), Config{Driver: test.driver, DSN: test.dsn(t)})
			if err == nil {
				_ = d.Close()
				t.Fatal("the source was opened")
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%T is no *Error", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
			for _, secret := range []string{password, url.QueryEscape(password), "s3cr3t"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q tells the password", err)
				}
			}
		})
	}
}

func TestErrorsTellNoValueOfARow(t *testing.T) {
	t.Parallel()
	d := &DB{cfg: Config{Driver: Postgres}}
	tests := map[string]struct {
		err  error
		want string // "" = the value must be gone, whatever remains
	}{
		"PostgreSQL on a cast":        {&pq.Error{Code: "22P02", Message: `invalid input syntax for type integer: "Maria"`}, "invalid input syntax for type integer… (SQLSTATE 22P02)"},
		"PostgreSQL on a date":        {&pq.Error{Code: "22008", Message: `date/time field value out of range: "Maria"`}, ""},
		"PostgreSQL on JSON":          {&pq.Error{Code: "22P02", Message: `invalid input syntax for type json`, Detail: `Token "Maria" is invalid.`}, ""},
		"PostgreSQL on its own terms": {&pq.Error{Code: "42703", Message: `column "nubmer" does not exist`}, `column "nubmer" does not exist (SQLSTATE 42703)`},
		"MySQL on a cast":             {&mysql.MySQLError{Number: 1292, Message: `Truncated incorrect INTEGER value: 'Maria'`}, "Truncated incorrect INTEGER value… (error 1292)"},
		"MySQL on its own terms":      {&mysql.MySQLError{Number: 1054, Message: `Unknown column 'nubmer' in 'field list'`}, "Unknown column 'nubmer' in 'field list' (error 1054)"},
		"SQL Server on a cast":        {mssql.Error{Number: 245, Message: `Conversion failed when converting the varchar value 'Maria' to data type int.`}, "Conversion failed when converting the varchar value … to data type int. (error 245)"},
		"wrapped":                     {fmt.Errorf("run: %w", &pq.Error{Code: "23505", Message: "x", Detail: "Key (name)=(Maria)"}), ""},
	}
	for name, test := range tests {
		err := d.failure("read", "students.sql", test.err)
		if strings.Contains(err.Error(), "Maria") {
			t.Errorf("%s: %q tells a value", name, err)
		}
		if test.want != "" && !strings.HasPrefix(err.Error(), "source: read students.sql: "+test.want) {
			t.Errorf("%s: got %q", name, err)
		}
		var cause *safeError
		if !errors.As(err, &cause) || fmt.Sprint(cause.Unwrap()) != fmt.Sprint(test.err) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
	if err := d.failure("read", "", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSQLServerStatements(t *testing.T) {
	t.Parallel()
	q := query(t, SQLServer, "with x as (select 1 as a) select a as [_key], :year as [schoolYear] from x where a > :low order by a -- done\n;")
	q.params = map[string]Param{"year": {Name: "year", Type: "integer"}, "low": {Name: "low", Default: "x", HasDefault: true}}
	d := &DB{cfg: Config{Driver: SQLServer, Params: map[string]string{"year": "2027"}}, dialect: sqlserverDialect{}}
	text, args, err := d.Statement(q)
	if err != nil {
		t.Fatal(err)
	}
	if want := "with x as (select 1 as a) select a as [_key], @p1 as [schoolYear] from x where a > @p2 order by a -- done"; text != want {
		t.Errorf("got %s", text)
	}
	if fmt.Sprint(args) != "[2027 x]" {
		t.Errorf("got %v", args)
	}
	if got, want := d.dialect.describe(text), "set fmtonly on; "+text+"\n; set fmtonly off"; got != want {
		t.Errorf("got %s", got)
	}
	for typeName, want := range map[string]format{"DATE": dateOnly, "TIME": timeOnly, "UNIQUEIDENTIFIER": guid, "DATETIME2": asIs, "DECIMAL": asIs} {
		if got := d.dialect.format(typeName); got != want {
			t.Errorf("%s: %d", typeName, got)
		}
	}
	db, secrets, err := d.dialect.open(Config{DSN: "sqlserver://u:s3cr3t@h/i?database=d", ApplicationName: "edfisync"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if len(secrets) != 2 || secrets[1] != "s3cr3t" {
		t.Error("the password is not known as a secret")
	}
}

func TestMySQLTimeoutsByServer(t *testing.T) {
	t.Parallel()
	cfg := Config{StatementTimeout: 1500e6}
	for version, want := range map[string]string{
		"10.11.19-MariaDB-0+deb12u1": "set session max_statement_time = 1.500",
		"8.4.3":                      "set session max_execution_time = 1500",
	} {
		if got := mysqlTimeout(version, cfg); got != want {
			t.Errorf("%s: got %s", version, got)
		}
	}
}
