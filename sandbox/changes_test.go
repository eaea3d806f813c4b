package sandbox

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// versions reads availableChangeVersions.
func (c *client) newest() int64 {
	c.t.Helper()
	a := c.raw(http.MethodGet, "/changeQueries/v1/availableChangeVersions", "")
	var v struct{ OldestChangeVersion, NewestChangeVersion *int64 }
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil || a.Status != 200 || v.NewestChangeVersion == nil || v.OldestChangeVersion == nil || *v.OldestChangeVersion != 0 {
		c.t.Fatalf("got %d %s", a.Status, a.Body)
	}
	return *v.NewestChangeVersion
}

// list reads a page of deletes or key changes, ids left out.
func (c *client) tracked(path string) []string {
	c.t.Helper()
	var items []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.must(200, http.MethodGet, path, "").Body), &items); err != nil {
		c.t.Fatal(err)
	}
	out := []string{}
	for _, it := range items {
		if len(it["id"]) != idLen+2 || len(it["changeVersion"]) == 0 {
			c.t.Errorf("%s: an item without id or changeVersion: %s", path, it)
		}
		out = append(out, string(it["keyValues"])+string(it["oldKeyValues"])+string(it["newKeyValues"]))
	}
	return out
}

func TestChangeVersionsSelectWhatChanged(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	before := c.newest()
	if before == 0 {
		t.Fatal("writes did not raise the change version")
	}
	count := func(query string) string {
		t.Helper()
		return c.must(200, http.MethodGet, query, "").Header.Get("Total-Count")
	}
	since := fmt.Sprintf("?totalCount=true&minChangeVersion=%d", before+1)
	if got := count("students" + since); got != "0" {
		t.Errorf("%s students changed, want none", got)
	}
	c.must(200, http.MethodPost, "students", studentBody)
	if got := c.newest(); got != before {
		t.Errorf("a write that changed nothing raised the change version from %d to %d", before, got)
	}
	c.must(200, http.MethodPost, "students", strings.Replace(studentBody, "Tyrone", "Tyra", 1))
	c.must(201, http.MethodPost, "students", strings.Replace(studentBody, "604822", "604823", 1))
	for query, want := range map[string]string{
		"students" + since: "2", "schools" + since: "0",
		fmt.Sprintf("students?totalCount=true&maxChangeVersion=%d", before):                                 "0", // the one there was has changed
		fmt.Sprintf("students?totalCount=true&minChangeVersion=%d&maxChangeVersion=%d", before+2, before+2): "1",
		"students" + since + "&studentUniqueId=604823":                                                      "1",
		fmt.Sprintf("students?totalCount=true&studentUniqueId=604823&maxChangeVersion=%d", before):          "0",
	} {
		if got := count(query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	c.must(400, http.MethodGet, "students?minChangeVersion=x", "")
	c.token = ""
	if a := c.raw(http.MethodGet, "/changeQueries/v1/availableChangeVersions", ""); a.Status != 401 {
		t.Errorf("without a token: got %d", a.Status)
	}
}

func TestDeletesNameWhatIsGone(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	before := c.newest()
	c.must(204, http.MethodDelete, "studentSchoolAttendanceEvents/"+c.first("studentSchoolAttendanceEvents"), "")
	c.must(204, http.MethodDelete, "studentSectionAssociations/"+c.first("studentSectionAssociations"), "")
	since := fmt.Sprintf("/deletes?minChangeVersion=%d", before+1)
	want := []string{`{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Excused Absence","eventDate":"2025-09-03",` +
		`"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall","studentUniqueId":"604822"}`}
	if diff := cmp.Diff(want, c.tracked("studentSchoolAttendanceEvents"+since)); diff != "" {
		t.Error(diff)
	}
	if got := c.tracked("studentSectionAssociations" + since); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	// One that exists again is no delete, under whatever id it came back.
	c.must(201, http.MethodPost, "studentSectionAssociations", rosterBody)
	if got := c.tracked("studentSectionAssociations" + since); len(got) != 0 {
		t.Errorf("got %v, want none: the record is there again", got)
	}
	if got := c.tracked("studentSchoolAttendanceEvents/deletes?minChangeVersion=" + fmt.Sprint(c.newest()+1)); len(got) != 0 {
		t.Errorf("got %v after the last change", got)
	}
	if got := c.must(200, http.MethodGet, "studentSchoolAttendanceEvents/deletes?limit=0&totalCount=true", ""); got.Body != "[]" || got.Header.Get("Total-Count") != "1" {
		t.Errorf("got %s of %s", got.Body, got.Header.Get("Total-Count"))
	}
}

func TestKeyChangesGoFromTheFirstKeyToTheLast(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	before := c.newest()
	id := c.first("sessions")
	for _, name := range []string{"Autumn", "First"} {
		c.must(204, http.MethodPut, "sessions/"+id, strings.Replace(sessionBody, "Fall\"", name+"\"", 1))
	}
	since := fmt.Sprintf("/keyChanges?minChangeVersion=%d", before+1)
	for path, want := range map[string][]string{
		"sessions": {`{"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"}{"schoolId":255901001,"schoolYear":2026,"sessionName":"First"}`},
		"sections": {`{"localCourseCode":"ALG-1","schoolId":255901001,"schoolYear":2026,"sectionIdentifier":"S1","sessionName":"Fall"}` +
			`{"localCourseCode":"ALG-1","schoolId":255901001,"schoolYear":2026,"sectionIdentifier":"S1","sessionName":"First"}`},
		"courseOfferings": {}, // its key cannot be changed but by the session's
		"students":        {},
	} {
		if diff := cmp.Diff(want, c.tracked(path+since)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	if got := c.must(200, http.MethodGet, fmt.Sprintf("courseOfferings?totalCount=true&minChangeVersion=%d", before+1), "").Header.Get("Total-Count"); got != "1" {
		t.Errorf("%s course offerings changed with the session's name, want 1", got)
	}
	// A refused key change leaves no trace.
	c.must(201, http.MethodPost, "sessions", strings.Replace(sessionBody, "Fall\"", "Spring\"", 1))
	newest := c.newest()
	c.must(409, http.MethodPut, "sessions/"+id, strings.Replace(sessionBody, "Fall\"", "Spring\"", 1))
	if got := c.tracked(fmt.Sprintf("sessions/keyChanges?minChangeVersion=%d", newest+1)); len(got) != 0 {
		t.Errorf("got %v for a key change that was refused", got)
	}
}

func TestSnapshotsAreNotOffered(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.must(404, http.MethodGet, "students", "", "Use-Snapshot: true")
	if a := c.must(405, http.MethodPost, "students", studentBody, "Use-Snapshot: true"); a.Problem.Type != "urn:ed-fi:api:snapshots:method-not-allowed" {
		t.Errorf("got %s", a.Body)
	}
	c.must(200, http.MethodGet, "students", "", "Use-Snapshot: false")
}

func TestWipedSandboxIsAsNew(t *testing.T) {
	t.Parallel()
	c := start(t)
	fresh := c.newest()
	c.district()
	id := c.first("students")
	if a := c.raw(http.MethodPost, "/sandbox/wipe", ""); a.Status != 204 {
		t.Fatalf("got %d", a.Status)
	}
	if got := c.newest(); got != fresh {
		t.Errorf("change version %d, want %d", got, fresh)
	}
	for _, p := range []string{"students", "schools", "students/deletes", "sessions/keyChanges"} {
		if a := c.must(200, http.MethodGet, p, ""); a.Body != "[]" {
			t.Errorf("%s: %s", p, a.Body)
		}
	}
	c.must(404, http.MethodPut, "students/"+id, studentBody)
	c.district() // the descriptors and school years are there
	if c.first("students") == id {
		t.Error("an id of before names another record now")
	}
	if a := c.raw(http.MethodGet, "/sandbox/wipe", ""); a.Status != 405 {
		t.Errorf("GET: got %d", a.Status)
	}
}

func TestRestoredSandboxIsAsItWas(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"memory", "file"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			path := ""
			if where == "file" {
				path = filepath.Join(t.TempDir(), "records.sqlite")
			}
			c := start(t, func(o *Options) { o.Store = path })
			if a := c.raw(http.MethodPost, "/sandbox/restore?name=yesterday", ""); a.Status != 404 {
				t.Errorf("restore of what was never kept: got %d", a.Status)
			}
			c.district()
			c.must(204, http.MethodDelete, "studentSchoolAttendanceEvents/"+c.first("studentSchoolAttendanceEvents"), "")
			before, id, session := c.newest(), c.first("students"), c.first("sessions")
			all := c.everything()
			if a := c.raw(http.MethodPost, "/sandbox/snapshot?name=yesterday", ""); a.Status != 204 {
				t.Fatalf("got %d", a.Status)
			}
			c.must(204, http.MethodPut, "students/"+id, strings.Replace(studentBody, "Tyrone", "Tyra", 1))
			c.must(204, http.MethodPut, "sessions/"+session, strings.Replace(sessionBody, "Fall\"", "First\"", 1))
			later := c.must(201, http.MethodPost, "students", strings.Replace(studentBody, "604822", "604823", 1)).id()
			c.must(204, http.MethodDelete, "studentSectionAssociations/"+c.first("studentSectionAssociations"), "")
			for range 2 { // twice is as once
				if a := c.raw(http.MethodPost, "/sandbox/restore?name=yesterday", ""); a.Status != 204 {
					t.Fatalf("got %d %s", a.Status, a.Body)
				}
			}
			check := func(c *client) {
				t.Helper()
				if diff := cmp.Diff(all, c.everything()); diff != "" {
					t.Error(diff)
				}
				if got := c.newest(); got != before {
					t.Errorf("change version %d, want %d as it was", got, before)
				}
				c.must(404, http.MethodGet, "students/"+later, "")
				if got := len(c.tracked("studentSchoolAttendanceEvents/deletes")); got != 1 {
					t.Errorf("%d deletes, want the one of before", got)
				}
				if got := len(c.tracked("sessions/keyChanges")) + len(c.tracked("studentSectionAssociations/deletes")); got != 0 {
					t.Errorf("%d changes of after the snapshot are told", got)
				}
				c.must(409, http.MethodDelete, "students/"+id, "") // references count again
				checkIntegrity(t, c.s)
			}
			check(c)
			if where != "file" {
				return
			}
			if err := c.s.Close(); err != nil {
				t.Fatal(err)
			}
			check(start(t, func(o *Options) { o.Store = path }))
		})
	}
}

func TestChangesSurviveARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.sqlite")
	c := start(t, func(o *Options) { o.Store = path })
	c.district()
	c.must(204, http.MethodDelete, "studentSectionAssociations/"+c.first("studentSectionAssociations"), "")
	c.must(204, http.MethodPut, "sessions/"+c.first("sessions"), strings.Replace(sessionBody, "Fall\"", "First\"", 1))
	newest := c.newest()
	deletes, keys := c.tracked("studentSectionAssociations/deletes"), c.tracked("sessions/keyChanges")
	if len(deletes) != 1 || len(keys) != 1 {
		t.Fatalf("got %v and %v", deletes, keys)
	}
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, func(o *Options) { o.Store = path })
	if got := again.newest(); got != newest {
		t.Errorf("change version %d after a restart, want %d", got, newest)
	}
	if diff := cmp.Diff([][]string{deletes, keys}, [][]string{again.tracked("studentSectionAssociations/deletes"), again.tracked("sessions/keyChanges")}); diff != "" {
		t.Error(diff)
	}
	if got := again.must(200, http.MethodGet, fmt.Sprintf("sections?totalCount=true&minChangeVersion=%d", newest), "").Header.Get("Total-Count"); got == "" {
		t.Error("no count")
	}
	again.must(201, http.MethodPost, "students", strings.Replace(studentBody, "604822", "604823", 1))
	if got := again.newest(); got != newest+1 {
		t.Errorf("change version %d, want %d", got, newest+1)
	}
}

func TestAFileWithoutChangeVersionsIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.sqlite")
	c := start(t, func(o *Options) { o.Store = path })
	c.district()
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`ALTER TABLE record DROP COLUMN version`, `DROP TABLE deletion`, `DROP TABLE key_change`, `DELETE FROM meta WHERE name = 'change_version'`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, func(o *Options) { o.Store = path })
	again.must(200, http.MethodPost, "students", studentBody)
	again.must(204, http.MethodDelete, "studentSectionAssociations/"+again.first("studentSectionAssociations"), "")
	if got := again.newest(); got != 1 {
		t.Errorf("change version %d, want 1", got)
	}
}
