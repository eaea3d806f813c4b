package sync_test

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
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Faults below HTTP: no connection comes about, or one breaks while a request is sent. The network is real but for its dialer.

// network is how a client reaches its target. The zero value is a good one.
type network struct {
	mu    gosync.Mutex
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: as usual
	conns []net.Conn
	turns int // how often it has become another
}

// DialContext is edfi.Config's.
func (n *network) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	for {
		n.mu.Lock()
		dial, turn := n.dial, n.turns
		n.mu.Unlock()
		if dial == nil {
			dial = (&net.Dialer{}).DialContext
		}
		conn, err := dial(ctx, kind, address)
		if err != nil {
			return nil, err
		}
		if n.keep(conn, turn) {
			return conn, nil
		}
		_ = conn.Close() // made by a network that is no more
	}
}

// keep notes a connection, unless the network has become another meanwhile.
func (n *network) keep(conn net.Conn, turn int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.turns == turn {
		n.conns = append(n.conns, conn)
	}
	return n.turns == turn
}

// becomes breaks all connections there are; new ones are made by dial.
func (n *network) becomes(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dial = dial
	n.turns++
	for _, c := range n.conns {
		_ = c.Close() // broken or not, it is not used any more
	}
	n.conns = nil
}

// refused is a dial to a port nobody listens on.
func refused(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, kind, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, kind, closed)
	}
}

// lostTarget loads half a district, lets the network become bad, and checks that the run ends by itself with an error, that next to nothing was tried
// since, and that the next run continues from there.
func lostTarget(t *testing.T, w *world, n *network, dial func(context.Context, string, string) (net.Conn, error)) *sync.Summary {
	t.Helper()
	w.fill(150)
	var posts, after atomic.Int64
	var lost atomic.Bool
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if lost.Load() {
			after.Add(1)
		}
		if posts.Add(1) == 60 {
			n.becomes(dial)
			lost.Store(true)
		}
		return false
	})
	s, _, err := w.run()
	if err == nil || s.State != syncdb.RunFailed {
		t.Errorf("got %v and state %s, want a failed run", err, s.State)
	}
	if k := after.Load(); k > 16 { // what was in flight
		t.Errorf("%d requests arrived after the target was lost", k)
	}
	if s.Totals.Rows != s.Totals.WithRow || s.Totals.NotSent == 0 {
		t.Errorf("got totals %+v, want the rows nobody reached named (I11)", s.Totals)
	}
	n.becomes(nil)
	w.heals()
	return s
}

// F1: the target refuses connections from the middle of a load on.
func TestF01ConnectionRefused(t *testing.T) {
	t.Parallel()
	w, n := newWorld(t), &network{}
	w.tune = func(c *edfi.Config) { c.DialContext = n.DialContext }
	lostTarget(t, w, n, refused(t))
}

// F2: its name does not resolve any more.
func TestF02NameDoesNotResolve(t *testing.T) {
	t.Parallel()
	w, n := newWorld(t), &network{}
	w.tune = func(c *edfi.Config) { c.DialContext = n.DialContext }
	lostTarget(t, w, n, func(_ context.Context, kind, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: kind, Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
	})
}

// F4: connections are not answered: the attempts end in time.
func TestF04ConnectTimeout(t *testing.T) {
	t.Parallel()
	w, n := newWorld(t), &network{}
	w.tune = func(c *edfi.Config) { c.DialContext, c.Timeout = n.DialContext, time.Second }
	lostTarget(t, w, n, func(ctx context.Context, kind, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: kind, Err: ctx.Err()}
	})
}

// F3: what answers in the target's place from the middle of a load on cannot prove who it is. Nothing is sent to it, and the run ends.
func TestF03TLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	now := time.Now()
	for _, c := range []struct {
		name string
		tls  *tls.Config
	}{
		{"expired", ca.serve(t, "127.0.0.1", now.Add(-48*time.Hour), now.Add(-24*time.Hour))},
		{"of another host", ca.serve(t, "127.0.0.2", now.Add(-time.Hour), now.Add(time.Hour))},
		{"of an unknown authority", other.serve(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))},
		{"TLS 1.1 at most", func() *tls.Config {
			config := ca.serve(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
			config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return config
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, n := newWorld(t), &network{}
			good := httptest.NewUnstartedServer(w.front)
			good.TLS = ca.serve(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
			good.Config.ErrorLog = log.New(io.Discard, "", 0)
			good.StartTLS()
			t.Cleanup(good.Close)
			var reached atomic.Int64
			bad := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
			bad.TLS = c.tls
			bad.Config.ErrorLog = log.New(io.Discard, "", 0)
			bad.StartTLS()
			t.Cleanup(bad.Close)
			w.tune = func(config *edfi.Config) {
				config.BaseURL, config.TLS, config.DialContext = good.URL, &tls.Config{RootCAs: ca.pool}, n.DialContext
			}
			lostTarget(t, w, n, func(ctx context.Context, kind, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, kind, bad.Listener.Addr().String())
			})
			if k := reached.Load(); k != 0 {
				t.Errorf("%d requests were sent to a host that could not prove who it is", k)
			}
		})
	}
}

// F7: connections break in the middle of requests: after so many bytes, wherever that is. Nothing of the request was done, or all of it.
func TestF07ConnectionsBreakWithinRequests(t *testing.T) {
	t.Parallel()
	w, n := newWorld(t), &network{}
	w.tune = func(c *edfi.Config) { c.DialContext, c.MaxRetries = n.DialContext, 8 }
	w.fill(40)
	var cut atomic.Int64
	n.becomes(func(ctx context.Context, kind, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
		if err != nil {
			return nil, err
		}
		return &brittle{Conn: conn, left: 2900, cut: &cut}, nil
	})
	s, _ := w.mustRun()
	if cut.Load() == 0 || s.Created == 0 {
		t.Errorf("%d connections broke, totals %+v; want some, and records created all the same", cut.Load(), s.Totals)
	}
	n.becomes(nil)
	w.heals()
}

// brittle is a connection that is reset after so many bytes were written.
type brittle struct {
	net.Conn
	left int
	cut  *atomic.Int64
}

// Write is net.Conn's.
func (b *brittle) Write(p []byte) (int, error) {
	if len(p) <= b.left {
		b.left -= len(p)
		return b.Conn.Write(p)
	}
	n, err := b.Conn.Write(p[:b.left])
	b.cut.Add(1)
	if tcp, ok := b.Conn.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.SetLinger(0))
	}
	return n, errors.Join(err, b.Conn.Close(), &net.OpError{Op: "write", Net: "tcp", Err: errors.New("connection reset by peer")})
}

// authority is a certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(72 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return authority{certificate, key, pool}
}

// serve is the configuration of a server with a certificate for an address, valid from and to.
func (a authority) serve(t *testing.T, address string, from, to time.Time) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.ParseIP(address)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
