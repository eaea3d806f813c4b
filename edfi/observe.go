package edfi

import (
	"context"
	"net/http"
	"time"
)

// Exchange is one request to the target, as an Observer is told of it. It names no id and no key (I14).
type Exchange struct {
	Method   string // "POST"
	Resource string // "ed-fi/students", or the endpoint's name: "token", "discovery"
	Attempt  int    // 1, or more for a repeat of the same call
	Write    bool   // it changes an item
}

// Result is how an exchange ended.
type Result struct {
	Status int    // HTTP status; 0 when there was no answer
	Code   string // Error.Code; "" when it succeeded
	Took   time.Duration
}

// Observer is told of every exchange with the target, for metrics and traces. Its methods must be quick and safe for concurrent use.
type Observer interface {
	// Begin is called right before a request is sent. What it returns as header is added to the request, unless that is for a token; nil adds
	// nothing. done is called once, when the answer was read, and must not be nil.
	Begin(ctx context.Context, e Exchange) (header http.Header, done func(Result))
}

// observe tells the observer, if there is one, of an exchange that begins.
func (c Config) observe(ctx context.Context, e Exchange) (http.Header, func(Result)) {
	if c.Observer == nil {
		return nil, func(Result) {}
	}
	return c.Observer.Begin(ctx, e)
}

// codeOf is the code of an error that may be none.
func codeOf(err *Error) string {
	if err == nil {
		return ""
	}
	return err.Code
}

// merged is a header with what is added to it. The header itself is shared by calls and stays as it is.
func merged(header, added http.Header) http.Header {
	if len(added) == 0 {
		return header
	}
	out := header.Clone()
	for name, values := range added {
		out[name] = values
	}
	return out
}
