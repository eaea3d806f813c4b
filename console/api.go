package console

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/edfisync/edfisync/internal/httpd"
)

// base is where the API is. A change that breaks clients gets another number.
const base = "/api/v1"

// ruleKey is where an operation keeps its rule.
const ruleKey = "rule"

// adapter registers huma's operations with the router, each with its rule.
type adapter struct {
	huma.Adapter
	router *httpd.Router
}

// Handle implements huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	rule, _ := op.Metadata[ruleKey].(httpd.Rule) // the router refuses the zero Rule
	a.router.Handle(op.Method+" "+op.Path, rule, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	}))
}

// newAPI makes the API without operations. Its own routes for documents are off: finishDocument serves the one there is.
func (s *Console) newAPI() huma.API {
	config := huma.DefaultConfig("edfisync", "1")
	config.Info.Description = "The service that keeps Ed-Fi APIs true to student information systems. Errors are problems of RFC 9457; lists have a cursor in `next`. See docs/api.md."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": strictJSON(), "json": strictJSON()}
	config.Transformers = []huma.Transformer{s.problems}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer", BearerFormat: "efs_<id>_<secret>"}}
	return huma.NewAPI(config, adapter{humago.NewAdapter(http.NewServeMux(), ""), s.router})
}

// register adds an operation. Its rule is part of its documentation.
func register[I, O any](s *Console, rule httpd.Rule, op huma.Operation, fn func(ctx context.Context, in *I) (*O, error)) {
	s.document(rule, &op)
	huma.Register(s.api, op, fn)
}

// document completes an operation with what its rule says.
func (s *Console) document(rule httpd.Rule, op *huma.Operation) {
	op.Path = base + op.Path
	op.Metadata = map[string]any{ruleKey: rule}
	op.Extensions = map[string]any{"x-role": "public"}
	if !rule.Public {
		op.Security = []map[string][]string{{"key": {}}}
		role := rule.Least.String()
		if rule.Auditor {
			role += " or auditor"
		}
		if rule.EveryTenant {
			role += " of every tenant"
		}
		if rule.StudentData {
			role += " who may see student data"
		}
		op.Extensions["x-role"] = role
	}
}

// finishDocument serves the OpenAPI document.
func (s *Console) finishDocument() error {
	schemas := s.api.OpenAPI().Components.Schemas
	problem := schemas.Map()["ErrorModel"] // what huma documents; the transformer answers with ours
	if problem == nil {
		return errors.New("console: the API documents no errors")
	}
	*problem = huma.Schema{
		Type: "object", Description: "A problem of RFC 9457.", Required: []string{"type", "title", "status"},
		Properties: map[string]*huma.Schema{
			"type":             {Type: "string", Description: "urn:edfisync:problem: and a code; docs/api.md lists them"},
			"title":            {Type: "string"},
			"status":           {Type: "integer"},
			"detail":           {Type: "string"},
			"correlationId":    {Type: "string", Description: "as in X-Request-Id and in the log"},
			"validationErrors": {Type: "object", AdditionalProperties: &huma.Schema{Type: "array", Items: &huma.Schema{Type: "string"}}},
		},
	}
	s.addEvents()
	s.addSession()
	s.addStatus()
	text, err := s.OpenAPI()
	if err != nil {
		return fmt.Errorf("write the OpenAPI document: %w", err)
	}
	s.router.Handle("GET "+base+"/openapi.json", httpd.Rule{Public: true}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(text)
	}))
	return nil
}

// problem is an error that is answered as it is.
type problem struct {
	status int
	code   string
	detail string
	fields map[string][]string // what is wrong with which part of the request
}

func (p *problem) Error() string { return p.detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.status }

// ContentType implements huma.ContentTypeFilter.
func (*problem) ContentType(string) string { return httpd.ProblemType }

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

func refuse(status int, code, format string, args ...any) error {
	return &problem{status, code, fmt.Sprintf(format, args...), nil}
}

// notFound is the answer for what is not there and for what is another tenant's: nobody can tell one from the other (I13).
func notFound(what string) error {
	return refuse(http.StatusNotFound, "not-found", "there is no such %s", what)
}

// problems turns errors into our problems. What a handler did not mean to answer is logged and not told.
func (s *Console) problems(ctx huma.Context, _ string, v any) (any, error) {
	p := httpd.Problem{CorrelationID: httpd.RequestID(ctx.Context())}
	switch e := v.(type) {
	case *problem:
		p.Status, p.Detail, p.Type, p.ValidationErrors = e.status, e.detail, httpd.TypeOf(e.code), e.fields
	case *huma.ErrorModel:
		p.Status, p.Detail = e.Status, e.Detail
		switch {
		case e.Status >= http.StatusInternalServerError:
			why := make([]string, len(e.Errors))
			for i, d := range e.Errors {
				why[i] = d.Message
			}
			s.log.ErrorContext(ctx.Context(), "request failed", slog.String("request", p.CorrelationID), slog.String("error", strings.Join(why, "; ")))
			p.Status, p.Detail, p.Type = http.StatusInternalServerError, "something went wrong here; the log says more under this correlationId", httpd.TypeOf("internal")
			if ctx.Context().Err() != nil {
				p.Status, p.Detail, p.Type = http.StatusServiceUnavailable, "this took too long; try again", httpd.TypeOf("unavailable")
			}
		case e.Status == http.StatusUnsupportedMediaType:
			p.Type, p.Detail = httpd.TypeOf("invalid"), "send the body as JSON, with the header Content-Type: application/json"
		case e.Status == http.StatusRequestEntityTooLarge:
			p.Type = httpd.TypeOf("too-large")
		default:
			p.Type = httpd.TypeOf("invalid")
			p.Detail = shortened(p.Detail)
			for i, d := range e.Errors { // without the value: it may be anything
				if p.ValidationErrors == nil {
					p.ValidationErrors = map[string][]string{}
				}
				if i == maxErrors {
					p.ValidationErrors["more"] = []string{fmt.Sprintf("%d more are wrong", len(e.Errors)-i)}
					break
				}
				at := shortened(d.Location)
				p.ValidationErrors[at] = append(p.ValidationErrors[at], shortened(d.Message))
			}
		}
	default:
		return v, nil
	}
	p.Title = http.StatusText(p.Status)
	return &p, nil
}

// Bounds of what an answer says about a wrong request, which may be wrong in a hundred thousand places.
const (
	maxErrors    = 20
	maxErrorText = 300 // bytes
)

// shortened cuts a text that is too long to be read, and puts one of ours where encoding/json repeats a value.
func shortened(text string) string {
	if strings.HasPrefix(text, "json: ") {
		return "a number or another value does not fit its field"
	}
	if len(text) <= maxErrorText {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorText], "") + "…"
}

// Paging is what lists take. It is exported so that huma fills it in.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"At most this many items."`
	Cursor string `query:"cursor" maxLength:"40" doc:"Where the last page ended: its next. Leave it out for the first page."`
}

// list is one page of a list.
type list[T any] struct {
	Body struct {
		Items []T    `json:"items" nullable:"false"`
		Next  string `json:"next,omitempty" doc:"Cursor of the next page; left out on the last one."`
	}
}

// before is the place a cursor stands for: an id, or an index. 0 = the beginning.
func (p Paging) before() (int64, error) {
	if p.Cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err == nil {
		var n int64
		if n, err = strconv.ParseInt(strings.TrimPrefix(string(text), "v1:"), 10, 64); err == nil && n > 0 && strings.HasPrefix(string(text), "v1:") {
			return n, nil
		}
	}
	return 0, refuse(http.StatusUnprocessableEntity, "invalid", "this is no cursor of a page; start again without one")
}

func cursor(at int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("v1:" + strconv.FormatInt(at, 10)))
}

// newList makes a page of items of which one more than asked for was read, if there are more.
func newList[F, T any](from []F, limit int, at func(F) int64, item func(F) T) *list[T] {
	out := &list[T]{}
	out.Body.Items = make([]T, 0, min(len(from), limit))
	for i, f := range from {
		if i == limit {
			out.Body.Next = cursor(at(from[i-1]))
			break
		}
		out.Body.Items = append(out.Body.Items, item(f))
	}
	return out
}

// one is an answer of one document.
type one[T any] struct {
	Body T
}
