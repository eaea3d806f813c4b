package sandbox

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"time"
)

// The problem details of an ODS/API 7.3: types, titles and texts as its exception classes have them.

const problemPrefix = "urn:ed-fi:api:"

func problem(status int, kind, title, detail string, errs ...string) *httpd.Problem {
	return &httpd.Problem{Status: status, Type: problemPrefix + kind, Title: title, Detail: detail, Errors: errs}
}

func badRequest(errs ...string) *httpd.Problem {
	return problem(http.StatusBadRequest, "bad-request", "Bad Request",
		"The request could not be processed. See 'errors' for details.", errs...)
}

func invalidData(p problems) *httpd.Problem {
	b := problem(http.StatusBadRequest, "bad-request:data-validation-failed", "Data Validation Failed",
		"Data validation failed. See 'validationErrors' for details.")
	b.ValidationErrors = p
	return b
}

func invalidRequestData(errs ...string) *httpd.Problem {
	return problem(http.StatusBadRequest, "bad-request:data-validation-failed", "Data Validation Failed",
		"Data validation failed. See 'errors' for details.", errs...)
}

func invalidParameter(errs ...string) *httpd.Problem {
	return problem(http.StatusBadRequest, "bad-request:parameter-validation-failed", "Parameter Validation Failed",
		"Validation of the request parameters failed. See 'errors' for details.", errs...)
}

func unauthenticated(err string) *httpd.Problem {
	return problem(http.StatusUnauthorized, "security:authentication", "Authentication Failed",
		"The caller could not be authenticated.", err)
}

// tooManyTokens is what an ODS says, and in a sentence of the sandbox's own when the next token is to be had.
func tooManyTokens(limit int, free time.Time) *httpd.Problem {
	return problem(http.StatusTooManyRequests, "security:authentication:too-many-tokens", "Too Many Tokens",
		"The caller could not be authenticated.",
		fmt.Sprintf("Too many access tokens have been requested (limit is %d). Access tokens should be reused until they expire.", limit),
		fmt.Sprintf("The first of them expires at %s; edfisync sandbox --tokens N keeps more.", free.UTC().Format(time.RFC3339)))
}

func notFound(detail string) *httpd.Problem {
	return problem(http.StatusNotFound, "not-found", "Not Found", detail)
}

func methodNotAllowed(detail string) *httpd.Problem {
	return problem(http.StatusMethodNotAllowed, "method-not-allowed", "Method Not Allowed", "The request construction was invalid.", detail)
}

func unsupportedMethod(method string) *httpd.Problem {
	return methodNotAllowed(fmt.Sprintf("The endpoint of the request does not support the '%s' method.", method))
}

func unsupportedMediaType() *httpd.Problem {
	return problem(http.StatusUnsupportedMediaType, "unsupported-media-type", "Unsupported Media Type",
		"The media type of the request is not supported.", "The value specified in the 'Content-Type' header is not supported by this host.")
}

func conflict(kind, title, detail string, errs ...string) *httpd.Problem {
	return problem(http.StatusConflict, "data-conflict:"+kind, title, detail, errs...)
}

func systemError() *httpd.Problem {
	return problem(http.StatusInternalServerError, "system", "System Error", "An unexpected problem has occurred.")
}

// problem says a refusal in the ODS's words. gone is the text for a record that is not there.
func (f *refusal) problem(gone string) *httpd.Problem {
	switch f.kind {
	case refusedInvalid:
		return invalidData(f.problems)
	case refusedDescriptors:
		p := problem(http.StatusBadRequest, "bad-request", "Bad Request", textReferences)
		p.ValidationErrors = f.problems
		return p
	case refusedUnresolved:
		if f.problems != nil {
			p := conflict("unresolved-reference", "Unresolved Reference", textReferences)
			p.ValidationErrors = f.problems
			return p
		}
		return conflict("unresolved-reference", "Unresolved Reference", fmt.Sprintf("The referenced '%s' item does not exist.", f.name))
	case refusedDependent:
		return conflict("dependent-item-exists", "Dependent Item Exists",
			fmt.Sprintf("The requested action cannot be performed because this item is referenced by an existing '%s' item.", f.name))
	case refusedDuplicate:
		return conflict("non-unique-identity", "Identifying Values Are Not Unique",
			"The identifying value(s) of the item are the same as another item that already exists.",
			fmt.Sprintf("A primary key conflict occurred when attempting to create or update a record in the '%s' table. The duplicate key is %s.",
				f.name, f.keys))
	case refusedKeyChange:
		return problem(http.StatusBadRequest, "bad-request:data-validation-failed:key-change-not-supported", "Key Change Not Supported",
			fmt.Sprintf("Identifying values for the %s item cannot be changed. Delete and recreate the item instead.", f.name))
	case refusedGone:
		return notFound(gone)
	case refusedPrecondition:
		return problem(http.StatusPreconditionFailed, "optimistic-lock-failed", "Optimistic Lock Failed",
			"The item has been modified by another user.")
	case refusedExists:
		return problem(http.StatusPreconditionFailed, "precondition-failed:if-none-match", "Precondition Failed",
			"The item exists already, and the request was to create it only.")
	case refusedDenied:
		return f.denial.problem()
	case refusedConcurrent:
		return conflict("multi-user-conflict", "Multi-User Conflict", "The item was being modified by another user at the same time.")
	}
	return systemError()
}

// Texts for records and collections that are not there or not to be written.
const (
	textReferences   = "One or more references could not be resolved. See 'validationErrors' for details."
	textNoResource   = "The specified data could not be found."
	textNoItem       = "The specified item could not be found."
	textNoUpdate     = "Resource to update was not found."
	textNoDelete     = "Resource to delete was not found."
	textPostItem     = "Resource items can only be updated using PUT. To \"upsert\" an item in the resource collection using POST, remove the \"id\" from the route."
	textPutAll       = "Resource collections cannot be replaced. To \"upsert\" an item in the collection, use POST. To update a specific item, use PUT and include the \"id\" in the route."
	textDeleteAll    = "Resource collections cannot be deleted. To delete a specific item, use DELETE and include the \"id\" in the route."
	textClientID     = "Resource identifiers cannot be assigned by the client. The 'id' property should not be included in the request body."
	textEmptyBody    = "A non-empty request body is required."
	contentType      = "application/json; charset=utf-8"
	problemMediaType = contentType // the ODS does not use application/problem+json
)

func invalidID(id string) *httpd.Problem {
	p := invalidRequestData()
	p.Detail = "Data validation failed. See 'validationErrors' for details."
	p.ValidationErrors = problems{"$.id": {fmt.Sprintf("The value '%s' is not valid.", id)}}
	return p
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}
