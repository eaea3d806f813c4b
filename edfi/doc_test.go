package edfi

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// codesInSource reads every code of an Error out of the package's own source: verdicts, Error literals and notOffered calls.
func codesInSource(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]string{} // code → class as the source names it, "" where it is not beside the code
	text := func(e ast.Expr) string {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			s, _ := strconv.Unquote(lit.Value)
			return s
		}
		return ""
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				name, _ := n.Type.(*ast.Ident)
				switch {
				case name == nil:
				case name.Name == "verdict" && len(n.Elts) > 2:
					classes[text(n.Elts[0])] = n.Elts[1].(*ast.Ident).Name
				case name.Name == "Error":
					code, class := "", ""
					for _, element := range n.Elts {
						pair := element.(*ast.KeyValueExpr)
						switch pair.Key.(*ast.Ident).Name {
						case "Code":
							code = text(pair.Value)
						case "Class":
							if ident, ok := pair.Value.(*ast.Ident); ok {
								class = ident.Name
							}
						}
					}
					if code != "" {
						classes[code] = class
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "notOffered" {
					classes[text(n.Args[1])] = "Rejected"
				}
			}
			return true
		})
	}
	return classes
}

func TestErrorsPageListsEveryCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| ((?:`[a-z-]+`(?:, )?)+) \\|[^|]*\\| ([a-z-]+) \\|")
	listed := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		for code := range strings.SplitSeq(match[1], ", ") {
			listed[strings.Trim(code, "`")] = match[2]
		}
	}
	inSource := codesInSource(t)
	if len(inSource) < 40 {
		t.Fatalf("only %d codes are found in the source", len(inSource))
	}
	names := map[string]string{"Invalid": "invalid", "Rejected": "rejected", "Blocked": "blocked", "Transient": "transient", "Stop": "stop", "NotFound": "not-found"}
	for code, class := range inSource {
		if listed[code] != names[class] {
			t.Errorf("code %s is %q in docs/errors.md, want %q", code, listed[code], names[class])
		}
	}
	for code := range listed {
		if _, ok := inSource[code]; !ok {
			t.Errorf("docs/errors.md lists %s, which does not exist", code)
		}
	}
}

func TestEveryVerdictHasItsAdvice(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, v := range verdicts() {
		if listed[v.code] {
			t.Errorf("%s is listed twice", v.code)
		}
		listed[v.code] = true
		if owner, hint, ok := Advice(v.code); !ok || owner != v.owner || hint != v.hint || hint == "" {
			t.Errorf("Advice(%s) = %q, %q, %t, want what the verdict says", v.code, owner, hint, ok)
		}
	}
	for code := range verdictCodes(t) {
		if !listed[code] {
			t.Errorf("no advice for %s", code)
		}
	}
	if _, _, ok := Advice("no-such-code"); ok {
		t.Error("there is advice for a code that does not exist")
	}
}

// verdictCodes are the codes of the verdict literals in the source.
func verdictCodes(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("verdict.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, match := range regexp.MustCompile(`verdict\{"([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
		codes[match[1]] = true
	}
	if len(codes) < 40 {
		t.Fatalf("only %d verdicts are found in the source", len(codes))
	}
	return codes
}
