package syncdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	planSegment = 8192             // ops in one segment (engine.md §6)
	planPart    = 32 * planSegment // ops sorted in memory at once; the parts are merged when the plan is read
)

// The encoding of a segment, before it is sealed:
//
//	version     1 byte, 1
//	resources   count, then length and name of each
//	ops         count, then each: step, verb and flags, resource, key hash, the hashes the flags name
const planVersion = 1

// minPlanOp is the least an encoded op takes.
const minPlanOp = 3 + len(Hash{})

// Flags beside the verb of a plan op: which of the hashes follow.
const (
	planOldKey byte = 1 << (iota + 2)
	planSource
	planOldRecord
	planNewRecord
	planRecordID
	planAlone // no hash
)

var errSegment = errors.New("plan segment is malformed")

type flaggedHash struct {
	flag byte
	hash *Hash
}

func (o *PlanOp) hashes() [5]flaggedHash {
	return [...]flaggedHash{
		{planOldKey, &o.OldKeyHash}, {planSource, &o.SourceHash}, {planOldRecord, &o.OldRecord}, {planNewRecord, &o.NewRecord}, {planRecordID, &o.RecordID},
	}
}

// appendPlanOps appends an encoded segment to dst.
func appendPlanOps(dst []byte, ops []PlanOp) []byte {
	var names []string
	index := func(name string) int {
		i := slices.Index(names, name) // a segment has few
		if i < 0 {
			i, names = len(names), append(names, name)
		}
		return i
	}
	for i := range ops {
		index(ops[i].Resource)
	}
	dst = binary.AppendUvarint(append(dst, planVersion), uint64(len(names)))
	for _, n := range names {
		dst = appendBytes(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(ops)))
	for i := range ops {
		o := &ops[i]
		dst = binary.AppendUvarint(dst, uint64(o.Step))
		at := len(dst)
		dst = append(dst, byte(o.Verb))
		dst = binary.AppendUvarint(dst, uint64(index(o.Resource)))
		dst = append(dst, o.KeyHash[:]...)
		if o.Alone {
			dst[at] |= planAlone
		}
		for _, h := range o.hashes() {
			if !h.hash.IsZero() {
				dst[at] |= h.flag
				dst = append(dst, h.hash[:]...)
			}
		}
	}
	return dst
}

// readPlanOps decodes a segment.
func readPlanOps(b []byte) ([]PlanOp, error) {
	r := frameReader{b: b}
	if v := r.byte(); v != planVersion {
		return nil, fmt.Errorf("%w: version %d", errSegment, v)
	}
	for range r.count() {
		r.names = append(r.names, string(r.bytes()))
	}
	n := r.count()
	if n > (len(b)-r.at)/minPlanOp { // a malformed segment must not ask for much memory
		return nil, errSegment
	}
	ops := make([]PlanOp, n)
	for i := range ops {
		o := &ops[i]
		o.Step = int(r.uvarint())
		flags := r.byte()
		o.Verb, o.Alone = Verb(flags&verbMask), flags&planAlone != 0
		if n := r.uvarint(); n < uint64(len(r.names)) {
			o.Resource = r.names[n]
		} else {
			r.fail()
		}
		r.hash(&o.KeyHash)
		for _, h := range o.hashes() {
			if flags&h.flag != 0 {
				r.hash(h.hash)
			}
		}
		if r.err != nil {
			return nil, errSegment
		}
	}
	if r.err != nil || r.at != len(b) {
		return nil, errSegment
	}
	return ops, nil
}

// Check returns an error when the op could not be told from others later.
func (o *PlanOp) Check() error {
	switch {
	case o.Resource == "":
		return errors.New("an op of the plan names no resource")
	case o.KeyHash.IsZero():
		return errors.New("an op of the plan has no key hash")
	case o.Verb < Create || o.Verb > Delete:
		return errors.New("an op of the plan has no verb")
	case o.Step < 0:
		return errors.New("an op of the plan has no step")
	}
	return nil
}
