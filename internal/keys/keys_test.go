package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edfisync/edfisync/internal/keys"
)

func TestParseMasterReadsEveryWayToWriteIt(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{0xfb, 0xff, 0x3e, 1}, keys.Size/4)
	want, err := keys.NewMaster(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), " " + hex.EncodeToString(secret) + "\n",
		base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
	} {
		got, err := keys.ParseMaster(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if !bytes.Equal(got.Check([]byte("id")), want.Check([]byte("id"))) {
			t.Errorf("%q gives another key", text)
		}
	}
	for _, text := range []string{"", "secret", hex.EncodeToString(secret[:31]), hex.EncodeToString(append(secret, 0)), strings.Repeat("z", 64)} {
		if _, err := keys.ParseMaster(text); err == nil || (text != "" && strings.Contains(err.Error(), text)) {
			t.Errorf("%q: got %v, want an error without the text", text, err)
		}
	}
}

func TestMasterKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "folder", "master.key")
	var wg sync.WaitGroup
	checks := make([][]byte, 8)
	for i := range checks { // processes that start at once
		wg.Go(func() {
			m, err := keys.LoadOrCreateFile(path)
			if err != nil {
				t.Error(err)
				return
			}
			checks[i] = m.Check(nil)
		})
	}
	wg.Wait()
	for i := range checks {
		if !bytes.Equal(checks[i], checks[0]) {
			t.Fatal("two processes use two keys")
		}
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.LoadOrCreateFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("a file others can read: got %v, want an error with the remedy", err)
	}
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.LoadOrCreateFile(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a file without a key: got %v, want an error with the path and without the content", err)
	}
	if _, err := keys.LoadOrCreateFile(t.TempDir()); err == nil {
		t.Error("a folder was taken for a key file")
	}
}

func TestRingSealsAndHashes(t *testing.T) {
	t.Parallel()
	m := keys.GenerateMaster()
	wrapped := m.NewDataKey([]byte("connection 1"))
	ring := func(m *keys.Master, context string, generation int) (*keys.Ring, error) {
		return m.Ring(wrapped, []byte(context), generation)
	}
	r, err := ring(m, "connection 1", 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() (*keys.Ring, error){
		"another master key": func() (*keys.Ring, error) { return ring(keys.GenerateMaster(), "connection 1", 1) },
		"another connection": func() (*keys.Ring, error) { return ring(m, "connection 2", 1) },
	} {
		if _, err := try(); !errors.Is(err, keys.ErrWrongMaster) {
			t.Errorf("%s: got %v, want ErrWrongMaster", name, err)
		}
	}
	for _, generation := range []int{0, -1, keys.MaxGeneration + 1} {
		if _, err := ring(m, "connection 1", generation); err == nil {
			t.Errorf("generation %d was taken", generation)
		}
	}

	plain, place := []byte("a natural key"), []byte("entry 1")
	sealed := r.Seal([]byte("before"), plain, place)
	if len(sealed) != len("before")+len(plain)+keys.Overhead || bytes.Contains(sealed, plain) {
		t.Errorf("sealed to %d bytes: %q", len(sealed), sealed)
	}
	sealed = sealed[len("before"):]
	if bytes.Equal(sealed, r.Seal(nil, plain, place)) {
		t.Error("sealing twice gives the same bytes")
	}
	if got, err := r.Open([]byte("x"), sealed, place); err != nil || string(got) != "xa natural key" {
		t.Errorf("open: got %q, %v", got, err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := r.Open(nil, changed, place); !errors.Is(err, keys.ErrSealBroken) {
			t.Fatalf("byte %d changed: got %v, want ErrSealBroken", i, err)
		}
		if _, err := r.Open(nil, sealed[:i], place); !errors.Is(err, keys.ErrSealBroken) {
			t.Fatalf("cut to %d bytes: got %v, want ErrSealBroken", i, err)
		}
	}
	if _, err := r.Open(nil, sealed, []byte("entry 2")); !errors.Is(err, keys.ErrSealBroken) {
		t.Errorf("opened at another place: %v", err)
	}

	// The next generation still opens what the first sealed, and hashes differently.
	next, err := ring(m, "connection 1", 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := next.Open(nil, sealed, place); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("the next generation opens %q, %v", got, err)
	}
	if _, err := r.Open(nil, next.Seal(nil, plain, place), place); !errors.Is(err, keys.ErrSealBroken) {
		t.Errorf("the first generation opened what the next sealed: %v", err)
	}
	old, err := next.HashMACOf(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.HashMACOf(3); err == nil {
		t.Error("a generation that is not there gave a key")
	}
	sums := map[string]string{}
	first, second, receipt := r.HashMAC(), next.HashMAC(), r.ReceiptMAC()
	for _, mac := range []struct {
		name string
		sum  []byte
	}{{"hash 1", first.Sum(nil)}, {"hash 2", second.Sum(nil)}, {"receipt", receipt.Sum(nil)}} {
		if other, ok := sums[string(mac.sum)]; ok {
			t.Errorf("%s and %s use one key", mac.name, other)
		}
		sums[string(mac.sum)] = mac.name
	}
	if !bytes.Equal(old.Sum(nil), r.HashMAC().Sum(nil)) {
		t.Error("the first hash key changed with the generation")
	}
}

func TestSignaturesBelongToOneKeyAndOneMessage(t *testing.T) {
	t.Parallel()
	m := keys.GenerateMaster()
	one, other := m.NewDataKey([]byte("c")), m.NewDataKey([]byte("c"))
	ring := func(wrapped []byte, generation int) *keys.Ring {
		r, err := m.Ring(wrapped, []byte("c"), generation)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	public := func(r *keys.Ring, generation int) ed25519.PublicKey {
		key, err := r.PublicKey(generation)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first, second := ring(one, 1), ring(one, 2)
	message := []byte("target equals source")
	signature := first.Sign(message)
	if !ed25519.Verify(public(first, 1), message, signature) || !ed25519.Verify(public(second, 1), message, signature) {
		t.Error("a signature does not verify with its generation's public key")
	}
	for name, key := range map[string]ed25519.PublicKey{
		"the next generation": public(second, 2), "another connection": public(ring(other, 1), 1),
	} {
		if ed25519.Verify(key, message, signature) {
			t.Errorf("the public key of %s takes the signature", name)
		}
	}
	if ed25519.Verify(public(first, 1), []byte("target equals sourcE"), signature) {
		t.Error("another message has the signature")
	}
	for _, generation := range []int{0, 2} {
		if _, err := first.PublicKey(generation); err == nil {
			t.Errorf("a ring of one generation has a public key of generation %d", generation)
		}
	}
}

func TestRingIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m := keys.GenerateMaster()
	r, err := m.Ring(m.NewDataKey(nil), nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				want := fmt.Appendf(nil, "value %d %d", i, n)
				if got, err := r.Open(nil, r.Seal(nil, want, want), want); err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestKeysNeverPrint(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789abcdef0123456789abcdef")
	m, err := keys.NewMaster(secret)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Ring(m.NewDataKey(nil), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"master": m, "ring": r})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v %+v %#v %s %q %x %d %s", m, m, m, r, r, r, r, text)
	want := "[master key] [master key] [master key] [key ring] [key ring] [key ring] [key ring] " + `{"master":"[master key]","ring":"[key ring]"}`
	if got != want {
		t.Errorf("got %s", got)
	}
}

func BenchmarkSeal(b *testing.B) {
	m := keys.GenerateMaster()
	r, err := m.Ring(m.NewDataKey(nil), nil, 1)
	if err != nil {
		b.Fatal(err)
	}
	plain, place, buf := make([]byte, 100), make([]byte, 40), make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Seal(buf[:0], plain, place)
	}
}
