package sync

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// ReceiptVerification is how the target compares with a receipt now.
type ReceiptVerification struct {
	Run       int64           `json:"run"`
	Resources []ReceiptResult `json:"resources"`
}

// ReceiptResult is the result for one resource. It holds the target's ids, no student data.
type ReceiptResult struct {
	Resource string `json:"resource"`
	Pass     bool   `json:"pass"`
	Stated   int64  `json:"stated"` // live records, as the receipt has them
	Found    int64  `json:"found"`  // records of the target that were compared
	Other    int64  `json:"other"`  // records of the target the ledger does not know: not compared
	// Hidden are records that the target does not show to these credentials. They cannot be checked: in their place the ledger's word of what was sent
	// is compared, so that the resource passes when all that is shown is as the receipt says.
	Hidden int64 `json:"hidden,omitempty"`
	// Buckets that differ, by the first byte of the key hash in hex; empty when the receipt at hand does not have them.
	Buckets []string `json:"buckets,omitempty"`
	// IDs of records in these buckets that are not as the ledger says, by finding.
	IDs    map[string][]string `json:"ids,omitempty"`
	Failed string              `json:"failed,omitempty"` // why the target did not let it be read
}

// Failed counts resources that do not pass.
func (v *ReceiptVerification) Failed() int {
	n := 0
	for _, r := range v.Resources {
		if !r.Pass {
			n++
		}
	}
	return n
}

// Hidden counts the records that could not be checked because the target does not show them to the credentials.
func (v *ReceiptVerification) Hidden() (n int64) {
	for _, r := range v.Resources {
		n += r.Hidden
	}
	return n
}

// ErrOtherKey says that a receipt was signed with a key that is not this connection's.
var ErrOtherKey = errors.New("the receipt was signed with another key: it is of another connection, or the ledger was begun anew since")

// CheckReceipt reads a receipt and checks that this connection's key signed it.
func (e *Engine) CheckReceipt(document []byte) (*Receipt, error) {
	r, err := ReadReceipt(document)
	if err != nil {
		return nil, err
	}
	public, err := e.Keys.PublicKey(r.Statement.KeyGeneration)
	if err != nil || !bytes.Equal(public, r.PublicKey) {
		return nil, ErrOtherKey
	}
	return r, nil
}

// VerifyReceipt re-reads the target and compares it with what a receipt says. What the ledger says of records decides nothing, only which records
// are ours: with an empty ledger every record of the target is compared. Records that the target does not show to the credentials are the exception, and
// counted: the receipt has one hash over all records, so the ledger's hash stands for them. At most ids ids are listed per resource and finding. It writes nothing.
func (e *Engine) VerifyReceipt(ctx context.Context, r *Receipt, ids int) (*ReceiptVerification, error) {
	o := e.options()
	if r.Statement.HashRules != hashRules(o.Rules) {
		return nil, errors.New("the receipt was made under other rules for comparing keys (fold_keys, or another version of edfisync)")
	}
	if r.Statement.KeyGeneration != e.Keys.Generation() {
		return nil, fmt.Errorf("the receipt was made under hash key generation %d, and this is %d", r.Statement.KeyGeneration, e.Keys.Generation())
	}
	p := newProgress(e.Progress)
	defer p.stop()
	p.phase("read", "")
	dir, err := newWorkspace(o.WorkDir, "edfisync-verify-")
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	rd := e.newReading(o, dir, p)
	out := &ReceiptVerification{Run: r.Statement.Run}
	for _, st := range r.Statement.Resources {
		res, ok := e.Model.Resource(st.Resource)
		if !ok {
			return nil, fmt.Errorf("the target's data standard has no resource %s", st.Resource)
		}
		result, err := e.verifyStatement(ctx, rd, res, st, r.Buckets[st.Resource], ids)
		if err != nil {
			if result.Failed = refusal(err); result.Failed == "" {
				return nil, err
			}
		}
		out.Resources = append(out.Resources, result)
	}
	return out, nil
}

// pair is the key and record hash of one record.
type pair struct{ key, record syncdb.Hash }

func (e *Engine) verifyStatement(ctx context.Context, rd *reading, r *schema.Resource, st StatementResource, stated []byte, ids int) (ReceiptResult, error) {
	out := ReceiptResult{Resource: st.Resource, Stated: st.Live}
	held, err := e.holdings(ctx, r.Path)
	if err != nil {
		return out, err
	}
	alone := len(held.keys) == 0 // nobody can say which records are ours
	var pairs []pair
	var hidden []syncdb.Hash
	wrong := newWrongIDs(ids)
	_, err = rd.resource(ctx, r, held, func(s *sighting) error {
		switch {
		case s.Finding == foundSame, s.Finding == foundDifferent, s.Finding == foundMoved && s.At >= 0, alone && s.Finding == foundExtra:
			pairs = append(pairs, pair{s.KeyHash, s.Record})
		case s.Finding == foundExtra, s.Finding == foundDuplicate, s.Finding == foundUnread:
			out.Other++
		}
		switch s.Finding {
		case foundDifferent:
			wrong.add("different", s.KeyHash, s.ID)
		case foundMoved:
			wrong.add("moved", held.keys[s.Entry], s.ID)
		case foundGone:
			if held.flags[s.Entry]&heldLive != 0 {
				wrong.gone(s.KeyHash)
			}
		case foundHidden:
			if held.flags[s.Entry]&heldLive != 0 {
				hidden = append(hidden, s.KeyHash)
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Hidden = int64(len(hidden))
	for some := range slices.Chunk(hidden, 500) {
		entries, err := rd.lookup(ctx, r.Path, some)
		if err != nil {
			return out, fmt.Errorf("look up entries of %s: %w", r.Path, err)
		}
		for _, key := range some {
			pairs = append(pairs, pair{key, entries[key].RecordHash})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key[:], b.key[:]) })
	d := newDigest()
	for _, p := range pairs {
		d.add(p.key, p.record)
	}
	d.end()
	out.Found = d.live - out.Hidden
	if out.Pass = hex.EncodeToString(rootOf(d.buckets[:])) == st.Root; out.Pass {
		return out, nil
	}
	differs := [bucketCount]bool{}
	for i := range bucketCount {
		at := i * bucketSize
		if differs[i] = stated == nil || !bytes.Equal(d.buckets[at:at+bucketSize], stated[at:at+bucketSize]); differs[i] && stated != nil {
			out.Buckets = append(out.Buckets, hex.EncodeToString([]byte{byte(i)}))
		}
	}
	out.IDs, err = wrong.in(ctx, rd, r.Path, differs)
	return out, err
}

// wrongIDs collects, by bucket, ids of records that are not as the ledger says; at most limit per finding and bucket.
type wrongIDs struct {
	limit int
	ids   map[string]map[byte][]string
	lost  map[byte][]syncdb.Hash
}

func newWrongIDs(limit int) *wrongIDs {
	return &wrongIDs{limit: limit, ids: map[string]map[byte][]string{}, lost: map[byte][]syncdb.Hash{}}
}

func (w *wrongIDs) add(finding string, key syncdb.Hash, id string) {
	if w.ids[finding] == nil {
		w.ids[finding] = map[byte][]string{}
	}
	if b := w.ids[finding]; len(b[key[0]]) < w.limit {
		b[key[0]] = append(b[key[0]], id)
	}
}

func (w *wrongIDs) gone(key syncdb.Hash) {
	if len(w.lost[key[0]]) < w.limit {
		w.lost[key[0]] = append(w.lost[key[0]], key)
	}
}

// in returns the ids in buckets that differ, at most limit per finding.
func (w *wrongIDs) in(ctx context.Context, rd *reading, resource string, differs [bucketCount]bool) (map[string][]string, error) {
	out := map[string][]string{}
	keep := func(finding, id string) {
		if id != "" && len(out[finding]) < w.limit {
			out[finding] = append(out[finding], id)
		}
	}
	for _, finding := range slices.Sorted(maps.Keys(w.ids)) {
		for _, bucket := range slices.Sorted(maps.Keys(w.ids[finding])) {
			for _, id := range w.ids[finding][bucket] {
				if differs[bucket] {
					keep(finding, id)
				}
			}
		}
	}
	var keys []syncdb.Hash
	for _, bucket := range slices.Sorted(maps.Keys(w.lost)) {
		if differs[bucket] && len(keys) < w.limit {
			keys = append(keys, w.lost[bucket]...)
		}
	}
	entries, err := rd.lookup(ctx, resource, keys)
	if err != nil {
		return nil, fmt.Errorf("look up entries of %s: %w", resource, err)
	}
	for _, key := range keys {
		keep("missing", entries[key].EdfiID)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// ReceiptDocument is the receipt of a run as it is handed out: with the buckets of resources the run did not write, from the receipts that have
// them, so that a difference can be narrowed with nothing else at hand.
func ReceiptDocument(ctx context.Context, ledger Receipts, connection, run int64) ([]byte, error) {
	kept, err := ledger.ReceiptOf(ctx, connection, run)
	if err != nil {
		return nil, fmt.Errorf("read the receipt of run %d: %w", run, err)
	}
	r := &Receipt{}
	if err := json.Unmarshal(kept.Document, r); err != nil {
		return nil, fmt.Errorf("read the receipt of run %d: %w", run, err)
	}
	others := map[int64]*Receipt{}
	for _, res := range r.Statement.Resources {
		if res.RootRun == run {
			continue
		}
		other := others[res.RootRun]
		if other == nil {
			other = &Receipt{}
			others[res.RootRun] = other
			earlier, err := ledger.ReceiptOf(ctx, connection, res.RootRun)
			if errors.Is(err, syncdb.ErrNotFound) {
				continue // no longer kept: the receipt verifies all the same
			}
			if err == nil {
				err = json.Unmarshal(earlier.Document, other)
			}
			if err != nil {
				return nil, fmt.Errorf("read the receipt of run %d: %w", res.RootRun, err)
			}
		}
		if buckets, ok := other.Buckets[res.Resource]; ok {
			if r.Buckets == nil {
				r.Buckets = map[string][]byte{}
			}
			r.Buckets[res.Resource] = buckets
		}
	}
	return canonical(r)
}
