package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
)

// verifier compares a target with its source record by record. It maps the rows itself and reads the target's records back through its
// API; it knows neither ledger nor engine, so that it can contradict them.
type verifier struct {
	model  *schema.Model
	rules  schema.Rules
	db     *source.DB
	bound  []*source.Bound
	target *edfi.Client
}

// difference is what is wrong with one resource.
type difference struct {
	Resource  string `json:"resource"`
	Expected  int    `json:"expected"`
	Found     int    `json:"found"`
	Missing   int    `json:"missing"`   // expected, not at the target
	Extra     int    `json:"extra"`     // at the target, not expected
	Different int    `json:"different"` // at the target with other content
}

func (d difference) empty() bool { return d.Missing == 0 && d.Extra == 0 && d.Different == 0 }

// verification is the result of a comparison.
type verification struct {
	Records     int // at the target, of the resources compared
	Resources   int
	Differences []difference
}

// verify compares all resources the queries fill.
func (v *verifier) verify(ctx context.Context, progress func(resource string, done int)) (verification, error) {
	expected, err := v.expected(ctx)
	if err != nil {
		return verification{}, err
	}
	resources := make([]*schema.Resource, 0, len(expected))
	for r := range expected {
		resources = append(resources, r)
	}
	slices.SortFunc(resources, func(a, b *schema.Resource) int {
		return slices.Index(v.model.Resources, a) - slices.Index(v.model.Resources, b)
	})
	var result verification
	for _, r := range resources {
		progress(r.Path, result.Records)
		d, err := v.compare(ctx, r, expected[r])
		if err != nil {
			return verification{}, err
		}
		result.Records += d.Found
		result.Resources++
		if !d.empty() {
			result.Differences = append(result.Differences, d)
		}
	}
	return result, nil
}

// digests are the records of one resource: the digest of the canonical payload by canonical natural key.
type digests map[string][sha256.Size]byte

// expected maps the source's rows: every row that is right must be at the target.
func (v *verifier) expected(ctx context.Context) (map[*schema.Resource]digests, error) {
	snapshot, err := v.db.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	all := map[*schema.Resource]digests{}
	for _, q := range v.bound {
		if all[q.Resource] == nil {
			all[q.Resource] = digests{}
		}
		if err := v.rows(ctx, snapshot, q, all[q.Resource]); err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", q.Query.File, err), snapshot.Close())
		}
	}
	return all, snapshot.Close()
}

func (v *verifier) rows(ctx context.Context, snapshot *source.Snapshot, q *source.Bound, into digests) (err error) {
	rows, err := snapshot.Open(ctx, q.Query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var batch source.Batch
	var record schema.Encoded
	for {
		if err := rows.Next(ctx, &batch); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for i := range batch.Len() {
			q.Template.Encode(q.Values(batch.Row(i)), &record)
			if len(record.Problems) > 0 {
				continue
			}
			if err := v.note(q.Resource, record.Wire, into); err != nil {
				return err
			}
		}
	}
}

// note adds the digest of a payload.
func (v *verifier) note(r *schema.Resource, payload []byte, into digests) error {
	key, err := r.CanonicalKey(nil, payload, v.rules)
	if err != nil {
		return fmt.Errorf("natural key of %s: %w", r.Path, err)
	}
	canonical, err := r.Canonical(nil, payload)
	if err != nil {
		return fmt.Errorf("canonical form of %s: %w", r.Path, err)
	}
	if _, twice := into[string(key)]; twice {
		return fmt.Errorf("%s: two records with one natural key", r.Path)
	}
	into[string(key)] = sha256.Sum256(canonical)
	return nil
}

// compare pages through the target's records of a resource.
func (v *verifier) compare(ctx context.Context, r *schema.Resource, expected digests) (difference, error) {
	found := digests{}
	err := v.target.Each(ctx, r.Path, edfi.PageOptions{}, func(item json.RawMessage) error { return v.note(r, item, found) })
	if err != nil {
		return difference{}, fmt.Errorf("read %s from the target: %w", r.Path, err)
	}
	d := difference{Resource: r.Path, Expected: len(expected), Found: len(found)}
	for key, want := range expected {
		switch got, there := found[key]; {
		case !there:
			d.Missing++
		case got != want:
			d.Different++
		}
	}
	for key := range found {
		if _, wanted := expected[key]; !wanted {
			d.Extra++
		}
	}
	return d, nil
}
