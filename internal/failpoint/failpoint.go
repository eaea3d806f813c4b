// Package failpoint names the moments of a run at which the process may die, so that a test can kill it at any of them: before and after
// everything that makes something durable or sends something. Built with the tag failpoints a point kills the process with SIGKILL when
// the environment says so; without the tag Reach is empty and compiled away.
//
//	EDFISYNC_FAILPOINT=intent.after:3                     dies when the point is reached for the third time
//	EDFISYNC_FAILPOINT=call.before:1:ed-fi/students/POST  counts only calls of that verb to that resource; either half may be empty
//	EDFISYNC_FAILPOINT_LOG=FILE                           a line "POINT RESOURCE VERB" for every point reached, "KILL …" for the last
//
// The log is how a test knows that what it meant to test took place.
package failpoint

// Point is the name of a moment.
type Point string

// The points. "before" and "after" surround what makes something durable, or leaves the process.
const (
	HolderMade       Point = "holder.made" // the lock file that says the process is alive
	KeyBefore        Point = "key.before"  // the ledger's key file
	KeyAfter         Point = "key.after"
	MigrateBefore    Point = "migrate.before" // all migrations
	MigrateAfter     Point = "migrate.after"
	IdentityBefore   Point = "identity.before" // the ledger's own id
	IdentityAfter    Point = "identity.after"
	ConnectionBefore Point = "connection.before" // a connection's row and key
	ConnectionAfter  Point = "connection.after"
	NumberBefore     Point = "number.before" // a resource's number in the dictionary
	NumberAfter      Point = "number.after"

	DiscoveryBefore Point = "discovery.before" // the target's root document
	DiscoveryAfter  Point = "discovery.after"
	TokenBefore     Point = "token.before"
	TokenAfter      Point = "token.after"

	RequestBefore Point = "request.before" // the wish for a run
	RequestAfter  Point = "request.after"
	StartBefore   Point = "start.before" // the lease
	StartAfter    Point = "start.after"
	RenewBefore   Point = "renew.before"
	RenewAfter    Point = "renew.after"
	ExpireBefore  Point = "expire.before" // taking over from a process that is gone
	ExpireAfter   Point = "expire.after"
	RecoverBefore Point = "recover.before" // folding what an earlier run left
	RecoverAfter  Point = "recover.after"

	SpoolsBefore Point = "spools.before" // the run's directory
	SpoolsAfter  Point = "spools.after"
	SpoolBefore  Point = "spool.before" // one segment
	SpoolAfter   Point = "spool.after"
	ScanBefore   Point = "scan.before" // the snapshot
	ScanResource Point = "scan.resource"
	ScanAfter    Point = "scan.after"
	GoneAfter    Point = "gone.after" // entries without a row are known
	Planned      Point = "planned"

	ScopeBefore    Point = "scope.before" // the rules the hashes are made under
	ScopeAfter     Point = "scope.after"
	IntentBefore   Point = "intent.before"
	IntentAfter    Point = "intent.after"
	CallBefore     Point = "call.before" // an op's call, repeats and waits included
	CallAfter      Point = "call.after"
	AttemptBefore  Point = "attempt.before"  // one HTTP exchange
	AttemptHeaders Point = "attempt.headers" // its status line is here, its body is not
	AttemptAfter   Point = "attempt.after"
	ResultBefore   Point = "result.before"
	ResultAfter    Point = "result.after"
	FoldBefore     Point = "fold.before"
	ChunkBefore    Point = "chunk.before" // one transaction of a fold
	ChunkWritten   Point = "chunk.written"
	ChunkAfter     Point = "chunk.after"
	FoldAfter      Point = "fold.after"
	StepBefore     Point = "step.before" // the note that a step is done
	StepAfter      Point = "step.after"
	ProblemsBefore Point = "problems.before"
	ProblemsAfter  Point = "problems.after"
	ClaimBefore    Point = "claim.before"
	ClaimAfter     Point = "claim.after"
	ClearBefore    Point = "clear.before" // problems that are gone
	ClearAfter     Point = "clear.after"
	HistoryBefore  Point = "history.before" // one segment of what was sent
	HistoryAfter   Point = "history.after"
	PurgeBefore    Point = "purge.before" // history that was kept long enough
	PurgeAfter     Point = "purge.after"
	FinishBefore   Point = "finish.before" // the end of the run
	FinishAfter    Point = "finish.after"

	TransactionBegun   Point = "transaction.begun" // any transaction but a fold's
	TransactionWritten Point = "transaction.written"
	TransactionAfter   Point = "transaction.after"

	HoldBefore    Point = "hold.before" // what a safeguard keeps back
	HoldAfter     Point = "hold.after"
	PlanBefore    Point = "plan.before" // a plan that is saved
	PlanAfter     Point = "plan.after"
	DecideBefore  Point = "decide.before" // what a person says about either
	DecideAfter   Point = "decide.after"
	CloseBefore   Point = "close.before" // applied, released or refused
	CloseAfter    Point = "close.after"
	AuditBefore   Point = "audit.before" // an act that is not in a transaction of its own
	AuditAfter    Point = "audit.after"
	EntriesBefore Point = "entries.before" // records that are taken over, or are gone
	EntriesAfter  Point = "entries.after"
	TargetBefore  Point = "target.before" // what is remembered of the target
	TargetAfter   Point = "target.after"
	ReceiptBefore Point = "receipt.before"
	ReceiptAfter  Point = "receipt.after"

	RemoveBefore Point = "remove.before" // one batch of what retention removes
	RemoveAfter  Point = "remove.after"
	CutBefore    Point = "cut.before" // one batch from the beginning of the audit trail
	CutAfter     Point = "cut.after"
	ScrubBefore  Point = "scrub.before" // the log of what was removed
	ScrubAfter   Point = "scrub.after"

	BackupBefore    Point = "backup.before" // it is audited, and nothing is written
	BackupCopied    Point = "backup.copied" // the plain copy is there
	BackupWritten   Point = "backup.written"
	BackupAfter     Point = "backup.after"
	RestoreUnpacked Point = "restore.unpacked" // beside the ledger
	RestoreTried    Point = "restore.tried"    // it opens, and says that it was restored
	RestoreAside    Point = "restore.aside"    // the ledger that was there is put aside
	RestorePlaced   Point = "restore.placed"
	RestoreAfter    Point = "restore.after"

	WitnessBefore  Point = "witness.before"
	WitnessWritten Point = "witness.written" // under its temporary name
	WitnessAfter   Point = "witness.after"
)

// All returns every point.
func All() []Point {
	return []Point{
		HolderMade, KeyBefore, KeyAfter, MigrateBefore, MigrateAfter, IdentityBefore, IdentityAfter, ConnectionBefore, ConnectionAfter,
		NumberBefore, NumberAfter, DiscoveryBefore, DiscoveryAfter, TokenBefore, TokenAfter, RequestBefore, RequestAfter, StartBefore,
		StartAfter, RenewBefore, RenewAfter, ExpireBefore, ExpireAfter, RecoverBefore, RecoverAfter, SpoolsBefore, SpoolsAfter,
		SpoolBefore, SpoolAfter, ScanBefore, ScanResource, ScanAfter, GoneAfter, Planned, ScopeBefore, ScopeAfter, IntentBefore,
		IntentAfter, CallBefore, CallAfter, AttemptBefore, AttemptHeaders, AttemptAfter, ResultBefore, ResultAfter, FoldBefore,
		ChunkBefore, ChunkWritten, ChunkAfter, FoldAfter, StepBefore, StepAfter, ProblemsBefore, ProblemsAfter, ClaimBefore,
		ClaimAfter, ClearBefore, ClearAfter, HistoryBefore, HistoryAfter, PurgeBefore, PurgeAfter, FinishBefore, FinishAfter, TransactionBegun, TransactionWritten, TransactionAfter,
		HoldBefore, HoldAfter, PlanBefore, PlanAfter, DecideBefore, DecideAfter, CloseBefore, CloseAfter, AuditBefore, AuditAfter, EntriesBefore,
		EntriesAfter, TargetBefore, TargetAfter, ReceiptBefore, ReceiptAfter, WitnessBefore, WitnessWritten, WitnessAfter,
		RemoveBefore, RemoveAfter, CutBefore, CutAfter, ScrubBefore, ScrubAfter, BackupBefore, BackupCopied, BackupWritten, BackupAfter,
		RestoreUnpacked, RestoreTried, RestoreAside, RestorePlaced, RestoreAfter,
	}
}
