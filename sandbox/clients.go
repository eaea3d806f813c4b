package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Client is an API client ("key and secret") and what it may do.
type Client struct {
	ID     string `yaml:"id"`     // may not be empty nor hold a colon: Basic authentication could not carry it
	Secret string `yaml:"secret"` // likewise
	// ClaimSet is the name of one of ClaimSetNames or Options.ClaimSets; "" means FullAccess.
	ClaimSet string `yaml:"claimSet"`
	// EducationOrganizations are the ids the relationship strategies begin at: what lies below them is the client's. They need not exist yet.
	EducationOrganizations []int64  `yaml:"educationOrganizations"`
	NamespacePrefixes      []string `yaml:"namespacePrefixes"` // what NamespaceBased compares with, "uri://ed-fi.org"
}

// ReadClients reads a YAML or JSON list of clients: id, secret, claimSet, educationOrganizations, namespacePrefixes.
func ReadClients(document []byte) ([]Client, error) {
	var clients []Client
	dec := yaml.NewDecoder(bytes.NewReader(document))
	dec.KnownFields(true)
	if err := dec.Decode(&clients); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("clients: %w", err)
	}
	return clients, nil
}

// caller is a client as a request meets it. It is not changed once made.
type caller struct {
	Client
	claims ClaimSet
	rights []rights // by table number; nil: everything is allowed
	reach  map[int64]struct{}
}

// rights are what a caller may do with one table.
type rights struct {
	claimed bool // the claim set names the resource
	rules   [actionCount]*rule
}

// rule is how one allowed action is authorized. The zero rule needs no further authorization.
type rule struct {
	relationships []Strategy // one of them must hold
	namespace     bool
}

func (r *rule) open() bool { return len(r.relationships) == 0 && !r.namespace }

// clients returns those the options name, the one of ClientID first.
func (o *Options) clients() []Client {
	var all []Client
	if o.ClientID != "" || o.ClientSecret != "" || len(o.Clients) == 0 {
		all = append(all, Client{ID: o.ClientID, Secret: o.ClientSecret})
	}
	return append(all, o.Clients...)
}

func (c Client) check() error {
	switch {
	case c.ID == "" || c.Secret == "":
		return errors.New("ClientID and ClientSecret are required, of every client")
	case strings.ContainsRune(c.ID, ':') || strings.ContainsRune(c.Secret, ':'):
		return errors.New("ClientID and ClientSecret may not hold a colon")
	}
	return nil
}

// newCaller resolves a client's claim set.
func (s *Server) newCaller(c Client) (*caller, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.ClaimSet == "" {
		c.ClaimSet = FullAccess
	}
	c.EducationOrganizations, c.NamespacePrefixes = slices.Clone(c.EducationOrganizations), slices.Clone(c.NamespacePrefixes)
	slices.Sort(c.EducationOrganizations)
	out := &caller{Client: c, reach: map[int64]struct{}{}}
	for _, id := range c.EducationOrganizations {
		out.reach[id] = struct{}{}
	}
	set, err := s.claimSet(c.ClaimSet)
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", c.ID, err)
	}
	out.claims = set
	if set.Name == FullAccess {
		return out, nil
	}
	out.rights = make([]rights, len(s.cat.tables))
	for path, claim := range set.Claims {
		r := &out.rights[s.cat.byPath[path].number]
		r.claimed = true
		for action, strategies := range claim {
			r.rules[action.index()] = newRule(strategies)
		}
	}
	return out, nil
}

func newRule(strategies []Strategy) *rule {
	r := &rule{}
	for _, s := range strategies {
		switch s {
		case NoFurtherAuthorizationRequired:
		case NamespaceBased:
			r.namespace = true
		default:
			r.relationships = append(r.relationships, s)
		}
	}
	return r
}

// claimSet finds a claim set by name: one of the options before a shipped one.
func (s *Server) claimSet(name string) (ClaimSet, error) {
	for _, c := range s.opts.ClaimSets {
		if c.Name == name {
			return c, c.check(s.cat)
		}
	}
	if c, ok := ShippedClaimSet(s.opts.Model, name); ok {
		return c, nil
	}
	names := ClaimSetNames()
	for _, c := range s.opts.ClaimSets {
		names = append(names, c.Name)
	}
	return ClaimSet{}, fmt.Errorf("there is no claim set %q; there are %s", name, strings.Join(names, ", "))
}

// SetClient adds a client, or changes what the one of its ID may do, from the next request on: tokens stay valid, as a host's administrator
// would have it (an ODS follows when its caches expire). It is safe while the sandbox serves.
func (s *Server) SetClient(c Client) error {
	if err := s.setClient(c); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

func (s *Server) setClient(c Client) error {
	by, err := s.newCaller(c)
	if err != nil {
		return err
	}
	if by.rights != nil {
		s.store.relate()
	}
	s.tokens.set(by)
	return nil
}

// rule returns how the caller's action on a table is authorized; nil when it is not allowed.
func (c *caller) rule(t *table, a Action) *rule { return c.rights[t.number].rules[a.index()] }

// restricted says whether the caller's requests have to be authorized. A nil caller is the sandbox itself.
func (c *caller) restricted() bool { return c != nil && c.rights != nil }

// scoped is the caller with a token for one education organization only.
func (c *caller) scoped(id int64) *caller {
	only := *c
	only.EducationOrganizations, only.reach = []int64{id}, map[int64]struct{}{id: {}}
	return &only
}
