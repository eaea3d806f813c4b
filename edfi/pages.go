package edfi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
)

// PageOptions narrows a walk through a resource.
type PageOptions struct {
	// Limit is the page size. 0 means 500, the largest of a host with default settings; a host that allows less is obeyed.
	Limit int
	// MinChangeVersion and MaxChangeVersion select what changed in between, both inclusive. 0 leaves the bound out.
	MinChangeVersion, MaxChangeVersion int64
	// Query filters by properties, as query parameters.
	Query url.Values
}

const defaultPageSize = 500

// Each calls fn for every item of a resource the caller may see, in the target's order, and stops at fn's first error, which it returns as
// it is. It follows the target's cursor when there is one, and else counts offsets. Items written during the walk may come twice, or,
// with offsets, hide another; a window of change versions avoids that. item is valid after fn has returned.
func (c *Client) Each(ctx context.Context, resource string, opts PageOptions, fn func(item json.RawMessage) error) error {
	r, err := c.route(resource)
	if err != nil {
		return err
	}
	w := walk{client: c, route: r, opts: opts, size: opts.Limit, fn: fn}
	if w.size <= 0 {
		w.size = defaultPageSize
	}
	return w.run(ctx)
}

// walk is one pass through a resource.
type walk struct {
	client *Client
	route  *route
	opts   PageOptions
	size   int
	offset int
	cursor string
	fn     func(json.RawMessage) error
}

func (w *walk) run(ctx context.Context) error {
	for {
		items, next, err := w.page(ctx)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := w.fn(item); err != nil {
				return err
			}
		}
		switch {
		case next != "" && next == w.cursor:
			e := notTheAPI().error()
			e.Method, e.Resource, e.Title, e.Owner = http.MethodGet, w.route.name, "the target's page cursor does not advance", OwnerTarget
			return e
		case next != "" && (w.cursor != "" || w.cursorAllowed()):
			w.cursor = next
		case w.cursor != "": // an absent token ends a walk, not an empty page: DMS sends those in between
			return nil
		case len(items) == 0: // not a short page: a host may cap pages without saying so
			return nil
		default:
			w.offset += len(items)
		}
	}
}

// cursorAllowed reports whether a walk may be begun by cursor: a DMS forbids it together with maxChangeVersion.
func (w *walk) cursorAllowed() bool { return !w.client.info.DMS || w.opts.MaxChangeVersion == 0 }

var largestPage = regexp.MustCompile(`between 0 and (\d{1,6})\b`)

// page reads one page and the token of the next.
func (w *walk) page(ctx context.Context) ([]json.RawMessage, string, error) {
	a, failure := w.client.call(ctx, &call{method: http.MethodGet, name: w.route.name, url: w.address(), auth: true})
	if failure != nil {
		if failure.Status == http.StatusBadRequest && w.offset == 0 && w.cursor == "" {
			if match := largestPage.FindSubmatch(failure.Body); match != nil {
				if allowed, err := strconv.Atoi(string(match[1])); err == nil && allowed > 0 && allowed < w.size {
					w.size = allowed
					return w.page(ctx)
				}
			}
		}
		return nil, "", failure
	}
	var items []json.RawMessage
	if json.Unmarshal(a.body, &items) != nil {
		return nil, "", unexpected(w.route.name, a)
	}
	return items, a.header.Get("Next-Page-Token"), nil
}

func (w *walk) address() *url.URL {
	query := url.Values{}
	for name, values := range w.opts.Query {
		query[name] = values
	}
	if w.opts.MinChangeVersion > 0 {
		query.Set("minChangeVersion", strconv.FormatInt(w.opts.MinChangeVersion, 10))
	}
	if w.opts.MaxChangeVersion > 0 {
		query.Set("maxChangeVersion", strconv.FormatInt(w.opts.MaxChangeVersion, 10))
	}
	if w.cursor != "" {
		query.Set("pageToken", w.cursor)
		query.Set("pageSize", strconv.Itoa(w.size))
	} else {
		query.Set("limit", strconv.Itoa(w.size))
		if w.offset > 0 {
			query.Set("offset", strconv.Itoa(w.offset))
		}
	}
	u := *w.route.url
	u.RawQuery = query.Encode()
	return &u
}

// ChangeVersions is the range of change versions a target offers.
type ChangeVersions struct {
	Oldest, Newest int64
}

// ChangeVersions reads availableChangeVersions. A target without change queries is an *Error of code "no-change-queries".
func (c *Client) ChangeVersions(ctx context.Context) (ChangeVersions, error) {
	if c.info.URLs.ChangeQueries == "" {
		return ChangeVersions{}, notOffered("change queries", "no-change-queries")
	}
	// Both spellings, oldestChangeVersion and OldestChangeVersion: encoding/json does not mind case.
	var document struct {
		Oldest *int64 `json:"oldestChangeVersion"`
		Newest *int64 `json:"newestChangeVersion"`
	}
	a, err := c.document(ctx, "availableChangeVersions", c.info.URLs.ChangeQueries+"/availableChangeVersions", true)
	if err != nil {
		return ChangeVersions{}, err
	}
	if json.Unmarshal(a.body, &document) != nil || document.Newest == nil {
		return ChangeVersions{}, unexpected("availableChangeVersions", a)
	}
	versions := ChangeVersions{Newest: *document.Newest}
	if document.Oldest != nil {
		versions.Oldest = *document.Oldest
	}
	return versions, nil
}

// Deletion is an item deleted at the target.
type Deletion struct {
	ID            string          `json:"id"`
	ChangeVersion int64           `json:"changeVersion"`
	KeyValues     json.RawMessage `json:"keyValues"` // flattened natural key, descriptors as URIs
}

// Deletes calls fn for every deletion in a window of change versions.
func (c *Client) Deletes(ctx context.Context, resource string, opts PageOptions, fn func(Deletion) error) error {
	return eachOf(ctx, c, resource+"/deletes", opts, fn)
}

// KeyChange is an item whose natural key was changed, from first to last in the window.
type KeyChange struct {
	ID            string          `json:"id"`
	ChangeVersion int64           `json:"changeVersion"`
	OldKeyValues  json.RawMessage `json:"oldKeyValues"`
	NewKeyValues  json.RawMessage `json:"newKeyValues"`
}

// KeyChanges calls fn for every item whose key changed in a window of change versions. Resources whose key cannot change have none.
func (c *Client) KeyChanges(ctx context.Context, resource string, opts PageOptions, fn func(KeyChange) error) error {
	return eachOf(ctx, c, resource+"/keyChanges", opts, fn)
}

func eachOf[T any](ctx context.Context, c *Client, resource string, opts PageOptions, fn func(T) error) error {
	return c.Each(ctx, resource, opts, func(raw json.RawMessage) error {
		var item T
		if json.Unmarshal(raw, &item) != nil {
			return fmt.Errorf("read %s: an item is not what the API specifies", resource)
		}
		return fn(item)
	})
}
