package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

// DescriptorValue is one value of a descriptor, as the data standard ships it.
type DescriptorValue struct {
	Name             string `json:"name"`      // entity name of the descriptor, "TermDescriptor"
	Namespace        string `json:"namespace"` // "uri://ed-fi.org/TermDescriptor"
	CodeValue        string `json:"codeValue"`
	ShortDescription string `json:"shortDescription"`
}

// URI returns the value as payloads hold it, "uri://ed-fi.org/TermDescriptor#Fall Semester".
func (v DescriptorValue) URI() string { return v.Namespace + "#" + v.CodeValue }

// bundledValues reads the bundled values at most once.
var bundledValues = sync.OnceValues(func() ([]DescriptorValue, error) { //nolint:gochecknoglobals // read-only, a sync.OnceValues
	data, err := readCatalogFile("descriptors")
	if err != nil {
		return nil, err
	}
	var values []DescriptorValue
	if err := json.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("parse bundled descriptors: %w", err)
	}
	return values, nil
})

// Descriptors returns the descriptor values of data standard 5.2, by name and then as the standard lists them. The slice is the
// caller's own. It panics only when the program was built with a damaged catalog, which its tests would show.
func Descriptors() []DescriptorValue {
	values, err := bundledValues()
	if err != nil {
		panic(err)
	}
	return slices.Clone(values)
}

// DescriptorValues returns the bundled values of those descriptors the model has. They are those of data standard 5.2 for every model:
// where an older standard has the descriptor, it has nearly the same values.
func (m *Model) DescriptorValues() []DescriptorValue {
	return slices.DeleteFunc(Descriptors(), func(v DescriptorValue) bool {
		r, ok := m.Entity(v.Name)
		return !ok || !r.Descriptor
	})
}
