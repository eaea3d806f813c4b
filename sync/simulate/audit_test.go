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
	"runtime"
	"slices"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
)

var (
	audit = flag.Int("mutants", 0, "seeds each mutant gets; 0 means no audit")
	only  = flag.String("mutant", "", "audit only mutants whose name this regular expression matches")
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

// apply puts a mutant into the texts of its files.
func (m mutant) apply(dir string) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, e := range m.edits {
		text := texts[e.file]
		if text == nil {
			var err error
			if text, err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(e.file))); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 || e.old == e.new {
			return nil, fmt.Errorf("mutant %q: %s has its text %d times, want once, and another one to replace it: bring the mutant up to date", m.name, e.file, n)
		}
		texts[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	return texts, nil
}

func TestEveryMutantStillAppliesToTheSource(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range mutants() {
		if _, err := m.apply(root(t)); err != nil {
			t.Error(err)
		}
		if names[m.name] || len(m.edits) == 0 {
			t.Errorf("mutant %q is there twice, or changes nothing", m.name)
		}
		names[m.name] = true
	}
	if len(names) < 40 {
		t.Errorf("%d mutants, want at least 40 (T5)", len(names))
	}
}

// catch is what became of one mutant.
type catch struct {
	mutant
	seeds int    // it took to find it; 0 = it was not found
	how   string // the promise it broke first
	err   error  // it does not apply, does not build, or could not be played
}

// TestAudit plays the simulation with each mutant and wants each of them found.
func TestAudit(t *testing.T) {
	if *audit == 0 {
		t.Skip("make mutants runs it")
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(mutants(), func(m mutant) bool { return !pattern.MatchString(m.name) })
	a := &auditor{t: t, root: root(t), dir: t.TempDir()}
	if err := a.build(filepath.Join(a.dir, "sound"), nil); err != nil {
		t.Fatal(err)
	}
	results := make([]catch, len(all))
	next := make(chan int)
	var wg gosync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = a.hunt(all[i], i)
				a.tell(results[i])
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	var took []int
	for _, c := range results {
		if c.seeds > 0 {
			took = append(took, c.seeds)
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		fmt.Printf("median %d seeds, most %d\n", took[len(took)/2], took[len(took)-1])
	}
	fmt.Printf("caught %d/%d\n", len(took), len(all))
}

var (
	foundLine = regexp.MustCompile(`(?m)^seed (\d+) at \S+: (\w+)`)
	playing   = regexp.MustCompile(`(?m)^seeds=(\d+)`)
)

// auditor builds and plays mutants, one for each processor at a time. The build cache keeps the packages a mutant does not touch.
type auditor struct {
	t    *testing.T
	root string
	dir  string

	mu gosync.Mutex // of what is printed
}

func (a *auditor) tell(c catch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case c.err != nil:
		fmt.Printf("  NOT PLAYED: %s\n", c.name)
		a.t.Error(c.err)
	case c.seeds == 0:
		fmt.Printf("  NOT CAUGHT in %d seeds: %s\n", *audit, c.name)
		a.t.Errorf("not caught: %s", c.name)
	default:
		fmt.Printf("  %5d seeds  %-62s %s\n", c.seeds, c.name, c.how)
	}
}

// build makes the program of the simulation, with other texts in place of some files.
func (a *auditor) build(binary string, texts map[string][]byte) error {
	replace := map[string]string{}
	for file, text := range texts {
		changed := binary + "-" + strings.ReplaceAll(file, "/", "-")
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			return err
		}
		replace[filepath.Join(a.root, filepath.FromSlash(file))] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	if err := os.WriteFile(binary+".json", list, 0o600); err != nil {
		return err
	}
	build := exec.Command("go", "test", "-c", "-trimpath", "-vet=off", "-ldflags=-s -w", "-overlay", binary+".json", "-o", binary, "./sync/simulate")
	build.Dir = a.root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("does not build: %w\n%s", err, out)
	}
	return nil
}

// play plays seeds from first on until one breaks a promise.
func (a *auditor) play(binary string, first, n int) (out []byte, err error) {
	run := exec.Command(binary, "-test.timeout", "30m", "-test.run", "^TestSimulate$", "-first", strconv.Itoa(first), "-seeds", strconv.Itoa(n),
		"-stop", "1", "-shrink=false", "-report", "1s")
	run.Dir = filepath.Join(a.root, "sync", "simulate")
	run.Env = append(os.Environ(), "GOMAXPROCS=1")
	return run.CombinedOutput()
}

// hunt plays the simulation with the mutant until it finds something that the program without it does not do.
func (a *auditor) hunt(m mutant, number int) catch {
	c := catch{mutant: m}
	texts, err := m.apply(a.root)
	if err != nil {
		c.err = err
		return c
	}
	binary := filepath.Join(a.dir, fmt.Sprint("mutant", number))
	defer os.Remove(binary)
	if err := a.build(binary, texts); err != nil {
		c.err = fmt.Errorf("mutant %q %w", m.name, err)
		return c
	}
	for first := 1; first <= *audit; {
		out, err := a.play(binary, first, *audit-first+1)
		found := foundLine.FindSubmatch(out)
		if found == nil && err == nil {
			return c
		}
		if found == nil { // it ended the program, or for ever; how far it came is in the last line it wrote
			last := first
			for _, p := range playing.FindAllSubmatch(out, -1) {
				n, _ := strconv.Atoi(string(p[1])) // digits, says the pattern
				last = first - 1 + n
			}
			c.seeds, c.how = last, "ends the program: "+firstPanic(out)
			return c
		}
		seed, _ := strconv.Atoi(string(found[1]))
		sound, err := a.play(filepath.Join(a.dir, "sound"), seed, 1)
		switch {
		case err == nil:
			c.seeds, c.how = seed, "breaks "+string(found[2])
			return c
		case !foundLine.Match(sound):
			c.err = errors.Join(fmt.Errorf("play seed %d without the mutant", seed), err)
			return c
		}
		a.t.Errorf("seed %d breaks a promise without any mutant: that comes first", seed)
		first = seed + 1
	}
	return c
}

func firstPanic(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
	}
	return "without a reason"
}
