//go:build unix

package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const crashFile = "EDFISYNC_SANDBOX_CRASH_FILE" // tells this test binary to be the process that gets killed

// The store file of a sandbox that is killed outright opens again, whole, and has what had been written a second before.
func TestStoreFileSurvivesKill(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(crashFile); path != "" {
		writeUntilKilled(t, path)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.db")
	least := int64(0)
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestStoreFileSurvivesKill$")
		cmd.Env = append(os.Environ(), crashFile+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, path+".ready")
		time.Sleep(time.Duration(50+130*round) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // says that it was killed
		if err := os.Remove(path + ".ready"); err != nil {
			t.Fatal(err)
		}
		s, err := New(crashOptions(t, path))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		checkIntegrity(t, s)
		now := s.store.count(s.cat.byName["StudentSchoolAssociation"])
		if now < least || round == 2 && now == 0 {
			t.Errorf("round %d: %d enrolments, %d before", round, now, least)
		}
		least = now
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func crashOptions(t *testing.T, path string) Options {
	m := model(t, "5.2")
	return Options{Model: m, ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2026}, Descriptors: fewDescriptors(m), Store: path}
}

// writeUntilKilled creates students with enrolments, deletes some, and says when the first flush must have happened.
func writeUntilKilled(t *testing.T, path string) {
	s, err := New(crashOptions(t, path))
	if err != nil {
		t.Fatal(err)
	}
	token, _ := s.tokens.issue(testID, 0)
	do := func(method, path, body string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "/data/v3/ed-fi/"+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		s.serve(w, r)
		if w.Code >= http.StatusBadRequest {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		l := w.Header().Get("Location")
		return l[strings.LastIndexByte(l, '/')+1:]
	}
	do(http.MethodPost, "schools", schoolBody)
	ready := time.Now().Add(3 * flushEvery)
	for i := s.store.count(s.cat.byName["Student"]); ; i++ {
		id := fmt.Sprint(i)
		do(http.MethodPost, "students", strings.Replace(studentBody, "604822", id, 1))
		do(http.MethodPost, "studentSchoolAssociations", strings.Replace(enrolBody, "604822", id, 1))
		gone := do(http.MethodPost, "students", strings.Replace(studentBody, "604822", "gone"+id, 1))
		do(http.MethodDelete, "students/"+gone, "")
		time.Sleep(100 * time.Microsecond)
		if !ready.IsZero() && time.Now().After(ready) {
			ready = time.Time{}
			if err := os.WriteFile(path+".ready", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never appeared", path)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
