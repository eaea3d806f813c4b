package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	mssql "github.com/microsoft/go-mssqldb"
	sqlite3 "modernc.org/sqlite"
)

// Error is what went wrong with the SIS database. Its text holds neither the connection string (I15) nor values of rows (I14): what a
// database says about data is kept only as far as it names no value.
type Error struct {
	Op   string // what was being done: "connect", "take the snapshot", "run", "read"
	File string // the pack's file, when a query was involved
	Hint string // what to do about it; may be empty
	Err  error  // its text is safe too

	statement bool // the database refused the statement; the connection is fine
}

// Error is "op [file]: cause (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("source: ")
	b.WriteString(e.Op)
	if e.File != "" {
		b.WriteString(" " + e.File)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unreachable reports whether it was the connection to the database that failed, and not what was asked of it.
func (e *Error) Unreachable() bool {
	switch e.Op {
	case "connect", "take the snapshot", "read", "run":
		return !e.statement && !errors.Is(e, context.Canceled)
	}
	return false
}

// text is what is wrong and what to do, without what was being done.
func (e *Error) text() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + " (" + e.Hint + ")"
}

// Unwrap gives the cause: errors.Is with context.Canceled and the like work.
func (e *Error) Unwrap() error { return e.Err }

// safeError carries a driver's error under a text that may be shown.
type safeError struct {
	text string
	err  error
}

func (e *safeError) Error() string { return e.text }

// Unwrap lets errors.Is and As see the cause. Its own text must not be printed.
func (e *safeError) Unwrap() error { return e.err }

// failure wraps a driver's error for showing.
func (d *DB) failure(op, file string, err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	text, hint := explain(err)
	return &Error{Op: op, File: file, Hint: hint, Err: &safeError{text: d.redact(text), err: err}, statement: refused(err)}
}

// refused says whether the database answered that a statement is wrong.
func refused(err error) bool {
	var (
		pqErr   *pq.Error
		myErr   *mysql.MySQLError
		msErr   mssql.Error
		liteErr *sqlite3.Error
	)
	switch {
	case errors.As(err, &pqErr):
		return !pqErr.Fatal()
	case errors.As(err, &liteErr):
		return liteErr.Code()&0xff == 1 // SQLITE_ERROR
	}
	return errors.As(err, &myErr) || errors.As(err, &msErr)
}

// redact takes the connection string and its password out of a text (I15).
func (d *DB) redact(text string) string {
	for _, s := range d.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// explain gives the text of a driver's error that may be shown, and a hint.
func explain(err error) (text, hint string) {
	var (
		pqErr   *pq.Error
		myErr   *mysql.MySQLError
		msErr   mssql.Error
		liteErr *sqlite3.Error
		dnsErr  *net.DNSError
		opErr   *net.OpError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "took longer than the statement timeout", "raise source.statement_timeout, or make the query faster"
	case errors.Is(err, context.Canceled):
		return "canceled", ""
	case errors.As(err, &pqErr):
		return explainPostgres(pqErr)
	case errors.As(err, &myErr):
		return explainMySQL(myErr)
	case errors.As(err, &msErr):
		return explainSQLServer(msErr)
	case errors.As(err, &liteErr):
		return explainSQLite(liteErr)
	case errors.As(err, &dnsErr):
		return dnsErr.Error(), "the host name of the connection string is not known here"
	case errors.As(err, &opErr) && opErr.Op == "dial":
		return opErr.Error(), "nothing answers there: check host and port, and that the database accepts connections from here"
	case errors.Is(err, pq.ErrSSLNotSupported):
		return err.Error(), "a connection string without sslmode asks for TLS, which this server does not speak: add sslmode=disable if the way there is safe (the same machine, a private network), else turn TLS on at the server"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the database closed the connection", ""
	}
	return err.Error(), ""
}

// explainPostgres trusts the message of classes that speak of the statement, the session or the server. What it says about data
// (class 22, 23 and the rest) may quote a value.
func explainPostgres(e *pq.Error) (text, hint string) {
	code := string(e.Code)
	text = fmt.Sprintf("%s (SQLSTATE %s)", e.Message, code)
	switch code[:min(2, len(code))] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57":
	default:
		text = fmt.Sprintf("%s (SQLSTATE %s)", withoutQuoted(e.Message), code)
	}
	switch {
	case code == "28P01" || code == "28000":
		hint = "user or password of the connection string is wrong, or pg_hba.conf does not let it in from here"
	case code == "3D000":
		hint = "the server has no database of that name"
	case code == "42501":
		hint = "grant the connection's user select on what the pack reads"
	case code == "42P01" || code == "42703":
		hint = "the schema of the source is not the one the pack was written for"
	case code == "57014" && strings.Contains(e.Message, "statement timeout"):
		hint = "raise source.statement_timeout, or make the query faster"
	case code == "55P03":
		hint = "something holds a lock at the source; see what, and try again"
	case code == "40001" && strings.Contains(e.Message, "recovery"):
		hint = "the replica dropped the snapshot to keep up: set hot_standby_feedback = on, or raise max_standby_streaming_delay"
	case code == "53300":
		hint = "the server has no connection left: lower source.readers or raise max_connections"
	}
	return text, hint
}

func explainMySQL(e *mysql.MySQLError) (text, hint string) {
	text = fmt.Sprintf("%s (error %d)", e.Message, e.Number)
	switch e.Number {
	case 1045, 1698:
		return text, "user or password of the connection string is wrong for this host"
	case 1049:
		return text, "the server has no database of that name"
	case 1044, 1142, 1143, 1370:
		return text, "grant the connection's user select on what the pack reads"
	case 1146, 1054, 1064, 1305:
		return text, "the schema of the source is not the one the pack was written for, or the SQL is not MySQL's: add a .mysql.sql file"
	case 1969, 3024, 1317:
		return text, "raise source.statement_timeout, or make the query faster"
	case 1205:
		return text, "something holds a lock at the source; see what, and try again"
	case 1040, 1203:
		return text, "the server has no connection left"
	case 1052, 1055, 1060: // about names only
		return text, ""
	}
	return fmt.Sprintf("%s (error %d)", withoutQuoted(e.Message), e.Number), ""
}

func explainSQLServer(e mssql.Error) (text, hint string) {
	text = fmt.Sprintf("%s (error %d)", e.Message, e.Number)
	switch e.Number {
	case 18456:
		return text, "user or password of the connection string is wrong"
	case 4060:
		return text, "the server has no database of that name"
	case 229, 230:
		return text, "grant the connection's user select on what the pack reads"
	case 207, 208:
		return text, "the schema of the source is not the one the pack was written for"
	case 3952:
		return text, "run ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON at the source"
	case 1222:
		return text, "something holds a lock at the source; see what, and try again"
	case 102, 156, 1033:
		return text, ""
	}
	return fmt.Sprintf("%s (error %d)", withoutQuoted(e.Message), e.Number), ""
}

// walHint is for a database that SQLite cannot even read without writing beside it.
const walHint = "the database is in WAL mode and its folder cannot be written: let edfisync write there, or read a copy that is not in WAL mode (pragma journal_mode = delete)"

func explainSQLite(e *sqlite3.Error) (text, hint string) {
	switch e.Code() & 0xff {
	case 14: // SQLITE_CANTOPEN
		return e.Error(), "there is no such file, or it may not be read; a source is opened read-only and never created"
	case 26: // SQLITE_NOTADB
		return e.Error(), "the file is no SQLite database"
	case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
		return e.Error(), "another program holds the database; try again"
	case 8: // SQLITE_READONLY
		if e.Code() != 8 { // SQLITE_READONLY_CANTINIT and the like
			return e.Error(), walHint
		}
		return e.Error(), "a mapping query may only read; if none writes, " + walHint
	}
	if strings.Contains(e.Error(), "no such table") || strings.Contains(e.Error(), "no such column") {
		return e.Error(), "the schema of the source is not the one the pack was written for"
	}
	return e.Error(), ""
}

// quotedText is what databases put in quotes when they quote a value.
var quotedText = regexp.MustCompile(`'(?:[^']|'')*'|"[^"]*"|:.*$`) //nolint:gochecknoglobals // compiled once, never written

// withoutQuoted replaces what a message quotes, and what follows a colon, so that no value of a row is shown (I14).
func withoutQuoted(message string) string {
	return quotedText.ReplaceAllString(message, "…")
}
