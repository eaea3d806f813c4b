package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Certificate is a certificate and its key in two PEM files, which are read again when they change: a renewed certificate needs no restart. Make it
// with LoadCertificate. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	every             time.Duration // how often the files are looked at, at most

	mu     sync.Mutex
	now    *tls.Certificate
	stamp  [2]fileStamp
	looked time.Time
}

type fileStamp struct {
	changed time.Time
	size    int64
}

// LoadCertificate reads both files. Files that cannot be read later leave the certificate that is there in use, and are logged.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, every: time.Second}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns a server's configuration with this certificate: TLS 1.2 and newer.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current(hello.Context()), nil
		},
	}
}

// current is the certificate of the files as they are now.
func (c *Certificate) current(ctx context.Context) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < c.every {
		return c.now
	}
	if stamp, err := c.stat(); err == nil && stamp == c.stamp {
		c.looked = time.Now()
	} else if err := c.read(); err != nil {
		c.looked = time.Now()
		c.log.ErrorContext(ctx, "read the certificate again; the old one stays in use", slog.Any("error", err))
	}
	return c.now
}

// read reads the files; the lock is held, or nobody has c yet.
func (c *Certificate) read() error {
	stamp, err := c.stat() // before reading: a change while we read is seen the next time
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.now, c.stamp, c.looked = &pair, stamp, time.Now()
	return nil
}

func (c *Certificate) stat() (out [2]fileStamp, err error) {
	for i, name := range [...]string{c.certFile, c.keyFile} {
		f, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		out[i] = fileStamp{f.ModTime(), f.Size()}
	}
	return out, nil
}
