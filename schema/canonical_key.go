package schema

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
)

// CanonicalKey appends the natural key of a payload to dst: a JSON array of the values of Resource.Key, in its order. It fails when a
// part is absent or does not read as the model says; the error names the part, never a value (I14).
func (r *Resource) CanonicalKey(dst, payload []byte, rules Rules) ([]byte, error) {
	return r.key(dst, payload, func(c *canonicaliser, e *element, s scalar) { c.out = e.appendCanonical(c.out, s, rules) })
}

// SentKey returns the natural key of a payload as the payload spells it: as CanonicalKey has it, but with strings neither composed nor folded. A
// target that compares the bytes of keys finds the record by KeyQuery of this one only. It returns nil when that is no other than canonical, and when
// it can differ only in case, which is of no account to a target keys are folded for: a payload of ASCII.
func (r *Resource) SentKey(payload, canonical []byte) []byte {
	if isASCII(payload) && !bytes.Contains(payload, []byte(`\u`)) {
		return nil
	}
	sent, err := r.key(nil, payload, func(c *canonicaliser, e *element, s scalar) {
		if s.kind == stringToken {
			c.out = appendQuoted(c.out, s.text)
			return
		}
		c.out = e.appendCanonical(c.out, s, c.rules)
	})
	if err != nil || bytes.Equal(sent, canonical) {
		return nil
	}
	return sent
}

// key appends the values of a payload's natural key as write writes them.
func (r *Resource) key(dst, payload []byte, write func(*canonicaliser, *element, scalar)) ([]byte, error) {
	c, err := r.canonicalise(payload, Rules{Version: CanonicalVersion})
	if err != nil {
		return dst, err
	}
	defer c.release()
	begin := len(dst)
	c.out = append(dst, '[')
	for i, paths := range r.planned().keys {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		if err := c.keyPart(r.Key[i].Name, paths, write); err != nil {
			return c.out[:begin], err
		}
	}
	return append(c.out, ']'), nil
}

// keyPart appends the first value present.
func (c *canonicaliser) keyPart(name string, paths []*element, write func(*canonicaliser, *element, scalar)) error {
	for _, e := range paths {
		n := c.find(c.top, e)
		if n == 0 || c.nodes[n].kind == nullToken {
			continue
		}
		s, ok := e.normalise(scalar{c.nodes[n].kind, c.nodes[n].text}, &c.buf)
		if !ok {
			return fmt.Errorf("key part %s: not a %s", name, e.Kind)
		}
		if len(s.text) == 0 {
			continue
		}
		write(c, e, s)
		return nil
	}
	return fmt.Errorf("key part %s: absent", name)
}

// KeyFromParts appends the key of the record with these values of its key parts, by KeyPart.Name, as CanonicalKey would. Values are read
// as columns are; descriptors must be URIs.
func (r *Resource) KeyFromParts(dst []byte, parts map[string]string, rules Rules) ([]byte, error) {
	begin := len(dst)
	dst = append(dst, '[')
	var arena []byte
	for i, paths := range r.planned().keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		name := r.Key[i].Name
		value := parts[name]
		if value == "" || len(paths) == 0 {
			return dst[:begin], fmt.Errorf("key part %s: absent", name)
		}
		s, ok := paths[0].normalise(scalar{columnToken, []byte(value)}, &arena)
		if !ok {
			return dst[:begin], fmt.Errorf("key part %s: not a %s", name, paths[0].Kind)
		}
		dst = paths[0].appendCanonical(dst, s, rules)
	}
	return append(dst, ']'), nil
}

var errNotKey = errors.New("not a canonical key of this resource")

// KeyQuery returns the query parameters that make GET on the collection find the record with a key, as it was sent or canonical, folded or not: a
// target that folds keys compares parameters the same way, and descriptors are compared without case everywhere.
func (r *Resource) KeyQuery(key []byte) (url.Values, error) {
	var d document
	top, err := d.parse(key)
	if err != nil || d.nodes[top].kind != arrayToken {
		return nil, errNotKey
	}
	query := make(url.Values, len(r.Key))
	value := d.nodes[top].first
	for _, part := range r.Key {
		if value == 0 || d.nodes[value].kind >= objectToken {
			return nil, errNotKey
		}
		query.Set(part.Name, string(d.nodes[value].text))
		value = d.nodes[value].next
	}
	if value != 0 {
		return nil, errNotKey
	}
	return query, nil
}
