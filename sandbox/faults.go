package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Faults says which calls of a sandbox go wrong: by script, by seed, or both (the script first). The zero value breaks nothing. It is a value:
// Server.SetFaults takes a copy.
type Faults struct {
	// Seed and Rate break the share Rate (0 to 1) of all calls, each independently of the others and of any order: see Decide.
	Seed uint64
	Rate float64
	// Kinds are what a seed chooses from; empty means FaultKinds(true).
	Kinds []FaultKind
	// Attempts limits a seed to the first so many attempts of an operation; 0 leaves every attempt in danger.
	Attempts int
	// Script are rules for particular calls. The first one that matches and is due decides.
	Script []FaultRule
}

// FaultRule breaks some of the calls it matches.
type FaultRule struct {
	Method   string    `yaml:"method" json:"method,omitempty"`     // "POST"; "" matches all
	Resource string    `yaml:"resource" json:"resource,omitempty"` // "ed-fi/students", without regard to case, a final * matches any rest; "" matches every resource but not the token endpoint ("oauth/token")
	Nth      int       `yaml:"nth" json:"nth,omitempty"`           // the first of the matching calls to break, counted from 1; 0 means 1
	Times    int       `yaml:"times" json:"times,omitempty"`       // how many to break from there on; 0 means 1
	Always   bool      `yaml:"always" json:"always,omitempty"`     // break all of them from Nth on, whatever Times says
	Kind     FaultKind `yaml:"fault" json:"fault"`
	// Delay and Host are Fault's.
	Delay time.Duration `yaml:"delay" json:"-"`
	Host  string        `yaml:"host" json:"host,omitempty"`
}

// Fault is what happens to one call. The zero value is nothing.
type Fault struct {
	Kind  FaultKind
	Delay time.Duration // how long, for kinds that take time; 0 means the kind's default
	Host  string        // "https://elsewhere.invalid", for kinds that name another host; that is the default
}

// Operation is a call as a seed sees it: the same for each attempt at the same thing.
type Operation struct {
	Method   string
	Resource string // "ed-fi/students", TokenResource
	Identity string // what tells it from others of its kind: the body of a POST or PUT, else the natural key of the item, else the query
}

// Decide says what a seed does to the attempt-th (counted from 1) attempt of an operation. It depends on nothing but its arguments: not on the
// order of calls, nor on time.
func (f Faults) Decide(op Operation, attempt int) Fault {
	if f.Rate <= 0 || f.Attempts > 0 && attempt > f.Attempts {
		return Fault{}
	}
	h := op.hash(f.Seed + uint64(attempt)*0x9e3779b97f4a7c15)
	if float64(h>>11)/(1<<53) >= f.Rate {
		return Fault{}
	}
	fits := f.fitting(op.scope())
	if len(fits) == 0 {
		return Fault{}
	}
	return Fault{Kind: fits[mix(h)%uint64(len(fits))]}
}

// fitting lists the kinds a seed may use on calls of a scope, in their order. Calls to the token endpoint are in danger only of what is made for it.
func (f Faults) fitting(scope faultScope) (fits []FaultKind) {
	for _, i := range faultKinds() {
		wanted := i.transient
		if len(f.Kinds) > 0 {
			wanted = slices.Contains(f.Kinds, i.kind)
		}
		if wanted && i.scope&scope != 0 && (scope != onToken || i.scope == onToken) {
			fits = append(fits, i.kind)
		}
	}
	return fits
}

// hash is FNV-1a over the operation from a start that holds the seed, well mixed.
func (op Operation) hash(seed uint64) uint64 {
	h := 14695981039346656037 ^ mix(seed)
	for _, s := range [...]string{op.Method, op.Resource, op.Identity} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// matches says whether a rule is about an operation.
func (r *FaultRule) matches(op Operation) bool {
	if r.Method != "" && !strings.EqualFold(r.Method, op.Method) {
		return false
	}
	if i, ok := r.Kind.info(); !ok || i.scope&op.scope() == 0 {
		return false
	}
	switch prefix, wild := strings.CutSuffix(r.Resource, "*"); {
	case r.Resource == "":
		// A rule for no particular resource is about the token endpoint only when its kind can be about nothing else.
		i, _ := r.Kind.info()
		return op.Resource != TokenResource || i.scope == onToken
	case wild:
		return len(op.Resource) >= len(prefix) && strings.EqualFold(op.Resource[:len(prefix)], prefix)
	}
	return strings.EqualFold(r.Resource, op.Resource)
}

// due says whether the n-th (counted from 1) matching call is one to break.
func (r *FaultRule) due(n int) bool {
	first := max(1, r.Nth)
	return n >= first && (r.Always || n < first+max(1, r.Times))
}

func (f Faults) clone() Faults {
	f.Kinds, f.Script = slices.Clone(f.Kinds), slices.Clone(f.Script)
	return f
}

// validate reports everything that is wrong at once.
func (f Faults) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	known := func(k FaultKind) {
		if _, ok := k.info(); !ok {
			bad("there is no fault %q; docs/sandbox.md lists them", k)
		}
	}
	if math.IsNaN(f.Rate) || f.Rate < 0 || f.Rate > 1 {
		bad("rate must be between 0 and 1, or 0%% and 100%%")
	}
	if f.Attempts < 0 {
		bad("attempts may not be negative")
	}
	for _, k := range f.Kinds {
		known(k)
	}
	for i := range f.Script {
		r := &f.Script[i]
		known(r.Kind)
		if r.Nth < 0 || r.Times < 0 || r.Delay < 0 {
			bad("rule %d: nth, times and delay may not be negative", i+1)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	return nil
}

// ParseFaults reads what --faults takes: "seed=7,rate=5%", with kinds=NAME+NAME, kinds=transient (the default) or kinds=all, and attempts=N on
// wish. A rate without a seed has seed 0.
func ParseFaults(text string) (Faults, error) {
	var f Faults
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return f, fmt.Errorf("faults: %q is not NAME=VALUE; write seed=7,rate=5%%", part)
		}
		var err error
		switch name {
		case "seed":
			f.Seed, err = strconv.ParseUint(value, 10, 64)
		case "rate":
			f.Rate, err = parseShare(value)
		case "kinds":
			f.Kinds = parseKinds(strings.Split(value, "+"))
		case "attempts":
			f.Attempts, err = strconv.Atoi(value)
		default:
			return f, fmt.Errorf("faults: there is no %q; there are seed, rate, kinds and attempts", name)
		}
		if err != nil {
			return f, fmt.Errorf("faults: %s is no number for %s", strconv.Quote(value), name)
		}
	}
	return f, f.validate()
}

// parseKinds reads names of kinds and of the two sets of them.
func parseKinds(names []string) (kinds []FaultKind) {
	for _, n := range names {
		switch n {
		case "all":
			kinds = append(kinds, FaultKinds(false)...)
		case "transient":
			kinds = append(kinds, FaultKinds(true)...)
		default:
			kinds = append(kinds, FaultKind(n))
		}
	}
	return kinds
}

func parseShare(text string) (float64, error) {
	percent, is := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(percent, 64)
	if is {
		n /= 100
	}
	return n, err
}

// faultsDocument is Faults as scripts and the admin route write them.
type faultsDocument struct {
	Seed     uint64      `yaml:"seed"`
	Rate     string      `yaml:"rate"`
	Kinds    []string    `yaml:"kinds"`
	Attempts int         `yaml:"attempts"`
	Script   []FaultRule `yaml:"script"`
}

// ReadFaults reads a YAML or JSON document: an object with seed, rate, kinds, attempts and script, or a list, which is the script alone.
func ReadFaults(document []byte) (Faults, error) {
	var f Faults
	var node yaml.Node
	if err := yaml.Unmarshal(document, &node); err != nil || len(node.Content) != 1 {
		return f, errors.New("faults: the document is neither YAML nor JSON")
	}
	var d faultsDocument
	into := any(&d)
	if node.Content[0].Kind == yaml.SequenceNode {
		into = &d.Script
	}
	dec := yaml.NewDecoder(bytes.NewReader(document))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("faults: %w", err)
	}
	f = Faults{Seed: d.Seed, Kinds: parseKinds(d.Kinds), Attempts: d.Attempts, Script: d.Script}
	if d.Rate != "" {
		var err error
		if f.Rate, err = parseShare(d.Rate); err != nil {
			return f, fmt.Errorf("faults: %s is no rate; write 0.05 or 5%%", strconv.Quote(d.Rate))
		}
	}
	return f, f.validate()
}
