package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// targetFacts is what the target told. Nil and empty parts are not known, and decide nothing.
type targetFacts struct {
	claimSet      string
	claims        map[string][]string // lower-cased resource → operations
	namespaces    []string
	organizations map[string]bool // ids the credentials are for, those below them too
	model         *schema.Model
	descriptors   map[string]map[string]bool      // descriptor entity → URIs in lower case
	others        map[string]map[syncdb.Hash]bool // entity that is not wholly in the scope → keys at the target
}

// may reports whether the claim set allows a call.
func (t *targetFacts) may(resource string, verb syncdb.Verb) bool {
	if len(t.claims) == 0 {
		return true
	}
	want := "Create"
	if verb == syncdb.Update {
		want = "Update"
	}
	for _, operation := range t.claims[strings.ToLower(resource)] {
		if operation == want {
			return true
		}
	}
	return false
}

// errTooMany ends the reading of a resource that is too large to keep its keys in mind.
var errTooMany = errors.New("too many")

// maxForecastKeys bounds the keys of one resource outside the scope.
const maxForecastKeys = 500_000

func (f *forecaster) note(format string, args ...any) {
	f.out.Notes = append(f.out.Notes, fmt.Sprintf(format, args...))
}

// ask finds out what the target knows. An answer that cannot be had is a note, but for the end of the context.
func (f *forecaster) ask(ctx context.Context, found []*scanned) error {
	f.found = found
	f.facts.descriptors, f.facts.others = map[string]map[string]bool{}, map[string]map[syncdb.Hash]bool{}
	f.askRights(ctx)
	f.askModel(ctx)
	if err := f.askDescriptors(ctx); err != nil {
		return err
	}
	if err := f.askOrganizations(ctx); err != nil {
		return err
	}
	f.askOthers(ctx)
	return ctx.Err()
}

func (f *forecaster) askRights(ctx context.Context) {
	info, err := f.t.TokenInfo(ctx)
	if err != nil {
		f.note("the target does not tell what the credentials are for, so refusals for lack of rights are not foreseen: %v", err)
		return
	}
	f.facts.claimSet, f.facts.namespaces = strconv.Quote(info.ClaimSet.Name), info.NamespacePrefixes
	if len(info.Resources) == 0 {
		f.note("the target does not tell the claim set's resources (before ODS/API 7.3), so refusals by it are not foreseen")
	} else {
		f.facts.claims = map[string][]string{}
		for _, c := range info.Resources {
			f.facts.claims[strings.ToLower(strings.TrimPrefix(c.Resource, "/"))] = c.Operations
		}
	}
	if len(info.EducationOrganizations) > 0 {
		f.facts.organizations = map[string]bool{}
		for _, o := range info.EducationOrganizations {
			f.facts.organizations[strconv.FormatInt(o.ID, 10)] = true
		}
	}
	if len(info.AssignedProfiles) > 0 {
		f.note("the credentials are limited by API profiles (%s): elements they leave out are refused or dropped, which is not foreseen", strings.Join(info.AssignedProfiles, ", "))
	}
}

func (f *forecaster) askModel(ctx context.Context) {
	resources, descriptors, err := f.t.OpenAPI(ctx)
	if err == nil {
		f.facts.model, err = schema.ReadOpenAPI(resources, descriptors)
	}
	if err != nil {
		f.facts.model = nil
		f.note("the target's OpenAPI documents cannot be used, so rows are checked against %s only: %v", f.e.Model.Name, err)
	}
}

// askDescriptors reads the values of every descriptor that payloads of the scope may hold.
func (f *forecaster) askDescriptors(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, r := range f.scope.resources {
		eachTarget(r.Root, func(p *schema.Property) {
			if p.Kind == schema.Descriptor {
				wanted[p.Target] = true
			}
		})
	}
	used, err := f.usedDescriptors()
	if err != nil {
		return err
	}
	for name := range wanted {
		r, ok := f.e.Model.Entity(name)
		if !ok || !used[name] {
			continue
		}
		values := map[string]bool{}
		err := f.t.Each(ctx, r.Path, edfi.PageOptions{}, func(item json.RawMessage) error {
			var d struct {
				Namespace string `json:"namespace"`
				CodeValue string `json:"codeValue"`
			}
			if err := json.Unmarshal(item, &d); err != nil {
				return fmt.Errorf("read a descriptor: %w", err)
			}
			values[strings.ToLower(d.Namespace+"#"+d.CodeValue)] = true
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			f.note("the values of %s cannot be read, so unknown ones are not foreseen: %v", name, err)
			continue
		}
		f.facts.descriptors[name] = values
	}
	return f.ownDescriptors()
}

// usedDescriptors are the descriptors that rows about to be sent have values of.
func (f *forecaster) usedDescriptors() (map[string]bool, error) {
	used := map[string]bool{}
	for _, r := range f.found {
		look := func(rec *record) error {
			var body map[string]any
			if json.Unmarshal(rec.Payload, &body) != nil {
				return nil
			}
			eachDescriptor(r.Root, "$", body, func(_ string, p *schema.Property, _ string) { used[p.Target] = true })
			return nil
		}
		if err := errors.Join(r.fresh.each(look), r.changed.each(look)); err != nil {
			return nil, fmt.Errorf("look for descriptors of %s: %w", r.Path, err)
		}
	}
	return used, nil
}

// ownDescriptors adds the values the connection sends itself.
func (f *forecaster) ownDescriptors() error {
	for _, r := range f.found {
		values, asked := f.facts.descriptors[r.Name]
		if !r.Descriptor || !asked {
			continue
		}
		err := r.fresh.each(func(rec *record) error {
			var d struct{ Namespace, CodeValue string }
			if json.Unmarshal(rec.Payload, &d) == nil {
				values[strings.ToLower(d.Namespace+"#"+d.CodeValue)] = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for descriptors of %s: %w", r.Path, err)
		}
	}
	return nil
}

// askOrganizations adds the organizations below those of the credentials: the target's own and those about to be sent.
func (f *forecaster) askOrganizations(ctx context.Context) error {
	if len(f.facts.organizations) == 0 {
		f.note("the credentials name no education organization, so refusals for lack of one are not foreseen")
		return nil
	}
	parents := map[string][]string{}
	collect := func(r *schema.Resource, payload []byte) {
		var body map[string]json.RawMessage
		if json.Unmarshal(payload, &body) != nil || len(r.Key) != 1 {
			return
		}
		id := string(body[r.Key[0].Paths[0]])
		for _, p := range r.Root.Properties {
			if p.Kind != schema.Reference || !f.isOrganization(p.Target) || len(p.Fields.Properties) != 1 {
				continue
			}
			var reference map[string]json.RawMessage
			if json.Unmarshal(body[p.Name], &reference) == nil {
				parents[id] = append(parents[id], string(reference[p.Fields.Properties[0].Name]))
			}
		}
	}
	for _, r := range f.found {
		if !f.isOrganization(r.Name) {
			continue
		}
		look := func(rec *record) error { collect(r.Resource, rec.Payload); return nil }
		if err := errors.Join(r.fresh.each(look), r.changed.each(look)); err != nil {
			return fmt.Errorf("look for organizations in %s: %w", r.Path, err)
		}
	}
	for _, r := range f.e.Model.Concrete("EducationOrganization") {
		err := f.t.Each(ctx, r.Path, edfi.PageOptions{}, func(item json.RawMessage) error { collect(r, item); return nil })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && edfi.ClassOf(err) != edfi.Rejected { // what the credentials may not read they have no right through
			f.note("%s cannot be read at the target: %v", r.Path, err)
		}
	}
	for added := true; added; {
		added = false
		for id, above := range parents {
			for _, p := range above {
				if f.facts.organizations[p] && !f.facts.organizations[id] {
					f.facts.organizations[id], added = true, true
				}
			}
		}
	}
	return nil
}

func (f *forecaster) isOrganization(entity string) bool {
	if entity == "EducationOrganization" {
		return true
	}
	r, ok := f.e.Model.Entity(entity)
	return ok && r.Extends == "EducationOrganization"
}

// askOthers reads the keys of what rows refer to and the connection does not sync, or not wholly.
func (f *forecaster) askOthers(ctx context.Context) {
	for _, t := range f.scope.targets {
		if t.Complete {
			continue
		}
		keys := map[syncdb.Hash]bool{}
		var failure error
		for _, r := range f.e.Model.Concrete(t.Entity) {
			err := f.t.Each(ctx, r.Path, edfi.PageOptions{}, func(item json.RawMessage) error {
				key, err := r.CanonicalKey(nil, item, f.rules)
				if err != nil {
					return fmt.Errorf("read a record of %s: %w", r.Path, err)
				}
				if keys[f.hasher.Sum(key)] = true; len(keys) > maxForecastKeys {
					return errTooMany
				}
				return nil
			})
			var refused *edfi.Error
			if absent := errors.As(err, &refused) && refused.Code == "no-such-resource"; err != nil && !absent {
				failure = err
			}
		}
		if failure != nil {
			f.note("which %s the target has cannot be told, so references to it are taken as good: %v", t.Entity, failure)
			continue
		}
		f.facts.others[t.Entity] = keys
	}
}
