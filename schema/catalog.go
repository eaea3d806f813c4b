package schema

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
)

//go:generate go run ./internal/gen -out catalog

// catalogFiles holds one model per data standard (ds-5.2.json.gz) and the descriptor values, made by schema/internal/gen.
//
//go:embed catalog
var catalogFiles embed.FS

// bundled reads each catalog at most once; the models are immutable.
var bundled = map[string]func() (*Model, error){ //nolint:gochecknoglobals // read-only after initialisation, each value is a sync.OnceValues
	"4.0": sync.OnceValues(func() (*Model, error) { return readBundled("ds-4.0") }),
	"5.2": sync.OnceValues(func() (*Model, error) { return readBundled("ds-5.2") }),
}

// BundledVersions returns the data standards Bundled has, oldest first.
func BundledVersions() []string { return []string{"4.0", "5.2"} }

// Bundled returns the model of an Ed-Fi data standard, "5.2" or "5.2.0", from the catalog built into the program. It is read once and
// then shared. The error of an unknown version names those there are.
func Bundled(version string) (*Model, error) {
	short := version
	if parts := strings.Split(version, "."); len(parts) == 3 && parts[2] == "0" {
		short = parts[0] + "." + parts[1]
	}
	read, ok := bundled[short]
	if !ok {
		return nil, fmt.Errorf("data standard %q is not bundled; there are %s", version, strings.Join(BundledVersions(), ", "))
	}
	return read()
}

func readBundled(name string) (*Model, error) {
	data, err := readCatalogFile(name)
	if err != nil {
		return nil, err
	}
	return ParseCatalog(data)
}

// readCatalogFile returns an embedded file, decompressed.
func readCatalogFile(name string) ([]byte, error) {
	data, err := catalogFiles.ReadFile(path.Join("catalog", name+".json.gz"))
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", name, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read catalog %s: %w", name, err)
	}
	return text, nil
}

// ParseCatalog reads a model from the JSON that Catalog writes.
func ParseCatalog(data []byte) (*Model, error) {
	var m Model
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("parse catalog: %w", err)
	}
	read, err := NewModel(m.Name, m.Standard, m.Resources)
	if err != nil {
		return nil, fmt.Errorf("parse catalog %s: %w", m.Name, err)
	}
	return read, nil
}

// Catalog writes the model as JSON, one resource to a line, the same bytes for the same model. ParseCatalog reads it back, which is
// far quicker than reading the OpenAPI documents of a target again.
func (m *Model) Catalog() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	header, err := json.Marshal(struct {
		Name     string `json:"name"`
		Standard string `json:"standard,omitempty"`
	}{m.Name, m.Standard})
	if err != nil {
		return nil, fmt.Errorf("write catalog: %w", err)
	}
	b.Write(bytes.TrimSuffix(header, []byte("}")))
	b.WriteString(",\"resources\":[\n")
	for i, r := range m.Resources {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(r); err != nil {
			return nil, fmt.Errorf("write catalog: resource %s: %w", r.Path, err)
		}
	}
	b.WriteString("]}\n")
	return b.Bytes(), nil
}
