package syncdb_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/syncdb"
)

func planOps() []syncdb.PlanOp {
	return []syncdb.PlanOp{
		{Step: 0, Resource: "ed-fi/schools", Verb: syncdb.Create, KeyHash: mixed(1), SourceHash: mixed(2), NewRecord: mixed(3)},
		{Step: 300, Resource: "ed-fi/students", Verb: syncdb.Update, KeyHash: mixed(4), OldKeyHash: mixed(5), SourceHash: mixed(6), OldRecord: mixed(7), NewRecord: mixed(8)},
		{Step: 300, Resource: "ed-fi/students", Verb: syncdb.Delete, KeyHash: mixed(9), RecordID: mixed(10)},
		{Step: 301, Resource: "ed-fi/students", Verb: syncdb.Delete, KeyHash: mixed(11), Alone: true},
	}
}

func attempts() []syncdb.Attempt {
	return []syncdb.Attempt{
		{Op: 1, Verb: syncdb.Create, KeyHash: mixed(1), RecordHash: mixed(2), SourceHash: mixed(3), EdfiID: "0123456789abcdef0123456789abcdef", At: time.UnixMilli(1_790_000_000_123).UTC(), Status: 201, Effect: syncdb.EffectLive, Key: []byte(`["1"]`), Payload: []byte(`{}`)},
		{Op: 2, Verb: syncdb.Update, KeyHash: mixed(1), EdfiID: "0123456789ABCDEF0123456789abcdef", At: time.UnixMilli(1_790_000_000_100).UTC()},
		{Op: 1 << 63, Verb: syncdb.Delete, KeyHash: mixed(4), OldKeyHash: mixed(5), OldRecord: mixed(6), EdfiID: "a", Effect: syncdb.EffectUnknown, Answer: []byte("no")},
	}
}

func encoded(t testing.TB, attempts []syncdb.Attempt) []byte {
	b, err := syncdb.PackAttempts(attempts)
	ok(t, err)
	return b
}

func decoded(b []byte) (out []syncdb.Attempt, err error) {
	err = syncdb.ReadAttempts(b, func(a *syncdb.Attempt) error {
		out = append(out, *a)
		return nil
	})
	return out, err
}

func TestSegmentsGiveBackWhatWentIn(t *testing.T) {
	t.Parallel()
	b := syncdb.AppendPlanOps(nil, planOps())
	ops, err := syncdb.ReadPlanOps(b)
	ok(t, err)
	if d := cmp.Diff(planOps(), ops); d != "" {
		t.Errorf("ops (-want +got):\n%s", d)
	}
	for n := range b {
		if _, err := syncdb.ReadPlanOps(b[:n]); err == nil {
			t.Fatalf("ops cut to %d of %d bytes were read", n, len(b))
		}
	}
	got, err := decoded(encoded(t, attempts()))
	ok(t, err)
	if d := cmp.Diff(attempts(), got, cmpopts.IgnoreFields(syncdb.Attempt{}, "RunID", "Resource")); d != "" {
		t.Errorf("attempts (-want +got):\n%s", d)
	}
}

// FuzzPlanOps: no bytes make the reader panic, hang or ask for much memory, and what it reads it would write again.
func FuzzPlanOps(f *testing.F) {
	f.Add(syncdb.AppendPlanOps(nil, nil))
	f.Add(syncdb.AppendPlanOps(nil, planOps()))
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := syncdb.ReadPlanOps(b)
		if err != nil {
			return
		}
		again, err := syncdb.ReadPlanOps(syncdb.AppendPlanOps(nil, ops))
		if d := cmp.Diff(ops, again, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("reading again gives %v (-first +again):\n%s", err, d)
		}
	})
}

// FuzzAttempts does the same for history.
func FuzzAttempts(f *testing.F) {
	f.Add(encoded(f, nil))
	f.Add(encoded(f, attempts()))
	f.Add([]byte{1, 1, 1, 1, 1, 1})
	f.Add(append(append([]byte{1, 24, 1, 1, 0, 0, 0}, make([]byte, 16)...), 0, 0xff, 0xff, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decoded(b)
		if err != nil {
			return
		}
		again, err := decoded(encoded(t, got))
		if d := cmp.Diff(got, again, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("reading again gives %v (-first +again):\n%s", err, d)
		}
	})
}
