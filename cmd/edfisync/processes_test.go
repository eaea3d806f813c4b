package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	gosync "sync"
	"testing"
	"time"
)

// watchProcesses looks, until stop is called, at what any user of the machine can see of the processes that work in a folder, those they start included:
// their arguments, and what root and the user itself see besides, their environment. look is given each text once, from one goroutine. It fails the test
// when it saw none. Outside of Linux it does nothing.
func watchProcesses(t *testing.T, dir string, look func(where string, text []byte)) (stop func()) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return func() {}
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen, ended, done := map[string][]byte{}, make(chan struct{}), make(chan struct{})
	glance := func() {
		folders, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, cwd := range folders {
			if at, err := os.Readlink(cwd); err != nil || at != dir {
				continue
			}
			if filepath.Dir(cwd) == "/proc/"+strconv.Itoa(os.Getpid()) {
				continue
			}
			for _, name := range []string{"cmdline", "environ"} {
				path := filepath.Join(filepath.Dir(cwd), name)
				text, err := os.ReadFile(path)
				if err != nil || len(text) == 0 || bytes.Equal(seen[path], text) {
					continue // it has ended
				}
				seen[path] = text
				look("the "+name+" of "+string(bytes.ReplaceAll(text[:min(len(text), 40)], []byte{0}, []byte{' '})), text)
			}
		}
	}
	go func() {
		defer close(done)
		for every := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ended:
				every.Stop()
				return
			case <-every.C:
				glance()
			}
		}
	}()
	var once gosync.Once
	stop = func() {
		once.Do(func() {
			close(ended)
			<-done
			if len(seen) == 0 {
				t.Error("no process was seen at work in the folder: the test looks for what was never there")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}
