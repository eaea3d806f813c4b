package console

import (
	"context"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is what the console needs of the ledger. *syncdb.DB is one.
type Ledger interface {
	KeyLedger
	keyLister
	sessionLedger
	connectionLedger
	runLedger
	runLogLedger
	askLedger
	planLedger
	issueLedger
	auditLedger
	receiptLedger
	alertLedger
}

var _ Ledger = (*syncdb.DB)(nil)

type keyLister interface {
	APIKeys(ctx context.Context) ([]syncdb.APIKey, error)
}

type sessionLedger interface {
	CreateSession(ctx context.Context, s syncdb.Session, act syncdb.AuditRow) error
	EndSession(ctx context.Context, hash [32]byte) error
}

type connectionLedger interface {
	Identity(ctx context.Context) (ledger string, generation int64, err error)
	Connections(ctx context.Context) ([]syncdb.Connection, error)
	Connection(ctx context.Context, tenant, name string) (syncdb.Connection, *keys.Ring, error)
	Pauses(ctx context.Context) (map[int64]syncdb.Pause, error)
	PauseOf(ctx context.Context, connection int64) (p syncdb.Pause, paused bool, err error)
	Prospects(ctx context.Context) (map[int64]syncdb.Prospect, error)
	SetPause(ctx context.Context, connection int64, p *syncdb.Pause, act syncdb.AuditRow) error
	Alarms(ctx context.Context) ([]syncdb.Alarm, error)
	OpenCounts(ctx context.Context) (map[int64]syncdb.OpenCount, error)
	CountIssues(ctx context.Context, codes []string) (map[int64]int64, error)
}

type runLedger interface {
	FindRuns(ctx context.Context, f syncdb.RunFilter) ([]syncdb.Run, error)
	LastRuns(ctx context.Context) (last, done map[int64]syncdb.Run, err error)
	FindProgress(ctx context.Context, id int64) (syncdb.RunProgress, error)
	OpenProgress(ctx context.Context, tenant string) ([]syncdb.RunProgress, error)
	Steps(ctx context.Context, run int64) ([]syncdb.Step, error)
	CancelRun(ctx context.Context, id int64, act syncdb.AuditRow) (syncdb.Run, error)
}

type askLedger interface {
	Asked(ctx context.Context, owner, key string) (syncdb.AskedRun, error)
	KeepAsked(ctx context.Context, a syncdb.AskedRun) (syncdb.AskedRun, error)
}

type planLedger interface {
	Plans(ctx context.Context, connection int64, f syncdb.PlanFilter) ([]syncdb.Plan, error)
	FindPlan(ctx context.Context, id int64) (syncdb.Plan, error)
	PlanOps(ctx context.Context, connection, id int64, fn func(syncdb.PlanOp) error) error
	DecidePlan(ctx context.Context, connection, id int64, decision syncdb.Decision) (syncdb.Plan, error)
}

type issueLedger interface {
	sync.RankingLedger
	sync.RecallLedger
	ClearedIssues(ctx context.Context, connection int64) ([]syncdb.Issue, error)
	RetryProblemsAs(ctx context.Context, connection int64, f syncdb.ProblemFilter, act syncdb.AuditRow) (int, error)
	FindIssue(ctx context.Context, id int64) (issue syncdb.Issue, connection int64, err error)
	ArchiveIssue(ctx context.Context, connection, id int64, a syncdb.Archived, act syncdb.AuditRow) error
	UnarchiveIssue(ctx context.Context, connection, id int64, act syncdb.AuditRow) (was bool, err error)
}

type auditLedger interface {
	Audit(ctx context.Context, a syncdb.AuditRow) error
	FindAudit(ctx context.Context, f syncdb.AuditFilter) ([]syncdb.AuditRow, error)
	VerifyAudit(ctx context.Context) (firstBad int64, err error)
	// AuditCut is the last row that was removed because it was kept for long enough, 0 for none.
	AuditCut(ctx context.Context) (row int64, hash []byte, err error)
}

type receiptLedger interface {
	ReceiptsBefore(ctx context.Context, connection, before int64, limit int) ([]syncdb.Receipt, error)
	ReceiptOf(ctx context.Context, connection, run int64) (syncdb.Receipt, error)
}
