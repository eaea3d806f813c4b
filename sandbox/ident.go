package sandbox

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// identifiers turns addresses into resource ids (32 hexadecimal digits, as the ODS prints its GUIDs) and back. An id is one block of AES over
// the table and row number: it looks random, and neither ids nor an index of them take memory.
type identifiers struct{ block cipher.Block }

func newIdentifiers(key []byte) (*identifiers, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make resource ids: %w", err)
	}
	return &identifiers{b}, nil
}

const idLen = 32

// append prints the id of a record.
func (ids *identifiers) append(dst []byte, a address) []byte {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint16(b[:], a.table.number)
	binary.BigEndian.PutUint32(b[2:], a.row)
	ids.block.Encrypt(b[:], b[:])
	return hex.AppendEncode(dst, b[:])
}

// row reads an id of table t. wellFormed is false when the text is no id at all (dashes are tolerated), ok when it is one of t's.
func (ids *identifiers) row(t *table, id string) (row uint32, wellFormed, ok bool) {
	var text [idLen]byte
	n := 0
	for i := range len(id) {
		if id[i] == '-' && len(id) == idLen+4 {
			continue
		}
		if n == idLen {
			return 0, false, false
		}
		text[n] = id[i]
		n++
	}
	var b [aes.BlockSize]byte
	if _, err := hex.Decode(b[:], text[:]); err != nil || n != idLen {
		return 0, false, false
	}
	ids.block.Decrypt(b[:], b[:])
	for _, c := range b[6:] {
		if c != 0 {
			return 0, true, false
		}
	}
	return binary.BigEndian.Uint32(b[2:]), true, binary.BigEndian.Uint16(b[:]) == t.number
}
