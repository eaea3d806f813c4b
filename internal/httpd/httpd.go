// Package httpd is what our HTTP servers have in common: their life cycle (listen, serve, stop gracefully), TLS with files that are read again when
// they change, a Router that lets nobody past who has no right by the rule of the route, problem responses of RFC 9457, and Egress, which keeps
// calls to addresses a user gave from reaching what only we can reach. It knows nothing of what is served.
package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options of a Server. The zero value works.
type Options struct {
	Logger       *slog.Logger  // nil discards
	ReadHeader   time.Duration // longest wait for a request's header; 0 means 10 s
	Idle         time.Duration // longest idle time of a kept-alive connection; 0 means 2 min
	StopAfter    time.Duration // longest wait for running requests in Close; 0 means 5 s
	MaxHeaderLen int           // bytes; 0 means 64 KiB
	TLS          *tls.Config   // nil serves without; Certificate.Config makes one
}

// Server is a listening HTTP server. Make it with Listen.
type Server struct {
	http *http.Server
	addr net.Addr
	tls  bool
	stop time.Duration
	done chan struct{}

	once sync.Once
	err  error // of Serve, set before done is closed
}

// Listen opens addr ("127.0.0.1:8080", ":0" for a free port) and serves h on it until ctx ends or Close is called.
// When it returns without error the address accepts connections.
func Listen(ctx context.Context, addr string, h http.Handler, o Options) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: orDefault(o.ReadHeader, 10*time.Second),
			IdleTimeout:       orDefault(o.Idle, 2*time.Minute),
			MaxHeaderBytes:    orDefault(o.MaxHeaderLen, 64<<10),
			TLSConfig:         o.TLS,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		},
		addr: l.Addr(),
		tls:  o.TLS != nil,
		stop: orDefault(o.StopAfter, 5*time.Second),
		done: make(chan struct{}),
	}
	serve := s.http.Serve
	if s.tls {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") } // the certificate comes from TLSConfig
	}
	go func() {
		defer close(s.done)
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.err = fmt.Errorf("serve: %w", err)
		}
	}()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return s, nil
}

// URL is the server's base URL without a trailing slash. An unspecified listening address ("0.0.0.0", "::") is given as 127.0.0.1.
func (s *Server) URL() string {
	scheme := "http://"
	if s.tls {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(s.addr.String())
	if err != nil {
		return scheme + s.addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// Done is closed when the server has stopped serving.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close stops listening, lets running requests finish for Options.StopAfter, then cuts them off. It may be called more than
// once and from several goroutines; every call returns after the server has stopped.
func (s *Server) Close() error {
	s.once.Do(func() {
		// Own context: Close also runs because the caller's has ended.
		ctx, cancel := context.WithTimeout(context.Background(), s.stop)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
	})
	<-s.done
	return s.err
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
