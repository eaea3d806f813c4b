package edfi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// maxDocument bounds an OpenAPI document; those of DS 6 with extensions have about 10 MB.
const maxDocument = 128 << 20

// document reads a JSON document of the API that is not a resource.
func (c *core) document(ctx context.Context, name, address string, auth bool) (answer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return answer{}, fmt.Errorf("get %s: its address cannot be parsed", name)
	}
	k := &call{method: http.MethodGet, name: name, url: u, auth: auth, limit: maxDocument}
	if !auth {
		k.header = c.plainHeader()
	}
	a, failure := c.call(ctx, k)
	if failure != nil {
		return answer{}, failure
	}
	return a, nil
}

func notOffered(what, code string) *Error {
	return &Error{
		Class: Rejected, Code: code, Owner: OwnerTarget, Method: http.MethodGet, Resource: "discovery",
		Title: "the target does not offer " + what,
		Hint:  "Ask the target's host to switch the feature on; edfisync works without it where it can.",
	}
}

// OpenAPI reads the target's OpenAPI documents of resources and descriptors, for schema.ReadOpenAPI. descriptors is nil when the target
// has no document of its own for them.
func (c *Client) OpenAPI(ctx context.Context) (resources, descriptors []byte, err error) {
	if c.info.URLs.Metadata == "" {
		return nil, nil, notOffered("OpenAPI documents", "no-openapi")
	}
	list, err := c.openAPIList(ctx)
	if err != nil {
		return nil, nil, err
	}
	read := func(kind string) ([]byte, error) {
		address := list.address(kind)
		if address == "" {
			return nil, nil
		}
		a, err := c.document(ctx, "OpenAPI "+kind, c.onBase(address), false)
		return a.body, err
	}
	if resources, err = read("resources"); err != nil {
		return nil, nil, err
	}
	if resources == nil {
		return nil, nil, notOffered("an OpenAPI document of its resources", "no-openapi")
	}
	descriptors, err = read("descriptors")
	return resources, descriptors, err
}

// openAPIDocuments is the list of documents at urls.openApiMetadata.
type openAPIDocuments []struct {
	Name        string `json:"name"`
	EndpointURI string `json:"endpointUri"`
	Prefix      string `json:"prefix"`
}

// address finds the document of a kind, "resources" or "descriptors", by name or by what its address ends in.
func (l openAPIDocuments) address(kind string) string {
	for _, d := range l {
		if strings.EqualFold(d.Name, kind) && d.Prefix == "" {
			return d.EndpointURI
		}
	}
	for _, d := range l {
		uri := strings.ToLower(d.EndpointURI)
		if strings.HasSuffix(uri, "/"+kind+"/swagger.json") || strings.HasSuffix(uri, "/"+kind+"-spec.json") {
			return d.EndpointURI
		}
	}
	return ""
}

// openAPIList reads the list: an array, or as DMS has it an object that says where the array is.
func (c *Client) openAPIList(ctx context.Context) (openAPIDocuments, error) {
	address := c.info.URLs.Metadata
	for range 2 {
		a, err := c.document(ctx, "OpenAPI list", address+"/", false)
		var missing *Error
		if errors.As(err, &missing) && missing.Status == http.StatusNotFound {
			a, err = c.document(ctx, "OpenAPI list", address, false)
		}
		if err != nil {
			return nil, err
		}
		var list openAPIDocuments
		if json.Unmarshal(a.body, &list) == nil {
			return list, nil
		}
		var index struct {
			Specifications string `json:"specifications"`
		}
		if json.Unmarshal(a.body, &index) != nil || index.Specifications == "" {
			return nil, unexpected("OpenAPI list", a)
		}
		address = strings.TrimRight(c.onBase(index.Specifications), "/")
	}
	return nil, notOffered("a list of OpenAPI documents", "no-openapi")
}

// onBase puts an address from a document onto the configured host, keeping its path: see the package comment.
func (c *core) onBase(address string) string {
	a := c.addresses // a copy: resolve takes notes
	return a.resolve(address)
}

// TokenInfo is what the target says about these credentials.
type TokenInfo struct {
	Active                 bool                    `json:"active"`
	ClientID               string                  `json:"client_id"`
	NamespacePrefixes      []string                `json:"namespace_prefixes"`
	EducationOrganizations []EducationOrganization `json:"education_organizations"`
	AssignedProfiles       []string                `json:"assigned_profiles"`
	ClaimSet               struct {
		Name string `json:"name"`
	} `json:"claim_set"` // since 7.3
	Resources []ResourceClaim `json:"resources"` // since 7.3
}

// EducationOrganization is an organization the credentials are for.
type EducationOrganization struct {
	ID   int64  `json:"education_organization_id"`
	Name string `json:"name_of_institution"`
	Type string `json:"type"` // "edfi.LocalEducationAgency"
}

// ResourceClaim says what the credentials may do with a resource.
type ResourceClaim struct {
	Resource   string   `json:"resource"`   // "/ed-fi/students"
	Operations []string `json:"operations"` // "Create", "Read", "Update", "Delete", "ReadChanges"
}

// TokenInfo asks the target what these credentials may do: the check before a first run. A host without the endpoint gives an *Error of
// code "no-token-info".
func (c *Client) TokenInfo(ctx context.Context) (*TokenInfo, error) {
	if c.info.URLs.TokenInfo == "" {
		return nil, notOffered("information about tokens", "no-token-info")
	}
	u, err := url.Parse(c.info.URLs.TokenInfo)
	if err != nil {
		return nil, errors.New("get token info: its address cannot be parsed")
	}
	for range 2 {
		held, failure := c.tokens.current(ctx)
		if failure != nil {
			return nil, failure
		}
		header := held.read.Clone()
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		a, failure := c.call(ctx, &call{
			method: http.MethodPost, name: "token_info", url: u, header: header, limit: maxRootDocument,
			body: []byte(url.Values{"token": {held.value}}.Encode()),
		})
		if failure == nil {
			info := new(TokenInfo)
			if json.Unmarshal(a.body, info) != nil {
				return nil, unexpected("token_info", a)
			}
			return info, nil
		}
		if failure.Status != http.StatusUnauthorized && failure.Status != http.StatusBadRequest {
			return nil, failure
		}
		if _, ok, tokenErr := c.tokens.replace(ctx, held); !ok {
			if tokenErr != nil {
				return nil, tokenErr
			}
			return nil, failure
		}
	}
	e := unauthenticated().error()
	e.Method, e.Resource = http.MethodPost, "token_info"
	return nil, e
}
