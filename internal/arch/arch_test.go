package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/edfisync/edfisync"

// everything marks a unit that wires the others together.
const everything = "*"

// allowed is the import rule. A unit is a folder of the module root with all below it; in internal/ each folder is one. What is not
// listed may not be imported, and a unit that is not listed may not exist: a new one is a decision, made here. Arrows point down only:
//
//	cmd → sync → source, edfi → schema
//	           → syncdb
//	      sandbox → schema, internal/httpd
var allowed = map[string][]string{
	"alerts":        {"sync", "syncdb", "internal/httpd", "internal/keys"},
	"cmd":           {everything},
	"edfi":          {"schema", "internal/failpoint", "internal/keys"},
	"limitless":     {"internal/keys"},
	"mappings":      {"internal/keys"},
	"console":       {"alerts", "jobs", "schema", "sync", "syncdb", "internal/httpd", "internal/keys"},
	"jobs":          {"sync", "syncdb", "internal/keys"},
	"sandbox":       {"schema", "internal/httpd", "internal/keys"},
	"schema":        {"internal/keys"},
	"source":        {"schema", "internal/keys"},
	"sync":          {"schema", "source", "edfi", "syncdb", "internal/failpoint", "internal/keys"},
	"syncdb":        {"internal/failpoint", "internal/keys"},
	"internal/arch": {},
	"internal/dbtest": {
		"internal/keys",
	},
	"internal/attacktest": {},
	"internal/canary":     {},
	"internal/failpoint":  {},
	"internal/httpd":      {"internal/keys"},
	"internal/tinysis":    {},
	"internal/keys":       {},
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	t.Parallel()
	got, err := violations(os.DirFS(filepath.Join("..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got {
		t.Error(v)
	}
}

func TestViolationsNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files := map[string]string{
		"schema/schema.go":             `package schema; import _ "` + module + `/edfi"`,
		"schema/ok_test.go":            `package schema; import _ "` + module + `/edfi"`,
		"schema/internal/gen/gen.go":   `package main; import _ "` + module + `/schema"`,
		"edfi/client.go":               `package edfi; import _ "` + module + `/schema"`,
		"cmd/edfisync/main.go":         `package main; import _ "` + module + `/edfi"`,
		"helpers/helpers.go":           `package helpers`,
		"internal/httpd/httpd.go":      `package httpd; import _ "` + module + `/internal/dbtest"`,
		"internal/keys/keys.go":        `package keys; import _ "` + module + `"`,
		"schema/testdata/x/ignored.go": `package broken; import _ "` + module + `/sync"`,
	}
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := violations(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"helpers/helpers.go: helpers is not a unit of the design",
		"internal/httpd/httpd.go: internal/httpd may not import internal/dbtest",
		"internal/keys/keys.go: internal/keys may not import the module root",
		"schema/schema.go: schema may not import edfi",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// violations reads the imports of every Go file below the module root that is not a test and returns what the rule forbids, sorted.
func violations(root fs.FS) ([]string, error) {
	var found []string
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := path.Base(name); name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		inFile, err := fileViolations(root, name)
		found = append(found, inFile...)
		return err
	})
	slices.Sort(found)
	return found, err
}

func fileViolations(root fs.FS, name string) ([]string, error) {
	from := unit(path.Dir(name))
	may, known := allowed[from]
	if !known {
		return []string{fmt.Sprintf("%s: %s is not a unit of the design", name, from)}, nil
	}
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		inside, ours := strings.CutPrefix(imported, module)
		if !ours || (inside != "" && inside[0] != '/') {
			continue
		}
		to := unit(strings.TrimPrefix(inside, "/"))
		if to == from || slices.Contains(may, to) || slices.Contains(may, everything) {
			continue
		}
		found = append(found, fmt.Sprintf("%s: %s may not import %s", name, from, to))
	}
	return found, nil
}

// unit is the part of the design a package folder belongs to.
func unit(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	switch {
	case dir == "" || dir == ".":
		return "the module root"
	case parts[0] == "internal" && len(parts) > 1:
		return "internal/" + parts[1]
	default:
		return parts[0]
	}
}
