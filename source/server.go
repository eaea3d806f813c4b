package source

import (
	"fmt"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	"github.com/microsoft/go-mssqldb/msdsn"
)

// Server names the database server a DSN leads to, "host:port", or the file of a SQLite database: the same for all DSNs that lead there, whatever the
// database, the user and the options. It never holds a password; it is "" when the DSN cannot be read.
func Server(driver, dsn string) string {
	switch driver {
	case Postgres:
		if c, err := pq.NewConfig(dsn); err == nil {
			return address(c.Host, fmt.Sprint(c.Port))
		}
	case MySQL:
		if c, err := mysql.ParseDSN(dsn); err == nil {
			return strings.ToLower(c.Addr)
		}
	case SQLServer:
		if c, err := msdsn.Parse(dsn); err == nil {
			if c.Instance != "" {
				return address(c.Host+`\`+c.Instance, fmt.Sprint(c.Port))
			}
			return address(c.Host, fmt.Sprint(c.Port))
		}
	case SQLite:
		path, _ := strings.CutPrefix(dsn, "file:")
		path, _, _ = strings.Cut(path, "?")
		return path
	}
	return ""
}

func address(host, port string) string { return strings.ToLower(net.JoinHostPort(host, port)) }
