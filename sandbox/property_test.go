package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// oracle is the simplest model of a district: which records there are, by resource and key, and whom they refer to.
type oracle map[string]*oracleRecord // "students/1"

type oracleRecord struct {
	refs []string
	path string // with its id
}

func (o oracle) referred(key string) bool {
	for _, r := range o {
		for _, ref := range r.refs {
			if ref == key {
				return true
			}
		}
	}
	return false
}

// op is a payload of one of five resources over few keys, so that operations meet.
type op struct {
	resource, key, body string
	refs                []string
}

func drawOp(t *rapid.T) op {
	n := func(name string) int { return rapid.IntRange(1, 3).Draw(t, name) }
	school, student, session := n("school"), n("student"), n("session")
	text := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "text")
	sc, st, se := fmt.Sprint("schools/", school), fmt.Sprint("students/", student), fmt.Sprint("sessions/", school, "/", session)
	switch rapid.IntRange(0, 4).Draw(t, "resource") {
	case 0:
		return op{"schools", sc, strings.NewReplacer("255901001", fmt.Sprint(school), "Grand Bend High", text).Replace(schoolBody), nil}
	case 1:
		return op{"students", st, strings.NewReplacer("604822", fmt.Sprint(student), "Tyrone", text).Replace(studentBody), nil}
	case 2:
		return op{"sessions", se, strings.NewReplacer("255901001", fmt.Sprint(school), `"Fall"`, fmt.Sprintf(`"%d"`, session), "80", fmt.Sprint(80+len(text))).Replace(sessionBody), []string{sc}}
	case 3:
		key := fmt.Sprint("studentSchoolAssociations/", student, "/", school)
		return op{"studentSchoolAssociations", key, strings.NewReplacer("604822", fmt.Sprint(student), "255901001", fmt.Sprint(school)).Replace(enrolBody), []string{sc, st}}
	}
	key := fmt.Sprint("studentSchoolAttendanceEvents/", student, "/", school, "/", session)
	body := strings.NewReplacer("604822", fmt.Sprint(student), "255901001", fmt.Sprint(school), `"Fall"`, fmt.Sprintf(`"%d"`, session)).Replace(attendBody)
	return op{"studentSchoolAttendanceEvents", key, body, []string{sc, se, st}}
}

// Random writes agree with the oracle answer by answer, and leave the store whole.
func TestRandomWritesAgreeWithASimpleModel(t *testing.T) {
	t.Parallel()
	m := model(t, "5.2")
	few := fewDescriptors(m)
	s, err := New(Options{Model: m, ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2026}, Descriptors: few})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	token, _ := s.tokens.issue(testID, 0)
	do := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "/data/v3/ed-fi/"+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		s.serve(w, r)
		return w
	}
	rapid.Check(t, func(t *rapid.T) {
		o := oracle{}
		defer o.clear(do)
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			p := drawOp(t)
			have := o[p.key]
			if rapid.IntRange(0, 3).Draw(t, "verb") == 0 && have != nil {
				want := http.StatusNoContent
				if o.referred(p.key) {
					want = http.StatusConflict
				}
				w := do(http.MethodDelete, have.path, "")
				if w.Code != want {
					t.Fatalf("DELETE %s: %d, want %d: %s", p.key, w.Code, want, w.Body)
				}
				if want == http.StatusNoContent {
					delete(o, p.key)
				}
				continue
			}
			if rapid.IntRange(0, 5).Draw(t, "rename") == 0 && have != nil && p.resource == "sessions" {
				to := rapid.IntRange(1, 3).Draw(t, "to")
				moved := p.key[:len(p.key)-1] + fmt.Sprint(to)
				want := http.StatusNoContent
				if moved != p.key && o[moved] != nil {
					want = http.StatusConflict
				}
				body := strings.Replace(p.body, fmt.Sprintf(`"sessionName":"%s"`, p.key[len(p.key)-1:]), fmt.Sprintf(`"sessionName":"%d"`, to), 1)
				if w := do(http.MethodPut, have.path, body); w.Code != want {
					t.Fatalf("PUT %s as %s: %d, want %d: %s", p.key, moved, w.Code, want, w.Body)
				}
				if want == http.StatusNoContent {
					o.rename(p.key, moved)
				}
				continue
			}
			want := http.StatusCreated
			if have != nil {
				want = http.StatusOK
			}
			for _, ref := range p.refs {
				if o[ref] == nil {
					want = http.StatusConflict
				}
			}
			w := do(http.MethodPost, p.resource, p.body)
			if w.Code != want {
				t.Fatalf("POST %s: %d, want %d: %s", p.key, w.Code, want, w.Body)
			}
			if want == http.StatusConflict {
				continue
			}
			location := w.Header().Get("Location")
			id := location[strings.LastIndexByte(location, '/')+1:]
			if have != nil && have.path != p.resource+"/"+id {
				t.Fatalf("POST %s: id %s, was %s", p.key, id, have.path)
			}
			o[p.key] = &oracleRecord{p.refs, p.resource + "/" + id}
		}
		o.compare(t, s)
		checkWhole(t, s)
	})
}

// rename gives a session another key, and with it the attendance that refers to it.
func (o oracle) rename(from, to string) {
	r := o[from]
	delete(o, from)
	o[to] = r
	for key, r := range o {
		for i, ref := range r.refs {
			if ref == from {
				r.refs[i] = to
				delete(o, key)
				o[key[:len(key)-1]+to[len(to)-1:]] = r
			}
		}
	}
}

// clear deletes all records, dependents before what they refer to.
func (o oracle) clear(do func(method, path, body string) *httptest.ResponseRecorder) {
	for len(o) > 0 {
		for key, r := range o {
			if !o.referred(key) {
				do(http.MethodDelete, r.path, "")
				delete(o, key)
			}
		}
	}
}

// compare checks that exactly the oracle's records are there.
func (o oracle) compare(t *rapid.T, s *Server) {
	counts := map[string]int64{}
	for key := range o {
		counts[key[:strings.IndexByte(key, '/')]]++
	}
	for _, name := range []string{"schools", "students", "sessions", "studentSchoolAssociations", "studentSchoolAttendanceEvents"} {
		if got := s.store.count(s.cat.byPath["ed-fi/"+name]); got != counts[name] {
			t.Fatalf("%s: %d records, want %d", name, got, counts[name])
		}
	}
}
