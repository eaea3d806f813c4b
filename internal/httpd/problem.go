package httpd

import (
	"encoding/json"
	"net/http"
)

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

// Write answers with the problem as contentType ("application/problem+json", or what an imitated server uses).
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
