package sync

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// AdoptOptions say what Adopt may take over.
type AdoptOptions struct {
	// Extra takes over records no source row has, too, but for those of other connections of the ledger. The next run deletes them, under its safeguards.
	Extra bool
	// Plan only counts: nothing is written.
	Plan bool
	// IDs is how many of the target's ids are listed per resource and kind.
	IDs int
}

// Adoption is what Adopt found and did. It holds counts and the target's ids, no student data.
type Adoption struct {
	RunID     int64              `json:"run,omitempty"` // 0 when it was only planned
	Planned   bool               `json:"planned,omitempty"`
	Resources []ResourceAdoption `json:"resources"`
}

// ResourceAdoption is the result for one resource.
type ResourceAdoption struct {
	Resource  string `json:"resource"`
	Rows      int64  `json:"rows"`      // valid source rows
	Read      int64  `json:"read"`      // records of the target
	Known     int64  `json:"known"`     // entries that said what the target holds, and stay as they are
	Adopted   int64  `json:"adopted"`   // records that are ours from now on
	Corrected int64  `json:"corrected"` // entries that were ours and said something else than the target
	Gone      int64  `json:"gone"`      // entries without a record at the target, dropped
	Extra     int64  `json:"extra"`     // records no source row has, left alone
	Others    int64  `json:"others"`    // of these: another connection of the ledger made or adopted them, so they are left alone in any case
	Duplicate int64  `json:"duplicate"` // second and further records with one natural key, left alone
	Hidden    int64  `json:"hidden"`    // entries whose record the target does not show to these credentials: they stay as they are
	Unread    int64  `json:"unread"`    // records that are no payload of the resource, left alone
	// What the next run will find to do, before its safeguards.
	ToCreate int64 `json:"toCreate"`
	ToUpdate int64 `json:"toUpdate"`
	ToDelete int64 `json:"toDelete"`
	// Unclear says why extra records were not taken over although that was asked for.
	Unclear string `json:"unclear,omitempty"`
	// Failed says why the target did not let the resource be read: its entries stay as they were.
	Failed string              `json:"failed,omitempty"`
	IDs    map[string][]string `json:"ids,omitempty"` // by kind: extra, duplicate, unread
}

// Left returns how many records need a person: two under one key, or unreadable.
func (a *Adoption) Left() int64 {
	var n int64
	for _, r := range a.Resources {
		n += r.Duplicate + r.Unread
		if r.Failed != "" {
			n++
		}
	}
	return n
}

// Adopt builds the ledger from what the target holds: after the ledger was lost, at the first contact with a target that is not empty, when another
// tool's records are taken over, after a wipe or a restore. It makes no write call. It is a run of its own on file, under the lease.
//
// Records a source row has the key of become ours (I9): kept up to date, and deleted when the row goes. Records no row has are left alone and
// counted unless o.Extra. Entries whose record is gone are dropped, so that the next run creates it; one without an id is of a create nobody
// answered, and stays for the next run to look up. An entry known as created stays so.
func (e *Engine) Adopt(ctx context.Context, ao AdoptOptions) (*Adoption, error) {
	if e.Reader == nil {
		return nil, errors.New("adopt needs an Engine with a Reader")
	}
	o := e.options()
	p := newProgress(e.Progress)
	defer p.stop()
	if ao.Plan {
		return e.adopt(ctx, o, ao, nil, p)
	}
	var out *Adoption
	err := e.errand(ctx, o, "adopt", p, func(ctx context.Context, k *keeper, s *Summary) (err error) {
		if out, err = e.adopt(ctx, o, ao, k, p); err == nil {
			out.RunID = s.RunID
		}
		return err
	})
	return out, err
}

// errand does fn as a run of its own, under the lease and with nothing left open by the runs before.
func (e *Engine) errand(ctx context.Context, o Options, reason string, p *progress, fn func(ctx context.Context, k *keeper, s *Summary) error) error {
	t, err := e.beginErrand(ctx, o, reason)
	if err != nil {
		return err
	}
	defer t.release()
	s := &Summary{RunID: t.run.ID}
	p.phase("recover", "")
	recovered, err := e.Ledger.Recover(t.ctx, t.keeper.current())
	if err == nil {
		s.Recovered = recovered.Open
		err = fn(t.ctx, t.keeper, s)
	}
	if err != nil && t.ctx.Err() != nil {
		err = errors.Join(context.Cause(t.ctx)) // the reason, not its echo
	}
	return e.close(t.ctx, t.keeper, s, err)
}

// errandDir returns a directory for spools. Under the lease it also removes what killed processes left.
func (e *Engine) errandDir(workDir string, k *keeper) (*workspace, error) {
	if k != nil {
		return e.spoolDir(workDir)
	}
	return newWorkspace(workDir, "edfisync-plan-")
}

func (e *Engine) adopt(ctx context.Context, o Options, ao AdoptOptions, k *keeper, p *progress) (*Adoption, error) {
	sc, err := newScope(e.Model, e.Source.Queries(), e.Dependencies)
	if err != nil {
		return nil, err
	}
	dir, err := e.errandDir(o.WorkDir, k)
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	newest, err := e.newestChange(ctx)
	if err != nil {
		return nil, err
	}
	p.phase("scan", "")
	outside, err := e.outsiders(ctx, o, sc, dir, p)
	if err != nil {
		return nil, err
	}
	standing, err := e.standing(ctx, o, sc, dir, p, outside)
	if err != nil {
		return nil, err
	}
	defer closeStanding(standing)
	out := &Adoption{Planned: ao.Plan}
	rd := e.newReading(o, dir, p)
	failed := 0
	var unread []string // of these: with entries, which may be of records that are gone
	for i, r := range sc.resources {
		a := &adopter{e: e, o: o, ao: ao, r: r, keeper: k, reading: rd, hasher: rd.keys(), out: ResourceAdoption{Resource: r.Path}}
		if err := a.run(ctx, standing[i]); err != nil {
			why := refusal(err)
			if why == "" || a.out.Read > 0 {
				return nil, fmt.Errorf("adopt %s: %w", r.Path, err)
			}
			a.out = ResourceAdoption{Resource: r.Path, Rows: a.out.Rows, Failed: why}
			failed++
			if len(a.held.keys) > 0 {
				unread = append(unread, r.Path)
			}
		}
		out.Resources = append(out.Resources, a.out)
		e.logger().Info("adopted", slog.String("resource", r.Path), slog.Int64("adopted", a.out.Adopted), slog.Int64("corrected", a.out.Corrected),
			slog.Int64("gone", a.out.Gone), slog.Int64("extra", a.out.Extra), slog.Int64("duplicate", a.out.Duplicate), slog.Int64("unread", a.out.Unread))
	}
	if failed > 0 && failed == len(sc.resources) {
		return nil, fmt.Errorf("the target lets none of the resources be read: %s", out.Resources[0].Failed)
	}
	if ao.Plan {
		return out, nil
	}
	if len(unread) > 0 {
		return out, e.notClear(ctx, k, unread)
	}
	return out, e.allClear(ctx, k, newest)
}

// adopter takes over one resource.
type adopter struct {
	e       *Engine
	o       Options
	ao      AdoptOptions
	r       *scoped
	keeper  *keeper // nil when only planned
	reading *reading
	rows    *rows
	held    *holdings
	extra   bool                // records no row has are taken over
	others  map[uint64]struct{} // ids of records of the ledger's other connections, hashed
	seed    maphash.Seed

	hasher *schema.Hasher
	issues adoptIssues
	out    ResourceAdoption
}

func (a *adopter) run(ctx context.Context, st *standingRows) error {
	scanned := &scanned{scoped: a.r}
	if err := (&scanner{e: a.e, o: a.o}).checkRules(ctx, scanned); err != nil {
		return err
	}
	var err error
	if a.rows, err = st.load(); err != nil {
		return fmt.Errorf("read the rows' keys: %w", err)
	}
	if a.held, err = a.e.holdings(ctx, a.r.Path); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	a.out.Rows, a.extra = a.rows.valid, a.ao.Extra
	if a.extra && !a.o.Schools.All() {
		a.extra = false // I9: whose it is nothing tells
		a.out.Unclear = "the connection syncs some schools only: a record no row has may be of another one"
	}
	if a.extra && a.rows.nameless > 0 {
		a.extra = false // I5f: invalid is not absent, and an extra record may be what such a row stands for
		a.out.Unclear = fmt.Sprintf("%d invalid rows have no natural key: a record may be theirs", a.rows.nameless)
	}
	if err := a.findOthers(ctx); err != nil {
		return fmt.Errorf("read what other connections have: %w", err)
	}
	c := &corrector{
		e: a.e, r: a.r.Resource, held: a.held, keeper: a.keeper, write: a.keeper != nil, decide: a.decide,
		beforeWriting: func(ctx context.Context) error {
			if scanned.scope == nil {
				return nil
			}
			return a.e.Ledger.SetScope(ctx, a.keeper.current(), *scanned.scope)
		},
	}
	counts, err := a.reading.resource(ctx, a.r.Resource, a.held, func(s *sighting) error { return c.take(ctx, s) })
	a.out.Read = counts.Found
	if err == nil {
		err = c.flush(ctx)
	}
	if err != nil {
		return err
	}
	a.out.ToCreate += a.rows.unmet()
	return a.issues.save(ctx, a)
}

// decide is the table of adopt.
//
//	record is          | a row has its key                | no row has its key, ledger has    | neither
//	at the target      | ours; created stays created      | corrected, origin as it was       | extra
//	under another key  | entry moves with it, then as above
//	gone               | entry dropped                    | entry dropped                     |
//	  its id not known | as it is                         | as it is                          |
//	a duplicate, or no payload: an issue
func (a *adopter) decide(s *sighting, had *syncdb.Entry, taken bool) correction {
	switch s.Finding {
	case foundDuplicate:
		a.out.Duplicate++
		a.issues.file(a, s, codeDuplicateAtTarget, "another record of the target has the same natural key, as this connection compares keys (fold_keys): this one is left alone")
		return correction{}
	case foundUnread:
		a.out.Unread++
		a.issues.file(a, s, codeUnreadableAtTarget, "the record is no payload of this resource as the data standard has it: it is left alone")
		return correction{}
	case foundHidden:
		a.out.Hidden++
		return correction{}
	case foundGone:
		if had == nil || had.EdfiID == "" { // I1, I3, F36: of a create nobody answered; one listing may have missed it, the next run looks it up
			return correction{}
		}
		a.out.Gone++
		return correction{drop: &had.KeyHash}
	case foundMoved:
		if had != nil && (taken || had.EdfiID != s.ID) {
			a.out.Gone++ // another entry stands for the record already
			return correction{drop: s.vacated(had)}
		}
	}
	row, claimed := a.rows.take(s.KeyHash)
	if claimed && row.valid && row.record != cut8(s.Record) {
		a.out.ToUpdate++
	}
	extra := a.extra && !a.anothers(s.ID)
	if !claimed && had == nil && !extra {
		a.leave(s.ID)
		return correction{}
	}
	now := s.seen(a.r.Path, had)
	ours := had != nil && had.Origin == syncdb.Created && !replaced(s, had)
	switch {
	case ours:
	case claimed, extra:
		now.Origin = syncdb.Adopted
	case replaced(s, had) || now.Origin == 0:
		now.Origin = syncdb.Met // I9: ours is gone, and no row asks for this one
	}
	if claimed && !row.source.IsZero() {
		now.SourceHash = row.source
	}
	switch {
	case claimed:
	case now.Origin == syncdb.Met:
		a.leave(s.ID)
	default:
		a.out.ToDelete++
	}
	if !differs(had, &now) {
		a.out.Known++
		return correction{}
	}
	if had == nil || had.Origin != now.Origin && now.Origin == syncdb.Adopted {
		a.out.Adopted++
	} else {
		a.out.Corrected++
	}
	return correction{put: &now, drop: s.vacated(had)}
}

// findOthers reads which records are of other connections of the ledger (I9).
func (a *adopter) findOthers(ctx context.Context) error {
	a.others, a.seed = map[uint64]struct{}{}, maphash.MakeSeed()
	return a.e.Ledger.OwnedElsewhere(ctx, a.e.Connection.ID, a.r.Path, func(id string) error {
		a.others[maphash.String(a.seed, id)] = struct{}{}
		return nil
	})
}

// anothers reports whether a record is of another connection of the ledger; one in 2^64 that is not is left alone with them.
func (a *adopter) anothers(id string) bool {
	_, is := a.others[maphash.String(a.seed, id)]
	return is
}

// leave counts a record that no row has and that stays as it is.
func (a *adopter) leave(id string) {
	a.out.Extra++
	if a.anothers(id) {
		a.out.Others++
	}
	a.note("extra", id)
}

func (a *adopter) note(kind, id string) {
	if id == "" || len(a.out.IDs[kind]) >= a.ao.IDs {
		return
	}
	if a.out.IDs == nil {
		a.out.IDs = map[string][]string{}
	}
	a.out.IDs[kind] = append(a.out.IDs[kind], id)
}
