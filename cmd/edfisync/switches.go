package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
)

// parentsOff says of each resource that the pack fills and the connection leaves off which of those that are on refer to it: what they refer to must be
// at the target already, or it refuses them. The list is sorted.
func parentsOff(pack *source.Pack, on []string, model *schema.Model) []string {
	isOn, mapped := map[string]bool{}, map[string]bool{}
	for _, name := range on {
		isOn[strings.ToLower(fullResource(name))] = true
	}
	for _, q := range pack.Queries {
		mapped[strings.ToLower(q.Resource)] = true
	}
	children := map[string][]string{}
	for _, q := range pack.Queries {
		resource, ok := model.Resource(q.Resource)
		if !ok || !isOn[strings.ToLower(q.Resource)] {
			continue
		}
		for _, parent := range requiredParents(resource.Root, model) {
			if path := strings.ToLower(parent); mapped[path] && !isOn[path] && !slices.Contains(children[parent], resource.Path) {
				children[parent] = append(children[parent], resource.Path)
			}
		}
	}
	var out []string
	for _, parent := range slices.Sorted(maps.Keys(children)) {
		slices.Sort(children[parent])
		out = append(out, fmt.Sprintf("%s is off, and refers to it: %s; what they refer to must be at the target already", parent, strings.Join(children[parent], ", ")))
	}
	return out
}

// requiredParents lists the resources that every record refers to. What may be one of several kinds, such as any education organization, is not among
// them: the others may be on.
func requiredParents(fields *schema.Fields, model *schema.Model) []string {
	var out []string
	for _, p := range fields.Properties {
		if p.Kind != schema.Reference || !p.Required {
			continue
		}
		if targets := model.Concrete(p.Target); len(targets) == 1 {
			out = append(out, targets[0].Path)
		}
	}
	return out
}

// switchWarnings are the warnings about the resources of a connection, as far as they can be known without its target.
func switchWarnings(conn *config.Connection) []string {
	if len(conn.Resources) == 0 || conn.Off() {
		return nil
	}
	files, err := packFiles(conn.Pack)
	if err != nil {
		return nil // reported where the pack is
	}
	pack, err := source.LoadPack(files, conn.Source.Driver)
	if err != nil {
		return nil
	}
	model, err := schema.Bundled(likelyStandard(conn, pack))
	if err != nil {
		return nil
	}
	return parentsOff(pack, conn.Resources, model)
}

// likelyStandard is the data standard the target most likely has: the one the connection says, or the newest bundled one the pack is written for.
func likelyStandard(conn *config.Connection, pack *source.Pack) string {
	bundled := schema.BundledVersions()
	if slices.Contains(bundled, conn.Target.Standard) {
		return conn.Target.Standard
	}
	for _, version := range slices.Backward(bundled) {
		if slices.Contains(pack.Standards, version) {
			return version
		}
	}
	return bundled[len(bundled)-1]
}
