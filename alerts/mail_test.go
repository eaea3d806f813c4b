package alerts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/httpd"
)

// mailbox is a real SMTP server that keeps what it gets.
type mailbox struct {
	address string
	roots   *x509.CertPool

	mu   gosync.Mutex
	got  []string
	to   []string
	auth bool
}

// newMailbox starts one, with STARTTLS, with TLS from the start, or without.
func newMailbox(t *testing.T, mode string) *mailbox {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	m := &mailbox{roots: x509.NewCertPool()}
	m.roots.AddCert(leaf)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s := smtp.NewServer(m)
	s.Domain, s.ReadTimeout, s.WriteTimeout = "localhost", 10*time.Second, 10*time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	switch mode {
	case alerts.StartTLS:
		s.TLSConfig = config
	case alerts.TLS:
		l = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return m
}

// NewSession implements smtp.Backend.
func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m}, nil }

type mailSession struct{ *mailbox }

func (*mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "edfisync" || password != "right" {
			return smtp.ErrAuthFailed
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.auth = true
		return nil
	}), nil
}
func (*mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody") {
		return errors.New("no such mailbox")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(text))
	return err
}
func (*mailSession) Reset()        {}
func (*mailSession) Logout() error { return nil }

func TestNoticesAreMailed(t *testing.T) {
	t.Parallel()
	n := alerts.Notice{
		ID: "NOTICE", Kind: alerts.Firing, At: noon, Tenant: "acme", Connection: "north", Condition: alerts.TargetUnreachable,
		Title: "the target cannot be reached\r\nBcc: everybody@example.org", Detail: "run 7\n.\nnot the end", Remedy: "edfisync check",
	}
	for _, mode := range []string{alerts.StartTLS, alerts.TLS, alerts.Plain} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			box := newMailbox(t, mode)
			m := &alerts.Mail{
				Address: box.address, From: "edfisync <edfisync@example.org>", To: []string{"Ops <ops@example.org>", "ada@example.org"}, Mode: mode, Dial: loopback(t).Dial,
				TLS: &tls.Config{RootCAs: box.roots},
			}
			if mode != alerts.Plain {
				m.Username, m.Password = "edfisync", "right"
			}
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
			if err := m.Send(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if len(box.got) != 1 || strings.Join(box.to, " ") != "ops@example.org ada@example.org" || box.auth != (mode != alerts.Plain) {
				t.Fatalf("%d mails to %v, logged in %t", len(box.got), box.to, box.auth)
			}
			got, err := mail.ReadMessage(strings.NewReader(box.got[0]))
			if err != nil {
				t.Fatalf("%v\n%s", err, box.got[0])
			}
			body, err := io.ReadAll(got.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got.Header.Get("Bcc") != "" || !strings.HasPrefix(got.Header.Get("Subject"), "[edfisync] firing acme/north:") || got.Header.Get("Message-ID") != "<NOTICE@edfisync.localhost>" {
				t.Errorf("header %v", got.Header)
			}
			for _, want := range []string{"target-unreachable", "edfisync check", "not the end", "2026-11-22T12:00:00Z"} {
				if !strings.Contains(string(body), want) {
					t.Errorf("the mail does not say %q:\n%s", want, body)
				}
			}
		})
	}
}

func TestMailsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	box := newMailbox(t, alerts.Plain)
	secure := newMailbox(t, alerts.StartTLS)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, c := range map[string]struct {
		change func(m *alerts.Mail)
		want   string
	}{
		"a server without STARTTLS gets nothing": {func(m *alerts.Mail) { m.Address, m.Mode = box.address, alerts.StartTLS }, "does not offer STARTTLS"},
		"a certificate nobody vouches for":       {func(m *alerts.Mail) { m.TLS = nil }, "certificate"},
		"a wrong password":                       {func(m *alerts.Mail) { m.Password = "SECRETPASSWORD" }, "log in"},
		"a recipient who is not there":           {func(m *alerts.Mail) { m.To = []string{"nobody@example.org"} }, "name a recipient"},
		"an address that may not be called":      {func(m *alerts.Mail) { m.Dial = httpd.Egress{}.Dial }, "may not be called"},
		"a server that says nothing":             {func(m *alerts.Mail) { m.Address = mute.Addr().String() }, "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &alerts.Mail{
				Address: secure.address, From: "edfisync@example.org", To: []string{"ops@example.org"}, Mode: alerts.StartTLS, Username: "edfisync", Password: "right",
				Dial: loopback(t).Dial, TLS: &tls.Config{RootCAs: secure.roots},
			}
			c.change(m)
			patience := time.Minute
			if c.want == "in time" {
				patience = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := m.Send(ctx, alerts.NewTest(time.Now()))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRETPASSWORD") {
				t.Errorf("got %v, want something about %q", err, c.want)
			}
		})
	}
	if len(box.got)+len(secure.got) != 0 {
		t.Error("a mail was sent all the same")
	}
	for _, m := range []alerts.Mail{{From: "nobody", To: []string{"ops@example.org"}}, {From: "a@example.org", To: []string{"x\r\nRCPT TO:<y>"}}, {From: "a@example.org"}} {
		if m.Check() == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
}
