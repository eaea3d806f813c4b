package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// holder is how this process names itself in a lease, so that the next process on this machine can tell whether it is still alive. A run
// that was killed leaves a lease that others must wait out (I7), up to a minute and a half; on the same machine there is proof instead of
// waiting: the holder keeps a file locked, and the system gives the lock back when the process is gone, however it went.
//
//	host/boot/random    random names the lock file in the work folder
//
// The proof counts only on the machine and boot the lease was taken on: then the same kernel keeps both locks, whatever file system the
// work folder is on.
type holder struct {
	name string
	file *os.File
}

// newHolder makes and locks this process's file.
func newHolder(workDir string) (*holder, error) {
	id := strings.ToLower(rand.Text())
	file, err := os.OpenFile(lockPath(workDir, id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make lock file: %w", err)
	}
	h := &holder{name: machine() + "/" + id, file: file}
	if locked, err := lock(file); err != nil || !locked {
		h.release()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return h, nil
}

// release gives the lock back and removes the file. Errors leave a file without a lock, which says the same.
func (h *holder) release() {
	_ = h.file.Close()
	_ = os.Remove(h.file.Name())
}

// abandon gives the lock back and leaves the file: whoever looks finds that the holder of the lease is gone, though its process may live.
func (h *holder) abandon() { _ = h.file.Close() }

// isDead reports whether the process that took a lease under this name is surely gone. When in doubt it says no.
func isDead(workDir, name string) bool {
	on, id, ok := cutLast(name, "/")
	if !ok || on != machine() || strings.ContainsAny(id, `./\`) || id == "" {
		return false
	}
	file, err := os.OpenFile(lockPath(workDir, id), os.O_RDWR, 0)
	if err != nil {
		return false // another work folder, or it released the lease and is about to end
	}
	defer file.Close()
	locked, err := lock(file)
	return err == nil && locked
}

// bury removes the file of a dead process. Its lease must be ended by then: without the file nobody can tell any more that it is dead, and
// the lease would have to be waited out.
func bury(workDir, name string) {
	if _, id, ok := cutLast(name, "/"); ok {
		_ = os.Remove(lockPath(workDir, id)) // what stays says the same
	}
}

func lockPath(workDir, id string) string { return filepath.Join(workDir, "holder-"+id+".lock") }

// machine names this machine and, where the system tells, this boot of it.
func machine() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return host
	}
	return host + "/" + string(bytes.TrimSpace(boot))
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
