package httpd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/edfisync/edfisync/internal/attacktest"
)

// Addresses are refused where they are written, and once more when they are called; names and odd spellings of addresses, of which each system thinks what
// it likes, when they are called.
func TestEgressCallsNothingThatOnlyWeCanReach(t *testing.T) {
	t.Parallel()
	addresses := []string{
		"http://127.0.0.1/", "http://127.1.2.3:8080/", "http://[::1]/", "http://0.0.0.0/", "http://0.1.2.3/", "http://[::]/",
		"http://169.254.169.254/latest/meta-data/", "http://169.254.170.2/v2/credentials", "http://[fd00:ec2::254]/", "http://[fd20:ce::254]/", "http://100.100.100.200/",
		"http://168.63.129.16/", "http://192.0.0.192/opc/v2/", "http://169.254.1.1/",
		"http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/", "http://[fc00::1]/", "http://[fec0::1]/",
		"http://[::ffff:127.0.0.1]/", "http://[::ffff:10.0.0.1]/", "http://[::ffff:a9fe:a9fe]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::a9fe:a9fe]/",
		"http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/", "http://[2002:c0a8:101::]/", "http://[fe80::1%25lo]/", "http://224.0.0.1/", "http://[ff02::1]/", "http://[ff01::1]/",
		"http://[ff0e::1]/", "http://239.255.255.250:1900/", "http://255.255.255.255/",
		"http://240.0.0.1/", "http://192.0.0.8/", "http://198.18.0.1/", "http://198.51.100.1/", "http://203.0.113.1/", "http://192.0.2.1/", "http://[2001:db8::1]/", "http://[2001::1]/",
		"http://[3fff::1]/", "http://[5f00::1]/", "http://[100::1]/", "http://[4000::1]/",
	}
	names := []string{
		"http://localhost/", "http://LOCALHOST./", "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
		"http://inside.example.org/",
	}
	noCalls := []string{ // to hosts that may be called
		"file:///etc/passwd", "file://example.org/etc/passwd", "gopher://example.org:70/_", "ftp://example.org/", "unix://example.org/run/docker.sock", "ws://example.org/",
		"http:///path", "//example.org/", "http://user:secret@example.org/", "javascript:alert(1)", "http://[::1", "http://127.0.0.1:80@example.org/", "\x00http://127.0.0.1/",
	}
	attacktest.Played(t, attacktest.Egress, slices.Concat(addresses, names, noCalls))
	e := Egress{Resolver: alwaysLoopback(t, new(atomic.Int64))}
	call := func(t *testing.T, raw string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.Client().Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		var forbidden *ForbiddenError
		var noSuchName *net.DNSError // what Go does not take for a name, it does not look up
		if !errors.As(err, &forbidden) && !errors.Is(err, syscall.EAFNOSUPPORT) && !(slices.Contains(names, raw) && errors.As(err, &noSuchName)) {
			t.Errorf("called: got %v, want it forbidden", err)
		}
	}
	for _, raw := range addresses {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			var forbidden *ForbiddenError
			if err := e.CheckURL(raw); !errors.As(err, &forbidden) {
				t.Errorf("written: got %v, want it forbidden", err)
			}
			call(t, raw)
		})
	}
	for _, raw := range names {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			call(t, raw)
		})
	}
	for _, raw := range noCalls {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			err := e.CheckURL(raw)
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want it refused, without a password in what is said", err)
			}
		})
	}
}

func TestEgressCallsWhatIsPublicOrAllowed(t *testing.T) {
	t.Parallel()
	private := Egress{Networks: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd12::/16")}, Hosts: []string{"ods.internal", "LOCALHOST"}}
	for name, c := range map[string]struct {
		egress  Egress
		host    string
		addr    string
		allowed bool
	}{
		"a public address":                           {Egress{}, "example.org", "93.184.216.34", true},
		"a public IPv6 address":                      {Egress{}, "example.org", "2606:2800:220:1::1", true},
		"NAT64 of a public address":                  {Egress{}, "example.org", "64:ff9b::5db8:d822", true},
		"6to4 of a public address":                   {Egress{}, "example.org", "2002:5db8:d822::1", true},
		"an allowed network":                         {private, "x", "10.20.3.4", true},
		"an allowed network written as IPv6":         {private, "x", "::ffff:10.20.3.4", true},
		"an allowed IPv6 network":                    {private, "x", "fd12::1", true},
		"beside an allowed network":                  {private, "x", "10.21.0.1", false},
		"an allowed host":                            {private, "ODS.internal.", "192.168.7.7", true},
		"an allowed host on this machine":            {private, "localhost", "127.0.0.1", true},
		"a host that ends like an allowed one":       {private, "evil-ods.internal", "192.168.7.7", false},
		"a host below an allowed one":                {private, "a.ods.internal", "192.168.7.7", false},
		"metadata in an explicitly allowed network":  {Egress{Networks: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}}, "x", "169.254.169.254", true},
		"a private address with nothing allowed":     {Egress{}, "ods.internal", "192.168.7.7", false},
		"a private address in IPv6 clothes":          {Egress{}, "ods.internal", "::ffff:192.168.7.7", false},
		"loopback in a zone":                         {Egress{}, "x", "::1%lo", false},
		"an allowed network does not allow loopback": {private, "x", "127.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.egress.checkAddr(c.host, netip.MustParseAddr(c.addr))
			if (err == nil) != c.allowed {
				t.Errorf("got %v, want allowed %v", err, c.allowed)
			}
		})
	}
}

// A host that may be called does not lead to what hands out the cloud's credentials, in whatever way the address is written.
func TestAnAllowedHostDoesNotLeadToMetadata(t *testing.T) {
	t.Parallel()
	e := Egress{Hosts: []string{"ods.internal"}}
	for _, addr := range []string{
		"169.254.169.254", "169.254.170.2", "169.254.1.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "fe80::1",
		"::ffff:100.100.100.200", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254%eth0",
	} {
		if err := e.checkAddr("ods.internal", netip.MustParseAddr(addr)); err == nil {
			t.Errorf("%s may be called", addr)
		}
	}
}

func TestEgressDoesNotFollowRedirectsInside(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inside.Close)
	var to atomic.Value
	var asked atomic.Int64
	redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, to.Load().(string), http.StatusTemporaryRedirect)
	})
	outside, secure, plain := onPublicAddress(t, redirect), onPublicAddress(t, redirect), onPublicAddress(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	outside.Start()
	secure.StartTLS()
	plain.Start()
	e := Egress{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	client := e.Client()
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.ServerName = "example.com" // as the certificate of httptest has it
	client.Transport.(*http.Transport).TLSClientConfig = trust
	user := strings.Replace(plain.URL, "://", "://user:secret@", 1)
	for _, c := range []struct {
		from, to string
		requests int64 // that the redirecting server sees
	}{
		{outside.URL, inside.URL, 1},
		{outside.URL, strings.Replace(inside.URL, "127.0.0.1", "localhost", 1), 1},
		{outside.URL, "http://169.254.169.254/", 1},
		{outside.URL, "file:///etc/passwd", 1},
		{outside.URL, "gopher://127.0.0.1/", 1},
		{outside.URL, user, 1},
		{outside.URL, outside.URL, 5}, // for ever
		{secure.URL, plain.URL, 1},    // out of TLS
	} {
		to.Store(c.to)
		asked.Store(0)
		resp, err := client.Get(c.from)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			t.Errorf("redirect to %s was followed", c.to)
		}
		if n := asked.Load(); n != c.requests {
			t.Errorf("redirect to %s: %d requests, want %d: %v", c.to, n, c.requests, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("the inside was reached")
	}
}

// onPublicAddress is a server that is not started yet, at the address that is public in a test.
func onPublicAddress(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("this machine has no 127.0.0.2: ", err)
	}
	_ = s.Listener.Close()
	s.Listener = l
	t.Cleanup(s.Close)
	return s
}

// A name whose address changes between the check of a URL and the call, and one with a public and a private address, reach nothing inside.
func TestEgressIsNotFooledByNamesThatChange(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var reached atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(inside.Close)
	e := Egress{Resolver: alwaysLoopback(t, &asked)}
	url := strings.Replace(inside.URL, "127.0.0.1", "rebind.example.org", 1)
	if err := e.CheckURL(url); err != nil {
		t.Fatalf("a name is judged when it is called: %v", err)
	}
	resp, err := e.Client().Get(url)
	var forbidden *ForbiddenError
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.As(err, &forbidden) || reached.Load() != 0 || asked.Load() == 0 {
		t.Errorf("got %v, reached %d times, looked up %d times; want it looked up and forbidden", err, reached.Load(), asked.Load())
	}
}

// alwaysLoopback finds 127.0.0.1 behind every name that the machine's own list of hosts does not have, and counts how often it was asked.
func alwaysLoopback(t *testing.T, asked *atomic.Int64) *net.Resolver {
	t.Helper()
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dns.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := dns.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			_, _ = dns.WriteTo(answerA(b[:n], [4]byte{127, 0, 0, 1}), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", dns.LocalAddr().String())
	}}
}

// answerA answers a DNS query: one address for A, none for anything else.
func answerA(query []byte, addr [4]byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	out := append([]byte{}, query[:end]...)
	out[2], out[3] = 0x81, 0x80
	binary.BigEndian.PutUint16(out[6:], 0)
	binary.BigEndian.PutUint16(out[8:], 0)
	binary.BigEndian.PutUint16(out[10:], 0)
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		binary.BigEndian.PutUint16(out[6:], 1)
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, addr[0], addr[1], addr[2], addr[3])
	}
	return out
}
