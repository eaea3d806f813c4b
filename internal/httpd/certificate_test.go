package httpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// writePair writes a certificate for 127.0.0.1 with a serial number, and its key.
func writePair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+serial, 0) // file systems with coarse times
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARenewedCertificateNeedsNoRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, certFile, keyFile, 1)
	var log strings.Builder
	c, err := LoadCertificate(certFile, keyFile, textLogger(&log))
	if err != nil {
		t.Fatal(err)
	}
	c.every = 0
	s, err := Listen(t.Context(), "127.0.0.1:0", http.NotFoundHandler(), Options{TLS: c.Config()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	addr, ok := strings.CutPrefix(s.URL(), "https://")
	if !ok {
		t.Fatalf("the server is at %s", s.URL())
	}
	serial := func(version uint16) int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: version}) //nolint:gosec // the certificate is what is looked at
		if err != nil {
			return 0
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(0); got != 1 {
		t.Errorf("the first certificate is %d", got)
	}
	if got := serial(tls.VersionTLS11); got != 0 {
		t.Error("TLS 1.1 is spoken")
	}
	writePair(t, certFile, keyFile, 2)
	if got := serial(0); got != 2 {
		t.Errorf("after the renewal the certificate is %d", got)
	}
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(0); got != 2 || !strings.Contains(log.String(), "old one stays") {
		t.Errorf("with a damaged file the certificate is %d, log %s", got, log.String())
	}
	writePair(t, certFile, keyFile, 3)
	if got := serial(0); got != 3 {
		t.Errorf("after the repair the certificate is %d", got)
	}
}

func TestACertificateThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, other := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "other.pem")
	writePair(t, filepath.Join(dir, "unused.pem"), other, 2)
	writePair(t, certFile, keyFile, 1)
	for name, files := range map[string][2]string{"no key": {certFile, ""}, "no file": {certFile, filepath.Join(dir, "none")}, "the wrong key": {certFile, other}, "not PEM": {dir, keyFile}} {
		if _, err := LoadCertificate(files[0], files[1], nil); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
