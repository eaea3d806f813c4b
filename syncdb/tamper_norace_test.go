//go:build !race

package syncdb_test

// tamperTrials is how many audit chains TestTamperedAuditIsFound tampers with.
const tamperTrials = 1000
