package sync

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Cause is an issue as something that stands in the way: of its own rows, and of those that wait for them. Waiting rows are counted once, with
// the first record they miss; so the figures of all causes add up to all rows that are not in sync.
type Cause struct {
	syncdb.Issue
	// Own are rows of the issue that wait for no other row with a problem: mending it frees them.
	Own int64 `json:"own" doc:"Rows of the issue that wait for no other row: mending it frees them."`
	// Frees are rows of any issue that wait for rows of Own, directly or through others.
	Frees int64 `json:"frees" doc:"Rows of any issue that wait for those, directly or through others."`
	// Waits are rows of the issue that wait for rows of other issues: they follow by themselves.
	Waits int64  `json:"waits" doc:"Rows of the issue that wait for rows of other issues: they follow by themselves."`
	Hint  string `json:"hint,omitempty" doc:"What to do."` // what to do
	// Informs says that nothing has to be done: the rows are as somebody wants them.
	Informs bool `json:"informs,omitempty" doc:"Nothing has to be done: the rows are as somebody wants them."`
	// Stale says that Own, Frees and Waits are those of the last run that ended, and that a run has changed rows since; of an issue that is younger they
	// are a guess. Only OpenCauses with a limit returns such.
	Stale bool `json:"stale,omitempty" doc:"own, frees and waits are those of the last run that ended, and a run has changed rows since; of an issue that is younger they are a guess."`
}

// InformingCodes are the codes of issues that only tell what is: nobody has to do anything.
func InformingCodes() []string { return []string{"met-existing", string(RulePreventDelete)} }

// informs reports whether an issue code only tells what is.
func informs(code string) bool { return slices.Contains(InformingCodes(), code) }

// CauseLedger is the part of the ledger that causes are ranked from.
type CauseLedger interface {
	Issues(ctx context.Context, connection int64, openOnly bool) ([]syncdb.Issue, error)
	ProblemLinks(ctx context.Context, connection int64, fn func(syncdb.ProblemLink) error) error
}

// RankCauses returns the open issues of a connection: those of whole resources the source does not show first, then the one whose solution lets most records through, those that only inform last. It reads hashes and counts, no
// student data, and takes about 40 bytes of memory for each row that is not in sync. It may be called during a run, whose changes it then
// sees in part.
func RankCauses(ctx context.Context, l CauseLedger, connection int64) ([]Cause, error) {
	issues, err := l.Issues(ctx, connection, true)
	if err != nil {
		return nil, err
	}
	var r ranking
	if err := l.ProblemLinks(ctx, connection, func(link syncdb.ProblemLink) error { r.add(link); return nil }); err != nil {
		return nil, fmt.Errorf("rank causes: %w", err)
	}
	return r.rank(issues), nil
}

// RankingLedger is the part of the ledger that has the ranking of the last run, too.
type RankingLedger interface {
	CauseLedger
	RankingOf(ctx context.Context, connection int64) (syncdb.Ranking, error)
	RankedIssues(ctx context.Context, connection int64) ([]syncdb.RankedIssue, error)
	// MoreProblems reports whether more than n rows are not in sync.
	MoreProblems(ctx context.Context, connection int64, n int) (bool, error)
}

// OpenCauses is RankCauses that takes what the last run kept as long as no row has changed since, and reads no row then. When one has, it ranks them anew;
// but with a limit it reads no more rows than that, and returns what was kept, with Stale, when there are more.
func OpenCauses(ctx context.Context, l RankingLedger, connection int64, limit int) ([]Cause, error) {
	kept, err := l.RankingOf(ctx, connection)
	if err != nil {
		return nil, err
	}
	many := false
	if !kept.Current && limit > 0 {
		if many, err = l.MoreProblems(ctx, connection, limit); err != nil {
			return nil, err
		}
	}
	if !kept.Current && !many {
		return RankCauses(ctx, l, connection)
	}
	issues, err := l.RankedIssues(ctx, connection)
	if err != nil {
		return nil, err
	}
	out := make([]Cause, len(issues))
	for i, ranked := range issues {
		out[i] = causeOfIssue(ranked.Issue)
		out[i].Own, out[i].Frees, out[i].Waits, out[i].Stale = ranked.Own, ranked.Frees, ranked.Waits, !kept.Current
		switch {
		case ranked.Ranked:
		case ranked.Outcome == Blocked.String():
			out[i].Waits = ranked.Rows
		default:
			out[i].Own = ranked.Rows
		}
	}
	sortCauses(out)
	return out, nil
}

// PartArchived parts the causes that are in sight from those that somebody has archived. Both keep their order.
func PartArchived(causes []Cause) (inSight, archived []Cause) {
	for i := range causes {
		if causes[i].Archived.IsZero() {
			inSight = append(inSight, causes[i])
		} else {
			archived = append(archived, causes[i])
		}
	}
	return inSight, archived
}

// causeOfIssue is an issue that stands in nothing's way yet.
func causeOfIssue(issue syncdb.Issue) Cause {
	c := Cause{Issue: issue, Informs: informs(issue.Code)}
	if a, ok := AdviceOn(issue.Code); ok {
		c.Hint = a.Hint
	}
	return c
}

// comesFirst reports whether an issue is about a whole resource that the source does not show, or not as it was: rows of other resources break rules for that
// alone, and to correct them one by one would be wrong.
func comesFirst(code string) bool {
	switch Rule(code) {
	case RuleEmptySource, RuleShortSource, RuleSourceBehind, RuleTargetReset:
		return true
	}
	return false
}

// sortCauses puts those first that concern whole resources, then the one whose solution lets most records through, and those last that only inform.
func sortCauses(causes []Cause) {
	place := func(c *Cause) int {
		switch {
		case c.Informs:
			return 2
		case comesFirst(c.Code):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(place(&a), place(&b)), -cmp.Compare(a.Own+a.Frees, b.Own+b.Frees), -cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.ID, b.ID))
	})
}

// rankingTimeout is how long the end of a run waits for its ranking at most.
const rankingTimeout = 2 * time.Minute

// keepRanking keeps the ranking of the rows as the run leaves them, so that looking at issues need not read a row. Nothing depends on it: when it cannot be
// kept, the ledger knows that what it has is older (SaveRanking), and whoever looks ranks.
func (e *Engine) keepRanking(ctx context.Context, k *keeper) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rankingTimeout)
	defer cancel()
	kept, err := e.Ledger.RankingOf(ctx, e.Connection.ID)
	if err == nil && kept.Current {
		return // a run that changes nothing writes nothing (I22)
	}
	var causes []Cause
	if err == nil {
		causes, err = RankCauses(ctx, e.Ledger, e.Connection.ID)
	}
	if err == nil {
		ranks := make(map[int64]syncdb.Rank, len(causes))
		for i := range causes {
			ranks[causes[i].ID] = syncdb.Rank{Own: causes[i].Own, Frees: causes[i].Frees, Waits: causes[i].Waits}
		}
		err = e.Ledger.SaveRanking(ctx, k.current(), ranks) // I7: nobody else changes rows while the lease is ours
	}
	if err != nil {
		e.logger().WarnContext(ctx, "keep the ranking of causes", slog.Any("error", err))
	}
}

// ranking follows every row to the row at the root of its trouble.
type ranking struct {
	resources map[string]uint32 // path → number from 1; 0 = none
	rows      []rankedRow
}

// rankedRow is one row that is not in sync. Hashes are cut: a mistake in 10^13 rows does no harm to a ranking.
type rankedRow struct {
	key, blockedKey           uint64
	resource, blockedResource uint32
	issue                     int64
	root                      int32 // index of the row at the root; -1 = not known yet
	stands                    bool  // it keeps a record from being at the target, so that others can wait for it
}

func (r *ranking) number(resource string) uint32 {
	if resource == "" {
		return 0
	}
	if r.resources == nil {
		r.resources = map[string]uint32{}
	}
	n, ok := r.resources[resource]
	if !ok {
		n = uint32(len(r.resources) + 1)
		r.resources[resource] = n
	}
	return n
}

func (r *ranking) add(l syncdb.ProblemLink) {
	r.rows = append(r.rows, rankedRow{
		key: binary.BigEndian.Uint64(l.KeyHash[:8]), blockedKey: binary.BigEndian.Uint64(l.BlockedKey[:8]),
		resource: r.number(l.Resource), blockedResource: r.number(l.BlockedResource), issue: l.IssueID, root: -1,
		stands: l.Outcome != syncdb.OutcomeMet && !l.KeyHash.IsZero(),
	})
}

// place orders rows so that those others can wait for come first, by resource and key.
func (a rankedRow) place(b rankedRow) int {
	if a.stands != b.stands {
		if a.stands {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.resource, b.resource), cmp.Compare(a.key, b.key), cmp.Compare(a.issue, b.issue))
}

func (r *ranking) rank(issues []syncdb.Issue) []Cause {
	slices.SortFunc(r.rows, rankedRow.place)
	out := make([]Cause, len(issues))
	at := make(map[int64]*Cause, len(issues))
	for i, issue := range issues {
		out[i] = causeOfIssue(issue)
		at[issue.ID] = &out[i]
	}
	for i := range r.rows {
		root := r.rootOf(int32(i))
		own, cause := at[r.rows[i].issue], at[r.rows[root].issue]
		if own == nil || cause == nil {
			continue // saved since the issues were read
		}
		if root == int32(i) {
			own.Own++
			continue
		}
		own.Waits++
		cause.Frees++
	}
	sortCauses(out)
	return out
}

// rootOf follows what a row waits for to its end and notes the end for every row on the way. Rows that wait for each other in a circle have
// the one with the lowest place as their root.
func (r *ranking) rootOf(i int32) int32 {
	if root := r.rows[i].root; root >= 0 {
		return root
	}
	way := []int32{i}
	onWay := map[int32]int{i: 0}
	root := i
	for {
		next := r.blocker(root)
		if next < 0 {
			break
		}
		if known := r.rows[next].root; known >= 0 {
			root = known
			break
		}
		if from, circle := onWay[next]; circle {
			root = slices.Min(way[from:])
			break
		}
		onWay[next] = len(way)
		way = append(way, next)
		root = next
	}
	for _, j := range way {
		r.rows[j].root = root
	}
	return root
}

// blocker returns the row whose record a row waits for, -1 when there is none: what is missing is not in the source.
func (r *ranking) blocker(i int32) int32 {
	row := r.rows[i]
	if row.blockedResource == 0 {
		return -1
	}
	want := rankedRow{stands: true, resource: row.blockedResource, key: row.blockedKey}
	at, _ := slices.BinarySearchFunc(r.rows, want, rankedRow.place)
	if at == len(r.rows) || !r.rows[at].stands || r.rows[at].resource != want.resource || r.rows[at].key != want.key || int32(at) == i {
		return -1
	}
	return int32(at)
}

// Waiting reports whether the issue is only a consequence of others: all its rows follow by themselves.
func (c *Cause) Waiting() bool { return c.Own == 0 && c.Frees == 0 && c.Waits > 0 }
