package console

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
)

// DescriptorMaps are the descriptor maps of a connection, and where people edit them.
type DescriptorMaps struct {
	Entries []DescriptorEntry `json:"entries" nullable:"false" doc:"By descriptor and code."`
	Pack    string            `json:"pack" doc:"The mapping pack; its descriptors.yaml has those from pack."`
	Edit    string            `json:"edit" doc:"Where a code is added."`
}

// DescriptorEntry says what a local code stands for.
type DescriptorEntry struct {
	Descriptor string `json:"descriptor"`
	Code       string `json:"code" doc:"In the SIS."`
	URI        string `json:"uri"`
	From       string `json:"from" enum:"pack,connection" doc:"connection: descriptors of the connection, which go over the pack's."`
}

// descriptorsJSON is what a connection maps, and which codes nobody has mapped.
type descriptorsJSON struct {
	Connection string         `json:"connection"`
	Version    int64          `json:"version,omitempty" doc:"Of the connection's definition in the ledger, as ETag has it; left out: the configuration file defines it, and its maps are changed there."`
	Unmapped   []unmappedJSON `json:"unmapped" nullable:"false" doc:"Issues of codes that no map has, the one first whose map entry lets most records through."`
	Archived   []unmappedJSON `json:"archived,omitempty" doc:"Those of them that somebody has archived: known, and not to be mapped."`
	DescriptorMaps
}

// unmappedJSON is an issue of a code that no map has.
type unmappedJSON struct {
	issueJSON
	Descriptor string `json:"descriptor,omitempty"`
	Code       string `json:"localCode,omitempty" doc:"In the SIS; left out with the descriptor when the code is too long to be named."`
}

// descriptorsOutput is what a connection maps, with the version that a change of it names.
type descriptorsOutput struct {
	ETag string `header:"ETag"`
	Body descriptorsJSON
}

func (s *Console) showDescriptors(ctx context.Context, in *ConnectionPath) (*descriptorsOutput, error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	causes, err := s.openCauses(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	out := &descriptorsOutput{etag(c.Version), descriptorsJSON{Connection: nameOf(c.Tenant, c.Name), Version: c.Version, Unmapped: []unmappedJSON{}, DescriptorMaps: DescriptorMaps{Entries: []DescriptorEntry{}}}}
	inSight, archived := sync.PartArchived(causes)
	out.Body.Unmapped = append(out.Body.Unmapped, unmappedOf(inSight, out.Body.Connection)...)
	out.Body.Archived = unmappedOf(archived, out.Body.Connection)
	if s.c.Descriptors != nil {
		if out.Body.DescriptorMaps, err = s.c.Descriptors(ctx, c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unmappedOf are the causes that are codes no map has.
func unmappedOf(causes []sync.Cause, connection string) (out []unmappedJSON) {
	for i := range causes {
		if causes[i].Code == schema.CodeUnmapped {
			m, _ := unmapped(causes[i].Cause)
			out = append(out, unmappedJSON{issueJSON{causes[i], connection}, m.Descriptor, m.Code})
		}
	}
	return out
}

// descriptorsView is the page of descriptor maps.
type descriptorsView struct {
	descriptorsJSON
	Find        string
	Groups      []descriptorGroup
	Shown       int
	Saved       bool // an edit was made just now
	Descriptors []descriptorValues
}

// descriptorValues are what codes of a descriptor stand for so far, to choose from.
type descriptorValues struct {
	Descriptor string
	Values     []string
}

// valuesOf are the descriptors that a connection uses, with the values its codes stand for.
func valuesOf(entries []DescriptorEntry, unmapped []unmappedJSON) []descriptorValues {
	seen := map[string]map[string]bool{}
	for _, u := range unmapped {
		if u.Descriptor != "" && seen[u.Descriptor] == nil {
			seen[u.Descriptor] = map[string]bool{}
		}
	}
	for _, e := range entries {
		if seen[e.Descriptor] == nil {
			seen[e.Descriptor] = map[string]bool{}
		}
		seen[e.Descriptor][e.URI] = true
	}
	var out []descriptorValues
	for _, d := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, descriptorValues{d, slices.Sorted(maps.Keys(seen[d]))})
	}
	return out
}

// descriptorGroup is one descriptor with its codes.
type descriptorGroup struct {
	Descriptor string
	Entries    []DescriptorEntry
}

// descriptorsShown is how many entries the page shows.
const descriptorsShown = 1000

func (s *Console) descriptorsPage(w http.ResponseWriter, r *http.Request) error {
	in := pathOf(r)
	out, err := s.showDescriptors(r.Context(), &in)
	if err != nil {
		return err
	}
	page := descriptorsView{descriptorsJSON: out.Body, Find: strings.TrimSpace(r.FormValue("find"))}
	find := strings.ToLower(page.Find)
	for _, e := range out.Body.Entries {
		if !strings.Contains(strings.ToLower(e.Descriptor+" "+e.Code+" "+e.URI), find) {
			continue
		}
		if page.Shown++; page.Shown > descriptorsShown {
			continue
		}
		if n := len(page.Groups); n == 0 || page.Groups[n-1].Descriptor != e.Descriptor {
			page.Groups = append(page.Groups, descriptorGroup{Descriptor: e.Descriptor})
		}
		g := &page.Groups[len(page.Groups)-1]
		g.Entries = append(g.Entries, e)
	}
	page.Saved, page.Descriptors = r.FormValue("saved") != "", valuesOf(out.Body.Entries, out.Body.Unmapped)
	s.show(w, r, http.StatusOK, "descriptors", frame{Title: "Descriptor maps", Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page})
	return nil
}

// descriptorRoutes registers what shows descriptor maps.
func (s *Console) descriptorRoutes(reads httpd.Rule) {
	register(s, reads, get("/connections/{connection}/descriptors", "showDescriptors", "descriptors", "Show the descriptor maps of a connection, and codes that are in none"), s.showDescriptors)
	s.pageOf("GET /connections/{connection}/descriptors", reads, s.descriptorsPage)
}
