package sync

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// VerifyOptions narrow what Verify reads. The zero value reads every record of every resource the ledger has entries of.
type VerifyOptions struct {
	// Resources are read too when the ledger has no entries of them: what is there is extra.
	Resources []string
	// Sample, when positive, reads only so many records, by id, chosen at random among the live entries. Extra records are not found so.
	Sample int
	// SinceLast reads only what the target says was changed, deleted or re-keyed after the last run. It needs change queries.
	SinceLast bool
	// IDs is how many of the target's ids are listed per resource and finding.
	IDs int
}

// Verification is how the target compares with the ledger. It holds counts and the target's ids, no student data.
type Verification struct {
	Mode      string                 `json:"mode"`            // full, sample, since-last
	Since     int64                  `json:"since,omitempty"` // change version of the target at the end of the last run
	Resources []ResourceVerification `json:"resources"`
}

// ResourceVerification is the result for one resource.
type ResourceVerification struct {
	Resource  string `json:"resource"`
	Entries   int64  `json:"entries"` // the ledger says that the target has them
	Read      int64  `json:"read"`    // records of the target that were read
	Same      int64  `json:"same"`
	Missing   int64  `json:"missing"`   // in the ledger, not at the target
	Different int64  `json:"different"` // at the target with another content or id
	Moved     int64  `json:"moved"`     // at the target under another natural key
	Extra     int64  `json:"extra"`     // at the target, not in the ledger: somebody else's, or not adopted
	Duplicate int64  `json:"duplicate"` // of two records with one natural key, as the connection compares keys
	Unread    int64  `json:"unread"`    // records that are no payload of the resource
	Hidden    int64  `json:"hidden"`    // in the ledger, and the target does not show them to these credentials
	Unsettled int64  `json:"unsettled"` // entries the ledger itself is not sure of; the next run settles them
	// Failed says why the target did not let the resource be read.
	Failed string `json:"failed,omitempty"`
	// IDs lists ids by finding: missing, different, moved, extra, duplicate.
	IDs map[string][]string `json:"ids,omitempty"`
}

// Wrong returns how many records are not as the ledger says. Extra ones are not wrong: they may be another client's.
func (r ResourceVerification) Wrong() int64 {
	return r.Missing + r.Different + r.Moved + r.Duplicate + r.Unread
}

// Wrong adds up all resources. Of one that could not be read nothing is known: Failed counts it.
func (v *Verification) Wrong() int64 {
	var n int64
	for _, r := range v.Resources {
		n += r.Wrong()
	}
	return n
}

// Failed returns how many resources could not be read.
func (v *Verification) Failed() int64 {
	var n int64
	for _, r := range v.Resources {
		if r.Failed != "" {
			n++
		}
	}
	return n
}

// Verify re-reads the target and compares it with the ledger. It writes nothing, there or here, and needs no lease: of a run beside it, it sees
// half. What it finds wrong, a run with Options.Resync repairs.
func (e *Engine) Verify(ctx context.Context, vo VerifyOptions) (*Verification, error) {
	o := e.options()
	p := newProgress(e.Progress)
	defer p.stop()
	p.phase("read", "")
	dir, err := newWorkspace(o.WorkDir, "edfisync-verify-")
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	v := &verifier{e: e, vo: vo, rd: e.newReading(o, dir, p), out: &Verification{Mode: "full"}}
	resources, err := e.readable(ctx, vo.Resources)
	if err != nil {
		return nil, err
	}
	switch {
	case vo.Sample > 0:
		v.out.Mode = "sample"
		err = v.sample(ctx, resources)
	case vo.SinceLast:
		v.out.Mode = "since-last"
		err = v.sinceLast(ctx, resources)
	default:
		err = v.full(ctx, resources)
	}
	if err != nil {
		return nil, err
	}
	return v.out, nil
}

// readable are the resources of the ledger and more, as the model has them, sorted.
func (e *Engine) readable(ctx context.Context, more []string) ([]*schema.Resource, error) {
	paths, err := e.Ledger.Resources(ctx, e.Connection.ID)
	if err != nil {
		return nil, fmt.Errorf("list the ledger's resources: %w", err)
	}
	var out []*schema.Resource
	for _, path := range append(paths, more...) {
		r, ok := e.Model.Resource(path)
		if !ok {
			return nil, fmt.Errorf("the target's data standard has no resource %s", path)
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *schema.Resource) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// verifier is one verification.
type verifier struct {
	e   *Engine
	vo  VerifyOptions
	rd  *reading
	out *Verification
}

// note lists an id.
func (v *verifier) note(r *ResourceVerification, finding, id string) {
	if id == "" || len(r.IDs[finding]) >= v.vo.IDs {
		return
	}
	if r.IDs == nil {
		r.IDs = map[string][]string{}
	}
	r.IDs[finding] = append(r.IDs[finding], id)
}

func (v *verifier) full(ctx context.Context, resources []*schema.Resource) error {
	for _, r := range resources {
		out := ResourceVerification{Resource: r.Path}
		if err := v.resource(ctx, r, &out); err != nil {
			if out.Failed = refusal(err); out.Failed == "" {
				return err
			}
			entries, read := out.Entries, out.Read
			out = ResourceVerification{Resource: r.Path, Entries: entries, Read: read, Failed: out.Failed}
		}
		v.out.Resources = append(v.out.Resources, out)
	}
	return nil
}

// refusal is what the target says when only this resource cannot be read; "" when the error concerns more than that.
func refusal(err error) string {
	var e *edfi.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Class {
	case edfi.Rejected, edfi.Invalid, edfi.NotFound, edfi.Blocked:
		return e.Title
	}
	return ""
}

func (v *verifier) resource(ctx context.Context, r *schema.Resource, out *ResourceVerification) error {
	held, err := v.e.holdings(ctx, r.Path)
	if err != nil {
		return err
	}
	for _, flags := range held.flags {
		if flags&heldLive != 0 {
			out.Entries++
		}
	}
	var gone []syncdb.Hash
	counts, err := v.rd.resource(ctx, r, held, func(s *sighting) error {
		switch live := s.Entry >= 0 && held.flags[s.Entry]&heldLive != 0; s.Finding {
		case foundSame:
			out.Same++
		case foundExtra:
			out.Extra++
			v.note(out, "extra", s.ID)
		case foundDuplicate:
			out.Duplicate++
			v.note(out, "duplicate", s.ID)
		case foundUnread:
			out.Unread++
		case foundHidden:
			out.Hidden++
		case foundDifferent:
			if !live {
				out.Unsettled++
				return nil
			}
			out.Different++
			v.note(out, "different", s.ID)
		case foundMoved:
			if s.At >= 0 && held.flags[s.At]&(heldLive|heldElsewhere) == heldLive { // the record of the entry with that key is not there
				out.Different++
			}
			if !live {
				out.Unsettled++
				return nil
			}
			out.Moved++
			v.note(out, "moved", s.ID)
		case foundGone:
			if !live {
				out.Unsettled++
				return nil
			}
			out.Missing++
			if len(gone) < v.vo.IDs {
				gone = append(gone, s.KeyHash)
			}
		}
		return nil
	})
	out.Read = counts.Found
	if err != nil || len(gone) == 0 {
		return err
	}
	entries, err := v.rd.lookup(ctx, r.Path, gone)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	for _, key := range gone {
		v.note(out, "missing", entries[key].EdfiID)
	}
	return nil
}

// sample reads live entries chosen at random by id.
func (v *verifier) sample(ctx context.Context, resources []*schema.Resource) error {
	type pick struct {
		resource int
		key      syncdb.Hash
	}
	var picked []pick
	seen := 0
	v.out.Resources = make([]ResourceVerification, len(resources))
	for i, r := range resources {
		v.out.Resources[i].Resource = r.Path
		err := v.e.Ledger.Hashes(ctx, v.e.Connection.ID, r.Path, func(key, _, _ syncdb.Hash, state syncdb.State) error {
			if state != syncdb.Live {
				v.out.Resources[i].Unsettled++
				return nil
			}
			v.out.Resources[i].Entries++
			seen++ // each entry stays with the same chance, however many there are
			if len(picked) < v.vo.Sample {
				picked = append(picked, pick{i, key})
			} else if at := rand.IntN(seen); at < len(picked) {
				picked[at] = pick{i, key}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("choose entries of %s: %w", r.Path, err)
		}
	}
	for i, r := range resources {
		var keys []syncdb.Hash
		for _, p := range picked {
			if p.resource == i {
				keys = append(keys, p.key)
			}
		}
		for part := range slices.Chunk(keys, 500) {
			if err := v.byID(ctx, r, part, &v.out.Resources[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// byID compares entries with the target's copies.
func (v *verifier) byID(ctx context.Context, r *schema.Resource, keys []syncdb.Hash, out *ResourceVerification) error {
	entries, err := v.rd.lookup(ctx, r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries of %s: %w", r.Path, err)
	}
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = entries[key].EdfiID
	}
	copies, err := v.rd.get(ctx, r.Path, ids)
	if err != nil {
		if out.Failed = refusal(err); out.Failed == "" {
			return fmt.Errorf("read %s from the target: %w", r.Path, err)
		}
		return nil
	}
	hasher := v.rd.keys()
	for i, c := range copies {
		entry := entries[keys[i]]
		var s sighting
		if c.body != nil {
			out.Read++
			v.rd.report(r.Path, out.Read)
		}
		switch {
		case c.hidden:
			out.Hidden++
		case c.body == nil:
			out.Missing++
			v.note(out, "missing", entry.EdfiID)
		case v.rd.identify(r, hasher, c.body, &s) != nil:
			out.Unread++
		case s.KeyHash != entry.KeyHash:
			out.Moved++
			v.note(out, "moved", entry.EdfiID)
		case s.Record != entry.RecordHash:
			out.Different++
			v.note(out, "different", entry.EdfiID)
		default:
			out.Same++
		}
	}
	return nil
}
