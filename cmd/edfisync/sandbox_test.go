package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// serveSandbox runs the command until the test ends and returns the API's address.
func serveSandbox(t *testing.T, c sandboxCmd) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Listen, c.Personality, c.ClientID, c.ClientSecret = listener.Addr().String(), "ods-7.3", sandboxClientID, sandboxSecret
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, &app{streams: streams{out: io.Discard, err: io.Discard}}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	base := "http://" + c.Listen
	for {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("the sandbox ended: %v", err)
		default:
		}
		if r, err := http.Get(base + "/sandbox/stats"); err == nil {
			r.Body.Close()
			return base
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// callSandbox makes one call with a token of its own.
func callSandbox(t *testing.T, base, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.PostForm(base+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {sandboxClientID}, "client_secret": {sandboxSecret}})
	if err != nil {
		t.Fatal(err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	err = json.NewDecoder(r.Body).Decode(&token)
	r.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.AccessToken)
	req.Header.Set("Content-Type", "application/json")
	if r, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

const sandboxStudent = `{"studentUniqueId":"ab1","birthDate":"2010-01-13","firstName":"Tyrone","lastSurname":"Brown"}`

func TestSandboxBreaksCallsFromItsStart(t *testing.T) {
	t.Parallel()
	base := serveSandbox(t, sandboxCmd{Faults: "seed=7,rate=100%,kinds=503"})
	if status, _ := callSandbox(t, base, http.MethodPost, "/data/v3/ed-fi/students", sandboxStudent); status != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", status)
	}
	if _, answer := callSandbox(t, base, http.MethodGet, "/sandbox/faults", ""); !strings.Contains(answer, `"seed":7`) || !strings.Contains(answer, `"injected":{"503":1}`) {
		t.Errorf("got %s", answer)
	}
	if status, _ := callSandbox(t, base, http.MethodDelete, "/sandbox/faults", ""); status != http.StatusNoContent {
		t.Errorf("got %d, want 204", status)
	}
	if status, _ := callSandbox(t, base, http.MethodPost, "/data/v3/ed-fi/students", sandboxStudent); status != http.StatusCreated {
		t.Errorf("got %d, want 201", status)
	}
}

func TestSandboxComparesKeysAsItIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fold bool
		want int
	}{{"letter by letter", false, http.StatusCreated}, {"without case", true, http.StatusOK}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			base := serveSandbox(t, sandboxCmd{FoldKeys: tt.fold})
			if status, answer := callSandbox(t, base, http.MethodPost, "/data/v3/ed-fi/students", sandboxStudent); status != http.StatusCreated {
				t.Fatalf("got %d %s", status, answer)
			}
			status, _ := callSandbox(t, base, http.MethodPost, "/data/v3/ed-fi/students", strings.Replace(sandboxStudent, "ab1", "AB1", 1))
			if status != tt.want {
				t.Errorf("got %d for the key in capitals, want %d", status, tt.want)
			}
		})
	}
}
