// Package mappings holds the mapping packs that come with edfisync, embedded. It knows no SQL and no Ed-Fi: the packs are text that
// package source reads. docs/mapping-guide.md describes the format.
package mappings

import (
	"embed"
	"io/fs"
)

//go:embed limitless
var packs embed.FS

// Limitless is the pack of the demo SIS, package limitless, for Ed-Fi Data Standard 5.2. Its root is the pack's folder.
func Limitless() fs.FS {
	sub, err := fs.Sub(packs, "limitless")
	if err != nil { // only an invalid path fails, and this one is a constant
		panic(err)
	}
	return sub
}
