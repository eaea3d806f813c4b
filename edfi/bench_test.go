package edfi

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const benchBody = `{"studentUniqueId":"604822","birthDate":"2010-01-13","firstName":"A","lastSurname":"B",` +
	`"identificationDocuments":[],"personalTitlePrefix":"Mr","birthCity":"Grand Bend","multipleBirthStatus":false}`

func benchHost(b *testing.B) *host {
	h := newHost(b, nil)
	location := h.URL + "/api/data/v3/ed-fi/students/" + testID
	h.mux.HandleFunc("POST /api/data/v3/ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", location)
		w.Header().Set("ETag", `"5250093105232954695"`)
		w.WriteHeader(http.StatusCreated)
	})
	return h
}

const benchConnections = 32

// BenchmarkPost is the client's way of a POST: compare with BenchmarkBare.
func BenchmarkPost(b *testing.B) {
	h := benchHost(b)
	c := h.client(b, func(c *Config) { c.MaxConcurrency = benchConnections })
	if err := c.Login(b.Context()); err != nil {
		b.Fatal(err)
	}
	body := []byte(benchBody)
	ctx := b.Context()
	b.ReportAllocs()
	b.SetParallelism(benchConnections / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Post(ctx, "ed-fi/students", body); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
}

// BenchmarkBare is a plain net/http loop with the same connections.
func BenchmarkBare(b *testing.B) {
	h := benchHost(b)
	transport := newTransport(Config{MaxConcurrency: benchConnections})
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	target := h.URL + "/api/data/v3/ed-fi/students"
	b.ReportAllocs()
	b.SetParallelism(benchConnections / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, target, bytes.NewReader([]byte(benchBody)))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer token")
			r.Header.Set("Content-Type", "application/json")
			response, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if !strings.HasSuffix(response.Header.Get("Location"), testID) {
				b.Error("no location")
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
}
