package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/schema"
)

type catalogCmd struct {
	Resource    string `arg:"" optional:"" help:"Resource to show in full: students, ed-fi/students or Student. Default: list all."`
	Standard    string `default:"5.2" placeholder:"VERSION" help:"Data standard (default: 5.2)."`
	Descriptors bool   `help:"List descriptors too."`
}

// Help is the long help of the command.
func (catalogCmd) Help() string {
	return `Examples:

    edfisync catalog                            all resources with their keys
    edfisync catalog studentSchoolAssociations  one: key, references, elements, collections
    edfisync catalog students --standard 4.0 --json`
}

// resourceLine is one row of the list.
type resourceLine struct {
	Resource string   `json:"resource"`
	Name     string   `json:"name"`
	Key      []string `json:"key"`
}

// resourceDetail is one resource in full.
type resourceDetail struct {
	resourceLine
	Standard     string          `json:"standard"`
	Extends      string          `json:"extends,omitempty"`
	KeyUpdatable bool            `json:"keyUpdatable"`
	KeyParts     []keyPart       `json:"keyParts"`
	Unify        [][]string      `json:"unified,omitempty"`
	Elements     []elementDetail `json:"elements"`
}

type keyPart struct {
	Name  string   `json:"name"`
	Paths []string `json:"paths"`
	Type  string   `json:"type"`
}

// elementDetail is one path of the payload, as a mapping query names it.
type elementDetail struct {
	Path     string `json:"path"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Identity bool   `json:"identity"`
	Target   string `json:"refersTo,omitempty"`
	Doc      string `json:"doc,omitempty"`
}

// Run lists or shows resources.
func (c *catalogCmd) Run(a *app) error {
	model, err := schema.Bundled(c.Standard)
	if err != nil {
		return usageError(err)
	}
	if c.Resource == "" {
		return c.list(a, model)
	}
	r, err := findResource(model, c.Resource)
	if err != nil {
		return usageError(err)
	}
	detail := describe(model, r)
	if a.JSON {
		a.printJSON(detail)
		return nil
	}
	detail.print(a.out)
	return nil
}

func (c *catalogCmd) list(a *app, model *schema.Model) error {
	lines := []resourceLine{}
	for _, r := range model.Resources {
		if !r.Descriptor || c.Descriptors {
			lines = append(lines, line(r))
		}
	}
	if a.JSON {
		a.printJSON(lines)
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RESOURCE\tKEY")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\n", l.Resource, strings.Join(l.Key, ", "))
	}
	return w.Flush()
}

// findResource takes a path with or without its schema, or an entity name.
func findResource(model *schema.Model, name string) (*schema.Resource, error) {
	for _, try := range []string{name, "ed-fi/" + name} {
		if r, ok := model.Resource(try); ok {
			return r, nil
		}
	}
	if r, ok := model.Entity(strings.ToUpper(name[:1]) + name[1:]); ok {
		return r, nil
	}
	if kinds := model.Concrete(name); len(kinds) > 0 {
		paths := make([]string, len(kinds))
		for i, r := range kinds {
			paths[i] = r.Path
		}
		return nil, fmt.Errorf("%s is abstract; its resources are: %s", name, strings.Join(paths, ", "))
	}
	var like []string
	for _, r := range model.Resources {
		if strings.Contains(strings.ToLower(r.Path), strings.ToLower(name)) {
			like = append(like, r.Path)
		}
	}
	slices.SortStableFunc(like, func(a, b string) int { return len(a) - len(b) })
	if len(like) > 0 {
		return nil, fmt.Errorf("there is no resource %q; did you mean: %s", name, strings.Join(like[:min(len(like), 8)], ", "))
	}
	return nil, fmt.Errorf("there is no resource %q; edfisync catalog lists them", name)
}

func line(r *schema.Resource) resourceLine {
	l := resourceLine{Resource: r.Path, Name: r.Name, Key: []string{}}
	for _, part := range r.Key {
		l.Key = append(l.Key, part.Name)
	}
	return l
}

func describe(model *schema.Model, r *schema.Resource) resourceDetail {
	d := resourceDetail{
		resourceLine: line(r), Standard: model.Standard, Extends: r.Extends, KeyUpdatable: r.KeyUpdatable, Unify: r.Unify,
		KeyParts: []keyPart{}, Elements: elements(nil, "", r.Root),
	}
	for _, part := range r.Key {
		d.KeyParts = append(d.KeyParts, keyPart{Name: part.Name, Paths: part.Paths, Type: part.Kind.String()})
	}
	return d
}

// elements lists every path below a payload, object, reference or collection item.
func elements(list []elementDetail, prefix string, fields *schema.Fields) []elementDetail {
	for _, p := range fields.Properties {
		list = append(list, elementDetail{
			Path: prefix + p.Name, Type: typeOf(p), Required: p.Required || p.MinItems > 0, Identity: p.Identity, Target: p.Target, Doc: p.Doc,
		})
		if p.Fields == nil {
			continue
		}
		separator := "."
		if p.Kind == schema.Collection {
			separator = "[]."
		}
		list = elements(list, prefix+p.Name+separator, p.Fields)
	}
	return list
}

// typeOf is the type with its bounds, as a person writes it.
func typeOf(p *schema.Property) string {
	switch {
	case p.Kind == schema.String && p.MaxLength > 0:
		return fmt.Sprintf("%s(%d)", p.Kind, p.MaxLength)
	case p.Kind == schema.Decimal && p.Precision > 0:
		return fmt.Sprintf("%s(%d,%d)", p.Kind, p.Precision, p.Scale)
	case p.HasRange:
		return fmt.Sprintf("%s %d..%d", p.Kind, p.Min, p.Max)
	default:
		return p.Kind.String()
	}
}

func (d *resourceDetail) print(out io.Writer) {
	fmt.Fprintf(out, "%s (%s, data standard %s)\n", d.Resource, d.Name, d.Standard)
	if d.Extends != "" {
		fmt.Fprintf(out, "a kind of %s\n", d.Extends)
	}
	fmt.Fprintln(out, "\nNatural key:")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, part := range d.KeyParts {
		fmt.Fprintf(w, "  %s\t%s\n", strings.Join(part.Paths, " = "), part.Type)
	}
	flush(w)
	if d.KeyUpdatable {
		fmt.Fprintln(out, "  PUT may change it; what refers to it follows.")
	} else {
		fmt.Fprintln(out, "  PUT cannot change it: a new key is a delete and a create.")
	}
	for _, group := range d.Unify {
		fmt.Fprintf(out, "  must be equal: %s\n", strings.Join(group, ", "))
	}
	required := func(e elementDetail) bool { return e.Required }
	fmt.Fprintln(out, "\nRequired:")
	d.printElements(out, func(e elementDetail) bool { return required(e) && !inOptional(d.Elements, e.Path) })
	fmt.Fprintln(out, "\nOptional (* = required when what holds it is there):")
	d.printElements(out, func(e elementDetail) bool { return !required(e) || inOptional(d.Elements, e.Path) })
}

// inOptional tells whether something above the path is optional.
func inOptional(all []elementDetail, path string) bool {
	return slices.ContainsFunc(all, func(e elementDetail) bool {
		rest, below := strings.CutPrefix(path, e.Path)
		return below && !e.Required && rest != "" && (rest[0] == '.' || rest[0] == '[')
	})
}

func (d *resourceDetail) printElements(out io.Writer, choose func(elementDetail) bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range d.Elements {
		if !choose(e) {
			continue
		}
		mark := " "
		if e.Required && inOptional(d.Elements, e.Path) {
			mark = "*"
		}
		target := ""
		if e.Target != "" {
			target = "\t→ " + e.Target
		}
		fmt.Fprintf(w, " %s%s\t%s%s\n", mark, e.Path, e.Type, target)
	}
	flush(w)
}

// flush ends a table. What it writes to is a terminal or a test's buffer; there is no one left to tell about an error.
func flush(w *tabwriter.Writer) { _ = w.Flush() }
