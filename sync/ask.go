package sync

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Ask is what somebody asks a run to send: records of these resources, of these schools, or, with both, of these resources and schools; or these records.
// The zero value asks for everything.
type Ask struct {
	Resources []string // "ed-fi/students" or "students"
	Schools   []int64
	Records   []RecordName
}

// maxAsked is how many parts one request for a run may have.
const maxAsked = 200

// AskError says what of a request for a run cannot be. Its text holds no value of a record.
type AskError struct {
	Field  string // resources, schools, records
	Reason string
}

func (e *AskError) Error() string { return e.Field + ": " + e.Reason }

// Scoper makes scopes of what people ask for. It reads neither source nor ledger.
type Scoper struct {
	Model func() (*schema.Model, error) // asked only for records that are named by their natural key
	Rules schema.Rules
	Hash  func(text []byte) syncdb.Hash // keyed with the connection's key
	Parts map[string][]string           // the resources the connection syncs, with the part of each of their queries
}

// Scoper is one for the engine's connection.
func (e *Engine) Scoper() *Scoper {
	s := &Scoper{
		Model: func() (*schema.Model, error) { return e.Model, nil }, Rules: e.options().Rules, Parts: map[string][]string{},
		Hash: func(text []byte) syncdb.Hash { return schema.NewHasher(e.Keys.HashMAC()).Sum(text) },
	}
	for _, q := range e.Source.Queries() {
		s.Parts[q.Resource.Path] = append(s.Parts[q.Resource.Path], q.Query.Part)
	}
	return s
}

// Scope is the scope of what somebody asks for. What cannot be is an *AskError that says what could.
func (s *Scoper) Scope(a Ask) (syncdb.RunScope, error) {
	var out syncdb.RunScope
	resources, err := s.resources(a.Resources)
	if err != nil {
		return out, err
	}
	for _, id := range a.Schools {
		if id <= 0 {
			return out, &AskError{"schools", fmt.Sprintf("%d is no schoolId: that is a whole number from 1", id)}
		}
	}
	switch {
	case len(a.Records) > 0 && len(resources)+len(a.Schools) > 0:
		return out, &AskError{"records", "give records, or resources and schools, not both: ask twice, and the run that waits sends all of it"}
	case max(1, len(resources))*max(1, len(a.Schools))+len(a.Records) > maxAsked:
		return out, &AskError{"resources", fmt.Sprintf("resources times schools, or records, are more than %d: ask for a run of everything", maxAsked)}
	case len(a.Schools) == 0:
		for _, r := range resources {
			out.Parts = append(out.Parts, syncdb.ScopePart{Resource: r})
		}
	case len(resources) == 0:
		resources = []string{""}
	}
	for _, id := range a.Schools {
		for _, r := range resources {
			out.Parts = append(out.Parts, syncdb.ScopePart{Resource: r, School: id})
		}
	}
	for _, name := range a.Records {
		parts, err := s.record(name)
		if err != nil {
			return out, err
		}
		out.Parts = append(out.Parts, parts...)
	}
	if len(out.Parts) == 0 {
		return syncdb.RunScope{}, nil
	}
	return out.Union(out), nil
}

// resources are the paths of resources the connection syncs.
func (s *Scoper) resources(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		path, err := s.resource(name)
		if err != nil {
			return nil, &AskError{"resources", err.Error()}
		}
		if !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	return out, nil
}

func (s *Scoper) resource(name string) (string, error) {
	path := name
	if !strings.Contains(path, "/") {
		path = "ed-fi/" + path
	}
	known := make([]string, 0, len(s.Parts))
	for p := range s.Parts {
		if strings.EqualFold(p, path) {
			return p, nil
		}
		known = append(known, p)
	}
	slices.Sort(known)
	return "", &UnknownRecordError{fmt.Sprintf("the connection does not sync %q; it syncs: %s", name, strings.Join(known, ", "))}
}

// record is the scope of one record: by its natural key, or by the row of any of its resource's queries that has the source key.
func (s *Scoper) record(name RecordName) ([]syncdb.ScopePart, error) {
	path, err := s.resource(name.Resource)
	if err != nil {
		return nil, &AskError{"records", err.Error()}
	}
	if (name.SourceKey == "") == (len(name.Key) == 0) {
		return nil, &AskError{"records", "give the natural key, or the source key of the row"}
	}
	if name.SourceKey == "" {
		return s.named(path, name)
	}
	var out []syncdb.ScopePart
	for _, part := range s.Parts[path] {
		out = append(out, syncdb.ScopePart{Resource: path, Source: s.Hash(sourceText(nil, part, []byte(name.SourceKey)))})
	}
	return out, nil
}

// named is the scope of the record with a natural key.
func (s *Scoper) named(path string, name RecordName) ([]syncdb.ScopePart, error) {
	m, err := s.Model()
	if err != nil {
		return nil, err
	}
	r, ok := m.Resource(path)
	if !ok {
		return nil, &AskError{"records", fmt.Sprintf("the model has no resource %q", path)}
	}
	key, err := keyNamed(r, name, s.Rules)
	if err != nil {
		return nil, &AskError{"records", err.Error()}
	}
	return []syncdb.ScopePart{{Resource: path, Key: s.Hash(key)}}, nil
}
