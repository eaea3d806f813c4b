package main

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// writable reports whether this process may make files in a folder, as far as can be told without making one: here, whether it is there.
func writable(folder string) bool {
	info, err := os.Stat(folder)
	return err == nil && info.IsDir()
}

// lock takes the file's lock if nobody has it. It ends with the process, or when the file is closed.
func lock(file *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
