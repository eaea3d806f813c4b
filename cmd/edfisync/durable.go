package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// storage is what durable writes need of a file system. Names in a folder are durable only when the folder was synced after them.
type storage interface {
	// Save writes a file, with its content synced.
	Save(name string, text []byte) error
	Rename(from, to string) error
	Mkdir(name string) error
	// Sync makes the names in a folder durable.
	Sync(folder string) error
}

// replace gives a file a new content: whenever the power fails, the old one or the new one is there, whole, and after replace has returned the
// new one. Two at once for one name are not safe.
func replace(s storage, name string, text []byte) error {
	temporary := name + ".new"
	if err := s.Save(temporary, text); err != nil {
		return err
	}
	if err := s.Rename(temporary, name); err != nil {
		return err
	}
	return s.Sync(filepath.Dir(name))
}

// makeFolder makes a folder, and those it is in, so that they are there after the power has failed: the ledger in it is as durable as it is.
// It may be called again.
func makeFolder(s storage, folder string) error {
	err := s.Mkdir(folder)
	parent := filepath.Dir(folder)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && parent != folder:
		if err := makeFolder(s, parent); err != nil {
			return err
		}
		if err := s.Mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case err != nil:
		return err
	}
	return s.Sync(parent)
}

// machineStorage is the file system of this machine. What it makes only its owner can read.
type machineStorage struct{}

func (machineStorage) Save(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (machineStorage) Rename(from, to string) error { return os.Rename(from, to) }

// Mkdir takes a link to a folder for the folder.
func (machineStorage) Mkdir(name string) error {
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := os.Stat(name); statErr == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a folder", name)
		}
	}
	return err
}

func (machineStorage) Sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be opened for syncing there; NTFS journals names
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
