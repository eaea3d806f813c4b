package alerts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/alerts"
)

// The Python of docs/operations.md believes what it should, and nothing else.
func TestTheDocumentsReceiverInPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 on PATH")
	}
	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```python\n(import hashlib.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/operations.md has no receiver in Python")
	}
	now := time.Now()
	body := alerts.NewTest(now).Body()
	var program strings.Builder
	program.Write(block[1])
	program.WriteString("\nseen = set()\ndef tried(*args):\n    try:\n        return 'nothing' if notice(*args, seen) is None else 'notice'\n    except ValueError as e:\n        return str(e)\n")
	good := alerts.Sign(body, now, newSecret, oldSecret)
	want := ""
	for _, c := range []struct{ header, body, secret, want string }{
		{good, string(body), newSecret, "notice"},
		{good, string(body), oldSecret, "nothing"}, // it was seen
		{good, string(body), "another", "wrong signature"},
		{good, string(body) + " ", newSecret, "wrong signature"},
		{alerts.Sign(body, now.Add(-time.Hour), newSecret), string(body), newSecret, "too old, or from the future"},
		{good + ",t=1", string(body), newSecret, "no time"},
		{"", string(body), newSecret, "no time"},
	} {
		fmt.Fprintf(&program, "print(tried(%q, %q.encode(), [%q]))\n", c.header, c.body, c.secret)
		want += c.want + "\n"
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", program.String()).CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("%v, printed:\n%swant:\n%s", err, out, want)
	}
}
