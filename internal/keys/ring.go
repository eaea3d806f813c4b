package keys

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Overhead is by how many bytes a sealed value is longer than the plain one: generation, nonce, tag.
const Overhead = 1 + 12 + 16

// MaxGeneration is the highest generation a ring can have: sealed values name theirs in one byte.
const MaxGeneration = 255

// ErrSealBroken says that a sealed value was not sealed under this ring with this context, or was changed since.
var ErrSealBroken = errors.New("sealed value does not open: it was changed, or belongs elsewhere")

// Ring is the open data key of one connection, as subkeys by purpose and generation. Safe for concurrent use. It prints as a fixed
// word, whatever the verb (I15).
type Ring struct {
	subkeys []subkeys // [generation-1]
}

type subkeys struct {
	hash    []byte
	receipt []byte
	sign    ed25519.PrivateKey
	seal    cipher.AEAD
}

func newRing(data []byte, generation int) (*Ring, error) {
	if generation < 1 || generation > MaxGeneration {
		return nil, fmt.Errorf("key generation %d is not between 1 and %d", generation, MaxGeneration)
	}
	r := &Ring{subkeys: make([]subkeys, generation)}
	for i := range r.subkeys {
		seal, err := newSealer(derive(data, "seal", i+1))
		if err != nil {
			return nil, err
		}
		r.subkeys[i] = subkeys{
			hash: derive(data, "hash", i+1), receipt: derive(data, "receipt", i+1), seal: seal,
			sign: ed25519.NewKeyFromSeed(derive(data, "sign", i+1)),
		}
	}
	return r, nil
}

// Generation is the generation new hashes and seals are made with.
func (r *Ring) Generation() int { return len(r.subkeys) }

func (r *Ring) newest() *subkeys { return &r.subkeys[len(r.subkeys)-1] }

// HashMAC returns a fresh HMAC-SHA-256 under the newest hash key. The returned value serves one goroutine.
func (r *Ring) HashMAC() hash.Hash { return hmac.New(sha256.New, r.newest().hash) }

// HashMACOf is HashMAC under the hash key of an earlier generation, for comparing with hashes made then.
func (r *Ring) HashMACOf(generation int) (hash.Hash, error) {
	if generation < 1 || generation > len(r.subkeys) {
		return nil, fmt.Errorf("hash key generation %d is not in the ring (1 to %d)", generation, len(r.subkeys))
	}
	return hmac.New(sha256.New, r.subkeys[generation-1].hash), nil
}

// ReceiptMAC returns a fresh HMAC-SHA-256 under the newest receipt key. The returned value serves one goroutine.
func (r *Ring) ReceiptMAC() hash.Hash { return hmac.New(sha256.New, r.newest().receipt) }

// Sign signs a message with the newest signing key (Ed25519). The same message gives the same signature.
func (r *Ring) Sign(message []byte) []byte { return ed25519.Sign(r.newest().sign, message) }

// PublicKey is what anybody needs to check signatures of a generation. It is no secret.
func (r *Ring) PublicKey(generation int) (ed25519.PublicKey, error) {
	if generation < 1 || generation > len(r.subkeys) {
		return nil, fmt.Errorf("signing key generation %d is not in the ring (1 to %d)", generation, len(r.subkeys))
	}
	public, ok := r.subkeys[generation-1].sign.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing key has no public half") // cannot happen: it is an Ed25519 key
	}
	return public, nil
}

// Seal appends plaintext, sealed under the newest seal key, to dst. aad says where the value belongs and must be given again to open
// it. dst must not overlap plaintext.
func (r *Ring) Seal(dst, plaintext, aad []byte) []byte {
	return r.newest().seal.Seal(append(dst, byte(len(r.subkeys))), nil, plaintext, aad)
}

// Open appends what was sealed to dst, or returns ErrSealBroken. The error holds no data (I14).
func (r *Ring) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] == 0 || int(sealed[0]) > len(r.subkeys) {
		return dst, ErrSealBroken
	}
	out, err := r.subkeys[sealed[0]-1].seal.Open(dst, nil, sealed[1:], aad)
	if err != nil {
		return dst, ErrSealBroken
	}
	return out, nil
}

// Format prints a fixed word for every verb, so that no key can be logged by accident (I15).
func (r *Ring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[key ring]") }

// MarshalText makes encoders print the fixed word too (I15).
func (r *Ring) MarshalText() ([]byte, error) { return []byte("[key ring]"), nil }
