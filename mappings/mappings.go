// Package mappings holds the mapping packs that come with edfisync, embedded. It knows no SQL and no Ed-Fi: the packs are text that
// package source reads. docs/mapping-guide.md describes the format.
package mappings

import (
	"embed"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

//go:embed limitless limitless-4.0
var packs embed.FS

// Limitless is the pack of the demo SIS, package limitless, for Ed-Fi Data Standard 5.2. Its root is the pack's folder.
func Limitless() fs.FS { return folder("limitless") }

// LimitlessDS40 is the pack of the demo SIS for Ed-Fi Data Standard 4.0: that for 5.2 with the files of limitless-4.0 in place of those
// of the same name.
func LimitlessDS40() fs.FS { return overlay{over: folder("limitless-4.0"), under: folder("limitless")} }

func folder(name string) fs.FS {
	sub, err := fs.Sub(packs, name)
	if err != nil { // only an invalid path fails, and these are constants
		panic(err)
	}
	return sub
}

// overlay shows two folders as one; a file of over hides that of the same name in under.
type overlay struct{ over, under fs.FS }

var _ fs.ReadDirFS = overlay{}

// Open opens a file of either folder. A directory opened this way lists one of them only: ReadDir lists both.
func (o overlay) Open(name string) (fs.File, error) {
	f, err := o.over.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o.under.Open(name)
	}
	return f, err
}

// ReadDir lists both folders, by name.
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	over, err := fs.ReadDir(o.over, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	under, err := fs.ReadDir(o.under, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if over == nil && under == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	byName := func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }
	for _, e := range under {
		if _, hidden := slices.BinarySearchFunc(over, e, byName); !hidden {
			over = append(over, e)
			slices.SortFunc(over, byName)
		}
	}
	return over, nil
}
