package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/edfisync/edfisync/schema"
)

// sources are the documents the catalogs are made from.
type sources struct {
	manifest    manifest      // DS 5.2
	openAPI50   *schema.Model // for what the manifest does not tell: docs, least lengths, ranges, names of key parts
	openAPI40   *schema.Model
	descriptors map[string][]descriptorValue // of DS 5.2, by entity name
}

type descriptorValue struct {
	Namespace        string `json:"namespace"`
	CodeValue        string `json:"codeValue"`
	ShortDescription string `json:"shortDescription"`
}

func readSources(folder string) (*sources, error) {
	var in sources
	if err := readJSON(filepath.Join(folder, "model-ds5.2.json"), &in.manifest); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(folder, "descriptors-ds5.2.json"), &in.descriptors); err != nil {
		return nil, err
	}
	var err error
	if in.openAPI40, err = readOpenAPI(folder, "4.0"); err != nil {
		return nil, err
	}
	in.openAPI50, err = readOpenAPI(folder, "5.0")
	return &in, err
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path) //nolint:gosec // the caller's own file
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readOpenAPI(folder, version string) (*schema.Model, error) {
	resources, err := os.ReadFile(filepath.Join(folder, "openapi", "resources-ds"+version+".json")) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, err
	}
	descriptors, err := os.ReadFile(filepath.Join(folder, "openapi", "descriptors-ds"+version+".json")) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, err
	}
	return schema.ReadOpenAPI(resources, descriptors)
}

// descriptorValues writes the values of all descriptors as one JSON array, by name and then as the standard lists them.
func (in *sources) descriptorValues() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("[\n")
	first := true
	for _, name := range slices.Sorted(maps.Keys(in.descriptors)) {
		for _, v := range in.descriptors[name] {
			line, err := json.Marshal(schema.DescriptorValue{Name: name, Namespace: v.Namespace, CodeValue: v.CodeValue, ShortDescription: v.ShortDescription})
			if err != nil {
				return nil, err
			}
			if !first {
				b.WriteString(",\n")
			}
			first = false
			b.Write(line)
		}
	}
	b.WriteString("\n]\n")
	return b.Bytes(), nil
}
