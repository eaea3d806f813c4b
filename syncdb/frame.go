package syncdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A frame is what one Append writes, before it is sealed:
//
//	version     1 byte, 1
//	resources   count, then length and name of each
//	intents     count, then each: op, verb and flags, resource, key hash, the hashes the flags name, id, key as joinKeys has it
//	results     count, then each: op, effect, origin, id
//
// Numbers are uvarints but for the single bytes. Intents come first: a result may close an intent of its own frame.
const frameVersion = 1

// Flags beside the verb: which of the hashes follow.
const (
	hasRecord byte = 1 << (iota + 2)
	hasSource
	hasPerson
	hasOldKey
	verbMask byte = 3
)

var errFrame = errors.New("journal frame is malformed")

// appendFrame appends the encoded frame to dst.
func appendFrame(dst []byte, intents []Intent, results []Result) []byte {
	var names []string
	index := func(name string) int {
		for i, n := range names { // a step has one resource, seldom two
			if n == name {
				return i
			}
		}
		names = append(names, name)
		return len(names) - 1
	}
	for i := range intents {
		index(intents[i].Resource)
	}
	dst = append(dst, frameVersion)
	dst = binary.AppendUvarint(dst, uint64(len(names)))
	for _, n := range names {
		dst = appendBytes(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(intents)))
	for i := range intents {
		dst = appendIntent(dst, &intents[i], index(intents[i].Resource))
	}
	dst = binary.AppendUvarint(dst, uint64(len(results)))
	for i := range results {
		r := &results[i]
		dst = binary.AppendUvarint(dst, r.Op)
		dst = append(dst, byte(r.Effect), byte(r.Origin))
		dst = appendBytes(dst, r.EdfiID)
	}
	return dst
}

func appendIntent(dst []byte, in *Intent, resource int) []byte {
	dst = binary.AppendUvarint(dst, in.Op)
	at := len(dst)
	dst = append(dst, byte(in.Verb))
	dst = binary.AppendUvarint(dst, uint64(resource))
	dst = append(dst, in.KeyHash[:]...)
	for _, h := range [...]struct {
		flag byte
		hash *Hash
	}{{hasRecord, &in.RecordHash}, {hasSource, &in.SourceHash}, {hasPerson, &in.PersonHash}, {hasOldKey, &in.OldKeyHash}} {
		if !h.hash.IsZero() {
			dst[at] |= h.flag
			dst = append(dst, h.hash[:]...)
		}
	}
	dst = appendBytes(dst, in.EdfiID)
	return appendBytes(dst, joinKeys(in.Key, in.SentKey))
}

// joinKeys puts a natural key and the way it was sent into one text, with a zero byte between them, which JSON does not have. Without the second the
// text is the key, as it was before there was a second one: neither frames nor entries of older ledgers need to be changed.
func joinKeys(key, sent []byte) []byte {
	if len(sent) == 0 {
		return key
	}
	return slices.Concat(key, []byte{0}, sent)
}

// splitKeys takes apart what joinKeys put together. Both alias the text.
func splitKeys(text []byte) (key, sent []byte) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return text[:i:i], text[i+1:]
	}
	return text, nil
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// frameReader decodes a frame. The first malformed byte sets err; everything read after it is zero.
type frameReader struct {
	b     []byte
	at    int
	names []string
	err   error
}

// newFrameReader reads up to the first intent. intern turns a name into a string that may be shared with other frames.
func newFrameReader(b []byte, intern func([]byte) string) (*frameReader, error) {
	f := &frameReader{b: b}
	if v := f.byte(); v != frameVersion {
		return nil, fmt.Errorf("%w: version %d", errFrame, v)
	}
	n := f.count()
	for range n {
		f.names = append(f.names, intern(f.bytes()))
	}
	return f, f.err
}

// intent reads the intent at the current place. Its Key and SentKey alias the frame.
func (f *frameReader) intent(in *Intent) {
	*in = Intent{Op: f.uvarint()}
	flags := f.byte()
	in.Verb = Verb(flags & verbMask)
	if r := f.uvarint(); r < uint64(len(f.names)) {
		in.Resource = f.names[r]
	} else {
		f.fail()
	}
	f.hash(&in.KeyHash)
	for _, h := range [...]struct {
		flag byte
		hash *Hash
	}{{hasRecord, &in.RecordHash}, {hasSource, &in.SourceHash}, {hasPerson, &in.PersonHash}, {hasOldKey, &in.OldKeyHash}} {
		if flags&h.flag != 0 {
			f.hash(h.hash)
		}
	}
	in.EdfiID = string(f.bytes())
	in.Key, in.SentKey = splitKeys(f.bytes())
}

// result reads the result at the current place, but for its id, which starts at idAt.
func (f *frameReader) result() (r Result, idAt int) {
	r.Op = f.uvarint()
	r.Effect, r.Origin = Effect(f.byte()), Origin(f.byte())
	idAt = f.at
	f.bytes()
	return r, idAt
}

func (f *frameReader) fail() {
	if f.err == nil {
		f.err = errFrame
	}
	f.at = len(f.b)
}

func (f *frameReader) byte() byte {
	if f.at >= len(f.b) {
		f.fail()
		return 0
	}
	f.at++
	return f.b[f.at-1]
}

func (f *frameReader) uvarint() uint64 {
	v, n := binary.Uvarint(f.b[f.at:])
	if n <= 0 {
		f.fail()
		return 0
	}
	f.at += n
	return v
}

func (f *frameReader) varint() int64 {
	v, n := binary.Varint(f.b[f.at:])
	if n <= 0 {
		f.fail()
		return 0
	}
	f.at += n
	return v
}

// count reads a number of things that take at least one byte each, so that a malformed frame cannot ask for endless work.
func (f *frameReader) count() int {
	n := f.uvarint()
	if n > uint64(len(f.b)-f.at) {
		f.fail()
		return 0
	}
	return int(n)
}

func (f *frameReader) bytes() []byte {
	n := f.count()
	if f.err != nil {
		return nil
	}
	b := f.b[f.at : f.at+n : f.at+n]
	f.at += n
	return b
}

func (f *frameReader) hash(h *Hash) {
	if len(f.b)-f.at < len(h) {
		f.fail()
		return
	}
	f.at += copy(h[:], f.b[f.at:])
}
