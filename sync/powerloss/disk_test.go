//go:build unix

package powerloss

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
)

// sector is the unit that a disk writes or does not write.
const sector = 512

// disk knows what a folder would hold if the power failed now: per file what was synced and what was written since, and per name the same.
// Safe for concurrent use.
type disk struct {
	folder string

	mu      gosync.Mutex
	ops     int  // writes, truncations, syncs, new and removed files so far
	failAt  int  // the operation in which the power fails, -1 = none
	dead    bool // it has failed: nothing changes any more
	struck  string
	files   map[string]*file // by name, as processes see them
	durable map[string]*file // by name, as a restart would find them
	names   []naming         // since the folder was synced
}

// file is one file, whatever its name.
type file struct {
	synced  []byte
	pending []change // since then, in order
}

// change is a write, or a truncation to at.
type change struct {
	truncate bool
	at       int64
	data     []byte
}

// naming is a new name, or a removed one (nil).
type naming struct {
	name string
	file *file
}

// newDisk is a folder after a restart: it holds these files.
func newDisk(folder string, content map[string][]byte) *disk {
	d := &disk{folder: folder, failAt: -1, files: map[string]*file{}, durable: map[string]*file{}}
	for name, text := range content {
		d.files[name] = &file{synced: text}
	}
	maps.Copy(d.durable, d.files)
	return d
}

// arm lets the power fail in the nth operation from now.
func (d *disk) arm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt = d.ops + n
}

// off cuts the power now, if it has not failed before.
func (d *disk) off() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.dead, d.struck = true, "end"
	}
}

// isDead reports whether the power has failed.
func (d *disk) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// count returns how many operations there were.
func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// next counts an operation on a name. It returns false when the power fails in it or has failed before; do is its effect before any sync: it
// also happens to the operation in which the power fails, for half of it may be on the disk.
func (d *disk) next(kind, name string, do func(*file)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return false
	}
	f := d.files[name]
	if f == nil {
		f = &file{} // removed while it was open: nobody will find what is written to it
	}
	do(f)
	if d.ops == d.failAt {
		d.dead, d.struck = true, kind+" "+part(name)
	}
	d.ops++
	return !d.dead
}

// part names the part of a database a file is: "ledger", "wal", "journal".
func part(name string) string {
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		return name[i+1:]
	}
	return "ledger"
}

// opened notes a file that was opened: one that is new to us was made just now.
func (d *disk) opened(name string) bool {
	d.mu.Lock()
	known := d.files[name] != nil
	dead := d.dead
	d.mu.Unlock()
	if known {
		return true
	}
	return !dead && d.next("create", name, func(*file) {
		f := &file{}
		d.files[name] = f
		d.names = append(d.names, naming{name, f})
	})
}

func (d *disk) write(name string, at int64, data []byte) bool {
	return d.next("write", name, func(f *file) { f.pending = append(f.pending, change{at: at, data: slices.Clone(data)}) })
}

func (d *disk) truncate(name string, size int64) bool {
	return d.next("truncate", name, func(f *file) { f.pending = append(f.pending, change{truncate: true, at: size}) })
}

func (d *disk) remove(name string) bool {
	d.mu.Lock()
	known := d.files[name] != nil
	d.mu.Unlock()
	if !known {
		return !d.isDead()
	}
	return d.next("remove", name, func(*file) {
		delete(d.files, name)
		d.names = append(d.names, naming{name: name})
	})
}

// sync counts a sync that is about to be made; synced notes that it was made.
func (d *disk) sync(name string) bool { return d.next("sync", name, func(*file) {}) }

func (d *disk) synced(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil && !d.dead {
		for _, c := range f.pending {
			f.synced = c.apply(f.synced)
		}
		f.pending = nil
	}
}

// folderSynced notes that the folder itself was synced: its names are durable.
func (d *disk) folderSynced() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.durable, d.names = maps.Clone(d.files), nil
	}
}

// apply carries a change out on the bytes of a file.
func (c change) apply(b []byte) []byte {
	if c.truncate {
		if c.at < int64(len(b)) {
			return slices.Clone(b[:c.at])
		}
		return append(slices.Clip(b), make([]byte, c.at-int64(len(b)))...)
	}
	if end := c.at + int64(len(c.data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.at:], c.data)
	return b
}

// sectors cuts a write where sectors end.
func (c change) sectors() []change {
	if c.truncate {
		return []change{c}
	}
	var out []change
	for at, data := c.at, c.data; len(data) > 0; {
		n := min(int64(len(data)), sector-at%sector)
		out = append(out, change{at: at, data: data[:n]})
		at, data = at+n, data[n:]
	}
	return out
}

// loss is what the failing power does to what was not synced.
type loss int

// The kinds of loss.
const (
	losesAll     loss = iota // nothing of it is there
	keepsAll                 // all of it is there, as after kill -9
	keepsSome                // what was written first is there, the last write is torn
	keepsAnyhow              // each sector has its own fate: there, not there, garbage; and so has each name
	numberOfLoss = iota
)

func (l loss) String() string {
	return []string{"nothing unsynced is kept", "all is kept", "the first writes are kept", "sectors are kept in any order"}[l]
}

// after returns the folder as a restart finds it.
func (d *disk) after(l loss, r *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.durable)
	kept := len(d.names)
	if l == keepsSome {
		kept = r.IntN(len(d.names) + 1)
	}
	for i, n := range d.names {
		if i >= kept || l == losesAll || l == keepsAnyhow && r.IntN(2) == 0 {
			continue
		}
		if n.file == nil {
			delete(names, n.name)
		} else {
			names[n.name] = n.file
		}
	}
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order: r gives each its own
		out[name] = names[name].after(l, r)
	}
	return out
}

func (f *file) after(l loss, r *rand.Rand) []byte {
	b := slices.Clone(f.synced)
	switch l {
	case keepsAll:
		for _, c := range f.pending {
			b = c.apply(b)
		}
	case keepsSome:
		kept := r.IntN(len(f.pending) + 1)
		for _, c := range f.pending[:kept] {
			b = c.apply(b)
		}
		if kept < len(f.pending) {
			if torn := f.pending[kept].sectors(); len(torn) > 0 {
				for _, c := range torn[:r.IntN(len(torn))] {
					b = c.apply(b)
				}
			}
		}
	case keepsAnyhow:
		keep := r.IntN(8) // of eight: whole images are more or less complete
		for _, c := range f.pending {
			for _, s := range c.sectors() {
				switch n := r.IntN(64); {
				case n < keep*8:
					b = s.apply(b)
				case n == 63 && !s.truncate:
					b = change{at: s.at, data: garbage(len(s.data), r)}.apply(b)
				}
			}
		}
	}
	return b
}

// garbage is what a write that was under way may leave: zeros, or anything.
func garbage(n int, r *rand.Rand) []byte {
	b := make([]byte, n)
	if r.IntN(2) == 0 {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// describe lists the files, for who has to find out.
func describe(content map[string][]byte) string {
	var out []string
	for name, b := range content {
		out = append(out, fmt.Sprintf("%s %d", filepath.Base(name), len(b)))
	}
	slices.SortFunc(out, cmp.Compare)
	return strings.Join(out, ", ")
}
