package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

const maxFaultsBody = 1 << 20

// serveFaults answers GET, PUT and DELETE of /sandbox/faults; false for any other method. A PUT takes a YAML or JSON document, or as text/plain what
// --faults takes.
func (s *Server) serveFaults(w http.ResponseWriter, r *http.Request) bool {
	switch r.Method {
	case http.MethodGet:
		writeJSON(w, http.StatusOK, s.Faults())
	case http.MethodDelete:
		if err := s.SetFaults(Faults{}); err != nil {
			s.refuse(w, r, systemError())
			return true
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPut:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultsBody))
		if err != nil {
			s.refuse(w, r, badRequest("The request body could not be read."))
			return true
		}
		read := ReadFaults
		if strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
			read = func(b []byte) (Faults, error) { return ParseFaults(strings.TrimSpace(string(b))) }
		}
		f, err := read(body)
		if err == nil {
			err = s.SetFaults(f)
		}
		if err != nil {
			s.refuse(w, r, badRequest(err.Error()))
			return true
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		return false
	}
	return true
}

// MarshalJSON prints the state as the admin route does, in the form ReadFaults takes, with the counts beside.
func (f FaultState) MarshalJSON() ([]byte, error) {
	type rule struct {
		FaultRule
		Delay string `json:"delay,omitempty"`
	}
	out := struct {
		Seed     uint64              `json:"seed"`
		Rate     float64             `json:"rate"`
		Kinds    []FaultKind         `json:"kinds"`
		Attempts int                 `json:"attempts,omitempty"`
		Script   []rule              `json:"script"`
		Injected map[FaultKind]int64 `json:"injected"`
	}{f.Seed, f.Rate, append([]FaultKind{}, f.Kinds...), f.Attempts, []rule{}, f.Injected}
	for _, r := range f.Script {
		o := rule{FaultRule: r}
		if r.Delay > 0 {
			o.Delay = r.Delay.String()
		}
		out.Script = append(out.Script, o)
	}
	return json.Marshal(out)
}
