package source

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Param is a parameter a pack declares.
type Param struct {
	Name        string
	Description string
	Type        string // "string", "integer", "decimal", "boolean" or "date"
	Default     string
	HasDefault  bool
	Line        int // in pack.yaml
}

func paramTypes() []string { return []string{"string", "integer", "decimal", "boolean", "date"} }

// value is the parameter's value as a driver binds it. Decimals and dates travel as text and the database gives them their type.
func (p Param) value(text string) (any, error) {
	switch p.Type {
	case "integer":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no integer", text)
		}
		return n, nil
	case "decimal":
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return nil, fmt.Errorf("%q is no decimal number", text)
		}
		return text, nil
	case "boolean":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no boolean: write true or false", text)
		}
		return b, nil
	case "date":
		if _, err := time.Parse(time.DateOnly, text); err != nil {
			return nil, fmt.Errorf("%q is no date: write yyyy-mm-dd", text)
		}
		return text, nil
	default:
		return text, nil
	}
}

// arg is the value of one of the query's parameters: configured, else the default.
func (q *Query) arg(name string, given map[string]string) (any, error) {
	p, ok := q.params[name]
	if !ok {
		return nil, fmt.Errorf("parameter :%s is not declared", name)
	}
	text, ok := given[name]
	if !ok {
		if !p.HasDefault {
			return nil, fmt.Errorf("parameter :%s has no default and the configuration gives no value", name)
		}
		text = p.Default
	}
	v, err := p.value(text)
	if err != nil {
		return nil, fmt.Errorf("parameter :%s: %w", name, err)
	}
	return v, nil
}

// checkGiven reports configured parameters that the pack does not declare, that have the wrong type, and declared ones without value.
func (p *Pack) checkGiven(given map[string]string) []*PackError {
	var problems []*PackError
	names := make([]string, len(p.Params))
	for i, d := range p.Params {
		names[i] = d.Name
		text, ok := given[d.Name]
		if !ok && !d.HasDefault {
			problems = append(problems, &PackError{File: packFile, Line: d.Line, Message: fmt.Sprintf("parameter %s has no default and the configuration gives no value", d.Name)})
		}
		if ok {
			if _, err := d.value(text); err != nil {
				problems = append(problems, &PackError{Message: fmt.Sprintf("configured parameter %s: %v", d.Name, err)})
			}
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(given), cmp.Compare) {
		if !slices.Contains(names, n) {
			problems = append(problems, &PackError{Message: fmt.Sprintf("configured parameter %s is not declared in the pack's %s", n, packFile), Nearest: nearest(n, names)})
		}
	}
	return problems
}
