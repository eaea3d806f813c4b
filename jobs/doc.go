// Package jobs decides when runs happen: people and programs ask for them, schedules ask for them, and workers do them, in one process or in
// many. What a run is, whether one waits already and who may write are the ledger's to say (syncdb); a job of the queue carries a run's id and
// nothing else, and is a doorbell: it may ring twice, late, or not at all, and every run is still done exactly once (engine.md §5).
//
// The queue is River: on PostgreSQL in the ledger's database, in a schema of its own; beside an embedded ledger in a SQLite file of its own.
package jobs
