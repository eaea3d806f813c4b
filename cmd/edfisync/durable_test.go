package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lossy is a file system that loses power in its nth operation. Names that were not made durable may be there or not afterwards.
type lossy struct {
	names   map[string]string // as processes see them; of folders "/"
	durable map[string]string
	since   []map[string]string // every state of names since the folder was synced
	left    int                 // operations until the power fails
}

var errPower = errors.New("no power")

func newLossy(left int, names map[string]string) *lossy {
	return &lossy{names: maps.Clone(names), durable: maps.Clone(names), left: left}
}

func (l *lossy) step(do func()) error {
	if l.left == 0 {
		return errPower
	}
	l.left--
	do()
	l.since = append(l.since, maps.Clone(l.names))
	return nil
}

func (l *lossy) Save(name string, text []byte) error {
	return l.step(func() { l.names[name] = string(text) })
}

func (l *lossy) Rename(from, to string) error {
	return l.step(func() {
		l.names[to] = l.names[from]
		delete(l.names, from)
	})
}

func (l *lossy) Mkdir(name string) error {
	if _, ok := l.names[name]; ok {
		return fs.ErrExist
	}
	if _, ok := l.names[filepath.Dir(name)]; !ok {
		return fs.ErrNotExist
	}
	return l.step(func() { l.names[name] = "/" })
}

func (l *lossy) Sync(folder string) error {
	return l.step(func() {
		for name := range l.durable {
			if filepath.Dir(name) == folder {
				delete(l.durable, name)
			}
		}
		for name, text := range l.names {
			if filepath.Dir(name) == folder {
				l.durable[name] = text
			}
		}
		l.since = nil
	})
}

// after returns the states a restart may find.
func (l *lossy) after() []map[string]string {
	return append(slices.Clone(l.since), l.durable)
}

func TestReplacedFileIsTheOldOrTheNewOneWheneverThePowerFails(t *testing.T) {
	t.Parallel()
	for _, before := range []map[string]string{
		{"/d": "/"}, {"/d": "/", "/d/witness": "old"}, {"/d": "/", "/d/witness": "old", "/d/witness.new": "from an earlier failure"},
	} {
		done := false
		for left := 0; !done; left++ {
			l := newLossy(left, before)
			done = replace(l, "/d/witness", []byte("new")) == nil
			for _, state := range l.after() {
				if got := state["/d/witness"]; got != "new" && (done || got != before["/d/witness"]) {
					t.Errorf("power fails after %d operations (returned: %t): found %q", left, done, got)
				}
			}
		}
	}
}

func TestFolderIsThereOnceItWasMade(t *testing.T) {
	t.Parallel()
	for _, before := range []map[string]string{{"/": "/"}, {"/": "/", "/a": "/"}, {"/": "/", "/a": "/", "/a/b": "/", "/a/b/c": "/"}} {
		done := false
		for left := 0; !done; left++ {
			l := newLossy(left, before)
			done = makeFolder(l, "/a/b/c") == nil
			for _, state := range l.after() {
				for _, name := range []string{"/a", "/a/b", "/a/b/c"} {
					if done && state[name] != "/" {
						t.Errorf("made from %v: a restart does not find %s", slices.Sorted(maps.Keys(before)), name)
					}
				}
			}
		}
	}
}

func TestStorageOfTheMachine(t *testing.T) {
	t.Parallel()
	s, dir := machineStorage{}, t.TempDir()
	folder := filepath.Join(dir, "a", "b")
	for range 2 {
		if err := makeFolder(s, folder); err != nil {
			t.Fatal(err)
		}
		if err := replace(s, filepath.Join(folder, "file"), []byte("text")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(folder, "file")); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want the file alone", entries, err)
	}
	if err := makeFolder(s, filepath.Join(folder, "file")); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a folder over a file: %v", err)
	}
}
