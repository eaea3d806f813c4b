package sync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// Sealer protects what a run puts on disk between scan and send. *keys.Ring is one. Safe for concurrent use.
type Sealer interface {
	Seal(dst, plaintext, aad []byte) []byte
	Open(dst, sealed, aad []byte) ([]byte, error)
}

// spoolSegment is the plaintext size at which a segment is sealed and written.
const spoolSegment = 256 << 10

// spool is an append-only file of sealed segments: records that differ from the ledger, kept from the scan until they are sent. Payloads
// are never on disk in clear. It is deleted with close. Not safe for concurrent use; reading follows writing.
type spool struct {
	dir    *workspace
	name   string
	seal   Sealer
	file   *os.File
	out    *bufio.Writer
	buf    []byte
	sealed []byte
	count  int64
}

func newSpool(dir *workspace, name string, seal Sealer) *spool {
	return &spool{dir: dir, name: name, seal: seal}
}

// record is what a spool carries of one row.
type record struct {
	Known      bool // the ledger has an entry for the key
	KeyHash    syncdb.Hash
	RecordHash syncdb.Hash
	SourceHash syncdb.Hash
	PersonHash syncdb.Hash
	SourceKey  []byte
	Key        []byte // natural key, canonical JSON array
	Payload    []byte // wire form
	Refs       []reference
	Schools    []int64 // it names, in a run that sends a part
}

// reference is one reference of a payload: which entity of the scope it points to and the hash of the key it names.
type reference struct {
	Target uint16
	Hash   syncdb.Hash
}

// add appends a record.
func (s *spool) add(r *record) error {
	b := s.buf
	known := byte(0)
	if r.Known {
		known = 1
	}
	b = append(b, known)
	b = append(b, r.KeyHash[:]...)
	b = append(b, r.RecordHash[:]...)
	b = append(b, r.SourceHash[:]...)
	b = append(b, r.PersonHash[:]...)
	b = appendBytes(b, r.SourceKey)
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Payload)
	b = binary.AppendUvarint(b, uint64(len(r.Refs)))
	for _, ref := range r.Refs {
		b = binary.LittleEndian.AppendUint16(b, ref.Target)
		b = append(b, ref.Hash[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Schools)))
	for _, id := range r.Schools {
		b = binary.AppendVarint(b, id)
	}
	s.buf = b
	s.count++
	if len(s.buf) >= spoolSegment {
		return s.flush()
	}
	return nil
}

func (s *spool) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	failpoint.Reach(failpoint.SpoolBefore, "", "")
	if s.file == nil {
		f, err := s.dir.file()
		if err != nil {
			return fmt.Errorf("create a spool: %w", err)
		}
		s.file, s.out = f, bufio.NewWriterSize(f, 64<<10)
	}
	s.sealed = s.seal.Seal(s.sealed[:0], s.buf, []byte(s.name))
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(s.sealed)))
	if _, err := s.out.Write(head[:]); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	if _, err := s.out.Write(s.sealed); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	s.buf = s.buf[:0]
	failpoint.Reach(failpoint.SpoolAfter, "", "")
	return nil
}

// each calls fn for every record in the order they were added. The record's bytes are valid until fn returns; nothing may be added
// meanwhile. It may be called again.
func (s *spool) each(fn func(*record) error) error {
	// What is still in memory is read from there: small runs never touch the disk.
	if s.file != nil {
		if err := s.out.Flush(); err != nil {
			return fmt.Errorf("write spool: %w", err)
		}
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		in := bufio.NewReaderSize(s.file, 64<<10)
		var sealed, plain []byte
		for {
			var head [4]byte
			if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("read spool: %w", err)
			}
			n := int(binary.LittleEndian.Uint32(head[:]))
			if cap(sealed) < n {
				sealed = make([]byte, n)
			}
			sealed = sealed[:n]
			if _, err := io.ReadFull(in, sealed); err != nil {
				return fmt.Errorf("read spool: %w", err)
			}
			var err error
			if plain, err = s.seal.Open(plain[:0], sealed, []byte(s.name)); err != nil {
				return fmt.Errorf("open spool segment: %w", err)
			}
			if err := eachRecord(plain, fn); err != nil {
				return err
			}
		}
		if _, err := s.file.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
	}
	return eachRecord(s.buf, fn)
}

func eachRecord(b []byte, fn func(*record) error) error {
	var r record
	for len(b) > 0 {
		r.Known = b[0] == 1
		b = b[1:]
		b = b[copy(r.KeyHash[:], b):]
		b = b[copy(r.RecordHash[:], b):]
		b = b[copy(r.SourceHash[:], b):]
		b = b[copy(r.PersonHash[:], b):]
		r.SourceKey, b = takeBytes(b)
		r.Key, b = takeBytes(b)
		r.Payload, b = takeBytes(b)
		n, w := binary.Uvarint(b)
		b = b[w:]
		r.Refs = r.Refs[:0]
		for range n {
			var ref reference
			ref.Target = binary.LittleEndian.Uint16(b)
			b = b[2:]
			b = b[copy(ref.Hash[:], b):]
			r.Refs = append(r.Refs, ref)
		}
		n, w = binary.Uvarint(b)
		b = b[w:]
		r.Schools = r.Schools[:0]
		for range n {
			id, w := binary.Varint(b)
			b = b[w:]
			r.Schools = append(r.Schools, id)
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
	return nil
}

// close deletes the spool's file. It may be called twice.
func (s *spool) close() error {
	if s == nil || s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := errors.Join(s.file.Close(), os.Remove(name))
	s.file, s.out = nil, nil
	return err
}

func appendBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func takeBytes(b []byte) (v, rest []byte) {
	n, w := binary.Uvarint(b)
	return b[w : w+int(n)], b[w+int(n):]
}
