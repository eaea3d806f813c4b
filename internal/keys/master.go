// Package keys holds the secrets data is protected with: one master key, and per connection a data key from which the hash, seal and
// receipt keys are derived (engine.md §7). It knows neither tables nor records.
package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Size is the length of the master key and of every data key, in bytes.
const Size = 32

// ErrWrongMaster says that something was wrapped by another master key, or was tampered with.
var ErrWrongMaster = errors.New("the master key is not the one this ledger was made with, or was brought under by edfisync secrets rekey; give back that key, or start a new ledger")

// Master wraps the data keys of connections. It never encrypts data itself. Safe for concurrent use. It prints as a fixed word,
// whatever the verb (I15).
type Master struct {
	wrap  cipher.AEAD
	check []byte
}

// NewMaster makes a master key from exactly Size secret bytes.
func NewMaster(secret []byte) (*Master, error) {
	if len(secret) != Size {
		return nil, fmt.Errorf("master key has %d bytes, it needs %d", len(secret), Size)
	}
	wrap, err := newSealer(derive(secret, "master/wrap", 1))
	if err != nil {
		return nil, err
	}
	return &Master{wrap: wrap, check: derive(secret, "master/check", 1)}, nil
}

// GenerateMaster makes a new random master key, for tests and for ledgers that do not outlive the process.
func GenerateMaster() *Master {
	m, err := NewMaster(random(Size))
	if err != nil {
		panic(err) // cannot happen: the length is right
	}
	return m
}

// ParseMaster reads a master key written as 64 hex digits or as base64 (standard or URL alphabet, padded or not) of 32 bytes. Space
// around it is ignored. The error never holds the text (I15).
func ParseMaster(text string) (*Master, error) {
	text = strings.TrimSpace(text)
	if secret, err := hex.DecodeString(text); err == nil && len(secret) == Size {
		return NewMaster(secret)
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	if secret, err := base64.RawStdEncoding.DecodeString(plain); err == nil && len(secret) == Size {
		return NewMaster(secret)
	}
	return nil, errors.New("master key must be 32 bytes, written as 64 hex digits or as base64 (make one with: openssl rand -hex 32)")
}

// LoadOrCreateFile reads the master key from path. When there is no such file it makes a random key and writes it there, mode 0600,
// folders 0700; of two processes that start at once one writes and both use it. A file that others may read is refused.
func LoadOrCreateFile(path string) (*Master, error) {
	m, err := loadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	if err := createFile(path); err != nil {
		return nil, fmt.Errorf("make master key file: %w", err)
	}
	return loadFile(path)
}

func loadFile(path string) (*Master, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open master key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open master key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("master key file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return nil, fmt.Errorf("master key file %s can be read by others (mode %04o); run: chmod 600 %s", path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, fmt.Errorf("read master key file: %w", err)
	}
	m, err := ParseMaster(string(text))
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", path, err)
	}
	return m, nil
}

// createFile writes beside the path first and links the complete file into place, so that no reader ever meets half a key and an
// existing key is never replaced.
func createFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(hex.EncodeToString(random(Size)) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name durable: a ledger sealed under a key that a power cut took away is lost.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be opened for syncing there; NTFS journals names
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Check returns a value that only this master key gives for id. Kept in clear beside data, it tells a wrong key at start.
func (m *Master) Check(id []byte) []byte {
	mac := hmac.New(sha256.New, m.check)
	mac.Write(id)
	return mac.Sum(nil)
}

// NewDataKey makes a random data key and returns it wrapped. context names what it belongs to and must be given again to open it.
func (m *Master) NewDataKey(context []byte) []byte {
	return m.wrap.Seal(nil, nil, random(Size), context)
}

// Ring opens a wrapped data key and derives its subkeys for the generations 1 to generation. The error is ErrWrongMaster when this
// master key, with this context, did not wrap it.
func (m *Master) Ring(wrapped, context []byte, generation int) (*Ring, error) {
	data, err := m.wrap.Open(nil, nil, wrapped, context)
	if err != nil {
		return nil, ErrWrongMaster
	}
	return newRing(data, generation)
}

// Rewrap wraps a wrapped data key by another master key, for the same context; what is sealed under the data key stays as it is. The error is
// ErrWrongMaster when this master key, with this context, did not wrap it.
func (m *Master) Rewrap(wrapped, context []byte, to *Master) ([]byte, error) {
	data, err := m.wrap.Open(nil, nil, wrapped, context)
	if err != nil {
		return nil, ErrWrongMaster
	}
	return to.wrap.Seal(nil, nil, data, context), nil
}

// Format prints a fixed word for every verb, so that the key cannot be logged by accident (I15).
func (m *Master) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[master key]") }

// MarshalText makes encoders print the fixed word too (I15).
func (m *Master) MarshalText() ([]byte, error) { return []byte("[master key]"), nil }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

// derive is HKDF-SHA-256 with the purpose and generation as info.
func derive(secret []byte, purpose string, generation int) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("edfisync/v1/%s/%d", purpose, generation), Size)
	if err != nil {
		panic(err) // cannot happen: 32 bytes is a legal output length
	}
	return key
}

// newSealer returns AES-256-GCM that puts a random nonce in front of what it seals.
func newSealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return aead, nil
}
