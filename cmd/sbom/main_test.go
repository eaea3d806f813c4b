package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edfisync/edfisync/internal/attacktest"
)

const root = "../.."

// The program is made of what its source says, and of nothing else.
func TestTheProgramIsWhatItsSourceSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one", "edfisync"), filepath.Join(dir, "somewhere", "else", "edfisync")
	built := sync.OnceValue(func() string { return build(t, one) })
	cases := []struct {
		name string
		try  func(t *testing.T)
	}{
		{"built in another directory it has the same bytes", func(t *testing.T) {
			if a, b := sum(t, built()), sum(t, build(t, two)); a != b {
				t.Errorf("%x and %x", a, b)
			}
		}},
		{"it names no directory it was built in", func(t *testing.T) {
			if text := read(t, built()); bytes.Contains(text, []byte(dir)) || bytes.Contains(text, []byte(os.Getenv("HOME")+"/go/pkg")) {
				t.Error("a directory of this machine is in it")
			}
		}},
		{"it has no C in it", func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "version", "-m", built()).Output()
			if err != nil || !strings.Contains(string(out), "CGO_ENABLED=0") {
				t.Errorf("%v %s", err, out)
			}
		}},
		{"its bill of materials has each of its modules with a hash that go.sum has", func(t *testing.T) { billOfMaterials(t, built()) }},
		{"wherever it is built, it is built like that", func(t *testing.T) { // build has it from the Makefile's own line
			ways := regexp.MustCompile(`(?m)^.*\bgo build .*$`).FindAllString(string(read(t, filepath.Join(root, "deploy", "docker", "Dockerfile"))), -1)
			for i, way := range ways {
				if !strings.Contains(way, "CGO_ENABLED=0 ") {
					t.Errorf("the Dockerfile's build %d may have C in it: %s", i+1, way)
				}
			}
			made := regexp.MustCompile(`(?m)^.*\$\(GO\) build .*$`).FindAllString(string(read(t, filepath.Join(root, "Makefile"))), -1)
			if len(ways) != 1 || len(made) != 2 {
				t.Errorf("it is built %d times by the Dockerfile and %d times by the Makefile: look at what this test has to say of that", len(ways), len(made))
			}
			for _, way := range append(ways, made...) {
				if !strings.Contains(way, " -trimpath ") {
					t.Errorf("the directory is in what this builds: %s", way)
				}
			}
			if text := string(read(t, filepath.Join(root, "deploy", "docker", "Dockerfile"))); !strings.Contains(text, "go mod verify") {
				t.Error("the Dockerfile builds with modules that nobody has verified")
			}
		}},
		{"no module stands in for another", func(t *testing.T) {
			for _, other := range []string{"go.work", "vendor"} { // either says other modules than go.mod
				if _, err := os.Stat(filepath.Join(root, other)); err == nil {
					t.Errorf("there is a %s", other)
				}
			}
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
				"GNU GENERAL PUBLIC LICENSE, with parts under: Permission is hereby granted, free of charge": "",
				"GNU AFFERO GENERAL PUBLIC LICENSE. Redistribution and use in source and binary forms":       "",
				"GNU LESSER GENERAL PUBLIC LICENSE. Permission to use, copy, modify, and distribute":         "",
				"Mozilla Public License Version 1.1":                                                         "", "Apache License Version 1.1": "",
				"Redistribution and use in source and binary forms": "BSD-2-Clause", "Redistribution and use in source and binary forms. Neither the name": "BSD-3-Clause",
			} {
				if got := licenceOf(text); got != want {
					t.Errorf("%q is taken for %q, want %q", text, got, want)
				}
			}
		}},
		{"a module whose licence is not known, or that has none, is named", func(t *testing.T) {
			for name, files := range map[string]map[string]string{
				"none": {"README": "Permission is hereby granted, free of charge"}, "copyleft": {"COPYING": "GNU GENERAL PUBLIC LICENSE"}, "a folder": {"LICENSE/MIT": "Permission is hereby granted, free of charge"},
			} {
				m := module{Path: "example.org/" + name, Version: "v1.0.0", Dir: t.TempDir()}
				for file, text := range files {
					path := filepath.Join(m.Dir, file)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				var notice bytes.Buffer
				if err := writeLicences(&notice, []module{m}); err == nil || !strings.Contains(err.Error(), m.Path) || strings.Contains(notice.String(), m.Path) {
					t.Errorf("%s: got %v, and in NOTICE: %s", name, err, notice.String())
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

// billOfMaterials expects that it has each module of the program, with the hash that go.sum has, and none that the source does not need.
func billOfMaterials(t *testing.T, program string) {
	t.Helper()
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
	needed, err := modules(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	var in []string // as the go command has it from the program
	for _, m := range regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)\t`).FindAllSubmatch(said, -1) {
		in = append(in, string(m[1])+" "+string(m[2]))
	}
	sums := string(read(t, filepath.Join(root, "go.sum")))
	listed := []string{}
	for _, c := range doc.Components {
		if c.Name == "std" {
			continue
		}
		listed = append(listed, c.Name+" "+c.Version)
		if !slices.ContainsFunc(needed, func(m module) bool { return m.Path == c.Name && m.Version == c.Version }) {
			t.Errorf("%+v is no module that the source needs", c)
		}
		if len(c.Hashes) != 1 {
			t.Errorf("%+v has no hash", c)
			continue
		}
		sum, err := hex.DecodeString(c.Hashes[0].Content)
		if err != nil || !strings.Contains(sums, fmt.Sprintf("%s %s h1:%s\n", c.Name, c.Version, base64.StdEncoding.EncodeToString(sum))) {
			t.Errorf("%+v has another hash than go.sum says", c)
		}
	}
	slices.Sort(in)
	slices.Sort(listed)
	if !slices.Equal(in, listed) || len(in) < 40 || doc.Metadata.Component.Name != "github.com/edfisync/edfisync" {
		t.Errorf("%d components of %s, %d modules in the program", len(listed), doc.Metadata.Component.Name, len(in))
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
	recipe := regexp.MustCompile(`(?m)^build:.*\n\t\$\(GO\) (.+) -ldflags '\$\(LDFLAGS\)' -o \$\(BIN\)/ (\S+)$`).FindSubmatch(read(t, filepath.Join(root, "Makefile")))
	if recipe == nil {
		t.Fatal("the Makefile builds the program in a way that this test does not know")
	}
	args := append(strings.Fields(string(recipe[1])), "-ldflags", "-s -w -X main.version=test", "-o", filepath.Join(dir, "program"), string(recipe[2]))
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=")
	if c := regexp.MustCompile(`(?m)^export (CGO_ENABLED) := (\S+)$`).FindSubmatch(read(t, filepath.Join(root, "Makefile"))); c != nil {
		cmd.Env = append(cmd.Env, string(c[1])+"="+string(c[2]))
	}
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
