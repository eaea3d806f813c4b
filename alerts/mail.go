package alerts

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"os"
	"strings"
	"time"
)

// How a mail server is spoken to.
const (
	StartTLS = "starttls" // plain at first, then TLS; a server that does not offer it gets nothing
	TLS      = "tls"      // TLS from the first byte
	Plain    = "none"     // without TLS, on a network of one's own
)

// Mail sends notices by SMTP.
type Mail struct {
	Address            string // host:port of the server
	From               string
	To                 []string
	Username, Password string // "" = without logging in
	Mode               string // StartTLS, TLS or Plain
	Tenants            []string
	// Dial connects; it is where addresses are checked (httpd.Egress.Dial).
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config // nil verifies against the system's
}

var _ Receiver = (*Mail)(nil)

// MailName is the name of the receiver that sends mails.
const MailName = "smtp"

// Name implements Receiver.
func (*Mail) Name() string { return MailName }

// Wants implements Receiver.
func (m *Mail) Wants(tenant string) bool { return wants(m.Tenants, tenant) }

// Check returns an error when the sender or a recipient is no address.
func (m *Mail) Check() error {
	for _, a := range append([]string{m.From}, m.To...) {
		if _, err := mail.ParseAddress(a); err != nil {
			return fmt.Errorf("%q is not a mail address", a)
		}
	}
	if len(m.To) == 0 {
		return errors.New("a mail needs a recipient")
	}
	return nil
}

// Send implements Receiver.
func (m *Mail) Send(ctx context.Context, n Notice) error {
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		return errors.New("the mail server's address must be host:port")
	}
	conn, err := m.Dial(ctx, "tcp", m.Address)
	if err != nil {
		return fmt.Errorf("connect to the mail server: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // a server that hangs is left when the time is over
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	config := m.TLS.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	config.ServerName, config.MinVersion = host, max(config.MinVersion, tls.VersionTLS12)
	if m.Mode == TLS {
		conn = tls.Client(conn, config)
	}
	if err := m.converse(conn, host, config, n); err != nil {
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.New("the mail server did not answer in time")
		}
		return err
	}
	return nil
}

// converse speaks SMTP over an open connection.
func (m *Mail) converse(conn net.Conn, host string, config *tls.Config, n Notice) error {
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("greet the mail server: %w", err)
	}
	defer c.Close()
	if err := c.Hello("edfisync.localhost"); err != nil {
		return fmt.Errorf("greet the mail server: %w", err)
	}
	if m.Mode == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("the mail server does not offer STARTTLS; nothing was sent to it (tls: none allows that on a network of your own)")
		}
		if err := c.StartTLS(config); err != nil {
			return fmt.Errorf("begin TLS with the mail server: %w", err)
		}
	}
	if m.Username != "" {
		if err := c.Auth(smtp.PlainAuth("", m.Username, m.Password, host)); err != nil {
			return fmt.Errorf("log in to the mail server: %w", err)
		}
	}
	from, err := mail.ParseAddress(m.From)
	if err != nil {
		return errors.New("the sender is not a mail address")
	}
	if err := c.Mail(from.Address); err != nil {
		return fmt.Errorf("name the sender: %w", err)
	}
	for _, to := range m.To {
		a, err := mail.ParseAddress(to)
		if err != nil {
			return errors.New("a recipient is not a mail address")
		}
		if err := c.Rcpt(a.Address); err != nil {
			return fmt.Errorf("name a recipient: %w", err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	if _, err := w.Write(m.message(n)); err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	_ = c.Quit() // it has the mail
	return nil
}

// message is the mail. Its Message-ID is made from the notice's: a mail that was sent twice can be told from two.
func (m *Mail) message(n Notice) []byte {
	var b bytes.Buffer
	oneLine := strings.NewReplacer("\r", " ", "\n", " ")
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, oneLine.Replace(value)) }
	header("From", m.From)
	header("To", strings.Join(m.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", oneLine.Replace(n.Subject())))
	header("Date", time.Now().Format(time.RFC1123Z))
	header("Message-ID", "<"+n.ID+"@edfisync.localhost>")
	header(NoticeHeader, n.ID)
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(n.Text(), "\n", "\r\n"))) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
