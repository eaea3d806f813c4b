package edfi

import (
	"context"

	"github.com/edfisync/edfisync/schema"
)

// Dependencies reads the order in which the target's resources load. A target that does not offer it gives an *Error of code
// "no-dependencies"; schema.Dependencies computes the same from the model.
func (c *Client) Dependencies(ctx context.Context) ([]schema.Dependency, error) {
	if c.info.URLs.Dependencies == "" {
		return nil, notOffered("the dependencies of its resources", "no-dependencies")
	}
	a, err := c.document(ctx, "dependencies", c.info.URLs.Dependencies, false)
	if err != nil {
		return nil, err
	}
	dependencies, err := schema.ParseDependencies(a.body)
	if err != nil {
		e := unexpected("dependencies", a)
		e.Err = err
		return nil, e
	}
	return dependencies, nil
}
