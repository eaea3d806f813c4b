package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	audit = flag.Int("mutants", 0, "seeds each mutant gets; 0 means no audit")
	only  = flag.String("mutant", "", "audit only mutants whose name holds this")
)

// root is the module's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// apply puts a mutant into its file's text.
func (m mutant) apply(dir string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("mutant %q: %s has its text %d times, want once: bring the mutant up to date", m.name, m.file, n)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1), nil
}

func TestEveryMutantStillAppliesToTheSource(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range mutants() {
		if _, err := m.apply(root(t)); err != nil {
			t.Error(err)
		}
		if names[m.name] || m.old == m.new {
			t.Errorf("mutant %q is there twice, or changes nothing", m.name)
		}
		names[m.name] = true
	}
	if len(names) < 40 {
		t.Errorf("%d mutants, want at least 40 (T5)", len(names))
	}
}

// TestAudit plays the simulation with each mutant and wants each of them found.
func TestAudit(t *testing.T) {
	if *audit == 0 {
		t.Skip("make mutants runs it")
	}
	all := slices.DeleteFunc(mutants(), func(m mutant) bool { return !strings.Contains(m.name, *only) })
	caught := 0
	for _, m := range all {
		seeds, how, err := m.hunt(root(t), t.TempDir())
		switch {
		case err != nil:
			t.Error(err)
		case seeds == 0:
			t.Errorf("not caught: %s", m.name)
			fmt.Printf("  NOT CAUGHT in %d seeds: %s\n", *audit, m.name)
		default:
			caught++
			fmt.Printf("  %5d seeds  %-62s %s\n", seeds, m.name, how)
		}
	}
	fmt.Printf("caught %d/%d\n", caught, len(all))
}

var (
	foundLine = regexp.MustCompile(`(?m)^seed (\d+) at \S+: (\w+)`)
	playing   = regexp.MustCompile(`(?m)^seeds=(\d+)`)
)

// hunt builds the simulation with the mutant and plays it until it finds something. It returns how many seeds that took, 0 when it found nothing.
func (m mutant) hunt(dir, work string) (seeds int, how string, err error) {
	text, err := m.apply(dir)
	if err != nil {
		return 0, "", err
	}
	changed, overlay, binary := filepath.Join(work, "mutant.go"), filepath.Join(work, "overlay.json"), filepath.Join(work, "simulate.test")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, filepath.FromSlash(m.file)): changed}})
	if err != nil {
		return 0, "", err
	}
	if err := errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return 0, "", err
	}
	build := exec.Command("go", "test", "-c", "-trimpath", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, "./sync/simulate")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return 0, "", fmt.Errorf("mutant %q does not build: %w\n%s", m.name, err, out)
	}
	run := exec.Command(binary, "-test.timeout", "30m", "-test.run", "^TestSimulate$", "-seeds", strconv.Itoa(*audit), "-stop", "1", "-shrink=false", "-report", "1s")
	run.Dir = filepath.Join(dir, "sync", "simulate")
	out, err := run.CombinedOutput()
	if found := foundLine.FindSubmatch(out); found != nil {
		n, _ := strconv.Atoi(string(found[1])) // digits, says the pattern
		return n, "breaks " + string(found[2]), nil
	}
	if err == nil {
		return 0, "", nil
	}
	last := 1
	for _, p := range playing.FindAllSubmatch(out, -1) {
		last, _ = strconv.Atoi(string(p[1]))
	}
	return last, "ends the program: " + firstPanic(out), nil
}

func firstPanic(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
	}
	return "without a reason"
}
