//go:build race

package syncdbtest

// The race detector makes SQLite, which is Go here, ten times slower; what races shows with fewer entries too.
const (
	bigEntries         = 4000
	interruptedEntries = 400
	historySeeds       = 2
	manyOps            = 8192
	manyEntries        = 2001
	manyAttempts       = 9000
)
