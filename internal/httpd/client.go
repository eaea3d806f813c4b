package httpd

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// ParseNetworks reads networks ("10.0.0.0/8", "2001:db8::/32") and single addresses ("192.0.2.7").
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				a = a.Unmap().WithZone("")
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a network; want one such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7", text)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%q has bits set behind its length; want %s", text, p.Masked())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 { // ::ffff:10.0.0.0/104 is 10.0.0.0/8
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p)
	}
	return out, nil
}

// contains reports whether an address is in one of the networks. An IPv4 address in an IPv6 one's clothes is the IPv4 address.
func contains(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// remote is the address of the peer that opened the connection.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// clientAddr is the address a request comes from: the peer's, or, when that is a trusted proxy, the last address of X-Forwarded-For that is not one.
// Addresses further left are the client's own words and are not believed; so is a whole header that no proxy of ours wrote.
func clientAddr(r *http.Request, proxies []netip.Prefix) netip.Addr {
	at := remote(r)
	if !at.IsValid() || !contains(proxies, at) {
		return at
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, err := hopAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return at // a proxy wrote something else: what is further left cannot be relied on
		}
		at = a
		if !contains(proxies, at) {
			return at
		}
	}
	return at
}

// hopAddr reads an element of X-Forwarded-For: an address, which some proxies give a port.
func hopAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(text); err == nil {
			a = ap.Addr()
		}
	}
	return a.Unmap().WithZone(""), err
}

// secure tells whether the client speaks TLS: to us, or to a proxy we trust that says so.
func secure(r *http.Request, proxies []netip.Prefix) bool {
	return r.TLS != nil || contains(proxies, remote(r)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// household is what is limited as one client: an IPv4 address, or the network of 64 bits that one IPv6 customer has.
func household(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.Unmap().String()
}
