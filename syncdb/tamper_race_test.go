//go:build race

package syncdb_test

// The race detector makes SQLite, which is Go here, ten times slower, and nothing races in these trials.
const tamperTrials = 80
