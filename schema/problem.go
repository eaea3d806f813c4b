package schema

import (
	"slices"
	"strings"
)

// Codes of problems. They are stable: issues are grouped by them, configuration may name them.
const (
	CodeMalformed       = "malformed-json"       // the payload, or a JSON column, is not JSON
	CodeDuplicateKey    = "duplicate-key"        // one object has two members of one name
	CodeUnknownProperty = "unknown-property"     // the model has no such property; the ODS ignores it
	CodeWrongType       = "wrong-type"           // another JSON type than the model's, which no rule converts
	CodeLooseType       = "loose-type"           // another JSON type, but a text the ODS would convert: "12" for 12
	CodeRequired        = "required-missing"     // a required element is absent or null
	CodeEmpty           = "required-empty"       // a required string is empty or blank
	CodeZero            = "required-zero"        // a required integer is 0, which the ODS takes for absent
	CodeTooFewItems     = "too-few-items"        // a required collection is absent or empty
	CodeTooLong         = "too-long"             // more characters than MaxLength
	CodeTooShort        = "too-short"            // fewer characters than MinLength
	CodeBlankEnds       = "blank-ends"           // an identifying string begins or ends with white space
	CodeDangerous       = "dangerous-text"       // text that looks like markup, refused by the ODS
	CodeInvalidUTF8     = "invalid-utf8"         // bytes that are no UTF-8, or half a surrogate pair
	CodeNUL             = "nul-character"        // U+0000, which databases refuse
	CodeNotBoolean      = "not-a-boolean"        //
	CodeNotInteger      = "not-an-integer"       //
	CodeNotNumber       = "not-a-number"         //
	CodeOutOfRange      = "out-of-range"         // outside the type, the model's range or the digits before the point
	CodeTooPrecise      = "too-precise"          // more digits after the point than the model keeps
	CodeNotDate         = "not-a-date"           //
	CodeNotDateTime     = "not-a-date-time"      //
	CodeNotTime         = "not-a-time"           //
	CodeNotDescriptor   = "not-a-descriptor"     // not of the form uri://org/Name#code
	CodeWrongDescriptor = "wrong-descriptor"     // a value of another descriptor
	CodeUnmapped        = "descriptor-unmapped"  // a local code without an entry in the descriptor maps (Template.Encode only)
	CodeNotNamespace    = "not-a-namespace"      // a descriptor resource's namespace not of the form uri://org/Name
	CodeNotCodeValue    = "not-a-code-value"     // a descriptor resource's code value with a "#", which would end it in a URI
	CodeIncomplete      = "reference-incomplete" // some, not all, properties of a reference
	CodeUnified         = "unified-differs"      // values that must be equal by key unification differ
	CodeDuplicateItem   = "duplicate-item"       // two items of a collection with one key
)

// Problem is one violated rule in a payload. Path, Message and the structured fields never hold a value of the payload (I14), except
// Value.
type Problem struct {
	Code    string `json:"code"`
	Path    string `json:"path"`            // JSON path, "$.addresses[0].city"; "$" is the payload
	Message string `json:"message"`         // one sentence in JSON names
	Value   string `json:"value,omitempty"` // a descriptor's code or URI, cut to 306 characters; nothing else

	// What a rule's text may need. Property is the violated property with its lengths, digits and range; nil when the problem is the
	// document's (malformed JSON, unknown property). Owner names the object it is in ("Section", "SectionClassPeriod").
	Property *Property `json:"-"`
	Owner    string    `json:"-"`
	Missing  []string  `json:"-"` // CodeIncomplete: the reference's properties that are absent
	Index    int       `json:"-"` // CodeDuplicateItem: zero-based index of the later item
}

// longestDescriptor is the most characters a descriptor URI has: 255 of namespace, "#", 50 of code value (Ed-Fi ODS/API).
const longestDescriptor = 306

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Code, b.Code)
	})
}
