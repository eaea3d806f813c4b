package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/internal/attacktest"
)

const root = "../.."

// The program is made of what its source says, and of nothing else.
func TestTheProgramIsWhatItsSourceSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one", "edfisync"), filepath.Join(dir, "somewhere", "else", "edfisync")
	program := build(t, one)
	cases := []struct {
		name string
		try  func(t *testing.T)
	}{
		{"built in another directory it has the same bytes", func(t *testing.T) {
			if a, b := sum(t, program), sum(t, build(t, two)); a != b {
				t.Errorf("%x and %x", a, b)
			}
		}},
		{"it names no directory it was built in", func(t *testing.T) {
			if text := read(t, program); bytes.Contains(text, []byte(dir)) || bytes.Contains(text, []byte(os.Getenv("HOME")+"/go/pkg")) {
				t.Error("a directory of this machine is in it")
			}
		}},
		{"it has no C in it", func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
			if err != nil || !strings.Contains(string(out), "CGO_ENABLED=0") {
				t.Errorf("%v %s", err, out)
			}
		}},
		{"its bill of materials has each of its modules with a hash that go.sum has", billOfMaterials(program)},
		{"no module stands in for another", func(t *testing.T) {
			if text := string(read(t, filepath.Join(root, "go.mod"))); regexp.MustCompile(`(?m)^\s*(replace|exclude)\b`).MatchString(text) {
				t.Error("go.mod replaces or excludes a module")
			}
		}},
		{"the licence of each module is one that may be used, and stands in NOTICE", func(t *testing.T) {
			var want bytes.Buffer
			if err := writeNotice(t.Context(), &want, root); err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(read(t, filepath.Join(root, "NOTICE")), want.Bytes()) {
				t.Errorf("NOTICE is not up to date: make notice writes it. It lacks:\n%s", want.String())
			}
		}},
		{"no text of a licence is taken for another", func(t *testing.T) {
			for text, want := range map[string]string{
				"GNU GENERAL PUBLIC LICENSE Version 3": "", "GNU AFFERO GENERAL PUBLIC LICENSE": "", "All rights reserved.": "", "Mozilla Public License\nVersion 2.0": "MPL-2.0",
				"Business Source License 1.1": "", "Permission is hereby granted, free of\ncharge": "MIT", "Server Side Public License": "",
			} {
				if got := licenceOf(text); got != want {
					t.Errorf("%q is taken for %q, want %q", text, got, want)
				}
			}
		}},
		{"no script of a third party is loaded by a page", func(t *testing.T) {
			err := filepath.WalkDir(filepath.Join(root, "console", "web"), func(path string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() && regexp.MustCompile(`(?i)(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//`).Match(read(t, path)) {
					t.Errorf("%s loads from elsewhere", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}},
	}
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.name
		t.Run(c.name, c.try)
	}
	attacktest.Played(t, attacktest.Supply, names)
}

func billOfMaterials(program string) func(t *testing.T) {
	return func(t *testing.T) {
		var one, two bytes.Buffer
		for _, w := range []*bytes.Buffer{&one, &two} {
			if err := writeSBOM(w, program); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Error("it is another one the second time")
		}
		var doc document
		if err := json.Unmarshal(one.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		built, err := modules(context.Background(), root) //nolint:usetesting // of the parent
		if err != nil {
			t.Fatal(err)
		}
		sums := string(read(t, filepath.Join(root, "go.sum")))
		for _, c := range doc.Components {
			if c.Name == "std" {
				continue
			}
			if len(c.Hashes) != 1 || !strings.Contains(sums, c.Name+" "+c.Version+" h1:") || !slices.ContainsFunc(built, func(m module) bool { return m.Path == c.Name && m.Version == c.Version }) {
				t.Errorf("%+v is no module of go.sum, or has no hash", c)
			}
		}
		if len(doc.Components) < 40 || doc.Metadata.Component.Name != "github.com/edfisync/edfisync" {
			t.Errorf("%d components of %s", len(doc.Components), doc.Metadata.Component.Name)
		}
	}
}

// build copies the source and builds the program there as make build does, and returns it.
func build(t *testing.T, dir string) (program string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if name := e.Name(); rest != "." && (strings.HasPrefix(name, ".") || rest == "bin" || rest == "dist") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(dir, rest), 0o750)
		}
		if !e.Type().IsRegular() || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(e.Name(), ".") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rest), text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", filepath.Join(dir, "program"), "./cmd/edfisync")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "program")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sum(t *testing.T, path string) [32]byte {
	t.Helper()
	return sha256.Sum256(read(t, path))
}
