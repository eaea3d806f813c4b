package source

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

// Dial connects to a server. It may be called concurrently, and with addresses that a server or the DNS named.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// With Config.Dial a connection string comes from somebody who may not have this machine do whatever they like: no socket of the machine is connected to,
// no file of it is read or shown to a server, and no password that only the environment of this process has is sent anywhere (I15).

// fromMachine says that a connection string takes something from this machine.
func fromMachine(option string) error {
	return &Error{
		Op: "connect", Err: fmt.Errorf("%s of source.dsn would take something from this machine, which a connection of the ledger may not", option),
		Hint: "leave it out, or keep the connection in the configuration file",
	}
}

// guardPostgres keeps a configuration of lib/pq, which has the environment of this process in it, to what the connection string says.
func guardPostgres(c *pq.Config, dsn string) error {
	for option, value := range map[string]string{"sslcert": c.SSLCert, "sslkey": c.SSLKey, "sslrootcert": c.SSLRootCert} {
		if value != "" && !c.SSLInline && value != "system" && value != os.Getenv("PG"+strings.ToUpper(option)) {
			return fromMachine(option)
		}
	}
	switch {
	case c.Service != "" && c.Service != os.Getenv("PGSERVICE"):
		return fromMachine("service")
	case c.Passfile != "" && c.Passfile != os.Getenv("PGPASSFILE"):
		return fromMachine("passfile")
	}
	c.Passfile = filepath.Join(os.DevNull, "none") // else it would be ~/.pgpass
	if p := os.Getenv("PGPASSWORD"); p != "" && c.Password == p && !strings.Contains(dsn, p) {
		c.Password = ""
	}
	return nil
}

// guardMySQL sends a configuration of go-sql-driver/mysql through the dialer.
func guardMySQL(c *mysql.Config, dial Dial) error {
	if c.Net != "tcp" {
		return fromMachine(c.Net)
	}
	c.DialFunc = dial
	return nil
}

// sqlServerFiles are the options of go-mssqldb that name a file, which it reads as soon as it reads the connection string.
var sqlServerFiles = regexp.MustCompile(`(?i)(?:^|[?&;\s])((?:server)?certificate|krb5-\w+|authenticator)\s*=`) //nolint:gochecknoglobals // compiled once, never written

// filesSQLServer refuses a connection string that names a file.
func filesSQLServer(dsn string) error {
	plain, err := url.QueryUnescape(dsn)
	if err != nil {
		plain = dsn // not of the form of a URL
	}
	for _, text := range []string{dsn, plain} {
		if found := sqlServerFiles.FindStringSubmatch(text); found != nil {
			return fromMachine(strings.ToLower(found[1]))
		}
	}
	return nil
}

// guardSQLServer sends a connector of go-mssqldb through the dialer.
func guardSQLServer(connector *mssql.Connector, c *msdsn.Config, dial Dial) error {
	if len(c.Protocols) != 1 || c.Protocols[0] != "tcp" {
		return fromMachine(strings.Join(c.Protocols, ", "))
	}
	connector.Dialer = hostDialer{dialer{dial}, c.Host}
	return nil
}

// dialer is a Dial in the form of lib/pq.
type dialer struct{ dial Dial }

var (
	_ pq.Dialer        = dialer{}
	_ pq.DialerContext = dialer{}
	_ mssql.HostDialer = hostDialer{}
)

// Dial implements pq.Dialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext implements pq.DialerContext. Everything but TCP, and the UDP that finds a named instance of SQL Server, is a socket of this machine.
func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return nil, fromMachine("the socket")
	}
	return d.dial(ctx, network, address)
}

// hostDialer makes go-mssqldb leave names to the dialer, which checks what they stand for.
type hostDialer struct {
	dialer
	host string
}

// HostName implements mssql.HostDialer.
func (h hostDialer) HostName() string { return h.host }
