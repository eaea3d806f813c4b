package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// maxCircle is how many records that stand against each other's deletes one step reads: what is left is read by the next run.
const maxCircle = 1000

// linked is a record that cannot be deleted because others of its resource refer to it, and its own references to such records.
type linked struct {
	op   *op
	body []byte
	to   map[syncdb.Hash][]string // natural key of another one → paths of the references
}

// loosen finds circles among deletes that records of the same resource stand against, such as two agencies each of which is the other's parent: the
// target refuses each of them for the other, for ever (I1). Of one record of each circle the reference is taken away first; it is ours and about to be
// deleted, and only a reference it can be without is taken. It reports whether it took any.
func (s *stepRun) loosen(stopped []stoppedOp) (loosened bool, err error) {
	all, err := s.readLinked(stopped[:min(len(stopped), maxCircle)])
	if err != nil {
		return false, err
	}
	n := 0
	for _, at := range closing(all) {
		l := all[at.key]
		payload, err := without(l.body, l.to[at.to])
		if err != nil || len(s.r.Validate(payload)) > 0 {
			continue // it cannot be without
		}
		n++
		// I2: what the record holds from here on is nothing a row says, so the entry is Unknown until the delete is answered.
		if err := s.add(&op{
			verb: syncdb.Update, key: l.op.key, source: l.op.source, person: l.op.person, edfiID: l.op.edfiID, before: l.op.before, known: true, met: l.op.met,
			keyText: l.op.keyText, payload: payload, loosens: true,
		}); err != nil {
			return false, err
		}
	}
	if n == 0 {
		return false, nil
	}
	s.x.e.logger().Info("records to delete refer to each other in a circle; a reference of one is taken away first", slog.String("resource", s.r.Path), slog.Int("records", n))
	return true, s.settleOpen()
}

// readLinked reads the records of deletes from the target, several at a time, by natural key. One that cannot be read is in no circle.
func (s *stepRun) readLinked(stopped []stoppedOp) (map[syncdb.Hash]*linked, error) {
	var (
		wg    gosync.WaitGroup
		all   = make(map[syncdb.Hash]*linked, len(stopped))
		slots = make(chan struct{}, max(1, s.x.target.Concurrency()))
	)
	for _, f := range stopped {
		l := &linked{op: f.op, to: map[syncdb.Hash][]string{}}
		all[f.op.key] = l
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if body, _, err := s.x.target.Get(s.calls, s.r.Path, l.op.edfiID); err == nil {
				l.body = body
			} else if edfi.ClassOf(err) == edfi.Stop {
				s.x.stop(fmt.Errorf("read a record that stands against a delete: %w", err))
			}
		})
	}
	wg.Wait()
	h := schema.NewHasher(s.x.e.Keys.HashMAC())
	for _, l := range all {
		if l.body == nil {
			continue
		}
		refs, err := s.r.References(s.x.e.Model, l.body, s.x.o.Rules)
		if err != nil {
			continue
		}
		for _, ref := range refs {
			if key := h.Sum(ref.Key); ref.Target == s.r.Name && !strings.Contains(ref.Path, ".") && all[key] != nil {
				l.to[key] = append(l.to[key], ref.Path)
			}
		}
	}
	if s.x.ctx.Err() != nil {
		return nil, context.Cause(s.x.ctx)
	}
	return all, nil
}

// link is a reference from one record to another.
type link struct{ key, to syncdb.Hash }

// closing returns references without which there is no circle, the same for the same records: those that lead back to where a walk along the
// references came from.
func closing(all map[syncdb.Hash]*linked) (out []link) {
	const (
		onWay = iota + 1
		done
	)
	state := make(map[syncdb.Hash]int, len(all))
	var walk func(key syncdb.Hash)
	walk = func(key syncdb.Hash) {
		state[key] = onWay
		for _, to := range sortedHashes(all[key].to) {
			switch state[to] {
			case 0:
				walk(to)
			case onWay:
				out = append(out, link{key, to})
			}
		}
		state[key] = done
	}
	for _, key := range sortedHashes(all) {
		if state[key] == 0 {
			walk(key)
		}
	}
	return out
}

func sortedHashes[V any](m map[syncdb.Hash]V) []syncdb.Hash {
	keys := make([]syncdb.Hash, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareHashes)
	return keys
}

// without is a record of the target as it is sent back, without some of its references and without what the target itself adds: id, etag, dates of
// change and the links in references.
func without(body []byte, references []string) ([]byte, error) {
	var record map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&record); err != nil {
		return nil, fmt.Errorf("read a record of the target: %w", err)
	}
	delete(record, "id")
	for name := range record {
		if strings.HasPrefix(name, "_") || slices.Contains(references, name) {
			delete(record, name)
		}
	}
	dropLinks(record)
	return json.Marshal(record)
}

func dropLinks(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if reference, object := inner.(map[string]any); object && strings.HasSuffix(name, "Reference") {
				delete(reference, "link")
			}
			dropLinks(inner)
		}
	case []any:
		for _, inner := range v {
			dropLinks(inner)
		}
	}
}
