package sync

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/edfisync/edfisync/syncdb"
)

// The codes of what adopt finds at the target and cannot take over.
const (
	codeDuplicateAtTarget  = "duplicate-at-target"
	codeUnreadableAtTarget = "unreadable-at-target"
)

// adoptIssues are the records one adoption leaves to a person, as problems that stand until a later adoption no longer finds them.
type adoptIssues struct {
	found   map[syncdb.Hash]struct{}
	waiting []syncdb.Problem
}

// maxAdoptIssues bounds the issues one adoption files per resource. When fold_keys is wrong every record can be a duplicate; they are all counted.
const maxAdoptIssues = 10_000

// file notes a record. It is called while pages are read, so it does not write.
func (is *adoptIssues) file(a *adopter, s *sighting, code, cause string) {
	if s.ID != "" {
		a.note(map[string]string{codeDuplicateAtTarget: "duplicate", codeUnreadableAtTarget: "unread"}[code], s.ID)
	}
	if len(is.waiting) >= maxAdoptIssues {
		return
	}
	d := map[string]any{"hint": "the record's id at the target is " + s.ID}
	if len(s.Key) > 0 {
		d["naturalKey"] = json.RawMessage(clone(s.Key))
	}
	at := a.hasher.Sum([]byte(code + "\x00" + s.ID))
	if is.found == nil {
		is.found = map[syncdb.Hash]struct{}{}
	}
	is.found[at] = struct{}{}
	is.waiting = append(is.waiting, syncdb.Problem{
		Resource: a.r.Path, SourceHash: at, Outcome: syncdb.OutcomeMet, Code: code, Cause: cause, Owner: "target host", KeyHash: s.KeyHash, Detail: detail(d),
	})
}

// save writes the issues, and closes those of earlier times that are no more: records that are ours now, and records that were set right.
func (is *adoptIssues) save(ctx context.Context, a *adopter) error {
	if a.keeper == nil {
		return nil
	}
	if len(is.waiting) > 0 {
		if err := a.e.Ledger.SaveProblems(ctx, a.keeper.current(), is.waiting); err != nil {
			return fmt.Errorf("save problems: %w", err)
		}
	}
	filter := syncdb.ProblemFilter{Resource: a.r.Path, Outcome: syncdb.OutcomeMet, Limit: 5000}
	for {
		page, err := a.e.Ledger.Problems(ctx, a.e.Connection.ID, filter)
		if err != nil {
			return fmt.Errorf("read problems: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		filter.After = page[len(page)-1].SourceHash
		if err := is.close(ctx, a, page); err != nil {
			return err
		}
	}
}

func (is *adoptIssues) close(ctx context.Context, a *adopter, page []syncdb.Problem) error {
	keys := make([]syncdb.Hash, len(page))
	for i := range page {
		keys[i] = page[i].KeyHash
	}
	entries, err := a.e.Ledger.Lookup(ctx, a.e.Connection.ID, a.r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	var over []syncdb.Hash
	for i := range page {
		_, still := is.found[page[i].SourceHash]
		if page[i].Code == "met-existing" {
			entry, there := entries[page[i].KeyHash]
			still = there && entry.Origin == syncdb.Met
		}
		if !still {
			over = append(over, page[i].SourceHash)
		}
	}
	if len(over) == 0 {
		return nil
	}
	if _, err := a.e.Ledger.DropProblems(ctx, a.keeper.current(), a.r.Path, over); err != nil {
		return fmt.Errorf("close problems: %w", err)
	}
	return nil
}
