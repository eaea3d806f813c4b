package console

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// askedJSON is what a request asks a run to send.
type askedJSON struct {
	Resources []string      `json:"resources,omitempty" required:"false" nullable:"false" maxItems:"200" doc:"Only records of these resources: ed-fi/students."`
	Schools   []int64       `json:"schools,omitempty" required:"false" nullable:"false" maxItems:"200" doc:"Only records of these schools, by schoolId; with resources, records that are of both."`
	Records   []askedRecord `json:"records,omitempty" required:"false" nullable:"false" maxItems:"200" doc:"Only these records; not together with resources or schools."`
}

// askedRecord names a record as a trace does.
type askedRecord struct {
	Resource  string            `json:"resource" minLength:"1" maxLength:"200"`
	Key       map[string]string `json:"key,omitempty" required:"false" doc:"Natural key, by the names of its parts."`
	SourceKey string            `json:"sourceKey,omitempty" required:"false" maxLength:"500" doc:"Instead of the natural key, the key of the row in the SIS."`
}

// scopeJSON is one part of a scope, as a run shows it.
type scopeJSON struct {
	Resource      string `json:"resource,omitempty"`
	School        int64  `json:"school,omitempty"`
	KeyHash       string `json:"keyHash,omitempty" doc:"Keyed hash of the natural key of a record."`
	SourceRowHash string `json:"sourceRowHash,omitempty" doc:"Keyed hash of the key of a row in the SIS."`
}

// String says the part in words, a record by the beginning of its hash.
func (p scopeJSON) String() string {
	var words []string
	if p.Resource != "" {
		words = append(words, p.Resource)
	}
	if p.School != 0 {
		words = append(words, fmt.Sprintf("school %d", p.School))
	}
	for kind, hash := range map[string]string{"record": p.KeyHash, "row": p.SourceRowHash} {
		if hash != "" {
			words = append(words, kind+" "+hash[:12])
		}
	}
	return strings.Join(words, " ")
}

func scopeOf(s syncdb.RunScope) []scopeJSON {
	var out []scopeJSON
	text := func(h syncdb.Hash) string {
		if h.IsZero() {
			return ""
		}
		return hex.EncodeToString(h[:])
	}
	for _, p := range s.Parts {
		out = append(out, scopeJSON{p.Resource, p.School, text(p.Key), text(p.Source)})
	}
	return out
}

// scope is what a request asks a run to send.
func (s *Console) scope(ctx context.Context, c Connection, in *askInput) (syncdb.RunScope, error) {
	if in.Body == nil || in.Body.Scope == nil {
		return syncdb.RunScope{}, nil
	}
	a := in.Body.Scope
	ask := sync.Ask{Resources: a.Resources, Schools: a.Schools}
	for _, r := range a.Records {
		ask.Records = append(ask.Records, sync.RecordName{Resource: r.Resource, Key: r.Key, SourceKey: r.SourceKey})
	}
	switch {
	case len(ask.Resources)+len(ask.Schools)+len(ask.Records) == 0:
		return syncdb.RunScope{}, refuse(http.StatusUnprocessableEntity, "scope", "the scope names nothing: give resources, schools or records, or leave it out for a run of everything")
	case s.c.Scope == nil:
		return syncdb.RunScope{}, refuse(http.StatusUnprocessableEntity, "scope", "this process can only ask for runs of everything")
	}
	scope, err := s.c.Scope(ctx, c, ask)
	var wrong *sync.AskError
	if errors.As(err, &wrong) {
		return scope, refuse(http.StatusUnprocessableEntity, "scope", "body.scope.%s", wrong.Error())
	}
	return scope, err
}
