//go:build !race

package syncdbtest

// Sizes of the tests that work on many entries.
const (
	bigEntries         = 50_000
	interruptedEntries = 3000
	historySeeds       = 6
)
