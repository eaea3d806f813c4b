//go:build !race

package syncdbtest

// Sizes of the tests that work on many entries.
const (
	bigEntries         = 50_000
	interruptedEntries = 3000
	historySeeds       = 6
	manyOps            = 32*8192 + 1 // of a plan: more than are sorted at once
	manyEntries        = 20_001      // put at once: more than two windows of either database
	manyAttempts       = 9000        // saved at once: more than one segment
)
