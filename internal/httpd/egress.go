package httpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Egress says which addresses may be called that came from a user: of Ed-Fi APIs, webhooks, identity providers. Without being allowed, nothing may be
// called that is not on the public internet (SSRF). The zero Egress allows no private address.
type Egress struct {
	// Networks may be called although they are private: "10.20.0.0/16".
	Networks []netip.Prefix
	// Hosts may be called whatever address they have, but for addresses of the link and of cloud metadata, which only Networks allows. Names as they
	// stand in URLs, without a port.
	Hosts []string
	// Resolver looks names up; nil means the system's.
	Resolver *net.Resolver
	// Timeout of a call as a whole in Client; 0 means 30 s.
	Timeout time.Duration
}

// ForbiddenError says that an address must not be called.
type ForbiddenError struct {
	Host string     // as asked for
	Addr netip.Addr // what it stood for; zero when it was not resolved
	Why  string     // "loopback", "private", …
}

func (e *ForbiddenError) Error() string {
	at := e.Host
	if e.Addr.IsValid() && e.Addr.String() != e.Host {
		at += " (" + e.Addr.String() + ")"
	}
	return fmt.Sprintf("%s may not be called: %s (allow it in the configuration if it is meant)", at, e.Why)
}

// CheckURL returns an error for a URL that no call can be made to, before anything is resolved: other schemes than http and https, no host, a password
// in it, an address that is not allowed. That a URL passes does not mean that it is safe: the address a name stands for is checked when it is called.
func (e Egress) CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the URL cannot be read") // err would repeat a password in it (I15)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("the URL must start with https:// or http://")
	case u.Hostname() == "":
		return errors.New("the URL has no host")
	case u.User != nil:
		return errors.New("the URL must not hold a user or password")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return e.checkAddr(u.Hostname(), a)
	}
	return nil
}

// Transport returns a transport that checks each address after it was resolved and before it is called, so that a name whose address changes between
// a check and a call, and a redirect, get no further. It uses no proxy: a proxy would resolve the names.
func (e Egress) Transport() *http.Transport {
	return &http.Transport{
		DialContext:            e.dial,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           100,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// Client returns a client on Transport that follows up to five redirects, none of them from https to http.
func (e Egress) Client() *http.Client {
	return &http.Client{
		Transport: e.Transport(), Timeout: orDefault(e.Timeout, 30*time.Second),
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			switch {
			case len(via) >= 5:
				return errors.New("too many redirects")
			case via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme != "https":
				return errors.New("it redirects from https to http")
			}
			return e.CheckURL(next.URL.String())
		},
	}
}

// ParseEgress reads what may be called although it is not on the public internet: networks ("10.20.0.0/16"), addresses ("127.0.0.1") and names of hosts
// ("sis.district.example").
func ParseEgress(allow []string) (Egress, error) {
	var e Egress
	for _, text := range allow {
		if networks, err := ParseNetworks([]string{text}); err == nil {
			e.Networks = append(e.Networks, networks...)
			continue
		}
		if text == "" || strings.ContainsAny(text, "/:@*? ") || strings.Trim(text, "0123456789.") == "" {
			return Egress{}, fmt.Errorf("%q is no network, no address and no name of a host; want 10.20.0.0/16, 127.0.0.1 or sis.district.example", text)
		}
		e.Hosts = append(e.Hosts, text)
	}
	return e, nil
}

// Dial connects to an address that may be called, for protocols other than HTTP and for clients with a transport of their own. With such a client no
// proxy may be used: it would resolve the names.
func (e Egress) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dial(ctx, network, address)
}

// dial connects to an address that may be called. The check is in Control, which sees the address the connection is about to be made to.
func (e Egress) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Resolver: e.Resolver, Control: func(_, at string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(at)
		if err != nil {
			return &ForbiddenError{Host: host, Why: "it has no address that can be checked"}
		}
		return e.checkAddr(host, ap.Addr())
	}}
	return d.DialContext(ctx, network, address)
}

// checkAddr returns a *ForbiddenError for an address that is not public, unless it is allowed.
func (e Egress) checkAddr(host string, a netip.Addr) error {
	a = a.Unmap().WithZone("")
	why := notPublic(a)
	if why == "" || contains(e.Networks, a) {
		return nil
	}
	named := slices.ContainsFunc(e.Hosts, func(h string) bool {
		return strings.EqualFold(strings.TrimSuffix(h, "."), strings.TrimSuffix(host, "."))
	})
	if named && why != whyMetadata && why != whyLink {
		return nil
	}
	return &ForbiddenError{Host: host, Addr: a, Why: why}
}

const (
	whyMetadata = "it is the cloud's metadata service"
	whyLink     = "it is an address of the local link"
)

// notPublic says why an address is none of the public internet; "" when it is one. IPv6 addresses that carry an IPv4 address are judged by that.
func notPublic(a netip.Addr) string {
	in := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
	}
	switch {
	case in("169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128"):
		return whyMetadata
	case a.IsLoopback():
		return "it is this machine"
	case a.IsUnspecified(), in("0.0.0.0/8"):
		return "it is no address of another machine"
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast(), a.IsInterfaceLocalMulticast():
		return whyLink
	case a.IsMulticast(), in("255.255.255.255/32"):
		return "it is an address of many machines"
	case a.IsPrivate(), in("100.64.0.0/10", "fec0::/10"):
		return "it is private"
	case in("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "100::/64", "2001:db8::/32", "2001::/23", "3fff::/20", "5f00::/16"):
		return "it is reserved"
	}
	if a.Is4() {
		return ""
	}
	b := a.As16()
	switch {
	case in("64:ff9b::/96"): // NAT64
		return notPublic(netip.AddrFrom4([4]byte(b[12:16])))
	case in("64:ff9b:1::/48", "::/96"): // NAT64 of one's own, and the old way to carry an IPv4 address
		return "it carries an IPv4 address"
	case in("2002::/16"): // 6to4
		return notPublic(netip.AddrFrom4([4]byte(b[2:6])))
	case !in("2000::/3"):
		return "it is reserved"
	}
	return ""
}
