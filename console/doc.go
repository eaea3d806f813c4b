// Package console is the service's JSON API, /api/v1, the keys it is used with, and the pages people steer it by, which do what the API does. It shows what the ledger knows, asks for runs, and writes people's
// decisions to the ledger with their audit rows; it makes no call to a target or source.
//
// New(Config) returns the http.Handler to serve: its routes, each with the rule of who may call it, are in routes.go.
package console
