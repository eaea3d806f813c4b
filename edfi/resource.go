package edfi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Answer is the outcome of a successful write.
type Answer struct {
	Status   int
	ID       string // of the item, from the Location header's path
	ETag     string // without quotes
	Created  bool   // 201: the target had no item of this natural key
	Repeated bool   // an earlier attempt may have done the write, so Created false does not prove that the item was there before
}

// route is a resource's address, built once.
type route struct {
	name   string
	url    *url.URL
	prefix string // what a Location begins with: the collection's URL and "/"
	last   string // collection name
}

var resourceName = regexp.MustCompile(`^[A-Za-z0-9-]{1,60}/[A-Za-z0-9]{1,120}(/(deletes|keyChanges))?$`)

// route returns the address of a resource, "ed-fi/students".
func (c *core) route(resource string) (*route, error) {
	if r, ok := c.routes.Load(resource); ok {
		return r.(*route), nil
	}
	name := strings.TrimPrefix(resource, "/")
	if !resourceName.MatchString(name) {
		return nil, fmt.Errorf("%q is not the name of a resource, such as ed-fi/students", resource)
	}
	u, err := url.Parse(c.info.URLs.Data + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("build address of %s: %w", name, err)
	}
	r := &route{name: name, url: u, prefix: u.String() + "/", last: name[strings.LastIndexByte(name, '/')+1:]}
	c.routes.Store(resource, r)
	return r, nil
}

// item returns the address of one item.
func (r *route) item(id string) (*url.URL, error) {
	if !safeItemID(id) {
		return nil, fmt.Errorf("%s: the id of an item is 1 to 64 letters, digits and dashes", r.name)
	}
	u := *r.url
	u.Path += "/" + id
	return &u, nil
}

func safeItemID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if ch := id[i]; (ch < '0' || ch > '9') && (ch|0x20 < 'a' || ch|0x20 > 'z') && ch != '-' && ch != '_' {
			return false
		}
	}
	return true
}

// Post creates the item or, when the target has one of its natural key, replaces it. It may be called twice with the same effect. When
// the target took the record without telling its id, the Answer holds the status and the error is of class Transient and wraps ErrNoID.
func (c *Client) Post(ctx context.Context, resource string, body []byte) (Answer, error) {
	return c.post(ctx, resource, body, "")
}

// Create is Post that only creates, with If-None-Match: *. DMS answers 412 when the item exists, an *Error of code "changed-meanwhile";
// the ODS/API ignores the condition and replaces.
func (c *Client) Create(ctx context.Context, resource string, body []byte) (Answer, error) {
	return c.post(ctx, resource, body, "*")
}

func (c *Client) post(ctx context.Context, resource string, body []byte, ifNone string) (Answer, error) {
	r, err := c.route(resource)
	if err != nil {
		return Answer{}, err
	}
	a, failure := c.call(ctx, &call{
		method: http.MethodPost, name: r.name, url: r.url, auth: true, write: true, guard: c.guard, ifNone: ifNone,
		body: bytes.Clone(body), // the caller's buffer is its own again when we return
	})
	if failure != nil {
		return Answer{Status: failure.Status}, failure
	}
	out := a.outcome()
	out.Created = a.status == http.StatusCreated
	if out.ID = c.locationID(a.header.Get("Location"), r); out.ID == "" {
		e := noID().error()
		e.Status, e.Method, e.Resource, e.Attempts, e.Sent, e.Err = a.status, http.MethodPost, r.name, a.attempts, true, ErrNoID
		return out, e
	}
	return out, nil
}

// Put replaces the item. On a DMS the id is put into the body, as it demands. An unknown id is an *Error of class NotFound. It may be
// called twice with the same effect.
func (c *Client) Put(ctx context.Context, resource, id string, body []byte) (Answer, error) {
	return c.PutMatching(ctx, resource, id, "", body)
}

// PutMatching is Put on the condition that the item still has the ETag; "" means unconditionally. Else it is an *Error of code
// "changed-meanwhile". After a repeat that error may also mean that the first attempt succeeded.
func (c *Client) PutMatching(ctx context.Context, resource, id, etag string, body []byte) (Answer, error) {
	own := bytes.Clone(body) // the caller's buffer is its own again when we return
	if c.info.DMS {
		var err error
		if own, err = withID(body, id); err != nil {
			return Answer{}, fmt.Errorf("put %s: %w", resource, err)
		}
	}
	return c.writeItem(ctx, http.MethodPut, resource, id, etag, own)
}

// Delete removes the item. An unknown id is an *Error of class NotFound: the item is gone already.
func (c *Client) Delete(ctx context.Context, resource, id string) (Answer, error) {
	return c.DeleteMatching(ctx, resource, id, "")
}

// DeleteMatching is Delete on the condition that the item still has the ETag; "" means unconditionally.
func (c *Client) DeleteMatching(ctx context.Context, resource, id, etag string) (Answer, error) {
	return c.writeItem(ctx, http.MethodDelete, resource, id, etag, nil)
}

func (c *Client) writeItem(ctx context.Context, method, resource, id, etag string, body []byte) (Answer, error) {
	r, err := c.route(resource)
	if err != nil {
		return Answer{}, err
	}
	u, err := r.item(id)
	if err != nil {
		return Answer{}, err
	}
	a, failure := c.call(ctx, &call{method: method, name: r.name, url: u, auth: true, write: true, guard: c.guard, ifMatch: etag, body: body})
	if failure != nil {
		return Answer{Status: failure.Status, ID: id}, failure
	}
	out := a.outcome()
	out.ID = id
	return out, nil
}

func (a answer) outcome() Answer {
	return Answer{Status: a.status, ETag: bareETag(a.header.Get("ETag")), Repeated: a.repeated}
}

// Get reads one item and its ETag. An unknown id is an *Error of class NotFound.
func (c *Client) Get(ctx context.Context, resource, id string) ([]byte, string, error) {
	r, err := c.route(resource)
	if err != nil {
		return nil, "", err
	}
	u, err := r.item(id)
	if err != nil {
		return nil, "", err
	}
	a, failure := c.call(ctx, &call{method: http.MethodGet, name: r.name, url: u, auth: true})
	if failure != nil {
		return nil, "", failure
	}
	return a.body, bareETag(a.header.Get("ETag")), nil
}

// FindByKey looks an item up by its natural key, given as query parameters. Right after a POST a target may not find the item yet. The
// caller has to compare the key of the body it gets: a target ignores parameters it does not know. More than one item is an error that
// wraps ErrAmbiguous. The key is personal data; it is in the URL of the call and nowhere else.
func (c *Client) FindByKey(ctx context.Context, resource string, key url.Values) (id string, body []byte, found bool, err error) {
	r, err := c.route(resource)
	if err != nil {
		return "", nil, false, err
	}
	if len(key) == 0 {
		return "", nil, false, fmt.Errorf("find %s: the key is empty", r.name)
	}
	u := *r.url
	u.RawQuery = key.Encode() + "&limit=2"
	a, failure := c.call(ctx, &call{method: http.MethodGet, name: r.name, url: &u, auth: true})
	if failure != nil {
		return "", nil, false, failure
	}
	var items []json.RawMessage
	if json.Unmarshal(a.body, &items) != nil {
		return "", nil, false, unexpected(r.name, a)
	}
	switch len(items) {
	case 0:
		return "", nil, false, nil
	case 1:
	default:
		e := ambiguousKey().error()
		e.Method, e.Resource, e.Status, e.Err = http.MethodGet, r.name, a.status, ErrAmbiguous
		return "", nil, false, e
	}
	var item struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(items[0], &item) != nil || !safeItemID(item.ID) {
		return "", nil, false, unexpected(r.name, a)
	}
	return item.ID, items[0], true, nil
}

// unexpected is the error of a 200 whose JSON is not what was asked for.
func unexpected(name string, a answer) *Error {
	e := notTheAPI().error()
	e.Method, e.Resource, e.Status, e.Attempts = http.MethodGet, name, a.status, a.attempts
	e.Body = a.body[:min(len(a.body), maxErrorBody)]
	return e
}

// withID returns body with "id" as its first member.
func withID(body []byte, id string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(body), []byte("{"))
	if !ok {
		return nil, errors.New("the body is not a JSON object")
	}
	rest = bytes.TrimSpace(rest)
	out := make([]byte, 0, len(rest)+len(id)+10)
	out = append(out, `{"id":"`...)
	out = append(out, id...)
	out = append(out, '"')
	if !bytes.HasPrefix(rest, []byte("}")) {
		out = append(out, ',')
	}
	return append(out, rest...), nil
}

func bareETag(etag string) string {
	return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
}
