package edfi

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxErrorBody bounds what is read and kept of an error response; a problem document is a few kilobytes (F17).
const maxErrorBody = 256 << 10

// Classify says what a response that is not a success means. It is the only place that decides so. status, header and body are the
// response's, method the request's; header may be nil. It reads problem details (ODS/API 7.1 and later, DMS), the {"message"} bodies of
// ODS/API 5 and 6, and answers that do not come from the API at all. A 2xx status means that the caller found no API answer in it (F9).
// The Error keeps body; it is otherwise free of values.
func Classify(status int, header http.Header, body []byte, method string) *Error {
	p, isJSON := readProblem(body)
	v := judge(status, header, body, method, p, isJSON)
	e := v.error()
	e.Status = status
	e.Method = method
	e.Type = safeType(p.Type)
	e.CorrelationID = safeCorrelation(p.CorrelationID)
	e.Causes = p.causes()
	if len(body) > maxErrorBody {
		body = body[:maxErrorBody]
	}
	e.Body = body
	if e.Code == validationFailed().code && slices.ContainsFunc(e.Causes, isDescriptorCause) {
		d := descriptorUnknown()
		e.Code, e.Title, e.Hint, e.Owner = d.code, d.title, d.hint, d.owner
	}
	return e
}

// problem is the union of the error bodies of all versions of the API.
type problem struct {
	Type             string              `json:"type"`
	Detail           string              `json:"detail"`
	CorrelationID    string              `json:"correlationId"`
	ValidationErrors map[string][]string `json:"validationErrors"`
	Errors           []string            `json:"errors"`
	Message          string              `json:"message"`    // v5, v6
	ModelState       map[string][]string `json:"modelState"` // v5, v6
}

// readProblem reads what it can: a member of the wrong type leaves the others usable. It reports whether body is a JSON object.
func readProblem(body []byte) (problem, bool) {
	var members map[string]json.RawMessage
	var p problem
	if len(body) > maxErrorBody || json.Unmarshal(body, &members) != nil || members == nil {
		return p, false
	}
	for name, value := range members {
		var into any
		switch strings.ToLower(name) {
		case "type":
			into = &p.Type
		case "detail":
			into = &p.Detail
		case "correlationid":
			into = &p.CorrelationID
		case "validationerrors":
			into = &p.ValidationErrors
		case "errors":
			into = &p.Errors
		case "message":
			into = &p.Message
		case "modelstate":
			into = &p.ModelState
		default:
			continue
		}
		_ = json.Unmarshal(value, into) // a member that cannot be read says nothing
	}
	return p, true
}

// text is everything the body says in words, for the patterns.
func (p problem) text() string {
	if len(p.Errors) == 0 {
		return p.Detail + "\n" + p.Message
	}
	return p.Detail + "\n" + p.Message + "\n" + strings.Join(p.Errors, "\n")
}

// judge picks the verdict: the body's problem type first, then what its words say, then the status.
func judge(status int, header http.Header, body []byte, method string, p problem, isJSON bool) verdict {
	if status < 300 {
		return notTheAPI()
	}
	foreign := !isJSON && len(bytes.TrimSpace(body)) > 0
	if foreign || isHTML(header) {
		return verdictOfForeign(status, method)
	}
	if v, ok := verdictOfType(p.Type); ok && plausible(status, v) {
		return refine(v, status, p)
	}
	if v, ok := verdictOfWords(status, method, p); ok {
		return v
	}
	return verdictOfStatus(status, method)
}

// plausible keeps a problem type from overruling a status it contradicts: a gateway's 502 is no validation error, and a 404 no item's
// absence unless it says so.
func plausible(status int, v verdict) bool {
	if status >= 500 {
		return v.class == Transient
	}
	return status >= 400
}

// verdictOfForeign judges an answer whose body is no JSON object: it did not come from the API but from a proxy, a firewall or the web
// server, so it says nothing about the item. A 404 of that kind must not pass for "the item is gone" (I5).
func verdictOfForeign(status int, method string) verdict {
	switch v := verdictOfStatus(status, method); {
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return notTheAPI()
	case status == http.StatusBadRequest, status == http.StatusForbidden:
		return refusedByProxy()
	default:
		return v
	}
}

// isHTML reports whether a response is declared to be a web page.
func isHTML(header http.Header) bool {
	contentType := header.Get("Content-Type")
	if contentType == "" {
		return false
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "text/html" || media == "application/xhtml+xml")
}

// refine corrects the verdict of a type that covers two cases.
func refine(v verdict, status int, p problem) verdict {
	switch v.code {
	case "no-relationship": // the plain authorization type; a claim failure of DMS may use it too
		if status == http.StatusForbidden && claimWords.MatchString(p.text()) && !relationshipWords.MatchString(p.text()) {
			return claimDenied()
		}
	case "data-validation-failed":
		if keyChangeWords.MatchString(p.text()) {
			return keyChange()
		}
	}
	return v
}

// Words of the API, in the spelling of the versions that use them. The 5.x and 6.x bodies have nothing else.
var (
	relationshipWords = regexp.MustCompile(`(?i)no relationships? ha(s|ve) been established|you may need to create a corresponding`)
	claimWords        = regexp.MustCompile(`(?i)claim ?set|resource claim|access to the resource could not be authorized`)
	namespaceWords    = regexp.MustCompile(`(?i)namespace`)
	keyChangeWords    = regexp.MustCompile(`(?i)identifying values for the \w+ (item|resource) cannot be changed`)
	unresolvedWords   = regexp.MustCompile(`(?i)reference could not be resolved|value supplied for (the|a) related .*resource does not exist|the referenced '?\w+'? item does not exist`)
	dependentWords    = regexp.MustCompile(`(?i)cannot be deleted because|referenced by (an )?existing`)
	identityWords     = regexp.MustCompile(`(?i)natural key conflict|primary key conflict|identifying value\(?s\)? of the item are the same`)
	uniqueWords       = regexp.MustCompile(`(?i)\b(is|are) not unique\b`)
	staleWords        = regexp.MustCompile(`(?i)modified by another (user|consumer)`)
	noRouteWords      = regexp.MustCompile(`(?i)specified data could not be found`)
	noTenantWords     = regexp.MustCompile(`(?i)specified tenant could not be found`)
	unreadableWords   = regexp.MustCompile(`(?i)non-empty request body is required|could not be parsed|invalid json`)
)

// verdictOfWords judges bodies without a type, or with one whose meaning lies in the detail.
func verdictOfWords(status int, method string, p problem) (verdict, bool) {
	text := p.text()
	switch status {
	case http.StatusBadRequest:
		switch {
		case keyChangeWords.MatchString(text):
			return keyChange(), true
		case len(p.ValidationErrors)+len(p.ModelState) > 0: // a missing descriptor outweighs a missing reference (DMS)
			return validationFailed(), true
		case unresolvedWords.MatchString(text): // v5, v6: an unresolved person
			return unresolvedReference(), true
		case unreadableWords.MatchString(text):
			return badRequest(), true
		}
	case http.StatusForbidden:
		switch {
		case relationshipWords.MatchString(text):
			return noRelationship(), true
		case claimWords.MatchString(text):
			return claimDenied(), true
		case namespaceWords.MatchString(text):
			return namespaceDenied(), true
		}
	case http.StatusNotFound:
		switch {
		case noTenantWords.MatchString(text): // DMS
			return routeWrong(), true
		case noRouteWords.MatchString(text):
			return noSuchResource(), true
		}
	case http.StatusConflict:
		switch {
		case text == "\n": // DMS: a write conflict that its own retries did not resolve
			return multiUserConflict(), true
		case unresolvedWords.MatchString(text):
			return unresolvedReference(), true
		case dependentWords.MatchString(text):
			return dependentExists(), true
		case identityWords.MatchString(text):
			return identityConflict(), true
		case uniqueWords.MatchString(text):
			return valuesConflict(), true
		case staleWords.MatchString(text):
			return multiUserConflict(), true
		}
	}
	return verdict{}, false
}
