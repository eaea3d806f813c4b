package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/source"
)

type descriptorsCmd struct {
	List   descriptorsListCmd   `cmd:"" default:"withargs" help:"List what the codes of the SIS stand for (the default)."`
	Set    descriptorsSetCmd    `cmd:"" help:"Map a code of a connection of the ledger, or map it to something else."`
	Remove descriptorsRemoveCmd `cmd:"" help:"Map a code no more; what the mapping pack says of it holds again."`
}

type descriptorsListCmd struct {
	Find       string `arg:"" optional:"" help:"Only entries that have this in descriptor, code or URI."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
}

// Help is the long help of the command.
func (descriptorsCmd) Help() string {
	return `Lists what the codes of the SIS stand for: the descriptor maps of the connection's mapping pack, and over them those of the connection itself.
Codes that no map has are issues: edfisync issues. set and remove change the maps of a connection that is kept in the ledger, as a new version of it, which the
next run takes; those of the configuration file are changed there.

Examples:

    edfisync descriptors
    edfisync descriptors GradeLevel
    edfisync descriptors --json
    edfisync descriptors set GradeLevelDescriptor TK Transitional --connection lincoln-2027
    edfisync descriptors remove GradeLevelDescriptor TK --connection lincoln-2027`
}

// Run lists the maps.
func (c *descriptorsListCmd) Run(ctx context.Context, a *app) error {
	_, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	maps, err := descriptorMaps(conn)
	if err != nil {
		return err
	}
	find := strings.ToLower(c.Find)
	maps.Entries = slices.DeleteFunc(maps.Entries, func(e console.DescriptorEntry) bool {
		return !strings.Contains(strings.ToLower(e.Descriptor+" "+e.Code+" "+e.URI), find)
	})
	if a.JSON {
		a.printJSON(maps)
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESCRIPTOR\tCODE\tSTANDS FOR\tFROM")
	for _, e := range maps.Entries {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Descriptor, e.Code, e.URI, e.From)
	}
	flush(w)
	return nil
}

// descriptorMaps are those of a connection's pack, with its own over them.
func descriptorMaps(conn *config.Connection) (console.DescriptorMaps, error) {
	out := console.DescriptorMaps{Entries: []console.DescriptorEntry{}, Pack: conn.Pack}
	pack, err := loadPack(conn)
	if err != nil {
		return out, usageError(err)
	}
	own, err := descriptorsOf(conn, pack)
	if err != nil {
		return out, err
	}
	for descriptor, codes := range pack.Maps {
		for code, uri := range codes {
			if _, over := own[descriptor][code]; !over {
				out.Entries = append(out.Entries, console.DescriptorEntry{Descriptor: descriptor, Code: code, URI: uri, From: "pack"})
			}
		}
	}
	for descriptor, codes := range own {
		for code, uri := range codes {
			out.Entries = append(out.Entries, console.DescriptorEntry{Descriptor: descriptor, Code: code, URI: uri, From: "connection"})
		}
	}
	slices.SortFunc(out.Entries, func(a, b console.DescriptorEntry) int {
		return cmp.Or(cmp.Compare(a.Descriptor, b.Descriptor), cmp.Compare(a.Code, b.Code))
	})
	out.Edit = "Add a code under descriptors of the connection in the configuration"
	if !strings.HasPrefix(conn.Pack, config.EmbeddedPack) {
		out.Edit += ", or in descriptors.yaml of its mapping pack"
	}
	out.Edit += ": the descriptor, the code, and the value or URI it stands for. The next run reads it."
	return out, nil
}

// descriptors are the maps of a connection of the configuration, for the console.
func (s *service) descriptors(ctx context.Context, c console.Connection) (console.DescriptorMaps, error) {
	cfg := s.config(ctx)
	for i := range cfg.Connections {
		if conn := &cfg.Connections[i]; conn.Tenant == c.Tenant && conn.Name == c.Name {
			out, err := descriptorMaps(conn)
			out.Pack = packName(out.Pack)
			return out, err
		}
	}
	return console.DescriptorMaps{Entries: []console.DescriptorEntry{}}, nil
}

// packName is a mapping pack's name without the folders it is in.
func packName(pack string) string {
	if strings.HasPrefix(pack, config.EmbeddedPack) {
		return pack
	}
	return pack[strings.LastIndexAny(pack, `/\`)+1:]
}

// mapped are the resources that the mapping pack of a connection maps, whether they are on or not.
func (s *service) mapped(ctx context.Context, c console.Connection) ([]string, error) {
	cfg := s.config(ctx)
	for i := range cfg.Connections {
		if conn := &cfg.Connections[i]; conn.Tenant == c.Tenant && conn.Name == c.Name {
			files, err := packFiles(conn.Pack)
			if err != nil {
				return nil, err
			}
			pack, err := source.LoadPack(files, conn.Source.Driver)
			if err != nil {
				return nil, fmt.Errorf("mapping pack %s: %w", packName(conn.Pack), err)
			}
			var out []string
			for _, q := range pack.Queries {
				out = append(out, q.Resource)
			}
			slices.Sort(out)
			return slices.Compact(out), nil
		}
	}
	return nil, nil
}
