package httpd

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// ProblemType is the media type of problems.
const ProblemType = "application/problem+json"

// Problem is an error answer in the shape of RFC 9457, with the members Ed-Fi adds. Empty members are left out.
type Problem struct {
	Detail           string              `json:"detail,omitempty"`
	Type             string              `json:"type"`
	Title            string              `json:"title"`
	Status           int                 `json:"status"`
	CorrelationID    string              `json:"correlationId,omitempty"`
	ValidationErrors map[string][]string `json:"validationErrors,omitempty"` // JSON path → messages
	Errors           []string            `json:"errors,omitempty"`
}

// Write answers with the problem as contentType (ProblemType, or what an imitated server uses).
func (p *Problem) Write(w http.ResponseWriter, contentType string) {
	body, err := json.Marshal(p)
	if err != nil { // strings, ints and maps of them always marshal
		http.Error(w, http.StatusText(p.Status), p.Status)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client has gone when this fails
}

// TypeOf is the type of our problems with a code ("not-found"): a name, not an address.
func TypeOf(code string) string { return "urn:edfisync:problem:" + code }

// Refuse answers a request with a problem: a status, its stable code and a sentence for the one who asks, without student values (I14).
func Refuse(w http.ResponseWriter, r *http.Request, status int, code, detail string) {
	p := Problem{Type: TypeOf(code), Title: http.StatusText(status), Status: status, Detail: detail, CorrelationID: RequestID(r.Context())}
	p.Write(w, ProblemType)
}

// retryAfter tells the client how long to wait, in whole seconds and at least one.
func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
}
