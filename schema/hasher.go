package schema

import "hash"

// Hash is a keyed hash of canonical bytes, cut to 16 bytes: with 2^32 records in one scope the chance that any two share it is below
// one in 10^19.
type Hash = [16]byte

// Hasher makes keyed hashes. The keyed hash function is the caller's (HMAC-SHA-256 with a connection's key), so that keys stay out of
// this package: a plain hash of a six-digit student number could be reversed by trying them all. It is not for concurrent use.
type Hasher struct {
	mac hash.Hash
	sum []byte
}

// NewHasher returns a hasher over mac, whose sums must have at least 16 bytes. The hasher owns mac from here on.
func NewHasher(mac hash.Hash) *Hasher {
	return &Hasher{mac: mac, sum: make([]byte, 0, max(mac.Size(), len(Hash{})))}
}

// Sum returns the hash of b. It keeps nothing of b and allocates nothing.
func (h *Hasher) Sum(b []byte) Hash {
	h.mac.Reset()
	h.mac.Write(b)
	h.sum = h.mac.Sum(h.sum[:0])
	return Hash(h.sum[:len(Hash{})])
}
