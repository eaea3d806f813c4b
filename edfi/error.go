package edfi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Class says what a failed call means for the record it was made for. Each class has exactly one consequence; docs/errors.md is the table.
type Class uint8

// The classes.
const (
	// Invalid: the target refuses the content. The same bytes are not sent again until payload, mapping or code lists change.
	Invalid Class = iota + 1
	// Rejected: the content is sound, this operation on this resource is refused. Not repeated in this run.
	Rejected
	// Blocked: something else has to be there, or be gone, first. Tried again after it.
	Blocked
	// Transient: the outcome is unknown or a repeat may succeed. The client has already repeated what it may; the intent stays open.
	Transient
	// Stop: nothing more can succeed with this client. The run ends, what is open stays open.
	Stop
	// NotFound: the target has no item of that id. After a DELETE this is success; after a PUT the item is created anew.
	NotFound
)

// String returns the class in lower case, as metrics label it.
func (c Class) String() string {
	switch c {
	case Invalid:
		return "invalid"
	case Rejected:
		return "rejected"
	case Blocked:
		return "blocked"
	case Transient:
		return "transient"
	case Stop:
		return "stop"
	case NotFound:
		return "not-found"
	}
	return "unclassified"
}

// Owner is who can act on an error.
type Owner string

// The owners.
const (
	OwnerMapping Owner = "mapping"     // the mapping pack, its descriptor maps, the connection's configuration
	OwnerSource  Owner = "source data" // the rows of the SIS
	OwnerTarget  Owner = "target host" // the people who run the Ed-Fi API: claims, relationships, availability
	OwnerUs      Owner = "us"          // edfisync itself
)

// ErrNoID is wrapped by the error of a write that succeeded without telling the item's id: a 200 or 201 without a usable Location. The
// record is at the target; FindByKey or a repeated POST tells its id.
var ErrNoID = errors.New("answer names no id")

// ErrAmbiguous is wrapped by FindByKey's error when the target returned more than one item for a whole natural key: it ignored a parameter.
var ErrAmbiguous = errors.New("more than one item for one natural key")

// Error is every error of this package but those of arguments. Its text, its Hint and its Causes hold no value of a record (I14): of a
// response only names of entities and properties, JSON paths and texts of our own get into them. Body holds the response as it came and
// is for sealed storage only.
type Error struct {
	Class         Class
	Code          string // stable, ours, the same for all versions of the API: "unresolved-reference"; issues are grouped by it
	Owner         Owner
	Status        int    // HTTP status, 0 when there was no response
	Type          string // problem type of the response, "urn:ed-fi:api:…", or ""
	Title         string // what happened, in a few words of ours
	CorrelationID string // the target's, for a question to its host
	Hint          string // what to do
	Method        string
	Resource      string   // "ed-fi/students", or the endpoint's name: "token", "discovery"
	Causes        []string // "$.birthDate: required", "Student"; names and paths only
	Attempts      int      // calls made
	Sent          bool     // a write may have taken effect, in this attempt or an earlier one; false means that it surely did not
	Body          []byte   // the response body, cut at 256 KiB; never printed
	Err           error    // the error below, if any: network, context, guard

	repeat     bool          // an equal call made again may succeed
	retryAfter time.Duration // what the response asked for, 0 if nothing
}

// Error returns one line without any value of a record.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Method != "" {
		b.WriteString(strings.ToLower(e.Method))
		b.WriteByte(' ')
	}
	if e.Resource != "" {
		b.WriteString(e.Resource)
		b.WriteString(": ")
	}
	b.WriteString(e.Title)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (%d %s)", e.Status, http.StatusText(e.Status))
	}
	for i, cause := range e.Causes {
		if i == maxCausesShown {
			fmt.Fprintf(&b, "; and %d more", len(e.Causes)-i)
			break
		}
		b.WriteString("; ")
		b.WriteString(cause)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.CorrelationID != "" {
		b.WriteString(" [correlation id ")
		b.WriteString(e.CorrelationID)
		b.WriteByte(']')
	}
	return b.String()
}

const maxCausesShown = 8

// Unwrap returns the error below, so that errors.Is finds context.Canceled, ErrNoID or the guard's own error.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) clone() *Error {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}

// ClassOf returns the class of an error of this package, however wrapped, and 0 for any other.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return 0
}
