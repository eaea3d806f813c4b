package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
)

// DescriptorEdit is what is changed in the descriptor maps of a connection. Those of its mapping pack are files of the pack; what stands here goes over them.
type DescriptorEdit struct {
	Set    []MappedCode `json:"set,omitempty" required:"false" nullable:"false" maxItems:"1000" doc:"Codes that are added, or stand for something else from now on."`
	Remove []MappedCode `json:"remove,omitempty" required:"false" nullable:"false" maxItems:"1000" doc:"Codes that the connection maps no more; what its pack says of them holds again. uri is left out."`
}

// MappedCode is a local code and what it stands for.
type MappedCode struct {
	Descriptor string `json:"descriptor" minLength:"1" maxLength:"200" doc:"Such as GradeLevelDescriptor."`
	Code       string `json:"code" minLength:"1" maxLength:"500" doc:"In the SIS."`
	URI        string `json:"uri,omitempty" required:"false" maxLength:"1000" doc:"URI, or the bare value, which gets the namespace of the mapping pack."`
}

// DescriptorEditError says what is wrong with an edit of descriptor maps.
type DescriptorEditError struct{ Reason string }

func (e *DescriptorEditError) Error() string { return e.Reason }

// Apply makes the edit in the definition of a connection and returns the definition with it. What is wrong with it is a *DescriptorEditError. It is pure.
func (e DescriptorEdit) Apply(definition json.RawMessage) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(definition, &all); err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	own := map[string]map[string]string{}
	if text := all["descriptors"]; text != nil {
		if err := json.Unmarshal(text, &own); err != nil {
			return nil, fmt.Errorf("read the descriptor maps: %w", err)
		}
	}
	wrong := func(m MappedCode, why string) error {
		return &DescriptorEditError{fmt.Sprintf("%s, code %q: %s", m.Descriptor, m.Code, why)}
	}
	if len(e.Set)+len(e.Remove) == 0 {
		return nil, &DescriptorEditError{"say which code is set or removed"}
	}
	for _, m := range e.Remove {
		if _, there := own[m.Descriptor][m.Code]; !there {
			return nil, wrong(m, "the connection does not map it; what its mapping pack maps can be replaced here, and removed in the pack only")
		}
		delete(own[m.Descriptor], m.Code)
		if len(own[m.Descriptor]) == 0 {
			delete(own, m.Descriptor)
		}
	}
	for _, m := range e.Set {
		switch {
		case !descriptorName.MatchString(m.Descriptor):
			return nil, wrong(m, "the name of a descriptor has letters and digits and ends in Descriptor")
		case m.Code == "" || !legible(m.Code) || strings.ContainsAny(m.Code, "\r\n\t"):
			return nil, wrong(m, "a code has letters, digits, blanks and punctuation")
		case strings.TrimSpace(m.URI) == "" || !legible(m.URI) || strings.ContainsAny(m.URI, "\r\n\t"):
			return nil, wrong(m, "say what it stands for: a URI, or the value")
		case strings.Contains(m.Code+m.URI, "${"):
			return nil, wrong(m, "${ begins a reference, which has no place in a descriptor map")
		}
		if own[m.Descriptor] == nil {
			own[m.Descriptor] = map[string]string{}
		}
		own[m.Descriptor][m.Code] = strings.TrimSpace(m.URI)
	}
	delete(all, "descriptors")
	if len(own) > 0 {
		text, err := json.Marshal(own)
		if err != nil {
			return nil, err
		}
		all["descriptors"] = text
	}
	return json.Marshal(all)
}

// descriptorName is how descriptors are called.
var descriptorName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,120}Descriptor$`) //nolint:gochecknoglobals // it is compiled once and never changed

// unmappedCause finds descriptor and code in the cause of an issue of a code that no map has.
var unmappedCause = regexp.MustCompile(`in the descriptor map ([A-Za-z0-9]+)\. \(code ("(?:[^"\\]|\\.)*")\)$`) //nolint:gochecknoglobals // it is compiled once and never changed

// unmapped is the descriptor and the code that an issue of an unmapped code is about; ok is false when its cause does not name it.
func unmapped(cause string) (m MappedCode, ok bool) {
	found := unmappedCause.FindStringSubmatch(cause)
	if found == nil {
		return m, false
	}
	code, err := strconv.Unquote(found[2])
	return MappedCode{Descriptor: found[1], Code: code}, err == nil
}

type descriptorEditInput struct {
	ConnectionPath
	IfMatch string         `header:"If-Match" maxLength:"100" doc:"ETag of the version that was looked at, as GET gives it. Required."`
	DryRun  bool           `query:"dryRun" doc:"Only say what would change."`
	Body    DescriptorEdit `doc:"What is set and what is removed, together or not at all."`
}

// changeDescriptors changes the descriptor maps of a connection of the ledger: a new version of it, which the next run takes.
func (s *Console) changeDescriptors(ctx context.Context, in *descriptorEditInput) (*changedOutput, error) {
	def, err := s.inLedger(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	from, err := s.from(ctx, in.Connection, in.IfMatch, true)
	if err != nil {
		return nil, err
	}
	if from != def.Version {
		return nil, changedMeanwhile()
	}
	text, err := in.Body.Apply(def.Text)
	var wrong *DescriptorEditError
	if errors.As(err, &wrong) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "%s", wrong.Reason)
	}
	if err != nil {
		return nil, err
	}
	return s.put(ctx, def.Tenant, def.Name, from, text, in.DryRun)
}

// descriptorForm is one edit of a person, of the version that the page showed.
func (s *Console) descriptorForm(w http.ResponseWriter, r *http.Request) error {
	in := descriptorEditInput{ConnectionPath: pathOf(r)}
	version, err := strconv.ParseInt(r.PostFormValue("version"), 10, 64)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "invalid", "the version that was looked at is missing; open the page of descriptor maps again")
	}
	in.IfMatch = etag(version)
	m := MappedCode{strings.TrimSpace(r.PostFormValue("descriptor")), r.PostFormValue("code"), strings.TrimSpace(r.PostFormValue("uri"))}
	if r.PostFormValue("do") == "remove" {
		m.URI, in.Body.Remove = "", []MappedCode{m}
	} else {
		in.Body.Set = []MappedCode{m}
	}
	if _, err := s.changeDescriptors(r.Context(), &in); err != nil {
		return inWords(err)
	}
	name := nameOf(split(in.Connection))
	return done(w, r, "/connections/%s/descriptors?saved=1", url.PathEscape(name))
}

// inWords is a refusal with all that is wrong in its text, for a page, which shows nothing else.
func inWords(err error) error {
	var p *problem
	if !errors.As(err, &p) || len(p.fields) == 0 {
		return err
	}
	said := *p
	for _, at := range slices.Sorted(maps.Keys(p.fields)) {
		said.detail += "\n" + at + ": " + strings.Join(p.fields[at], "; ")
	}
	return &said
}

// descriptorEditRoutes registers what changes descriptor maps.
func (s *Console) descriptorEditRoutes(admins httpd.Rule) {
	register(s, admins, huma.Operation{
		Method: http.MethodPatch, Path: "/connections/{connection}/descriptors", OperationID: "changeDescriptors", Tags: []string{"descriptors"},
		Summary: "Set and remove codes in the descriptor maps of a connection of the ledger",
	}, s.changeDescriptors)
	s.pageOf("POST /connections/{connection}/descriptors", admins, s.descriptorForm)
}
