package edfi

import (
	"net/http"
	"strings"
)

// A verdict is what the classifier says about one kind of answer. docs/errors.md shows the same table to operators; a test holds the two
// together.
type verdict struct {
	code   string
	class  Class
	owner  Owner
	title  string
	hint   string
	repeat bool
}

// error makes an Error of the verdict, without the particulars of a response.
func (v verdict) error() *Error {
	return &Error{Class: v.class, Code: v.code, Owner: v.owner, Title: v.title, Hint: v.hint, repeat: v.repeat}
}

// become puts another verdict in the place of the error's.
func (e *Error) become(v verdict) {
	e.Class, e.Code, e.Owner, e.Title, e.Hint, e.repeat = v.class, v.code, v.owner, v.title, v.hint, v.repeat
}

// What the content is refused for.
func validationFailed() verdict {
	return verdict{"data-validation-failed", Invalid, OwnerMapping, "the target refuses the content",
		"Correct the named properties in the mapping or in the source; the record is sent again when its payload changes.", false}
}

func descriptorUnknown() verdict {
	return verdict{"descriptor-unknown", Invalid, OwnerMapping, "the target does not know a descriptor value",
		"Map the local code to a value the target has, or have its host load the descriptor.", false}
}

func badRequest() verdict {
	return verdict{"bad-request", Invalid, OwnerUs, "the target cannot read the request",
		"This is a defect of edfisync or of a proxy that alters requests; please report it with the correlation id.", false}
}

func tooLarge() verdict {
	return verdict{"too-large", Invalid, OwnerSource, "the record is larger than the target or a proxy accepts",
		"Reduce the record's collections, or have the host raise its request size limit.", false}
}

// What the operation is refused for.
func keyChange() verdict {
	return verdict{"key-change-not-supported", Rejected, OwnerTarget, "the natural key of this resource cannot be changed",
		"The record has to be deleted and created anew under its new key.", false}
}

func identityConflict() verdict {
	return verdict{"identity-conflict", Rejected, OwnerSource, "another item has the same identifying values",
		"Look for a second source row with this key, or a school and an agency that share one id.", false}
}

func valuesConflict() verdict {
	return verdict{"non-unique-values", Rejected, OwnerSource, "another item has a value that must be unique",
		"Look for a second source row with this value.", false}
}

func claimDenied() verdict {
	return verdict{"claim-denied", Rejected, OwnerTarget, "the claim set of these credentials does not allow this",
		"Ask the target's host to allow the operation on this resource, or take the resource out of the connection's scope.", false}
}

func namespaceDenied() verdict {
	return verdict{"namespace-denied", Rejected, OwnerTarget, "the item's namespace is not one of these credentials",
		"Send a namespace assigned to the credentials, or ask the target's host to assign it.", false}
}

func ownershipDenied() verdict {
	return verdict{"ownership-denied", Rejected, OwnerTarget, "the item belongs to another client of the target",
		"Ask the target's host which client owns the item.", false}
}

func forbidden() verdict {
	return verdict{"forbidden", Rejected, OwnerTarget, "the target does not authorise this",
		"Ask the target's host, naming the correlation id.", false}
}

func profileRefused() verdict {
	return verdict{"profile", Rejected, OwnerTarget, "an API profile of these credentials does not allow this",
		"Ask the target's host for credentials without a profile, or for a profile that covers the resource.", false}
}

func methodRefused() verdict {
	return verdict{"method-not-allowed", Rejected, OwnerTarget, "the target does not allow this method here",
		"Ask the target's host; on IIS the WebDAV module answers PUT and DELETE this way and has to be removed.", false}
}

func mediaTypeRefused() verdict {
	return verdict{"media-type", Rejected, OwnerTarget, "the target does not accept this content type",
		"Ask the target's host whether a profile or a proxy demands another content type.", false}
}

func parameterRefused() verdict {
	return verdict{"parameter", Rejected, OwnerUs, "the target refuses a query parameter",
		"The target's page size or paging differs from what it announced; please report it with the correlation id.", false}
}

func noSuchResource() verdict {
	return verdict{"no-such-resource", Rejected, OwnerMapping, "the target has no such resource",
		"Check the resource's name against the target's data standard and extensions.", false}
}

func refusedByProxy() verdict {
	return verdict{"refused-before-api", Rejected, OwnerTarget, "something in front of the API refused the request",
		"Ask the target's host for the rule of its firewall or proxy that this request met.", false}
}

func refused() verdict {
	return verdict{"refused", Rejected, OwnerTarget, "the target refused the request",
		"Ask the target's host, naming the correlation id.", false}
}

func ambiguousKey() verdict {
	return verdict{"ambiguous-key", Rejected, OwnerTarget, "a look-up by natural key finds several items",
		"The target ignores a query parameter of the key; please report it with the target's version.", false}
}

// What has to be there, or gone, first.
func unresolvedReference() verdict {
	return verdict{"unresolved-reference", Blocked, OwnerSource, "a referenced item does not exist at the target",
		"The record is sent again after the named item; if that never comes, the source row refers to nothing.", false}
}

func noRelationship() verdict {
	return verdict{"no-relationship", Blocked, OwnerTarget, "no relationship authorises these credentials for the item",
		"The named association has to exist first; if it does, ask the target's host which organizations the credentials are for.", false}
}

func dependentExists() verdict {
	return verdict{"dependent-exists", Blocked, OwnerTarget, "another item still refers to this one",
		"The dependent item has to be deleted first: its row in the SIS if it is of this connection; else its owner has to.", false}
}

// What may pass.
func multiUserConflict() verdict {
	return verdict{"multi-user-conflict", Transient, OwnerTarget, "another write to the item was in progress",
		"It is tried again in each run.", true}
}

func changedMeanwhile() verdict {
	return verdict{"changed-meanwhile", Transient, OwnerTarget, "the item was changed by someone else",
		"The next run compares it again; find out which other client writes it.", false}
}

func tooManyRequests() verdict {
	return verdict{"too-many-requests", Transient, OwnerTarget, "the target limits the rate of requests",
		"Lower the connection's concurrency, or ask the target's host for a higher limit.", true}
}

// tooManyTokens: the token endpoint keeps few tokens of a key alive (15 by default, for 30 minutes) and refuses more (F19).
func tooManyTokens() verdict {
	return verdict{"too-many-tokens", Transient, OwnerMapping, "the target gives these credentials no more tokens for now",
		"Each start of a program takes a token, and the host keeps only so many alive, for up to 30 minutes: one is free again half an hour " +
			"after the oldest was taken. Wait, start fewer programs with this key, " +
			"or let one process do the runs.", true}
}

func targetFailed() verdict {
	return verdict{"target-error", Transient, OwnerTarget, "the target failed",
		"It is tried again in each run; if it goes on, give the correlation id to the target's host.", true}
}

func unavailable() verdict {
	return verdict{"unavailable", Transient, OwnerTarget, "the target is not available",
		"It is tried again in each run; if it goes on, ask the target's host.", true}
}

func notTheAPI() verdict {
	return verdict{"not-the-api", Transient, OwnerTarget, "something other than the API answered",
		"A proxy, a login page or a maintenance page answers in the API's place; check the base URL and ask the target's host.", true}
}

func redirected() verdict {
	return verdict{"redirected", Transient, OwnerTarget, "the target redirects; redirects are not followed with a token",
		"Check the base URL: a proxy or a login page is in front of the API.", true}
}

func unreachable() verdict {
	return verdict{"unreachable", Transient, OwnerTarget, "the target cannot be reached",
		"Check the base URL, DNS and firewalls; it is tried again in each run.", true}
}

func dropped() verdict {
	return verdict{"dropped", Transient, OwnerTarget, "the connection broke before the answer was complete",
		"It is tried again in each run; repeats are idempotent.", true}
}

func timedOut() verdict {
	return verdict{"timeout", Transient, OwnerTarget, "the target did not answer in time",
		"It is tried again in each run; if it goes on, lower the concurrency or raise the timeout.", true}
}

func cancelled() verdict {
	return verdict{"cancelled", Transient, OwnerUs, "the call was cancelled",
		"It is settled by the next run.", false}
}

func tooMuch() verdict {
	return verdict{"response-too-large", Transient, OwnerTarget, "the response is larger than allowed",
		"Ask for smaller pages, or find out what answers in the API's place.", false}
}

func noID() verdict {
	return verdict{"no-id", Transient, OwnerTarget, "the target took the record but did not tell its id",
		"The record is sent again until its id is known; find the proxy that drops the Location header.", false}
}

// What ends the run.
func moved() verdict {
	return verdict{"moved", Stop, OwnerMapping, "the API has moved; redirects are not followed with a token",
		"Put the API's new address into the connection's base URL.", false}
}

func unauthenticated() verdict {
	return verdict{"unauthenticated", Stop, OwnerTarget, "the target does not accept a fresh token",
		"The key may have been revoked, or the token comes from another host's token service; ask the target's host.", false}
}

func tokenRefused() verdict {
	return verdict{"credentials-refused", Stop, OwnerMapping, "the token endpoint refuses the credentials",
		"Check the connection's key and secret; if they are right, ask the target's host whether they were revoked or have expired.", false}
}

func guardFailed() verdict {
	return verdict{"guard", Stop, OwnerUs, "the call was not made: the run was ending, or may no longer write",
		"The next run makes it. Did the run not end by itself, another process has taken it over, or its lease could not be renewed in time.", false}
}

func untrusted() verdict {
	return verdict{"tls", Stop, OwnerTarget, "the target's certificate is not trusted; nothing was sent",
		"Have the host correct the certificate, or make this machine trust its authority.", false}
}

func noClientDetails() verdict {
	return verdict{"no-client", Stop, OwnerTarget, "the target knows nothing about these credentials",
		"Ask the target's host to set the API client up.", false}
}

func routeWrong() verdict {
	return verdict{"route", Stop, OwnerMapping, "the target has no such tenant or school year",
		"Correct the connection's tenant, school year or context.", false}
}

// What is not there.
func itemNotFound() verdict {
	return verdict{"not-found", NotFound, OwnerTarget, "the target has no such item",
		"It was deleted by someone else, or the target was restored; the next run puts it right.", false}
}

// typePrefix begins every problem type of the Ed-Fi API (v7.1 and later).
const typePrefix = "urn:ed-fi:api:"

// verdictOfType looks a problem type up, dropping its last segments until one is known: new types are refinements of old ones.
func verdictOfType(problemType string) (verdict, bool) {
	suffix, ok := strings.CutPrefix(problemType, typePrefix)
	if !ok {
		return verdict{}, false
	}
	for suffix != "" {
		if v, ok := verdictOfSuffix(suffix); ok {
			return v, true
		}
		suffix = suffix[:max(strings.LastIndexByte(suffix, ':'), 0)]
	}
	return verdict{}, false
}

// verdictOfSuffix is the table of problem types. Not in it: "bad-request" alone and "not-found", whose meaning lies in the detail.
func verdictOfSuffix(suffix string) (verdict, bool) {
	switch suffix {
	case "bad-request:data-validation-failed":
		return validationFailed(), true
	case "bad-request:data-validation-failed:key-change-not-supported":
		return keyChange(), true
	case "bad-request:parameter-validation-failed":
		return parameterRefused(), true
	case "bad-request:data-policy-enforced", "profile", "security:data-policy":
		return profileRefused(), true
	case "security:authentication", "unauthorized":
		return unauthenticated(), true
	case "security:authentication:too-many-tokens":
		return tooManyTokens(), true
	case "too-many-requests":
		return tooManyRequests(), true
	case "security:authorization", "security:authorization:relationships":
		return noRelationship(), true
	case "security:authorization:access-denied":
		return claimDenied(), true
	case "security:authorization:namespace":
		return namespaceDenied(), true
	case "security:authorization:ownership":
		return ownershipDenied(), true
	case "security:authorization:custom-view":
		return forbidden(), true
	case "security:authorization:no-client-details":
		return noClientDetails(), true
	case "security:authorization:composite", "method-not-allowed", "snapshots:method-not-allowed":
		return methodRefused(), true
	case "data-conflict:unresolved-reference":
		return unresolvedReference(), true
	case "data-conflict:dependent-item-exists":
		return dependentExists(), true
	case "data-conflict:non-unique-identity", "identity-conflict":
		return identityConflict(), true
	case "data-conflict:non-unique-values":
		return valuesConflict(), true
	case "data-conflict:multi-user-conflict":
		return multiUserConflict(), true
	case "optimistic-lock-failed", "precondition-failed":
		return changedMeanwhile(), true
	case "unsupported-media-type":
		return mediaTypeRefused(), true
	case "route-resolution-error":
		return routeWrong(), true
	case "system":
		return targetFailed(), true
	case "service-unavailable", "database-not-provisioned", "bad-gateway", "system:database-connection":
		return unavailable(), true
	}
	return verdict{}, false
}

// verdictOfStatus is the table of statuses, for answers whose body says nothing more.
func verdictOfStatus(status int, method string) verdict {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return validationFailed()
	case http.StatusUnauthorized:
		return unauthenticated()
	case http.StatusForbidden:
		return forbidden()
	case http.StatusNotFound, http.StatusGone:
		if method == http.MethodPost {
			return noSuchResource()
		}
		return itemNotFound()
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return methodRefused()
	case http.StatusConflict:
		return refused()
	case http.StatusPreconditionFailed:
		return changedMeanwhile()
	case http.StatusRequestEntityTooLarge:
		return tooLarge()
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return mediaTypeRefused()
	case http.StatusTooManyRequests, http.StatusTooEarly:
		return tooManyRequests()
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return unavailable()
	case http.StatusMovedPermanently, http.StatusPermanentRedirect:
		return moved()
	}
	switch {
	case status >= 500:
		return targetFailed()
	case status >= 400:
		return refused()
	case status >= 300:
		return redirected()
	}
	return notTheAPI()
}

// verdicts lists every kind of answer there is.
func verdicts() []verdict {
	return []verdict{
		validationFailed(), descriptorUnknown(), badRequest(), tooLarge(), keyChange(), identityConflict(), valuesConflict(), claimDenied(),
		namespaceDenied(), ownershipDenied(), forbidden(), profileRefused(), methodRefused(), mediaTypeRefused(), parameterRefused(), noSuchResource(),
		refusedByProxy(), refused(), ambiguousKey(), unresolvedReference(), noRelationship(), dependentExists(), multiUserConflict(), changedMeanwhile(),
		tooManyRequests(), tooManyTokens(), targetFailed(), unavailable(), notTheAPI(), redirected(), unreachable(), dropped(), timedOut(), cancelled(),
		tooMuch(), noID(), moved(), unauthenticated(), tokenRefused(), guardFailed(), untrusted(), noClientDetails(), routeWrong(), itemNotFound(),
	}
}

// Advice says who can act on answers of a code, and how; ok is false for a code that is not of this package. It may be called concurrently.
func Advice(code string) (owner Owner, hint string, ok bool) {
	for _, v := range verdicts() {
		if v.code == code {
			return v.owner, v.hint, true
		}
	}
	return "", "", false
}
