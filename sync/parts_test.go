package sync

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

func hashOf(n uint64) syncdb.Hash {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	sum := sha256.Sum256(b[:])
	return syncdb.Hash(sum[:16])
}

func TestTableFindsWhatWasPutAndNothingElse(t *testing.T) {
	t.Parallel()
	tab := newTable(10) // grows many times
	const n = 50_000
	for i := range uint64(n) {
		tab.put(hashOf(i), hashOf(i+n), hashOf(i+2*n), slotEntry|slotLive)
	}
	for i := range uint64(n) {
		slot := tab.find(hashOf(i))
		if slot < 0 || tab.recs[slot] != cut8(hashOf(i+n)) || tab.srcs[slot] != cut4(hashOf(i+2*n)) {
			t.Fatalf("key %d: got slot %d", i, slot)
		}
		if tab.find(hashOf(i+3*n)) >= 0 {
			t.Fatalf("found key %d that was never put", i+3*n)
		}
	}
	if got := tab.unseen(); got != n {
		t.Errorf("got %d unseen, want %d", got, n)
	}
	tab.setLive(hashOf(1), false)
	if tab.live(hashOf(1)) || !tab.live(hashOf(2)) {
		t.Error("setLive took the wrong entry")
	}
}

func TestSpoolGivesBackWhatWasAddedAndKeepsNothingReadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ring := testRing(t)
	work, err := newWorkspace(dir, "spools-")
	if err != nil {
		t.Fatal(err)
	}
	sp := newSpool(work, "ed-fi/students#fresh", ring)
	rng := rand.New(rand.NewPCG(1, 2))
	want := make([]record, 5000)
	for i := range want {
		want[i] = record{
			Known: i%3 == 0, KeyHash: hashOf(uint64(i)), RecordHash: hashOf(uint64(i) + 1), SourceHash: hashOf(7), PersonHash: hashOf(8),
			SourceKey: fmt.Appendf(nil, "row-%d", i), Key: fmt.Appendf(nil, `["S%d"]`, i),
			Payload: []byte(strings.Repeat("Canary-Surname", 1+rng.IntN(20))),
		}
		for j := range rng.IntN(4) {
			want[i].Refs = append(want[i].Refs, reference{Target: uint16(j), Hash: hashOf(uint64(j))})
		}
		if err := sp.add(&want[i]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // may be read again
		i := 0
		err := sp.each(func(r *record) error {
			got := *r
			if len(got.Refs) == 0 {
				got.Refs = nil
			}
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("record %d (-got +want):\n%s", i, cmp.Diff(got, want[i]))
			}
			i++
			return nil
		})
		if err != nil || i != len(want) {
			t.Fatalf("got %d records and error %v, want %d", i, err, len(want))
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got files %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "Canary") {
		t.Error("a payload is on disk in clear (I14)")
	}
	if err := sp.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
		t.Errorf("the spool's file is still there: %v", err)
	}
	work.remove()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v in the directory, want nothing", left, err)
	}
	if _, err := newWorkspace(filepath.Join(dir, "nowhere"), "spools-"); err == nil {
		t.Error("a directory that is not there is taken for spools")
	}
}

func TestAWorkspaceRemovesWhatKilledCommandsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-abandoned - time.Hour)
	for name, age := range map[string]time.Time{"spools-1": old, "spools-2": time.Now(), "others-1": old} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.Chtimes(filepath.Join(dir, name), age, age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newWorkspace(dir, "spools-"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "others-1"), filepath.Join(dir, "spools-2")} // nobody knows whether the command of a young one lives
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func testRing(t *testing.T) *keys.Ring {
	t.Helper()
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := master.Ring(master.NewDataKey([]byte("test")), []byte("test"), 1)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestJudgeGivesEveryAnswerOneConsequence(t *testing.T) {
	t.Parallel()
	fail := func(class edfi.Class, status int, sent bool) error {
		return fmt.Errorf("wrapped: %w", &edfi.Error{Class: class, Status: status, Sent: sent})
	}
	failCode := func(code string) error { return &edfi.Error{Class: edfi.Blocked, Status: 403, Code: code} }
	for name, c := range map[string]struct {
		verb     syncdb.Verb
		twoPhase bool
		err      error
		want     ruling
	}{
		"POST answered":                         {syncdb.Create, false, nil, ruling{syncdb.EffectLive, Created, nextNothing}},
		"PUT answered":                          {syncdb.Update, false, nil, ruling{syncdb.EffectLive, Updated, nextNothing}},
		"DELETE answered":                       {syncdb.Delete, false, nil, ruling{syncdb.EffectGone, Deleted, nextNothing}},
		"DELETE of what is gone":                {syncdb.Delete, false, fail(edfi.NotFound, 404, false), ruling{syncdb.EffectGone, Deleted, nextNothing}},
		"PUT of what is gone":                   {syncdb.Update, false, fail(edfi.NotFound, 404, false), ruling{effect: syncdb.EffectMissing, next: nextCreate}},
		"POST to a route that is not there":     {syncdb.Create, false, fail(edfi.NotFound, 404, false), ruling{outcome: Rejected}},
		"parent missing":                        {syncdb.Create, false, fail(edfi.Blocked, 409, false), ruling{outcome: Blocked}},
		"child still there":                     {syncdb.Delete, false, fail(edfi.Blocked, 409, false), ruling{outcome: Blocked}},
		"person exists, first phase":            {syncdb.Create, true, failCode("no-relationship"), ruling{next: nextLater}},
		"person exists, no second phase":        {syncdb.Create, false, fail(edfi.Blocked, 403, false), ruling{outcome: Blocked}},
		"content refused":                       {syncdb.Update, false, fail(edfi.Invalid, 400, false), ruling{outcome: Rejected}},
		"claim set lacks people":                {syncdb.Create, true, fail(edfi.Rejected, 403, false), ruling{outcome: Rejected}},
		"repeat refused after a lost answer":    {syncdb.Update, false, fail(edfi.Invalid, 400, true), ruling{effect: syncdb.EffectUnknown, outcome: Failed}},
		"answer lost":                           {syncdb.Create, false, fail(edfi.Transient, 0, true), ruling{effect: syncdb.EffectUnknown, outcome: Failed}},
		"server error":                          {syncdb.Delete, false, fail(edfi.Transient, 503, true), ruling{effect: syncdb.EffectUnknown, outcome: Failed}},
		"never sent":                            {syncdb.Create, false, fail(edfi.Transient, 0, false), ruling{outcome: Failed}},
		"client locked out":                     {syncdb.Create, false, fail(edfi.Stop, 401, false), ruling{outcome: Failed, next: nextStop}},
		"an error nobody classified is unknown": {syncdb.Update, false, os.ErrDeadlineExceeded, ruling{effect: syncdb.EffectUnknown, outcome: Failed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(c.verb, c.twoPhase, c.err); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// testScope is a scope of these resources of DS 5.2 with the order the ODS computes.
func testScope(t *testing.T, paths ...string) *scope {
	t.Helper()
	m, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	deps, err := schema.Dependencies(m)
	if err != nil {
		t.Fatal(err)
	}
	var bound []*source.Bound
	for _, p := range paths {
		r, ok := m.Resource(p)
		if !ok {
			t.Fatalf("no resource %s", p)
		}
		bound = append(bound, &source.Bound{Resource: r})
	}
	s, err := newScope(m, bound, deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStepsFollowTheLoadOrderAndDeletesInvertIt(t *testing.T) {
	t.Parallel()
	s := testScope(t, "ed-fi/studentSchoolAttendanceEvents", "ed-fi/students", "ed-fi/schools", "ed-fi/studentSchoolAssociations",
		"ed-fi/sessions", "ed-fi/staffs", "ed-fi/staffSchoolAssociations")
	steps := s.steps()
	name := func(st step) string { return verbName(st.Verb) + " " + s.resources[st.Resource].Path }
	reach := map[string]map[string]bool{} // transitive
	for _, st := range steps {
		all := map[string]bool{}
		for _, a := range st.After {
			all[name(steps[a])] = true
			for n := range reach[name(steps[a])] {
				all[n] = true
			}
		}
		reach[name(st)] = all
	}
	for _, c := range [][2]string{
		{"create ed-fi/studentSchoolAssociations", "create ed-fi/students"},
		{"create ed-fi/studentSchoolAttendanceEvents", "create ed-fi/studentSchoolAssociations"},
		{"create ed-fi/studentSchoolAttendanceEvents", "create ed-fi/sessions"},
		{"update ed-fi/students", "create ed-fi/studentSchoolAssociations"},
		{"delete ed-fi/studentSchoolAssociations", "delete ed-fi/studentSchoolAttendanceEvents"},
		{"delete ed-fi/students", "delete ed-fi/studentSchoolAssociations"},
		{"delete ed-fi/schools", "delete ed-fi/sessions"},
		{"delete ed-fi/studentSchoolAttendanceEvents", "update ed-fi/students"},
	} {
		if !reach[c[0]][c[1]] {
			t.Errorf("%q does not wait for %q", c[0], c[1])
		}
	}
	if reach["create ed-fi/staffs"]["create ed-fi/students"] {
		t.Error("staffs wait for students: independent steps must run side by side")
	}
}
