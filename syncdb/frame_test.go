package syncdb_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/syncdb"
)

func frame() ([]syncdb.Intent, []syncdb.Result) {
	return []syncdb.Intent{
			{Op: 1, Verb: syncdb.Create, Resource: "ed-fi/students", KeyHash: mixed(1), RecordHash: mixed(2), SourceHash: mixed(3), Key: []byte(`["1"]`)},
			{Op: 1 << 40, Verb: syncdb.Delete, Resource: "ed-fi/schools", KeyHash: mixed(4), PersonHash: mixed(5), EdfiID: "id"},
			{Op: 3, Verb: syncdb.Update, Resource: "ed-fi/students", KeyHash: mixed(6), OldKeyHash: mixed(7), EdfiID: "other", Key: []byte(`["2"]`)},
			{Op: 4, Verb: syncdb.Create, Resource: "ed-fi/students", KeyHash: mixed(8), RecordHash: mixed(2), Key: []byte("[\"\u00e9\"]"), SentKey: []byte("[\"e\u0301\"]")},
		}, []syncdb.Result{
			{Op: 1, Effect: syncdb.EffectLive, EdfiID: "made", Origin: syncdb.Met}, {Op: 7, Effect: syncdb.EffectMissing},
		}
}

func TestFrameGivesBackWhatWentIn(t *testing.T) {
	t.Parallel()
	intents, results := frame()
	b := syncdb.AppendFrame(nil, intents, results)
	gotIntents, gotResults, err := syncdb.ReadFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(intents, gotIntents, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("intents (-want +got):\n%s", d)
	}
	if d := cmp.Diff(results, gotResults); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
	for n := range b {
		if _, _, err := syncdb.ReadFrame(b[:n]); err == nil {
			t.Fatalf("a frame cut to %d of %d bytes was read", n, len(b))
		}
	}
}

// FuzzFrame: no bytes make the reader panic, hang or ask for much memory, and what it reads it would write again.
func FuzzFrame(f *testing.F) {
	f.Add(syncdb.AppendFrame(nil, nil, nil))
	intents, results := frame()
	f.Add(syncdb.AppendFrame(nil, intents, results))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		intents, results, err := syncdb.ReadFrame(b)
		if err != nil {
			return
		}
		again, _, err := syncdb.ReadFrame(syncdb.AppendFrame(nil, intents, results))
		if err != nil {
			t.Fatalf("read again: %v", err)
		}
		if len(again) != len(intents) || len(again) > 0 && !bytes.Equal(again[0].Key, intents[0].Key) {
			t.Error("reading again gives another frame")
		}
	})
}
