package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// serve runs a target on a loopback port, prints its URL and ends with standard input. args: kind (201 or sandbox) and latency.
func serve(ctx context.Context, args []string) error {
	latency, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m, err := schema.Bundled("5.2")
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String()
	var handler http.Handler
	if args[0] == "sandbox" {
		s, err := sandbox.New(sandbox.Options{Model: m, ClientID: "bench", ClientSecret: "bench", SchoolYears: []int{2025, 2026, 2027}, Latency: latency})
		if err != nil {
			return err
		}
		handler = s.Handler()
	} else if handler, err = created(m, url, latency); err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = srv.Close()
	}()
	fmt.Println(url)
	if err := srv.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return ctx.Err()
}

// created answers every write with 201 and nothing else: the raw limit a client can reach.
func created(m *schema.Model, url string, latency time.Duration) (http.Handler, error) {
	deps, err := schema.Dependencies(m)
	if err != nil {
		return nil, err
	}
	dependencies, err := json.Marshal(deps)
	if err != nil {
		return nil, err
	}
	root, err := json.Marshal(map[string]any{
		"version": "7.3", "informationalVersion": "7.3", "suite": "3", "build": "7.3.0",
		"dataModels": []map[string]string{{"name": "Ed-Fi", "version": "5.2.0", "informationalVersion": "5.2"}},
		"urls": map[string]string{
			"dependencies": url + "/metadata/data/v3/dependencies", "openApiMetadata": url + "/metadata/", "oauth": url + "/oauth/token",
			"oauthTokenIntrospection": url + "/oauth/token_info", "dataManagementApi": url + "/data/v3/",
		},
	})
	if err != nil {
		return nil, err
	}
	var id atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch {
		case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/v3/"): // a run looks whether some records are there
			h.Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"id":%q}`, path.Base(r.URL.Path))
		case strings.HasPrefix(r.URL.Path, "/data/v3/"):
			_, _ = io.Copy(io.Discard, r.Body)
			if latency > 0 {
				time.Sleep(latency)
			}
			h["Location"] = []string{fmt.Sprintf("%s%s/%032x", url, r.URL.Path, id.Add(1))}
			w.WriteHeader(http.StatusCreated)
		case r.URL.Path == "/oauth/token":
			h.Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"bench","expires_in":1800,"token_type":"bearer"}`)
		case strings.HasSuffix(r.URL.Path, "/dependencies"):
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(dependencies)
		default:
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(root)
		}
	}), nil
}
