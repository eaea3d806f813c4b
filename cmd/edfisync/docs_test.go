package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/sync"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An operator who looks a code up finds it, with the owner and the remedy that the program gives.
func TestOperationsExplainsEveryIssueCode(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/operations.md")
	codes := append(schemaCodes(t), syncCodes(t)...)
	if len(codes) < 30 {
		t.Fatalf("found %d issue codes in the source, want at least 30: the test no longer finds them", len(codes))
	}
	for _, code := range codes {
		if !strings.Contains(text, "`"+code+"`") {
			t.Errorf("docs/operations.md does not explain the issue code %s", code)
		}
		if _, ok := sync.AdviceOn(code); !ok {
			t.Errorf("sync.Advices has no owner and hint for the issue code %s", code)
		}
	}
	for _, a := range sync.Advices() {
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + a.Code + "`[^|]*\\| " + a.Owner + " \\|[^|]*\\| " + regexp.QuoteMeta(a.Hint) + " \\|$")
		if a.Code != "no-answer" && !row.MatchString(text) {
			t.Errorf("docs/operations.md has no row that says of %s: owner %s, %s", a.Code, a.Owner, a.Hint)
		}
	}
}

// So does one who looks up why a run failed, or a warning.
func TestOperationsExplainsEveryFailureAndWarning(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/operations.md")
	for _, table := range []struct {
		hints map[string]string
		more  string // cells behind the hint
	}{{sync.FailureHints(), "[^|]*\\|"}, {sync.WarningHints(), ""}} {
		for code, hint := range table.hints {
			row := regexp.MustCompile("(?m)^\\| `" + code + "` \\|[^|]*\\| " + regexp.QuoteMeta(hint) + " \\|" + table.more + "$")
			if !row.MatchString(text) {
				t.Errorf("docs/operations.md has no row that says of %s: %s", code, hint)
			}
		}
	}
}

// schemaCodes are the values of the constants Code… of package schema.
func schemaCodes(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "schema", "problem.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			if code, err := strconv.Unquote(literal.Value); err == nil {
				codes = append(codes, code)
			}
		}
		return true
	})
	return codes
}

// syncCodes are the codes the engine gives: the text after an outcome, or of a field Code.
func syncCodes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "sync", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`(?:Code: |(?:Invalid|Blocked|Held|Rejected|Failed), )"([a-z]+(?:-[a-z]+)+)"`)
	var codes []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range code.FindAllStringSubmatch(string(text), -1) {
			codes = append(codes, match[1])
		}
	}
	return codes
}

// The table of exit codes in the documents is the one in the program.
func TestDocumentsHaveTheExitCodes(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/cli.md")
	for _, m := range meanings() {
		if !strings.Contains(text, "| "+strconv.Itoa(int(m.Code))+" | ") {
			t.Errorf("docs/cli.md does not have exit code %d", m.Code)
		}
	}
}

// Links between documents lead somewhere.
func TestDocumentsLinkToFilesThatExist(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		files = append(files, filepath.Join(root, name))
	}
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), filepath.FromSlash(match[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", filepath.Base(file), match[1])
			}
		}
	}
}

// Commands that documents tell people to type are commands.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"--help": true, "COMMAND": true}
	for i := range reflect.TypeFor[commands]().NumField() {
		known[strings.ToLower(reflect.TypeFor[commands]().Field(i).Name)] = true
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join("..", "..", "README.md"))
	typed := regexp.MustCompile("(?:`|bin/)edfisync ([A-Za-z-]+)")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range typed.FindAllStringSubmatch(string(text), -1) {
			if !known[match[1]] && !known[strings.ReplaceAll(match[1], "-", "")] {
				t.Errorf("%s: edfisync %s is not a command", filepath.Base(file), match[1])
			}
		}
	}
}

// Every module that is imported has a line that says why.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/dependencies.md")
	required := regexp.MustCompile(`(?m)^\t(\S+) v\S+`).FindAllStringSubmatch(document(t, "go.mod"), -1)
	imported := imports(t)
	for _, module := range required {
		used := slices.ContainsFunc(imported, func(path string) bool { return path == module[1] || strings.HasPrefix(path, module[1]+"/") })
		if used && !strings.Contains(text, "| "+module[1]+" |") {
			t.Errorf("docs/dependencies.md does not say why %s is used", module[1])
		}
	}
}

// imports lists what any Go file of the module imports, tests included.
func imports(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join("..", ".."), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every fault of the catalogue has a row with its outcome and a test that exists, or says with what it will come.
func TestEveryFaultHasItsTest(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/guarantees.md")
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch {
		case strings.HasSuffix(path, ".txtar"):
			tests[filepath.Base(path)] = true
		case strings.HasSuffix(path, "_test.go"):
			code, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range declared.FindAllSubmatch(code, -1) {
				tests[string(m[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| F(\d+) \| (.+) \| (.+) \| (.*) \|$`)
	named := regexp.MustCompile("`([^`]+)`")
	found := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
		names := named.FindAllStringSubmatch(m[4], -1)
		if len(names) == 0 && !strings.HasPrefix(m[3], "*with ") {
			t.Errorf("F%s names no test", m[1])
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("F%s names %s, which does not exist", m[1], n[1])
			}
		}
	}
	for i := 1; i <= 68; i++ {
		if !found[strconv.Itoa(i)] {
			t.Errorf("F%d is missing", i)
		}
	}
}

// The document's numbers of attacks: each test that is named plays so many (it says so itself when it runs), they add up, and are as many as there must be.
func TestAttacksAreAsManyAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	total := 0
	for group, least := range attacktest.Minimum() {
		tests, sum, err := attacktest.Documented(group)
		if err != nil {
			t.Error(err)
			continue
		}
		added := 0
		for name, n := range tests {
			added += n
			if !playsAttacks(t, name) {
				t.Errorf("%s, of the group %q, does not say how many attacks it plays", name, group)
			}
		}
		if added != sum || sum < least {
			t.Errorf("the group %q has %d attacks, the document says %d, there must be %d", group, added, sum, least)
		}
		total += sum
	}
	if total < 190 {
		t.Errorf("%d attacks, want at least 190", total)
	}
}

// playsAttacks reports whether a test tells attacktest how many attacks it plays.
func playsAttacks(t *testing.T, name string) (plays bool) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || plays {
			return err
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, body, found := strings.Cut(string(code), "\nfunc "+name+"(")
		if found {
			body, _, _ = strings.Cut(body, "\nfunc ")
			plays = strings.Contains(body, "attacktest.Played(")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return plays
}
