package edfi

import (
	"net/url"
	"strings"
)

// locationID takes an item's id from a Location header: the last segment of its path, whatever host, case or trailing slash it comes with
// (F12, F13). The address itself is never called: behind a proxy it may name an inner host, which is warned of once.
func (c *core) locationID(location string, r *route) string {
	if id, ok := strings.CutPrefix(location, r.prefix); ok && safeItemID(id) {
		return id
	}
	id, host := parseLocation(location, r.last)
	if host != "" && !strings.EqualFold(host, r.url.Host) {
		c.warnLocation.Do(func() {
			c.log.Warn("Location header names another host; only the id is taken from it", "resource", r.name, "host", host, "base", r.url.Host)
		})
	}
	return id
}

// parseLocation returns the id and the host of a Location header; "" for what it does not name. collection is the name of the resource,
// which is no id.
func parseLocation(location, collection string) (id, host string) {
	u, err := url.Parse(strings.TrimSpace(location))
	if err != nil {
		return "", ""
	}
	path := strings.TrimRight(u.Path, "/")
	id = path[strings.LastIndexByte(path, '/')+1:]
	if !safeItemID(id) || strings.EqualFold(id, collection) {
		return "", u.Host
	}
	return id, u.Host
}
