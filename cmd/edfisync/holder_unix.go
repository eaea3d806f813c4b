//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writable reports whether this process may make files in a folder, as far as can be told without making one.
func writable(folder string) bool { return unix.Access(folder, unix.W_OK) == nil }

// lock takes the file's lock if nobody has it. It ends with the process, or when the file is closed.
func lock(file *os.File) (bool, error) {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
