package tinysis

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
)

// Record is one record of the API, as far as the SIS says what it holds.
type Record struct {
	ID       string // the API's; "" in what should be there
	Resource string // "ed-fi/students"
	Key      string // natural key
	Value    string // everything else the pack fills
}

// Name tells a record from all others.
func (r Record) Name() string { return r.Resource + " " + r.Key }

// resource says where the parts of a record are, in the SIS and in the API.
type resource struct {
	path   string
	expect string   // SQL: key, value
	key    []string // of the API's document
	value  []string // … joined with "|"; of an array, its length counts
}

const grade = `'uri://ed-fi.org/GradeLevelDescriptor#' || case e.grade when '9' then 'Ninth grade' else 'Tenth grade' end`

// resources come in load order. What is invalid from its first day on is not expected, nor what refers to it.
func resources() []resource {
	return []resource{
		{
			"ed-fi/localEducationAgencies", `select id, name from agency`,
			[]string{"localEducationAgencyId"}, []string{"nameOfInstitution"},
		},
		{"ed-fi/schools", `select id, name || '|' || agency from school`, []string{"schoolId"}, []string{"nameOfInstitution", "localEducationAgencyReference.localEducationAgencyId"}},
		{
			"ed-fi/classPeriods", `select name || '|' || school, json_array_length(meetings) from period`,
			[]string{"classPeriodName", "schoolReference.schoolId"}, []string{"meetingTimes"},
		},
		{
			"ed-fi/students", `select uid, first || '|' || last || '|' || birth from student where birth like '____-__-__'`,
			[]string{"studentUniqueId"}, []string{"firstName", "lastSurname", "birthDate"},
		},
		{
			"ed-fi/studentSchoolAssociations",
			`select s.uid || '|' || e.school || '|' || e.entry, ` + grade + ` from enrolment e join student s on s.id = e.student where s.birth like '____-__-__'`,
			[]string{"studentReference.studentUniqueId", "schoolReference.schoolId", "entryDate"}, []string{"entryGradeLevelDescriptor"},
		},
		{
			"ed-fi/studentEducationOrganizationAssociations",
			`select s.uid || '|' || d.agency, d.login from demographic d join student s on s.id = d.student where s.birth like '____-__-__'`,
			[]string{"studentReference.studentUniqueId", "educationOrganizationReference.educationOrganizationId"}, []string{"loginId"},
		},
	}
}

// Expected returns what the API should hold, by Record.Name.
func (d *DB) Expected(ctx context.Context) (map[string]Record, error) {
	out := map[string]Record{}
	for _, r := range resources() {
		var rows []struct{ Key, Value string }
		if err := d.SelectContext(ctx, &rows, `with t(key, value) as (`+r.expect+`) select cast(key as text) as key, cast(value as text) as value from t`); err != nil {
			return nil, fmt.Errorf("read what %s should be: %w", r.path, err)
		}
		for _, row := range rows {
			record := Record{Resource: r.path, Key: row.Key, Value: row.Value}
			out[record.Name()] = record
		}
	}
	return out, nil
}

// API reads and cleans an Ed-Fi API in this process, without the client of the product.
type API struct {
	Handler      http.Handler
	ClientID     string
	ClientSecret string
	token        string
}

// Held returns what the API holds of the resources of the SIS, by Record.Name.
func (a *API) Held() (map[string]Record, error) {
	out := map[string]Record{}
	for _, r := range resources() {
		for offset := 0; ; offset += pageSize {
			var page []map[string]any
			if err := a.call(http.MethodGet, fmt.Sprintf("%s?limit=%d&offset=%d", r.path, pageSize, offset), nil, &page); err != nil {
				return nil, err
			}
			for _, doc := range page {
				record := r.read(doc)
				if twin, ok := out[record.Name()]; ok {
					return nil, fmt.Errorf("%s is there twice, as %s and %s", record.Resource, twin.ID, record.ID)
				}
				out[record.Name()] = record
			}
			if len(page) < pageSize {
				break
			}
		}
	}
	return out, nil
}

const pageSize = 500

// Read returns the record a document of the API is.
func Read(path string, doc map[string]any) Record {
	for _, r := range resources() {
		if r.path == path {
			return r.read(doc)
		}
	}
	return Record{Resource: path}
}

// Get returns one record of the API, false when there is none with the id.
func (a *API) Get(path, id string) (Record, bool) {
	var doc map[string]any
	if err := a.call(http.MethodGet, path+"/"+id, nil, &doc); err != nil {
		return Record{}, false
	}
	return Read(path, doc), true
}

// Wipe deletes everything the API holds of the resources of the SIS.
func (a *API) Wipe() error {
	held, err := a.Held()
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(resources()) {
		for _, record := range held {
			if record.Resource != r.path {
				continue
			}
			if err := a.call(http.MethodDelete, r.path+"/"+record.ID, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// Post writes a record as another client of the API would.
func (a *API) Post(path string, body any) error { return a.call(http.MethodPost, path, body, nil) }

func (a *API) call(method, path string, body, into any) error {
	for try := 0; ; try++ {
		if a.token == "" {
			if err := a.login(); err != nil {
				return err
			}
		}
		var text []byte
		if body != nil {
			var err error
			if text, err = json.Marshal(body); err != nil {
				return fmt.Errorf("write body: %w", err)
			}
		}
		r := httptest.NewRequest(method, "/data/v3/"+path, bytes.NewReader(text))
		r.Header.Set("Authorization", "Bearer "+a.token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		a.Handler.ServeHTTP(w, r)
		switch {
		case w.Code == http.StatusUnauthorized && try == 0:
			a.token = ""
			continue
		case w.Code < 200 || w.Code > 299:
			return fmt.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		case into != nil:
			if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
		}
		return nil
	}
}

func (a *API) login() error {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(a.ClientID, a.ClientSecret)
	w := httptest.NewRecorder()
	a.Handler.ServeHTTP(w, r)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		return fmt.Errorf("log in: %d %s", w.Code, w.Body)
	}
	a.token = answer.Token
	return nil
}

func (r *resource) read(doc map[string]any) Record {
	id, _ := doc["id"].(string)
	return Record{ID: id, Resource: r.path, Key: join(doc, r.key), Value: join(doc, r.value)}
}

func join(doc map[string]any, paths []string) string {
	parts := make([]string, len(paths))
	for i, path := range paths {
		var v any = doc
		for _, name := range strings.Split(path, ".") {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		switch v := v.(type) {
		case nil:
		case []any:
			parts[i] = fmt.Sprint(len(v))
		case float64:
			parts[i] = fmt.Sprintf("%.0f", v)
		default:
			parts[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(parts, "|")
}

// Diff returns what differs, sorted: nothing missing, nothing left over, nothing stale.
func Diff(want, got map[string]Record) []string {
	var out []string
	for name, w := range want {
		switch g, ok := got[name]; {
		case !ok:
			out = append(out, "missing "+name)
		case g.Value != w.Value:
			out = append(out, fmt.Sprintf("stale %s: has %s, want %s", name, g.Value, w.Value))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			out = append(out, "left over "+name)
		}
	}
	slices.Sort(out)
	return out
}
