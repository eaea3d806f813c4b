package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// recordRoutes registers what shows rows and records one by one, and what is done about them.
func (s *Console) recordRoutes(reads, steers httpd.Rule) {
	sees := httpd.Rule{Least: httpd.Viewer, StudentData: true} // and each look is audited
	register(s, reads, get("/issues/{id}/rows", "listIssueRows", "issues", "List the rows of an issue, without student data"), s.issueRows)
	register(s, sees, get("/issues/{id}/data", "showIssueData", "issues", "List the rows of an issue with keys, values and answers; the look is audited"), s.issueData)
	register(s, steers, post("/issues/{id}/retry", "retryIssue", "issues", "Let the next run send the refused records of an issue again", http.StatusOK), s.retryIssue)
	register(s, steers, post("/connections/{connection}/retry", "retryAll", "issues", "Let the next run send all refused records again, or those of a resource", http.StatusOK), s.retryAll)

	const record = "/connections/{connection}/records/{schema}/{resource}/{record}"
	register(s, reads, get(record, "showRecord", "records", "Show what the ledger remembers of a record, without student data"), s.showRecord)
	register(s, reads, get(record+"/trace", "traceRecord", "records", "Ask the SIS and the target about a record, without student data"), s.traceRecord)
	register(s, sees, get(record+"/data", "showRecordData", "records", "Show a record with what was sent and answered; the look is audited"), s.recordData)
	register(s, sees, post("/connections/{connection}/records/find", "findRecord", "records", "Find a record by its keys", http.StatusOK), s.findRecord)

	register(s, steers, post("/issues/{id}/archive", "archiveIssue", "issues", "Put an issue out of sight until its cause comes up for other rows", http.StatusOK), s.archiveIssue)
	register(s, steers, post("/issues/{id}/unarchive", "unarchiveIssue", "issues", "Bring an archived issue back into sight", http.StatusOK), s.unarchiveIssue)
	s.pageOf("POST /issues/{id}/archive", steers, s.archiveForm)
	s.pageOf("POST /issues/{id}/unarchive", steers, s.unarchiveForm)
	s.pageOf("GET /issues/{id}", reads, s.issuePage(false))
	s.pageOf("GET /issues/{id}/data", sees, s.issuePage(true))
	s.pageOf("POST /issues/{id}/retry", steers, s.retryForm)
	s.pageOf("GET "+record, reads, s.recordPage("", s.showRecord))
	s.pageOf("GET "+record+"/trace", reads, s.recordPage("trace", s.traceRecord))
	s.pageOf("GET "+record+"/data", sees, s.recordPage("data", s.recordData))
	s.pageOf("POST /connections/{connection}/records/find", sees, s.findForm)
}

// recordPath is where a record is in the console, and below base in the API.
func recordPath(connection, resource, record string) string {
	schema, name, _ := strings.Cut(resource, "/")
	return fmt.Sprintf("/connections/%s/records/%s/%s/%s", url.PathEscape(connection), url.PathEscape(schema), url.PathEscape(name), url.PathEscape(record))
}

// issueView is the page of one issue.
type issueView struct {
	issueJSON
	Rows []issueRowJSON
	Next string // cursor of the next page
	More string // path of this page without cursor
	Data bool   // with student data
	Sent string // how many records were just marked to be sent again
}

// Path is where the record of a row is.
func (v issueView) Path(r issueRowJSON) string { return recordPath(v.Connection, r.Resource, r.Record) }

// Blocker is where the record is that a row waits for, "" when it is not known.
func (v issueView) Blocker(r issueRowJSON) string {
	if r.WaitsForRecord == "" {
		return ""
	}
	return recordPath(v.Connection, r.WaitsForResource, r.WaitsForRecord)
}

// Retryable reports whether its rows were refused, and wait for something to change before they are sent again.
func (v issueView) Retryable() bool { return retryable(v.Cause) }

func retryable(c sync.Cause) bool {
	return c.ClearedRun == 0 && c.Outcome == syncdb.OutcomeRejected
}

// rowsShown is how many rows a page of an issue shows.
const rowsShown = 50

func (s *Console) issuePage(data bool) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		id, err := idOf(r)
		if err != nil {
			return err
		}
		issue, err := s.showIssue(ctx, &IDPath{id})
		if err != nil {
			return err
		}
		in, read := issueRowsInput{IDPath{id}, Paging{Limit: rowsShown, Cursor: r.FormValue("cursor")}}, s.issueRows
		page := issueView{issueJSON: issue.Body, Data: data, More: fmt.Sprintf("/issues/%d", id)}
		if data {
			read, page.More = s.issueData, page.More+"/data"
		}
		rows, err := read(ctx, &in)
		if err != nil {
			return err
		}
		page.Rows, page.Next = rows.Body.Items, rows.Body.Next
		if sent, err := strconv.Atoi(r.FormValue("sent")); err == nil {
			page.Sent = strconv.Itoa(sent)
		}
		s.show(w, r, http.StatusOK, "issue", frame{
			Title: fmt.Sprintf("Issue %d", id), Trail: []crumb{home(), crumbOf(page.Connection), {"Issues", "/connections/" + url.PathEscape(page.Connection) + "/issues"}}, Data: data, Page: page,
		})
		return nil
	}
}

func (s *Console) retryForm(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	out, err := s.retryIssue(r.Context(), &IDPath{id})
	if err != nil {
		return err
	}
	return done(w, r, "/issues/%d?sent=%d", id, out.Body.Records)
}

// recordView is the page of one record.
type recordView struct {
	recordJSON
	Show string // "", trace, data
	Path string // of the page without more
}

// Times are the calls, the last first.
func (v recordView) Times() []sync.TraceAttempt {
	out := slices.Clone(v.Attempts)
	slices.Reverse(out)
	return out
}

// Last is the last call, nil when there is none.
func (v recordView) Last() *sync.TraceAttempt {
	if len(v.Attempts) == 0 {
		return nil
	}
	return &v.Attempts[len(v.Attempts)-1]
}

// State is what the ledger believes the target holds.
func (v recordView) State() string {
	for _, e := range v.Entries {
		if !e.Former {
			return e.State
		}
	}
	return "absent"
}

// Parent is where a record that this one refers to is, "" when the connection does not sync it.
func (v recordView) Parent(p sync.TraceParent) string {
	if p.Resource == "" || p.KeyHash == "" || p.State == "absent" && p.Issue == 0 {
		return ""
	}
	return recordPath(v.Connection, p.Resource, "k"+p.KeyHash)
}

func (s *Console) recordPage(show string, read func(context.Context, *RecordPath) (*one[recordJSON], error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		in := RecordPath{pathOf(r), r.PathValue("schema"), r.PathValue("resource"), r.PathValue("record")}
		out, err := read(r.Context(), &in)
		if err != nil {
			return err
		}
		page := recordView{recordJSON: out.Body, Show: show, Path: recordPath(out.Body.Connection, out.Body.Resource, in.Record)}
		s.show(w, r, http.StatusOK, "record", frame{
			Title: "Record of " + resourceName(page.Resource), Trail: []crumb{home(), crumbOf(page.Connection)}, Data: show == "data", Page: page,
		})
		return nil
	}
}

func (s *Console) findForm(w http.ResponseWriter, r *http.Request) error {
	in := findInput{ConnectionPath: pathOf(r)}
	in.Body.Resource = strings.TrimSpace(r.PostFormValue("resource"))
	switch by, value := r.PostFormValue("by"), strings.TrimSpace(r.PostFormValue("key")); {
	case in.Body.Resource == "" || value == "" || len(value) > 2000:
		return refuse(http.StatusUnprocessableEntity, "invalid", "give the resource and a key")
	case by == "row":
		in.Body.SourceKey = value
	default:
		var err error
		if in.Body.NaturalKey, err = sync.ParseNaturalKey(value); err != nil {
			return refuse(http.StatusUnprocessableEntity, "invalid", "%s", err.Error())
		}
	}
	out, err := s.findRecord(r.Context(), &in)
	if err != nil {
		return err
	}
	return done(w, r, "%s", strings.TrimPrefix(out.Location, base))
}

// pretty is JSON as people read it; what is none stays as it is.
func pretty(text any) string {
	var b []byte
	switch t := text.(type) {
	case json.RawMessage:
		b = t
	case string:
		b = []byte(t)
	}
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return string(b)
	}
	return out.String()
}
