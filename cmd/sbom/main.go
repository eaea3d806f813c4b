// Command sbom says what edfisync is made of: the modules in a built program as CycloneDX, and the licences of all modules that are built into it on any
// platform, as NOTICE has them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	notice := flag.Bool("notice", false, "print the section of NOTICE about licences, instead of a program's modules")
	flag.Parse()
	err := errors.New("usage: sbom PROGRAM, or sbom -notice")
	switch {
	case *notice:
		err = writeNotice(context.Background(), os.Stdout, ".")
	case flag.NArg() == 1:
		err = writeSBOM(os.Stdout, flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// document is a CycloneDX bill of materials. It has no time and no serial number: the same program has the same one.
type document struct {
	BOMFormat   string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

// writeSBOM writes what a program says of itself.
func writeSBOM(w io.Writer, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	doc := document{BOMFormat: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{component{Type: "application", Name: info.Main.Path, Version: info.Main.Version}}}
	doc.Components = append(doc.Components, component{Type: "library", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"), PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
		}
		doc.Components = append(doc.Components, c)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// module is one that is built into the program.
type module struct{ Path, Version, Dir string }

// modules are those of the program on every platform that is released, by path.
func modules(ctx context.Context, dir string) ([]module, error) {
	found := map[module]bool{}
	for _, platform := range []string{"linux", "darwin", "windows"} {
		list := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", "./cmd/edfisync")
		list.Dir, list.Env = dir, append(os.Environ(), "GOOS="+platform, "GOARCH=amd64", "CGO_ENABLED=0")
		out, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("list the modules for %s: %w", platform, err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			if f := strings.SplitN(lines.Text(), " ", 3); len(f) == 3 {
				found[module{f[0], f[1], f[2]}] = true
			}
		}
	}
	out := make([]module, 0, len(found))
	for m := range found {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// licence names the licence of a module by its text, or returns an error for one that is not among those we take.
func (m module) licence() (string, error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "licen") && !strings.HasPrefix(name, "copying") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return "", err
		}
		if kind := licenceOf(string(text)); kind != "" {
			return kind, nil
		}
	}
	return "", fmt.Errorf("%s %s: no licence that is known and may be used", m.Path, m.Version)
}

// licenceOf names a licence by its text; "" = not one we take.
func licenceOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(words string) bool { return strings.Contains(text, words) }
	switch {
	case has("GNU GENERAL PUBLIC") || has("GNU AFFERO") || has("GNU LESSER"):
		return ""
	case has("Mozilla Public License") && has("2.0"):
		return "MPL-2.0"
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Permission to use, copy, modify, and/or distribute"), has("Permission to use, copy, modify, and distribute"):
		return "ISC"
	case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("names of its contributors") || has("name of the copyright holder")):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	}
	return ""
}

// noticeBegins is the first line of what this program writes into NOTICE.
const noticeBegins = "The program contains these modules, each under its own licence:"

// writeNotice writes the modules with their licences.
func writeNotice(ctx context.Context, w io.Writer, dir string) error {
	all, err := modules(ctx, dir)
	if err != nil {
		return err
	}
	return writeLicences(w, all)
}

// writeLicences writes the modules that have a licence we take, and names the others in its error.
func writeLicences(w io.Writer, all []module) error {
	fmt.Fprintln(w, noticeBegins)
	fmt.Fprintln(w)
	var unknown error
	for _, m := range all {
		kind, err := m.licence()
		if err != nil {
			unknown = errors.Join(unknown, err)
			continue
		}
		fmt.Fprintf(w, "  %s (%s)\n", m.Path, kind)
	}
	return unknown
}
