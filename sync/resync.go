package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/syncdb"
)

// Resynced is what the reading before a run with Options.Resync corrected in the ledger.
type Resynced struct {
	Read      int64 `json:"read"`      // records of the target
	Corrected int64 `json:"corrected"` // entries that said something else than the target
	Missing   int64 `json:"missing"`   // of these: the target does not have the record
	Different int64 `json:"different"` // of these: other content, or another record under the same natural key
	Moved     int64 `json:"moved"`     // of these: another natural key
	Extra     int64 `json:"extra"`     // records the ledger does not know; left alone
	// Left are resources whose entries stay as they were, with the reason: the target did not let them be read.
	Left map[string]string `json:"left,omitempty"`
}

// resync reads the target and makes the ledger say what it really holds, so that the run that follows repairs everything the usual way, under the
// usual safeguards. It needs no source. It writes nothing at the target.
//
//	target has               | entry becomes
//	the record as it is      | as it is
//	other content            | live, with the target's hash: the run updates it
//	another id, same key     | live, met: the run updates it and never deletes it (I9)
//	the id under another key | an entry of that key, ours as it was, whatever entry had the key: the run moves it back, or deletes it
//	nothing                  | missing: the run creates it
//	something it does not show to these credentials | as it is
//
// A resource of the scope that could not be read keeps an alarm standing: its entries may be of records that are gone (I1, F29).
func (e *Engine) resync(ctx context.Context, o Options, k *keeper, sc *scope, dir *workspace, p *progress) (*Resynced, error) {
	if e.Reader == nil {
		return nil, errors.New("resync needs an Engine with a Reader")
	}
	p.phase("read", "")
	resources, err := e.readable(ctx, nil)
	if err != nil {
		return nil, err
	}
	newest, err := e.newestChange(ctx)
	if err != nil {
		return nil, err
	}
	out := &Resynced{}
	var unread []string
	rd := e.newReading(o, dir, p)
	for _, r := range resources {
		held, err := e.holdings(ctx, r.Path)
		if err != nil {
			return nil, fmt.Errorf("read the ledger's %s: %w", r.Path, err)
		}
		c := &corrector{e: e, r: r, held: held, keeper: k, write: true, decide: resyncRule(r.Path)}
		counts, err := rd.resource(ctx, r, held, func(s *sighting) error {
			if s.Finding == foundSame {
				return nil
			}
			return c.take(ctx, s)
		})
		if why := refusal(err); why != "" && counts.Found == 0 {
			if out.Left == nil {
				out.Left = map[string]string{}
			}
			out.Left[r.Path] = why
			if slices.ContainsFunc(sc.resources, func(s *scoped) bool { return s.Path == r.Path }) {
				unread = append(unread, r.Path)
			}
			e.logger().Warn("the target does not let a resource be read; its entries stay as they are", slog.String("resource", r.Path), slog.String("why", why))
			continue
		}
		if err == nil {
			err = c.flush(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("resync %s: %w", r.Path, err)
		}
		out.Read, out.Corrected = out.Read+counts.Found, out.Corrected+c.Put
		out.Missing, out.Different, out.Moved = out.Missing+counts.Gone, out.Different+counts.Different, out.Moved+counts.Moved
		out.Extra += counts.Extra
	}
	if len(unread) > 0 {
		return out, e.notClear(ctx, k, unread)
	}
	return out, e.allClear(ctx, k, newest)
}

// resyncRule is the table of resync.
func resyncRule(resource string) rule {
	return func(s *sighting, had *syncdb.Entry, taken bool) correction {
		switch s.Finding {
		case foundExtra, foundDuplicate, foundUnread, foundHidden, foundSame:
			return correction{}
		case foundGone:
			return missing(had)
		case foundMoved:
			if had == nil {
				return correction{}
			}
			if taken || had.EdfiID != s.ID { // another entry has it already, or the cut ids only looked alike
				return missing(had)
			}
			now := s.seen(resource, had)
			return correction{put: &now, drop: s.vacated(had)}
		}
		if had == nil {
			return correction{}
		}
		now := s.seen(resource, had)
		if replaced(s, had) || now.Origin == 0 {
			now.Origin = syncdb.Met
		}
		if !differs(had, &now) {
			return correction{}
		}
		return correction{put: &now}
	}
}

// missing notes that the target does not have an entry's record. An entry without an id is of a create nobody answered: it says already that
// nothing is known.
func missing(had *syncdb.Entry) correction {
	if had == nil || had.EdfiID == "" || had.State == syncdb.Missing {
		return correction{}
	}
	now := *had
	now.State, now.RecordHash = syncdb.Missing, syncdb.Hash{}
	return correction{put: &now}
}

// newestChange is the target's newest change version, 0 when it tells none. It is asked before a reading: what changes meanwhile counts as later.
func (e *Engine) newestChange(ctx context.Context) (int64, error) {
	versions, err := e.Reader.ChangeVersions(ctx)
	if err != nil && ctx.Err() != nil {
		return 0, fmt.Errorf("read the target's change versions: %w", err)
	}
	return versions.Newest, nil // a target without change queries is none the worse
}

// allClear ends an alarm: the ledger now says what the target holds.
func (e *Engine) allClear(ctx context.Context, k *keeper, newest int64) error {
	state := syncdb.TargetState{ChangeVersion: newest}
	if err := e.Ledger.SetTarget(ctx, k.current(), state); err != nil {
		return fmt.Errorf("clear the target's alarm: %w", err)
	}
	return nil
}

// stillUnread begins what notClear adds to an alarm.
const stillUnread = "; it stands because these could not be read since: "

// notClear leaves an alarm standing, and says why: what these resources hold is not known, so their entries may be of records that are gone
// (I1, F29). The change version stays as it was, too: without an alarm yet, the next look compares with it.
func (e *Engine) notClear(ctx context.Context, k *keeper, unread []string) error {
	state, err := e.Ledger.Target(ctx, e.Connection.ID)
	if err != nil {
		return fmt.Errorf("read what is known of the target: %w", err)
	}
	if state.Alarm == "" {
		return nil
	}
	e.logger().Warn("the alarm stands: resources with entries could not be read", slog.Any("resources", unread))
	first, _, _ := strings.Cut(state.Alarm, stillUnread)
	state.Alarm = first + stillUnread + strings.Join(unread, ", ")
	if err := e.Ledger.SetTarget(ctx, k.current(), state); err != nil {
		return fmt.Errorf("note why the target's alarm stands: %w", err)
	}
	return nil
}
