package edfi

import (
	"regexp"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// What may be taken from a response into logs and issues. Ed-Fi error texts hold key values ("The duplicate key is (…) = (…)"), so
// nothing is copied that is not a name: of a property, of an entity, of a problem type; and of names only those made of words of the data
// standard, since a host may put anything where a name belongs (I14).
var (
	pathStep = regexp.MustCompile(`^([A-Za-z_]{1,100})((?:\[[0-9]{0,6}\])*)$`)
	// safeID is what hosts number their requests with: a GUID, the trace of W3C, or the connection and request of ASP.NET.
	safeID = regexp.MustCompile(`^(?:[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|0H[0-9A-Z]{11}(?::[0-9A-F]{8})?)$`)
)

// otherName stands for a name that is not of the data standard.
const otherName = "(other)"

// safeName returns a name of the data standard, or several with commas between, and stands in for any other.
func safeName(name string) string {
	parts := strings.Split(name, ", ")
	for i, part := range parts {
		if !schema.Vocabulary(part) {
			parts[i] = otherName
		}
	}
	return strings.Join(parts, ", ")
}

// safePath returns the path of a property, with a stand-in for each step that is not of the data standard, such as those of an extension; "body" for what is
// no path.
func safePath(path string) string {
	steps := strings.Split(strings.TrimPrefix(path, "request."), ".")
	known := false
	for i, step := range steps {
		match := pathStep.FindStringSubmatch(step)
		switch {
		case step == "$" && i == 0:
		case match != nil && schema.Vocabulary(match[1]):
			known = true
		case match != nil:
			steps[i] = otherName + match[2]
		default:
			steps[i] = otherName
		}
	}
	if !known {
		return "body"
	}
	return strings.Join(steps, ".")
}

// Entity and property names within the fixed texts of the API. Each captures names only.
//
//nolint:gochecknoglobals // a table of compiled patterns, never written
var namePatterns = []struct {
	expr   *regexp.Regexp
	before string
	after  string
}{
	{regexp.MustCompile(`[Tt]he referenced '?([A-Z][A-Za-z0-9]+)'? item does not exist`), "referenced ", " does not exist"},
	{regexp.MustCompile(`value supplied for the related '([A-Za-z0-9]+)' resource does not exist`), "referenced ", " does not exist"},
	{regexp.MustCompile(`\b([A-Z][A-Za-z0-9]+) reference could not be resolved`), "referenced ", " does not exist"},
	{regexp.MustCompile(`referenced by an existing '([A-Z][A-Za-z0-9]+)' item`), "referenced by ", ""},
	{regexp.MustCompile(`referenced by existing ([A-Z][A-Za-z0-9]+) item`), "referenced by ", ""},
	{regexp.MustCompile(`because it is a dependency of the '([A-Za-z0-9]+)' entity`), "referenced by ", ""},
	{regexp.MustCompile(`create a corresponding '([A-Z][A-Za-z0-9]+)' item`), "needs ", ""},
	{regexp.MustCompile(`update a record in the '([A-Z][A-Za-z0-9]+)' table`), "table ", ""},
	{regexp.MustCompile(`the '(PUT|POST|DELETE|PATCH|GET|HEAD|OPTIONS)' method`), "method ", ""},
}

// propertyList is the tail of a relationship failure: the properties that were checked, quoted and comma-separated.
var propertyList = regexp.MustCompile(`following properties of the (?:requested resource|resource item): ((?:'[A-Z][A-Za-z0-9]+'(?:, )?)+)`)

// messageKinds turns a validation message into a text of ours. The first match counts.
//
//nolint:gochecknoglobals // a table of compiled patterns, never written
var messageKinds = []struct {
	expr *regexp.Regexp
	text string // "${1}" is a captured name
}{
	{regexp.MustCompile(`([A-Z][A-Za-z0-9]+Descriptor) value '.*' does not exist`), "${1} value does not exist"},
	{regexp.MustCompile(`[Tt]he referenced '?([A-Z][A-Za-z0-9]+)'? item does not exist`), "referenced ${1} does not exist"},
	{regexp.MustCompile(`is missing the following properties: ([A-Za-z0-9]+(?:, [A-Za-z0-9]+)*)$`), "reference lacks ${1}"},
	{regexp.MustCompile(`All values supplied for '([A-Za-z0-9]+)' must match`), "references disagree on ${1}"},
	{regexp.MustCompile(`has the same identifying values as|duplicate`), "duplicate item"},
	{regexp.MustCompile(`must have at least one item`), "needs at least one item"},
	{regexp.MustCompile(`(is|are) required|is required\.`), "required"},
	{regexp.MustCompile(`characters in length|maximum length|minimum length|string length`), "length out of bounds"},
	{regexp.MustCompile(`leading or trailing spaces`), "leading or trailing spaces"},
	{regexp.MustCompile(`could be dangerous`), "holds markup the target refuses"},
	{regexp.MustCompile(`must be different than 0`), "must not be 0"},
	{regexp.MustCompile(`too large or small`), "out of range"},
	{regexp.MustCompile(`must be between`), "out of range"},
	{regexp.MustCompile(`(?i)error converting|could not be converted|not recognized as a valid|unexpected time value|is not a valid|not valid|must be a valid`), "wrong type or format"},
	{regexp.MustCompile(`must match the id in the url`), "does not match the URL"},
}

const maxCauses = 40

// causes lists what the response says, as far as it can be said without values: sorted, without repeats.
func (p problem) causes() []string {
	var out []string
	for _, errors := range []map[string][]string{p.ValidationErrors, p.ModelState} {
		for path, messages := range errors {
			path = safePath(path)
			for _, message := range messages {
				out = append(out, path+": "+messageKind(message))
			}
		}
	}
	text := p.text()
	for _, pattern := range namePatterns {
		for _, match := range pattern.expr.FindAllStringSubmatch(text, 10) {
			name := match[1]
			if pattern.before != "method " {
				name = safeName(name)
			}
			out = append(out, pattern.before+name+pattern.after)
		}
	}
	if match := propertyList.FindStringSubmatch(text); match != nil {
		out = append(out, "by "+safeName(strings.TrimSuffix(strings.ReplaceAll(match[1], "'", ""), ", ")))
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxCauses)]
}

func messageKind(message string) string {
	for _, kind := range messageKinds {
		if match := kind.expr.FindStringSubmatch(message); match != nil {
			if len(match) > 1 && strings.Contains(kind.text, "${1}") {
				return strings.Replace(kind.text, "${1}", safeName(match[1]), 1)
			}
			return kind.text
		}
	}
	return "refused"
}

func isDescriptorCause(cause string) bool {
	return strings.HasSuffix(cause, "Descriptor value does not exist")
}

// safeType returns as much of a problem type as the table of types has.
func safeType(problemType string) string {
	suffix, ok := strings.CutPrefix(problemType, typePrefix)
	for ok && suffix != "" {
		if _, known := verdictOfSuffix(suffix); known || suffix == "bad-request" || suffix == "not-found" || suffix == "data-conflict" {
			return typePrefix + suffix
		}
		suffix = suffix[:max(strings.LastIndexByte(suffix, ':'), 0)]
	}
	return ""
}

func safeCorrelation(id string) string {
	if safeID.MatchString(id) {
		return id
	}
	return ""
}
