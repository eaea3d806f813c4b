// Package powerloss has no code but tests: what becomes of the ledger when the machine loses power, or the database server is killed, in the
// middle of a run (T4 of docs/guarantees.md).
//
// For SQLite, what the real database engine writes, syncs, creates and removes is noted below it, by a file system layer of SQLite's (VFS).
// At an operation picked by a seed the power fails: nothing is written from then on, and no call leaves. The next process finds what had
// been synced, and of the rest what the seed says: nothing, all, a part, or sectors of it in any order, some of them garbage. It must find
// every transaction that had been acknowledged, and bring target and ledger in line.
//
// For PostgreSQL a real server is killed with all its processes (kill -9) and started again.
//
// CONTRIBUTING.md says how to run more of it, and how to replay a seed.
package powerloss
