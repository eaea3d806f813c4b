package httpd

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// keyPrefix marks our keys, so that scanners for leaked secrets find them.
const keyPrefix = "efs"

const (
	keyIDLength     = 13 // characters, 8 bytes
	keySecretLength = 52 // characters, 32 bytes
)

// keyText writes ids and secrets: lower case letters and digits only, so that a double click marks a whole part.
func keyText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// SecretHash is what is stored of a secret. The secret has 256 random bits, so nothing slower than SHA-256 is needed to keep it from being guessed.
type SecretHash [sha256.Size]byte

// HashSecret returns the hash of a secret.
func HashSecret(secret string) SecretHash { return sha256.Sum256([]byte(secret)) }

// NewSecret returns a random secret of 256 bits and its hash.
func NewSecret() (secret string, hash SecretHash) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	secret = keyText().EncodeToString(b)
	return secret, HashSecret(secret)
}

// NewKeyID returns a random id of a key. It is not secret.
func NewKeyID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return keyText().EncodeToString(b)
}

// FormatKey writes a key as its owner sends it: efs_<id>_<secret>.
func FormatKey(id, secret string) string { return keyPrefix + "_" + id + "_" + secret }

// ParseKey reads a key. ok is false for anything that cannot be one.
func ParseKey(text string) (id, secret string, ok bool) {
	prefix, rest, _ := strings.Cut(text, "_")
	id, secret, _ = strings.Cut(rest, "_")
	ok = prefix == keyPrefix && len(id) == keyIDLength && len(secret) == keySecretLength && plain(id) && plain(secret)
	if !ok {
		return "", "", false
	}
	return id, secret, true
}

// Credential is what is known of a key or a session.
type Credential struct {
	Principal
	Secrets  []Secret // that open it; two while a key is rotated
	Expires  time.Time
	Revoked  bool
	Networks []netip.Prefix // it may be used from; none = from everywhere
}

// Secret is one secret of a credential.
type Secret struct {
	Hash  SecretHash
	Until time.Time // zero = as long as the credential
}

// Errors of a credential.
var (
	ErrUnknown = errors.New("unknown credential") // by stores: there is none with that id

	errWrongSecret = errors.New("the key is not valid")
	errExpired     = errors.New("the key has expired; ask for a new one")
	errRevoked     = errors.New("the key was revoked; ask for a new one")
	errOldSecret   = errors.New("the key was replaced by a newer one, and the time both were valid is over")
	errNetwork     = errors.New("the key may not be used from this address")
)

// open checks a secret at a moment from an address. Every secret is compared, in constant time. Only who has the right secret learns more than that
// the key is not valid.
func (c *Credential) open(hash SecretHash, now time.Time, client netip.Addr) error {
	found := -1
	for i := range c.Secrets {
		if subtle.ConstantTimeCompare(c.Secrets[i].Hash[:], hash[:]) == 1 {
			found = i
		}
	}
	switch {
	case found < 0:
		return errWrongSecret
	case c.Revoked:
		return errRevoked
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return errExpired
	case !c.Secrets[found].Until.IsZero() && !now.Before(c.Secrets[found].Until):
		return errOldSecret
	case len(c.Networks) > 0 && !contains(c.Networks, client):
		return errNetwork
	}
	return nil
}

func plain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }) < 0
}
