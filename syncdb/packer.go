package syncdb

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A packed segment of history, before it is sealed:
//
//	version     1 byte, 1
//	heads       length in bytes, then for each attempt: op, verb and flags, status, effect, milliseconds, key hash, the hashes the flags
//	            name, id, lengths of key, payload and answer; op and milliseconds as the difference to the attempt before
//	text        key, payload and answer of each attempt, compressed together
//
// Numbers are varints but for the single bytes. Hashes and ids do not compress, so they stay out of what is compressed.
const attemptVersion = 1

// hexID is the flag of an id of 32 hex digits, as an ODS/API gives them: it takes half the bytes.
const hexID byte = 1 << 6

// hasOldRecord is the flag of the content before the call; history of older programs has none.
const hasOldRecord byte = 1 << 7

// packer encodes and compresses one segment after the other.
type packer struct {
	last  attemptPlace
	heads []byte
	text  []byte
	out   bytes.Buffer
	flate *flate.Writer
}

// attemptPlace is what the next attempt's place is told by.
type attemptPlace struct{ op, at int64 }

func newPacker() *packer {
	p := &packer{}
	p.flate, _ = flate.NewWriter(&p.out, flate.BestSpeed) // fails on other levels only
	return p
}

// clear forgets what was added: what was sent must not stay in memory for longer than needed.
func (p *packer) clear() {
	clear(p.text)
	p.heads, p.text, p.last = p.heads[:0], p.text[:0], attemptPlace{}
}

func (a *Attempt) hashes() [4]flaggedHash {
	return [...]flaggedHash{{hasRecord, &a.RecordHash}, {hasSource, &a.SourceHash}, {hasOldKey, &a.OldKeyHash}, {hasOldRecord, &a.OldRecord}}
}

func (p *packer) add(a *Attempt) {
	place := attemptPlace{op: int64(a.Op), at: a.At.UnixMilli()}
	b := binary.AppendVarint(p.heads, place.op-p.last.op)
	at := len(b)
	b = append(b, byte(a.Verb))
	b = binary.AppendUvarint(b, uint64(a.Status))
	b = append(b, byte(a.Effect))
	b = binary.AppendVarint(b, place.at-p.last.at)
	p.last = place
	b = append(b, a.KeyHash[:]...)
	for _, h := range a.hashes() {
		if !h.hash.IsZero() {
			b[at] |= h.flag
			b = append(b, h.hash[:]...)
		}
	}
	if id, ok := fromHex(a.EdfiID); ok {
		b[at] |= hexID
		b = append(b, id[:]...)
	} else {
		b = appendBytes(b, a.EdfiID)
	}
	for _, text := range [...][]byte{a.Key, a.Payload, a.Answer} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		p.text = append(p.text, text...)
	}
	p.heads = b
}

// fromHex decodes an id of 32 lower-case hex digits.
func fromHex(id string) (b [16]byte, ok bool) {
	if len(id) != 2*len(b) || strings.ContainsFunc(id, func(r rune) bool { return r < '0' || r > '9' && r < 'a' || r > 'f' }) {
		return b, false
	}
	_, err := hex.Decode(b[:], []byte(id))
	return b, err == nil
}

// pack returns the segment. It is valid until the packer is used again.
func (p *packer) pack() ([]byte, error) {
	p.out.Reset()
	p.out.WriteByte(attemptVersion)
	p.out.Write(binary.AppendUvarint(p.out.AvailableBuffer(), uint64(len(p.heads))))
	p.out.Write(p.heads)
	p.flate.Reset(&p.out)
	if _, err := p.flate.Write(p.text); err != nil {
		return nil, err
	}
	if err := p.flate.Close(); err != nil {
		return nil, err
	}
	return p.out.Bytes(), nil
}

var errHistory = errors.New("history segment is malformed")

// readAttempts decodes a packed segment. What fn gets is its own.
func readAttempts(packed []byte, resource string, run int64, fn func(*Attempt) error) error {
	r := frameReader{b: packed}
	if v := r.byte(); v != attemptVersion {
		return fmt.Errorf("%w: version %d", errHistory, v)
	}
	heads := frameReader{b: r.bytes()}
	if r.err != nil {
		return errHistory
	}
	text := flate.NewReader(bytes.NewReader(packed[r.at:]))
	var last attemptPlace
	for heads.at < len(heads.b) {
		a := &Attempt{RunID: run, Resource: resource}
		if err := a.read(&heads, text, &last); err != nil {
			return err
		}
		if err := fn(a); err != nil {
			return err
		}
	}
	return nil
}

func (a *Attempt) read(heads *frameReader, text io.Reader, last *attemptPlace) error {
	last.op += heads.varint()
	a.Op = uint64(last.op)
	flags := heads.byte()
	a.Verb, a.Status = Verb(flags&verbMask), int(heads.uvarint())
	a.Effect = Effect(heads.byte())
	last.at += heads.varint()
	a.At = time.UnixMilli(last.at).UTC()
	heads.hash(&a.KeyHash)
	for _, h := range a.hashes() {
		if flags&h.flag != 0 {
			heads.hash(h.hash)
		}
	}
	if flags&hexID != 0 {
		var id Hash
		heads.hash(&id)
		a.EdfiID = hex.EncodeToString(id[:])
	} else {
		a.EdfiID = string(heads.bytes())
	}
	for _, b := range [...]*[]byte{&a.Key, &a.Payload, &a.Answer} {
		n := heads.uvarint()
		if heads.err != nil {
			return errHistory
		}
		if n == 0 {
			continue
		}
		var read bytes.Buffer // grows with what is there, whatever length is claimed
		if m, err := io.CopyN(&read, text, int64(min(n, 1<<62))); err != nil || uint64(m) != n {
			return errHistory
		}
		*b = read.Bytes()
	}
	return nil
}
