package sandbox

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// everything returns the records of the resources a district has, as GET shows them.
func (c *client) everything() string {
	c.t.Helper()
	var b strings.Builder
	for _, path := range []string{
		"localEducationAgencies", "schools", "students", "studentSchoolAssociations", "sessions", "courses", "courseOfferings", "sections",
		"studentSectionAssociations", "studentSchoolAttendanceEvents", "schoolYearTypes",
	} {
		b.WriteString(c.must(http.StatusOK, http.MethodGet, path+"?limit=500", "").Body)
		b.WriteByte('\n')
	}
	return b.String()
}

func TestStoreFileSurvivesARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a store?.db")
	withFile := func(o *Options) { o.Store = path }
	c := start(t, withFile)
	c.district()
	gone := c.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", "2", 1)).id()
	c.must(http.StatusNoContent, http.MethodDelete, "students/"+gone, "")
	c.must(http.StatusNoContent, http.MethodPut, "sessions/"+c.first("sessions"), strings.Replace(sessionBody, `"Fall"`, `"Autumn"`, 1))
	want := c.everything()
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}

	c = start(t, withFile)
	if d := cmp.Diff(want, c.everything()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	checkIntegrity(t, c.s)
	c.must(http.StatusNotFound, http.MethodGet, "students/"+gone, "")
	if again := c.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", "2", 1)).id(); again == gone {
		t.Error("the id of a deleted record was given out again")
	}
	c.must(http.StatusOK, http.MethodPost, "studentSectionAssociations", strings.Replace(rosterBody, "Fall", "Autumn", 1))
	if got := c.s.Stats().Counts; got.Unchanged != 1 || got.RepeatedWrites != 0 {
		t.Errorf("counts of a new process: %+v", got)
	}
}

func TestStoreFileIsWrittenWhileRunning(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	c := start(t, func(o *Options) { o.Store = path })
	c.district()
	deadline := time.Now().Add(30 * time.Second)
	for {
		c.s.store.dirty.mu.Lock()
		n := len(c.s.store.dirty.list)
		c.s.store.dirty.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestStoreFileOfAnotherModelIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	open := func(version string) error {
		s, err := New(Options{Model: model(t, version), ClientID: testID, ClientSecret: testSecret, Store: path})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open("4.0"); err != nil {
		t.Fatal(err)
	}
	if err := open("5.2"); err == nil || !strings.Contains(err.Error(), "another data model") {
		t.Errorf("got %v", err)
	}
	if err := open("4.0"); err != nil {
		t.Errorf("the refusal damaged the file: %v", err)
	}
}

func TestDamagedStoreFileIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	c := start(t, func(o *Options) { o.Store = path })
	c.district()
	student := c.s.cat.byName["Student"].number
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("DELETE FROM record WHERE resource = %d", student)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Model: model(t, "5.2"), ClientID: testID, ClientSecret: testSecret, Store: path})
	if err == nil || !strings.Contains(err.Error(), "refers to a record that is not there") {
		t.Errorf("got %v", err)
	}
}

func TestStoreFileWithKeysThatFoldToOneIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	c := start(t, func(o *Options) { o.Store = path })
	for _, id := range []string{"a1", "A1"} {
		c.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", id, 1))
	}
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Model: model(t, "5.2"), ClientID: testID, ClientSecret: testSecret, Store: path, CaseInsensitiveKeys: true})
	if err == nil || !strings.Contains(err.Error(), "has the key of another record") {
		t.Errorf("got %v", err)
	}
}

func TestArenaGivesBackWhatIsDropped(t *testing.T) {
	t.Parallel()
	var a arena
	at := map[uint32]position{}
	rec := func(row uint32, version int) []byte { return fmt.Appendf(nil, "record %d version %d", row, version) }
	still := func(row uint32) position { return at[row] }
	moved := func(row uint32, to position) { at[row] = to }
	const rows = 2000
	for version := range 50 {
		for row := range uint32(rows) {
			old, had := at[row]
			at[row] = a.add(row, rec(row, version))
			if had {
				a.drop(old, still, moved)
			}
		}
	}
	size := 0
	for _, s := range a.slabs {
		size += cap(s.data)
	}
	if limit := 8 * rows * 40; size > limit {
		t.Errorf("%d bytes for %d live records, want under %d", size, rows, limit)
	}
	for row, p := range at {
		if got := string(a.bytes(p)); got != string(rec(row, 49)) {
			t.Fatalf("row %d: %q", row, got)
		}
	}
}
