package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
)

// present says a problem in the words of the personality. entity is the resource the request was about, "" for none.
func (l *traits) present(p *httpd.Problem, entity string) (status int, body any, media string) {
	switch {
	case l.messages:
		status, m := oldBody(p, entity)
		if m.Message == "" {
			return status, nil, contentType
		}
		return status, m, contentType
	case l.dms:
		return p.Status, dmsBody(p), "application/problem+json"
	}
	return p.Status, p, problemMediaType
}

// dmsProblem is a problem of the Data Management Service, which leaves no member out.
type dmsProblem struct {
	Detail           string              `json:"detail"`
	Type             string              `json:"type"`
	Title            string              `json:"title"`
	Status           int                 `json:"status"`
	CorrelationID    string              `json:"correlationId"`
	ValidationErrors map[string][]string `json:"validationErrors"`
	Errors           []string            `json:"errors"`
}

func dmsBody(p *httpd.Problem) dmsProblem {
	d := dmsProblem{p.Detail, p.Type, p.Title, p.Status, p.CorrelationID, p.ValidationErrors, p.Errors}
	if d.ValidationErrors == nil {
		d.ValidationErrors = map[string][]string{}
	}
	if d.Errors == nil {
		d.Errors = []string{}
	}
	switch strings.TrimPrefix(p.Type, problemPrefix) {
	case "data-conflict:non-unique-identity":
		name, columns, values := duplicateKey(p)
		pairs := make([]string, len(columns))
		for i := range columns {
			pairs[i] = fmt.Sprintf("(%s = %s)", lowerFirst(columns[i]), values[i])
		}
		d.Type = problemPrefix + "identity-conflict"
		d.Errors = []string{fmt.Sprintf("A natural key conflict occurred when attempting to create a new resource %s with a duplicate key. "+
			"The duplicate keys and values are %s", name, strings.Join(pairs, ","))}
	case "data-conflict:dependent-item-exists":
		d.Detail = fmt.Sprintf("The requested action cannot be performed because this item is referenced by existing %s item(s).", quotedName(p.Detail))
	}
	return d
}

// oldProblem is an error of ODS/API 5 and 6.
type oldProblem struct {
	Message    string              `json:"message"`
	ModelState map[string][]string `json:"modelState,omitempty"`
}

// oldBody translates a problem into the status and body an ODS/API 5 or 6 has for the same case. An empty message is an empty body.
func oldBody(p *httpd.Problem, entity string) (status int, m oldProblem) {
	first := p.Detail
	if len(p.Errors) > 0 {
		first = p.Errors[0]
	}
	message := func(text string) (int, oldProblem) { return p.Status, oldProblem{Message: text} }
	switch kind := strings.TrimPrefix(p.Type, problemPrefix); {
	case strings.HasPrefix(kind, "bad-request:data-validation-failed"):
		if len(p.ValidationErrors) == 0 {
			sentence, _, _ := strings.Cut(first, ". ")
			return message(strings.TrimSuffix(sentence, ".") + ".")
		}
		return p.Status, oldValidation(p.ValidationErrors, entity)
	case kind == "data-conflict:unresolved-reference":
		name := quotedName(p.Detail)
		if slices.Contains([]string{"Student", "Staff", "Parent", "Contact"}, name) {
			return http.StatusBadRequest, oldProblem{Message: fmt.Sprintf("Validation of '%s' failed.\n\t%s reference could not be resolved.\n", entity, name)}
		}
		return message(fmt.Sprintf("The value supplied for the related '%s' resource does not exist.", lowerFirst(name)))
	case kind == "data-conflict:dependent-item-exists":
		return message(fmt.Sprintf("The resource (or a subordinate entity of the resource) cannot be deleted because it is a dependency of the '%s' entity.",
			lowerFirst(quotedName(p.Detail))))
	case kind == "data-conflict:non-unique-identity":
		name, columns, values := duplicateKey(p)
		return message(fmt.Sprintf("A natural key conflict occurred when attempting to create a new resource '%s' with a duplicate key.  The duplicated columns and values are "+
			"[%s] (%s) This is likely caused by multiple resources with the same key in the same file. Exactly one of these resources was inserted.",
			name, strings.Join(columns, ", "), strings.Join(values, ", ")))
	case kind == "optimistic-lock-failed":
		return message("Resource was modified by another consumer.")
	case kind == "security:authorization":
		return message("Authorization denied. " + first)
	case kind == "security:authorization:access-denied:resource":
		return message("Access to the resource could not be authorized. Are you missing a claim? " + first)
	case kind == "security:authorization:access-denied:action":
		return message("Access to the resource could not be authorized for the requested action. " + first)
	case strings.HasPrefix(kind, "security:authorization:namespace"):
		return message("Access to the resource item could not be authorized based on the caller's NamespacePrefix claims. " + strings.TrimPrefix(p.Detail, textDenied+" "))
	case kind == "not-found" && p.Detail == textNoResource:
		return message("") // the web server has no such route
	case kind == "system":
		return message("An unexpected error occurred on the server.")
	}
	return message(first)
}

// oldValidation: what could not be read comes as the state of the model, the rest as one text.
func oldValidation(errs map[string][]string, entity string) oldProblem {
	unread := map[string][]string{}
	var broken []string
	for path, messages := range errs {
		for _, m := range messages {
			switch {
			case unreadable(m):
				unread["request"+strings.TrimPrefix(path, "$")] = append(unread["request"+strings.TrimPrefix(path, "$")], m)
			case strings.HasSuffix(m, "' does not exist."): // a descriptor value that is not there has no id, and the id is required
				broken = append(broken, upperFirst(path[strings.LastIndexByte(path, '.')+1:])+" is required.")
			default:
				broken = append(broken, m)
			}
		}
	}
	if len(unread) > 0 {
		return oldProblem{Message: "The request is invalid.", ModelState: unread}
	}
	sort.Strings(broken)
	return oldProblem{Message: fmt.Sprintf("Validation of '%s' failed.\n\t%s\n", entity, strings.Join(broken, "\n\t"))}
}

// unreadable says whether a text is about a value that is none of its kind, which an old ODS finds before it looks at anything else.
func unreadable(text string) bool {
	return slices.ContainsFunc([]string{"Error converting", "Could not convert", "String was not", "Unexpected", "JSON integer"}, func(begin string) bool {
		return strings.HasPrefix(text, begin)
	})
}

// quotedName is the first name in quotes of one of our texts.
func quotedName(text string) string {
	_, rest, _ := strings.Cut(text, "'")
	name, _, _ := strings.Cut(rest, "'")
	return name
}

// duplicateKey takes apart the text of a non-unique identity: "… in the 'School' table. The duplicate key is (A, B) = (1, 2)."
func duplicateKey(p *httpd.Problem) (name string, columns, values []string) {
	if len(p.Errors) == 0 {
		return "", nil, nil
	}
	_, rest, _ := strings.Cut(p.Errors[0], "The duplicate key is (")
	left, right, ok := strings.Cut(rest, ") = (")
	if !ok {
		return quotedName(p.Errors[0]), nil, nil
	}
	columns, values = strings.Split(left, ", "), strings.Split(strings.TrimSuffix(strings.TrimSuffix(right, "."), ")"), ", ")
	for len(values) < len(columns) {
		values = append(values, "")
	}
	return quotedName(p.Errors[0]), columns, values
}

// refuse answers with a problem and the request's correlation id, and returns the status it has in the words of the personality.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p *httpd.Problem) int {
	p.CorrelationID = correlationID(r)
	entity := ""
	if s.like.messages {
		if path, ok := s.routes.inner(r.URL.Path); ok && strings.HasPrefix(path, dataPrefix) {
			if t, _, ok := s.cat.route(path[len(dataPrefix):]); ok {
				entity = t.res.Name
			}
		}
	}
	status, body, media := s.like.present(p, entity)
	w.Header().Set("Content-Type", media)
	if body == nil {
		w.WriteHeader(status)
		return status
	}
	text, err := json.Marshal(body)
	if err != nil { // strings, ints and maps of them always marshal
		http.Error(w, http.StatusText(status), status)
		return status
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client has gone when this fails
	return status
}
