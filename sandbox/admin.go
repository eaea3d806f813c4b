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

// clientView is a client as GET /sandbox/clients shows it: all but the secret.
type clientView struct {
	ID                     string   `json:"id"`
	ClaimSet               string   `json:"claimSet"`
	EducationOrganizations []int64  `json:"educationOrganizations"`
	NamespacePrefixes      []string `json:"namespacePrefixes"`
}

// serveClients answers GET and PUT of /sandbox/clients; false for any other method. A PUT adds the clients of a YAML or JSON list, or changes what
// those that are there may do, all of them or none (F35).
func (s *Server) serveClients(w http.ResponseWriter, r *http.Request) bool {
	switch r.Method {
	case http.MethodGet:
		views := []clientView{}
		for _, c := range s.tokens.all() {
			views = append(views, clientView{c.ID, c.ClaimSet, c.EducationOrganizations, c.NamespacePrefixes})
		}
		writeJSON(w, http.StatusOK, views)
	case http.MethodPut:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultsBody))
		if err != nil {
			s.refuse(w, r, badRequest("The request body could not be read."))
			return true
		}
		clients, err := ReadClients(body)
		for _, c := range clients {
			if err == nil {
				_, err = s.newCaller(c)
			}
		}
		for _, c := range clients {
			if err == nil {
				err = s.setClient(c)
			}
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
