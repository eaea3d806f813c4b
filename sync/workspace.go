package sync

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/schema"
)

// workspace is the directory of the spools of a run or a plan. It is made with the first of them: most runs find so little that they never touch
// the disk. Safe for concurrent use.
type workspace struct {
	parent  string
	pattern string // as os.MkdirTemp takes it

	mu   gosync.Mutex
	path string // "" = not made yet
}

// abandoned is the age at which the spools of a plan or a reading are those of a process that was killed: none takes so long.
const abandoned = 7 * 24 * time.Hour

// newWorkspace returns a workspace below a directory, by default the system's temporary one, and removes those of the same prefix that were abandoned.
// A directory that is not there is an error at once.
func newWorkspace(parent, prefix string) (*workspace, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	left, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("look for the directory for spools: %w", err)
	}
	for _, dir := range left {
		if info, err := dir.Info(); err == nil && dir.IsDir() && strings.HasPrefix(dir.Name(), prefix) && time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(filepath.Join(parent, dir.Name())) // sealed; the next one tries again
		}
	}
	return &workspace{parent: parent, pattern: prefix + "*"}, nil
}

// file makes a new file.
func (w *workspace) file() (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path == "" {
		path, err := os.MkdirTemp(w.parent, w.pattern)
		if err != nil {
			return nil, err
		}
		w.path = path
	}
	return os.CreateTemp(w.path, "spool-*")
}

// remove deletes the directory and what is in it. It may be called twice.
func (w *workspace) remove() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path != "" {
		_ = os.RemoveAll(w.path) // sealed; the next run tries again
		w.path = ""
	}
}

// spoolDir returns the workspace of a run and removes what killed runs of the connection left: the lease says that none of them is alive, and the
// key that they are ours.
func (e *Engine) spoolDir(parent string) (*workspace, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	name := schema.NewHasher(e.Keys.HashMAC()).Sum([]byte("spools")) // no two connections share a key
	prefix := fmt.Sprintf("edfisync-run-%x-", name[:6])
	left, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("look for spools of earlier runs: %w", err)
	}
	for _, dir := range left {
		if !strings.HasPrefix(dir.Name(), prefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(parent, dir.Name())); err != nil {
			return nil, fmt.Errorf("remove the spools of an earlier run: %w", err)
		}
	}
	return &workspace{parent: parent, pattern: prefix + "*"}, nil
}
