package syncdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// Bounds of what one fold transaction takes up: the memory of a fold is that of its frames in clear plus some 64 bytes per result.
const (
	maxFold      = 250_000  // results
	maxFoldBytes = 48 << 20 // of frames in clear
	moveWeight   = 4        // a move is settled in memory, with both of its entries
)

// folder reads frames in the order they were written, pairs intents with results, and settles the pairs in key order, many to a
// transaction. Intents still open when a transaction is due go back to the journal in it, as one carried frame per step, in place of
// the frames they came in; so every commit leaves a journal that can be folded from the start.
type folder struct {
	d     *DB
	lease Lease
	c     connection
	ids   []int64 // frames still to read

	names     map[string]uint16
	resources []foldResource
	folded    int

	// the transaction being gathered
	frames []foldFrame
	bytes  int
	weight int
	seq    uint32
	open   map[opID]foldOp
	closed []foldOp
}

type foldResource struct {
	name string
	id   int64 // 0 until needed
}

type foldFrame struct {
	id    int64
	owner frameOwner
	plain []byte
	names []string

	intents int // carried frames: how many it holds
}

type frameOwner struct {
	run  int64
	step int
}

type opID struct {
	run int64
	op  uint64
}

// foldOp is an intent, by its place in a frame, and its result. It is small because up to maxFold of them are held.
type foldOp struct {
	key      Hash
	seq      uint32 // order of the intents in the journal
	frame    uint32
	at       uint32
	idFrame  uint32
	idAt     uint32 // of the result's id in idFrame; 0 = none
	resource uint16
	effect   Effect
	origin   Origin
	moves    bool
}

func (d *DB) newFolder(ctx context.Context, l Lease, where string, args ...any) (*folder, error) {
	c, err := d.connection(ctx, l.ConnectionID)
	if err != nil {
		return nil, err
	}
	f := &folder{d: d, lease: l, c: c, names: map[string]uint16{}, open: map[opID]foldOp{}}
	err = d.store.reads().SelectContext(ctx, &f.ids, d.bind(`SELECT id FROM journal WHERE connection_id = ? AND `+where+` ORDER BY id`),
		append([]any{l.ConnectionID}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("list frames: %w", err)
	}
	if len(f.ids) == 0 { // nothing to write, but a lost lease must still show (I7)
		return f, d.fence(ctx, d.store.reads(), l, "")
	}
	return f, nil
}

// run reads all frames, committing whenever enough is gathered. What remains gathered at the end is for the caller to flush.
func (f *folder) run(ctx context.Context) error {
	for _, id := range f.ids {
		if f.weight >= f.d.fold || f.bytes >= maxFoldBytes {
			if err := f.flush(ctx); err != nil {
				return err
			}
		}
		fr := foldFrame{id: id}
		var sealed []byte
		row := f.d.store.reads().QueryRowContext(ctx, f.d.bind(`SELECT run_id, step, frame_sealed FROM journal WHERE id = ?`), id)
		if err := row.Scan(&fr.owner.run, &fr.owner.step, &sealed); err != nil {
			return fmt.Errorf("read frame %d: %w", id, err)
		}
		var err error
		if fr.plain, err = f.c.ring.Open(nil, sealed, f.c.frameAAD(fr.owner.run, fr.owner.step)); err != nil {
			return fmt.Errorf("open frame %d: %w", id, err)
		}
		if err := f.add(fr); err != nil {
			return fmt.Errorf("read frame %d: %w", id, err)
		}
	}
	return nil
}

func (f *folder) add(fr foldFrame) error {
	r, err := newFrameReader(fr.plain, f.intern)
	if err != nil {
		return err
	}
	fr.names = r.names
	frame := uint32(len(f.frames))
	f.frames = append(f.frames, fr)
	f.bytes += len(fr.plain)
	var in Intent
	for range r.count() {
		at := r.at
		if r.intent(&in); r.err != nil {
			return r.err
		}
		f.seq++
		f.open[opID{fr.owner.run, in.Op}] = foldOp{
			key: in.KeyHash, seq: f.seq, frame: frame, at: uint32(at), resource: f.names[in.Resource], moves: in.moves(),
		}
	}
	for range r.count() {
		res, idAt := r.result()
		if r.err != nil {
			return r.err
		}
		id := opID{fr.owner.run, res.Op}
		op, ok := f.open[id]
		if !ok {
			continue // a frame whose commit nobody could confirm repeats a result (F50): the first one counted
		}
		delete(f.open, id)
		op.effect, op.origin, op.idFrame, op.idAt = res.Effect, res.Origin, frame, uint32(idAt)
		f.close(op)
	}
	return r.err
}

func (f *folder) close(op foldOp) {
	f.weight++
	if op.moves {
		f.weight += moveWeight - 1
	}
	f.closed = append(f.closed, op)
}

// giveUp gives every open intent the effect unknown (I3).
func (f *folder) giveUp() {
	for _, op := range f.open {
		op.effect = EffectUnknown
		f.close(op)
	}
	clear(f.open)
}

func (f *folder) intern(name []byte) string {
	i, ok := f.names[string(name)]
	if !ok {
		i = uint16(len(f.resources))
		f.names[string(name)] = i
		f.resources = append(f.resources, foldResource{name: string(name)})
	}
	return f.resources[i].name
}

// intent decodes the op's intent again; only its place was kept.
func (f *folder) intent(op *foldOp, in *Intent) {
	fr := &f.frames[op.frame]
	r := frameReader{b: fr.plain, at: int(op.at), names: fr.names}
	r.intent(in)
}

func (f *folder) result(op *foldOp) Result {
	r := Result{Effect: op.effect, Origin: op.origin}
	if op.idAt != 0 {
		fr := frameReader{b: f.frames[op.idFrame].plain, at: int(op.idAt)}
		r.EdfiID = string(fr.bytes())
	}
	return r
}

// flush settles what is gathered in one transaction: the fence, the entries, and the journal without what is now in them (I3, I7).
func (f *folder) flush(ctx context.Context) error {
	if len(f.frames) == 0 {
		return nil
	}
	for i := range f.resources {
		r := &f.resources[i]
		id, err := f.d.ensureResource(ctx, r.name)
		if err != nil {
			return err
		}
		r.id = id
	}
	slices.SortFunc(f.closed, func(a, b foldOp) int {
		if c := cmp.Compare(a.resource, b.resource); c != 0 {
			return c
		}
		if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.seq, b.seq)
	})
	carried := f.carried()
	failpoint.Reach(failpoint.ChunkBefore, "", "")
	err := f.d.store.bulk(ctx, f.c, func(tx bulk) error {
		if err := tx.fence(ctx, f.lease, f.d.now()); err != nil {
			return err
		}
		if err := f.settle(ctx, tx); err != nil {
			return err
		}
		if err := f.shorten(ctx, tx, carried); err != nil {
			return err
		}
		failpoint.Reach(failpoint.ChunkWritten, "", "")
		return nil
	})
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.ChunkAfter, "", "")
	f.folded += len(f.closed)
	f.frames, f.closed, f.bytes, f.weight, f.seq = nil, f.closed[:0], 0, 0, 0
	clear(f.open)
	for _, fr := range carried {
		if err := f.add(fr); err != nil {
			return err
		}
	}
	return nil
}

// carried puts the open intents into one frame per step, each with the id of the last frame read of that step.
func (f *folder) carried() []foldFrame {
	if len(f.open) == 0 {
		return nil
	}
	ops := make([]foldOp, 0, len(f.open))
	for _, op := range f.open {
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b foldOp) int { return cmp.Compare(a.seq, b.seq) })
	intents := map[frameOwner][]Intent{}
	for i := range ops {
		var in Intent
		f.intent(&ops[i], &in)
		owner := f.frames[ops[i].frame].owner
		intents[owner] = append(intents[owner], in)
	}
	var frames []foldFrame
	for _, fr := range slices.Backward(f.frames) {
		if open := intents[fr.owner]; len(open) > 0 {
			frames = append(frames, foldFrame{id: fr.id, owner: fr.owner, plain: appendFrame(nil, open, nil), intents: len(open)})
			delete(intents, fr.owner)
		}
	}
	slices.Reverse(frames)
	return frames
}

// shorten drops the frames read, but for the carried ones, which it writes over.
func (f *folder) shorten(ctx context.Context, tx bulk, carried []foldFrame) error {
	var drop []int64
	for _, fr := range f.frames {
		if !slices.ContainsFunc(carried, func(c foldFrame) bool { return c.id == fr.id }) {
			drop = append(drop, fr.id)
		}
	}
	if err := tx.drop(ctx, drop); err != nil {
		return fmt.Errorf("drop frames: %w", err)
	}
	for _, fr := range carried {
		sealed := f.c.ring.Seal(nil, fr.plain, f.c.frameAAD(fr.owner.run, fr.owner.step))
		if err := tx.rewrite(ctx, fr.id, fr.intents, sealed); err != nil {
			return fmt.Errorf("carry open intents: %w", err)
		}
	}
	return nil
}
