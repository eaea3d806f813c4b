package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// students posts n students and returns their ids.
func (c *client) students(n int) []string {
	c.t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, c.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", fmt.Sprint(1000+i), 1)).id())
	}
	return ids
}

func idsOf(t *testing.T, body string) []string {
	t.Helper()
	var items []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(body), &items); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	ids := []string{}
	for _, i := range items {
		ids = append(ids, i.ID)
	}
	return ids
}

func TestPagesByOffsetAndLimit(t *testing.T) {
	t.Parallel()
	c := start(t)
	ids := c.students(60)
	c.must(http.StatusNoContent, http.MethodDelete, "students/"+ids[10], "")
	ids = append(ids[:10:10], ids[11:]...)
	for _, tt := range []struct {
		query string
		want  []string
		total string
	}{
		{"", ids[:25], ""},
		{"?limit=500&totalCount=true", ids, "59"},
		{"?offset=50&limit=20&totalCount=True", ids[50:], "59"},
		{"?offset=5&limit=10", ids[5:15], ""},
		{"?offset=100", []string{}, ""},
		{"?limit=0&totalCount=true", []string{}, "59"},
		{"?OFFSET=1&LIMIT=1", ids[1:2], ""},
	} {
		a := c.must(http.StatusOK, http.MethodGet, "students"+tt.query, "")
		if d := cmp.Diff(tt.want, idsOf(t, a.Body)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, d)
		}
		if got := a.Header.Get("Total-Count"); got != tt.total {
			t.Errorf("%s: Total-Count %q, want %q", tt.query, got, tt.total)
		}
	}
}

func TestPagesByToken(t *testing.T) {
	t.Parallel()
	c := start(t)
	ids := c.students(60)
	var got []string
	path := "students?limit=7"
	for range 20 {
		a := c.must(http.StatusOK, http.MethodGet, path, "")
		got = append(got, idsOf(t, a.Body)...)
		token := a.Header.Get("Next-Page-Token")
		if a.Body == "[]" {
			if token != "" {
				t.Error("an empty page has a token")
			}
			break
		}
		path = "students?pageSize=7&pageToken=" + url.QueryEscape(token)
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPartitionsCoverEverythingOnce(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *Options) { o.PageLimit = 2 })
	ids := c.students(60)
	a := c.must(http.StatusOK, http.MethodGet, "students/partitions?number=5", "")
	var p struct {
		PageTokens []string `json:"pageTokens"`
	}
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.PageTokens) != 5 {
		t.Errorf("%d partitions, want 5", len(p.PageTokens))
	}
	var got []string
	for _, token := range p.PageTokens {
		for {
			a := c.must(http.StatusOK, http.MethodGet, "students?pageSize=2&pageToken="+url.QueryEscape(token), "")
			if a.Body == "[]" {
				break
			}
			got = append(got, idsOf(t, a.Body)...)
			token = a.Header.Get("Next-Page-Token")
		}
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	c.must(http.StatusCreated, http.MethodPost, "students", strings.NewReplacer("604822", "2", "Tyrone", "Ann").Replace(studentBody))
	c.must(http.StatusCreated, http.MethodPost, "studentSchoolAssociations", strings.Replace(enrolBody, "604822", "2", 1))
	escaped := url.QueryEscape("uri://ed-fi.org/gradeleveldescriptor#ninth grade")
	for _, tt := range []struct {
		path string
		want int
	}{
		{"students?firstName=Ann", 1},
		{"students?birthDate=2010-01-13", 2},
		{"students?birthDate=2010-01-13&firstName=Ann", 1},
		{"students?studentUniqueId=2&firstName=Tyrone", 0},
		{"students?studentUniqueId=3", 0},
		{"students?notAParameter=3", 2},
		{"students?id=" + c.first("students"), 1},
		{"students?id=" + c.first("schools"), 0},
		{"studentSchoolAssociations?schoolId=255901001", 2},
		{"studentSchoolAssociations?schoolid=255901001&STUDENTUNIQUEID=2", 1},
		{"studentSchoolAssociations?entryDate=2025-08-23&schoolId=255901001&studentUniqueId=2", 1},
		{"studentSchoolAssociations?entryGradeLevelDescriptor=" + escaped, 2},
		{"studentSchoolAssociations?entryGradeLevelDescriptor=nothing", 0},
		{"studentSectionAssociations?sessionName=Fall&schoolYear=2026", 1},
		{"studentSectionAssociations?sessionName=fall", 0},
		{"sections?localCourseCode=ALG-1&schoolId=255901001&schoolYear=2026&sectionIdentifier=S1&sessionName=Fall", 1},
		{"schoolYearTypes", 2},
		{"schoolYearTypes?schoolYear=2026&currentSchoolYear=true", 1},
		{"termDescriptors?codeValue=fall%20semester", 1},
	} {
		a := c.must(http.StatusOK, http.MethodGet, tt.path, "")
		if got := len(idsOf(t, a.Body)); got != tt.want {
			t.Errorf("%s: %d records, want %d", tt.path, got, tt.want)
		}
	}
}
