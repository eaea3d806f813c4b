//go:build unix

package powerloss

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	gosync "sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// layer is a VFS of SQLite between the database engine and the file system of the machine. It tells disks what happens in their folders and
// fails when their power has failed. Everything else goes its usual way, to the VFS "unix": reads, locks, shared memory, other files.
type layer struct {
	below         uintptr // the VFS "unix"
	unix          *sqlite3.Tsqlite3_vfs
	openDirectory uintptr // of the layer below

	mu      gosync.Mutex
	disks   map[string]*disk // by folder
	pragmas map[string][]string
	files   map[uintptr]handle // by sqlite3_file
	methods map[uintptr]*methods
	keep    []any // functions that SQLite calls by their address
}

// handle is an open file of a disk.
type handle struct {
	disk   *disk
	name   string
	m      *methods
	synced *bool // by the layer below, at least once
}

// methods are the I/O methods of the layer below with four of ours in their place.
type methods struct {
	table uintptr // of C
	below sqlite3.Tsqlite3_io_methods
}

// The types of C functions, as modernc.org/sqlite translates them.
type (
	openFunc          = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc        = func(tls *libc.TLS, vfs, name uintptr, syncFolder int32) int32
	writeFunc         = func(tls *libc.TLS, file, buf uintptr, n int32, at int64) int32
	truncateFunc      = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc          = func(tls *libc.TLS, file uintptr, flags int32) int32
	closeFunc         = func(tls *libc.TLS, file uintptr) int32
	systemCallFunc    = func(tls *libc.TLS, vfs, name, fn uintptr) int32
	getSystemCallFunc = func(tls *libc.TLS, vfs, name uintptr) uintptr
	openDirectoryFunc = func(tls *libc.TLS, name, fd uintptr) int32
)

// at is the T at an address of C.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// ofC makes a T in the memory of C, for good.
func ofC[T any](tls *libc.TLS) uintptr {
	var t T
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(t)))
	if p == 0 {
		panic("no memory")
	}
	return p
}

// called is the function at an address of C.
func called[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }

// address gives C a function to call.
func (l *layer) address(fn any) uintptr {
	l.keep = append(l.keep, fn)
	return (*[2]uintptr)(unsafe.Pointer(&fn))[1]
}

// install makes a layer the default VFS of this process, for good. Call it before any database is opened.
func install() (*layer, error) {
	tls := libc.NewTLS()
	l := &layer{
		disks: map[string]*disk{}, pragmas: map[string][]string{}, files: map[uintptr]handle{}, methods: map[uintptr]*methods{},
	}
	name := func(text string) uintptr {
		p, err := libc.CString(text)
		if err != nil {
			panic(err) // no memory
		}
		return p
	}
	below := sqlite3.Xsqlite3_vfs_find(tls, name("unix"))
	if below == 0 {
		return nil, fmt.Errorf("SQLite has no VFS unix")
	}
	l.below, l.unix = below, at[sqlite3.Tsqlite3_vfs](below)
	vfs := ofC[sqlite3.Tsqlite3_vfs](tls)
	own := at[sqlite3.Tsqlite3_vfs](vfs)
	*own = *l.unix
	own.FzName, own.FpNext = name("powerloss"), 0
	own.FxOpen, own.FxDelete = l.address(openFunc(l.open)), l.address(deleteFunc(l.remove))
	// How a sync of a folder shows: SQLite opens the folder through this function, syncs and closes it.
	l.openDirectory = called[getSystemCallFunc](l.unix.FxGetSystemCall)(tls, below, name("openDirectory"))
	if l.openDirectory == 0 {
		return nil, fmt.Errorf("SQLite has no system call openDirectory")
	}
	if rc := called[systemCallFunc](l.unix.FxSetSystemCall)(tls, below, name("openDirectory"), l.address(openDirectoryFunc(l.syncFolder))); rc != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("set system call: SQLite error %d", rc)
	}
	if rc := sqlite3.Xsqlite3_vfs_register(tls, vfs, 1); rc != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("register VFS: SQLite error %d", rc)
	}
	sqlite.RegisterConnectionHook(l.connected)
	return l, nil
}

// watch lets the layer tell d what happens in its folder. Each connection made there executes the pragmas after its own.
func (l *layer) watch(d *disk, pragmas ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disks[d.folder], l.pragmas[d.folder] = d, pragmas
}

func (l *layer) forget(d *disk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.disks, d.folder)
	delete(l.pragmas, d.folder)
}

// connected runs the pragmas of a disk on a new connection.
func (l *layer) connected(conn sqlite.ExecQuerierContext, dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil //nolint:nilerr // ":memory:" and its like are on no disk
	}
	l.mu.Lock()
	pragmas := l.pragmas[filepath.Dir(u.Path)]
	l.mu.Unlock()
	for _, p := range pragmas {
		if _, err := conn.ExecContext(context.Background(), p, nil); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// of returns the disk a path is on, nil when it is on none.
func (l *layer) of(path string) *disk {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.disks[filepath.Dir(path)]
}

func (l *layer) open(tls *libc.TLS, _, name, f uintptr, flags int32, outFlags uintptr) int32 {
	below := called[openFunc](l.unix.FxOpen)
	if name == 0 { // a temporary file without a name
		return below(tls, l.below, name, f, flags, outFlags)
	}
	path := strings.Clone(libc.GoString(name))
	d := l.of(path)
	if d == nil {
		return below(tls, l.below, name, f, flags, outFlags)
	}
	base := filepath.Base(path)
	if d.isDead() {
		flags &^= sqlite3.SQLITE_OPEN_CREATE // what is there can be read, for the tests' own eyes
	}
	if rc := below(tls, l.below, name, f, flags, outFlags); rc != sqlite3.SQLITE_OK {
		return rc
	}
	head := at[sqlite3.Tsqlite3_file](f)
	if head.FpMethods == 0 {
		return sqlite3.SQLITE_OK
	}
	m := l.methodsOver(tls, head.FpMethods)
	if !d.opened(base) {
		called[closeFunc](m.below.FxClose)(tls, f)
		head.FpMethods = 0
		return sqlite3.SQLITE_CANTOPEN
	}
	l.mu.Lock()
	l.files[f] = handle{d, base, m, new(bool)}
	l.mu.Unlock()
	head.FpMethods = m.table
	return sqlite3.SQLITE_OK
}

// methodsOver returns our methods over those of the layer below.
func (l *layer) methodsOver(tls *libc.TLS, p uintptr) *methods {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.methods[p]; m != nil {
		return m
	}
	m := &methods{table: ofC[sqlite3.Tsqlite3_io_methods](tls), below: *at[sqlite3.Tsqlite3_io_methods](p)}
	own := at[sqlite3.Tsqlite3_io_methods](m.table)
	*own = m.below
	own.FiVersion = min(own.FiVersion, 2) // no memory-mapped files: each write is seen
	own.FxWrite, own.FxTruncate = l.address(writeFunc(l.write)), l.address(truncateFunc(l.truncate))
	own.FxSync, own.FxClose = l.address(syncFunc(l.sync)), l.address(closeFunc(l.close))
	l.methods[p] = m
	return m
}

func (l *layer) file(f uintptr) handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[f]
}

func (l *layer) write(tls *libc.TLS, f, buf uintptr, n int32, to int64) int32 {
	h := l.file(f)
	if !h.disk.write(h.name, to, unsafe.Slice(at[byte](buf), n)) {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return called[writeFunc](h.m.below.FxWrite)(tls, f, buf, n, to)
}

func (l *layer) truncate(tls *libc.TLS, f uintptr, size int64) int32 {
	h := l.file(f)
	if !h.disk.truncate(h.name, size) {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	return called[truncateFunc](h.m.below.FxTruncate)(tls, f, size)
}

func (l *layer) sync(tls *libc.TLS, f uintptr, flags int32) int32 {
	h := l.file(f)
	if !h.disk.sync(h.name) {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	if !*h.synced { // SQLite syncs the folder with the first sync of a new file. The others take time, and what they bring is for the disk to say
		if rc := called[syncFunc](h.m.below.FxSync)(tls, f, flags); rc != sqlite3.SQLITE_OK {
			return rc
		}
		*h.synced = true
	}
	h.disk.synced(h.name)
	return sqlite3.SQLITE_OK
}

func (l *layer) close(tls *libc.TLS, f uintptr) int32 {
	h := l.file(f)
	l.mu.Lock()
	delete(l.files, f)
	l.mu.Unlock()
	return called[closeFunc](h.m.below.FxClose)(tls, f)
}

func (l *layer) remove(tls *libc.TLS, _, name uintptr, syncFolder int32) int32 {
	path := strings.Clone(libc.GoString(name))
	if d := l.of(path); d != nil && !d.remove(filepath.Base(path)) {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	return called[deleteFunc](l.unix.FxDelete)(tls, l.below, name, syncFolder)
}

// syncFolder is called where SQLite opens the folder of a file to sync it.
func (l *layer) syncFolder(tls *libc.TLS, name, fd uintptr) int32 {
	if d := l.of(strings.Clone(libc.GoString(name))); d != nil {
		d.folderSynced()
	}
	return called[openDirectoryFunc](l.openDirectory)(tls, name, fd)
}
