package sandbox

import (
	"net/http"
	"slices"
)

// FaultKind names one thing that goes wrong with a call, as scripts, --faults and the admin route write it. docs/sandbox.md lists them with the
// numbers of the fault catalogue.
type FaultKind string

// The faults of single calls. "After" means that the call is done before it goes wrong: a write has taken effect.
const (
	FaultDrop             FaultKind = "drop"              // the connection is closed without an answer, nothing was done
	FaultDropAfter        FaultKind = "drop-after"        // the call is done, its answer is lost
	FaultHang             FaultKind = "hang"              // silence for Fault.Delay (default 1 min), nothing was done
	FaultHangAfter        FaultKind = "hang-after"        // the call is done, then silence
	FaultReset            FaultKind = "reset"             // the connection is reset while the request is taken, nothing was done
	FaultTruncate         FaultKind = "truncate"          // the call is done, half of the answer arrives
	FaultHTML             FaultKind = "html"              // 200 with a page, as a proxy answers in place of the API; nothing was done
	FaultHTMLAfter        FaultKind = "html-after"        // the same in place of the API's answer to a call that was done
	FaultEmpty            FaultKind = "empty"             // 200 without headers or body that say anything; nothing was done
	FaultEmptyAfter       FaultKind = "empty-after"       // the same after the call was done
	FaultNoLocation       FaultKind = "no-location"       // 201 or 200 to a POST without a Location header
	FaultLocationHost     FaultKind = "location-host"     // Location names another host (Fault.Host)
	FaultLocationRelative FaultKind = "location-relative" // Location has no scheme and host
	FaultLocationLower    FaultKind = "location-lower"    // Location in lower case
	FaultLocationSlash    FaultKind = "location-slash"    // Location ends with a slash
	Fault500              FaultKind = "500"
	Fault502              FaultKind = "502"
	Fault503              FaultKind = "503"
	Fault504              FaultKind = "504"
	Fault500After         FaultKind = "500-after"
	Fault502After         FaultKind = "502-after"
	Fault503After         FaultKind = "503-after"
	Fault504After         FaultKind = "504-after"
	Fault429              FaultKind = "429"             // without Retry-After
	Fault429Seconds       FaultKind = "429-seconds"     // Retry-After: Fault.Delay in seconds (default 1)
	Fault429Date          FaultKind = "429-date"        // Retry-After: a date, Fault.Delay from now
	Fault429Absurd        FaultKind = "429-absurd"      // Retry-After: 1000000000
	FaultSlow             FaultKind = "slow"            // the call is done; its answer arrives a byte per Fault.Delay (default 1 s)
	FaultDelay            FaultKind = "delay"           // answered Fault.Delay (default 1 s) late
	FaultBig              FaultKind = "big"             // the call is done; the answer has 10 MB
	FaultBomb             FaultKind = "bomb"            // the call is done; the answer is 1 GiB in 1 MiB of gzip
	FaultExpired          FaultKind = "expired"         // the caller's token is no longer known: 401
	FaultTokenDown        FaultKind = "token-down"      // 503 from the token endpoint
	FaultTokenSlow        FaultKind = "token-slow"      // the token comes Fault.Delay late (default 5 s)
	FaultTokenScope       FaultKind = "token-scope"     // the token is for another scope than asked for
	FaultNoRelationship   FaultKind = "no-relationship" // 403, no relationship with the education organizations
	FaultDenied           FaultKind = "denied"          // 403, the claim set does not hold the action
	FaultUnresolved       FaultKind = "unresolved"      // 409 unresolved-reference
	FaultDependent        FaultKind = "dependent"       // 409 dependent-item-exists
	FaultDuplicate        FaultKind = "duplicate"       // 409 non-unique-identity
	FaultConflict         FaultKind = "conflict"        // 409 multi-user-conflict
	FaultKeyChange        FaultKind = "key-change"      // 400 key-change-not-supported
	FaultGone             FaultKind = "gone"            // 404, no such item
	FaultNoRoute          FaultKind = "no-route"        // 404, as for a resource the API does not have
	FaultChanged          FaultKind = "changed"         // 412
	FaultRedirect301      FaultKind = "redirect-301"    // to Fault.Host
	FaultRedirect302      FaultKind = "redirect-302"
	FaultRedirect307      FaultKind = "redirect-307"
	FaultLate             FaultKind = "late" // what the POST created is not seen by reads for Fault.Delay (default 2 s)
)

// faultScope says which calls a kind can happen to.
type faultScope uint8

const (
	onPost faultScope = 1 << iota
	onPut
	onDelete
	onRead
	onToken

	onBody  = onPost | onPut
	onWrite = onBody | onDelete
	onItem  = onPut | onDelete | onRead
	onData  = onWrite | onRead
	onAny   = onData | onToken
)

// faultInfo is what the sandbox knows about a kind.
type faultInfo struct {
	kind      FaultKind
	scope     faultScope
	transient bool // a client that repeats gets through, soon: what a seed uses when no kinds are named
}

// faultKinds lists every kind. The order is part of what a seed means: append only.
func faultKinds() []faultInfo {
	return []faultInfo{
		{FaultDrop, onAny, true},
		{FaultDropAfter, onAny, true},
		{FaultHang, onAny, false},
		{FaultHangAfter, onAny, false},
		{FaultReset, onAny, true},
		{FaultTruncate, onData, true},
		{FaultHTML, onAny, true},
		{FaultHTMLAfter, onAny, true},
		{FaultEmpty, onAny, true},
		{FaultEmptyAfter, onAny, true},
		{FaultNoLocation, onPost, true},
		{FaultLocationHost, onPost, true},
		{FaultLocationRelative, onPost, true},
		{FaultLocationLower, onPost, true},
		{FaultLocationSlash, onPost, true},
		{Fault500, onAny, true},
		{Fault502, onAny, true},
		{Fault503, onAny, true},
		{Fault504, onAny, true},
		{Fault500After, onData, true},
		{Fault502After, onData, true},
		{Fault503After, onData, true},
		{Fault504After, onData, true},
		{Fault429, onAny, true},
		{Fault429Seconds, onAny, true},
		{Fault429Date, onAny, true},
		{Fault429Absurd, onAny, false},
		{FaultSlow, onData, false},
		{FaultDelay, onAny, true},
		{FaultBig, onData, false},
		{FaultBomb, onData, false},
		{FaultExpired, onData, true},
		{FaultTokenDown, onToken, false},
		{FaultTokenSlow, onToken, false},
		{FaultTokenScope, onToken, false},
		{FaultNoRelationship, onData, false},
		{FaultDenied, onData, false},
		{FaultUnresolved, onBody, false},
		{FaultDependent, onDelete, false},
		{FaultDuplicate, onBody, false},
		{FaultConflict, onWrite, true},
		{FaultKeyChange, onPut, false},
		{FaultGone, onItem, false},
		{FaultNoRoute, onData, false},
		{FaultChanged, onPut | onDelete, false},
		{FaultRedirect301, onAny, false},
		{FaultRedirect302, onAny, false},
		{FaultRedirect307, onAny, false},
		{FaultLate, onPost, true},
	}
}

// FaultKinds lists all kinds. With transientOnly they are those a client that repeats its calls gets through soon, which is what a seed uses
// unless told otherwise.
func FaultKinds(transientOnly bool) []FaultKind {
	var out []FaultKind
	for _, i := range faultKinds() {
		if i.transient || !transientOnly {
			out = append(out, i.kind)
		}
	}
	return out
}

func (k FaultKind) info() (faultInfo, bool) {
	all := faultKinds()
	i := slices.IndexFunc(all, func(f faultInfo) bool { return f.kind == k })
	if i < 0 {
		return faultInfo{}, false
	}
	return all[i], true
}

// TokenResource is the Operation.Resource of calls to the token endpoint.
const TokenResource = "oauth/token"

func (op Operation) scope() faultScope {
	if op.Resource == TokenResource {
		return onToken
	}
	switch op.Method {
	case http.MethodPost:
		return onPost
	case http.MethodPut:
		return onPut
	case http.MethodDelete:
		return onDelete
	}
	return onRead
}
