// Package simulate has no code but tests: a deterministic simulation of the engine. Each world is a few school districts with a source, a
// target, a ledger and processes that sync them, all in virtual time (testing/synctest); sync.Engine, edfi.Client, the sandbox and the
// ledger, in memory or on SQLite, are the real ones. A seed says what happens in a world: what people edit, which calls and transactions fail, when
// processes die. After the faults have stopped, the target must hold what the sources say, and nothing on the way may have broken a
// promise of docs/guarantees.md (T1). CONTRIBUTING.md says how to run it and what to do with a seed that fails.
package simulate
