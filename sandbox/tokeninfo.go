package sandbox

import (
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

type claimedResource struct {
	Resource   string   `json:"resource"`
	Operations []Action `json:"operations"`
}

// tokenInfo describes a caller: its education organizations, namespaces, and what its claim set allows.
func (s *Server) tokenInfo(by *caller) map[string]any {
	resources := make([]claimedResource, 0, len(s.cat.tables))
	for _, t := range s.cat.tables {
		var may []Action
		for _, a := range actions() {
			if !by.restricted() || by.rule(t, a) != nil {
				may = append(may, a)
			}
		}
		if len(may) > 0 {
			resources = append(resources, claimedResource{"/" + t.path, may})
		}
	}
	prefixes := by.NamespacePrefixes
	if !by.restricted() && len(prefixes) == 0 {
		prefixes = []string{"uri://"}
	}
	if prefixes == nil {
		prefixes = []string{}
	}
	info := map[string]any{
		"active": true, "client_id": by.ID, "namespace_prefixes": prefixes,
		"education_organizations": s.store.organizations(by), "assigned_profiles": []string{},
	}
	if s.like.tellsClaims {
		info["claim_set"], info["resources"], info["services"] = map[string]string{"name": by.claims.Name}, resources, []string{}
	}
	return info
}

// organizations lists a caller's education organizations as token_info does, each with the ids of those above it; with full access all
// there are.
func (st *store) organizations(by *caller) []map[string]any {
	st.world.RLock()
	defer st.world.RUnlock()
	out := []map[string]any{}
	s := st.cat.spaces[educationOrganization]
	if s == nil {
		return out
	}
	var entries []uint32
	if by.restricted() {
		for _, id := range by.EducationOrganizations {
			if entry, ok := st.organization(id); ok {
				entries = append(entries, entry)
			}
		}
	} else {
		for _, t := range s.tables {
			t.each(func(n uint32, _ []byte) bool {
				entries = append(entries, t.entry(n))
				return true
			})
		}
	}
	for _, entry := range entries {
		t := s.address(entry).table
		item := map[string]any{"type": "edfi." + t.res.Name}
		st.upwards(entry, func(above uint32, id int64) bool {
			if above == entry {
				item["education_organization_id"] = id
			}
			name := snake(s.address(above).table.key[0].name)
			if _, nearer := item[name]; !nearer {
				item[name] = id
			}
			return true
		})
		if name, ok := st.organizationName(entry); ok {
			item["name_of_institution"] = name
		}
		if item["education_organization_id"] != nil {
			out = append(out, item)
		}
	}
	slices.SortFunc(out, func(a, b map[string]any) int { return int(min(max(orgID(a)-orgID(b), -1), 1)) })
	return out
}

func orgID(item map[string]any) int64 {
	id, _ := item["education_organization_id"].(int64)
	return id
}

func (st *store) organizationName(entry uint32) (string, bool) {
	a := st.cat.spaces[educationOrganization].address(entry)
	at, err := a.table.shape.path("nameOfInstitution")
	if err != nil || at.last.Kind != schema.String {
		return "", false
	}
	rec, ok := st.copyRecord(nil, a)
	c := cursor{rec}
	if !ok || !c.find(a.table.shape, int(at.steps[0])) {
		return "", false
	}
	return string(c.text()), true
}

// snake turns "localEducationAgencyId" into "local_education_agency_id".
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
