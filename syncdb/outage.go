package syncdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// reachTime is how long a server has to answer Reach.
const reachTime = 10 * time.Second

// Reach returns an error when the server of a ledger does not answer within ten seconds. It makes nothing. A ledger in a file needs no server.
func Reach(ctx context.Context, dsn string) error {
	if !strings.HasPrefix(dsn, "postgres:") && !strings.HasPrefix(dsn, "postgresql:") {
		return nil
	}
	s, err := openPostgres(ctx, dsn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := s.reads().PingContext(ctx); err != nil {
		return errors.Join(fmt.Errorf("open ledger %s: connect: %w", s.name(), err), s.close())
	}
	return s.close()
}

// Passes reports whether an error of Open or Reach is one that waiting may mend: a server that is down, starting, ending, full or read-only; a network
// that drops; a disk that is full. A wrong address, password or key is not.
func Passes(err error) bool {
	var (
		refused *pq.Error
		file    *sqlite.Error
		network net.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &refused):
		switch refused.Code.Class() {
		case "08", "53", "57": // connection, resources, intervention of an operator
			return true
		}
		return refused.Code == "25006" || refused.Code == "40001" || refused.Code == "40P01" || refused.Code == "55P03" // a standby, before it is promoted
	case errors.As(err, &file):
		switch file.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			return true
		}
		return false
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// Remedy says what to do about an error of Open or Reach that does not pass; "" when the error says all there is to say.
func Remedy(err error) string {
	if errors.Is(err, pq.ErrSSLNotSupported) {
		return "a ledger.dsn without sslmode asks for TLS, which this server does not speak: add ?sslmode=disable if the way there is safe, else turn TLS on at the server"
	}
	var refused *pq.Error
	if !errors.As(err, &refused) {
		return ""
	}
	switch {
	case refused.Code.Class() == "28":
		return "user or password of ledger.dsn is wrong, or pg_hba.conf does not let it in from here"
	case refused.Code == "3D000":
		return "the server has no database of that name: make it with createdb, or correct ledger.dsn"
	case refused.Code == "42501":
		return "let the user of ledger.dsn make tables in its database: it should own it"
	}
	return ""
}
