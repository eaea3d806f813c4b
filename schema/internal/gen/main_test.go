package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestCatalogsAreCurrent makes the catalogs again. They are compared uncompressed: versions of Go may compress differently.
func TestCatalogsAreCurrent(t *testing.T) {
	t.Parallel()
	shared := os.Getenv("EDFISYNC_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "shared")
	}
	data := filepath.Join(shared, "data", "edfi")
	if _, err := os.Stat(data); err != nil {
		t.Skip("the published Ed-Fi documents are not here; EDFISYNC_SHARED names their folder")
	}
	out := t.TempDir()
	if err := run(data, out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ds-4.0", "ds-5.2", "descriptors"} {
		made, committed := uncompressed(t, filepath.Join(out, name+".json.gz")), uncompressed(t, filepath.Join("..", "..", "catalog", name+".json.gz"))
		if !bytes.Equal(made, committed) {
			t.Errorf("%s differs from what the documents give: run make generate", name)
		}
	}
}

func TestRunNeedsTheDocuments(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", t.TempDir()} {
		if err := run(data, t.TempDir()); err == nil {
			t.Errorf("catalogs were made from %q", data)
		}
	}
}

func uncompressed(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path) //nolint:gosec // a path of the test
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
