package sync_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// verify verifies and returns the results by resource.
func (w *world) verify(o sync.VerifyOptions) (*sync.Verification, map[string]sync.ResourceVerification) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	v, err := e.Verify(w.t.Context(), o)
	if err != nil {
		w.t.Fatalf("verify: %v", err)
	}
	if calls := w.front.take(); len(calls) > 0 {
		w.t.Errorf("verify made calls %v, want none", calls)
	}
	by := map[string]sync.ResourceVerification{}
	for _, r := range v.Resources {
		by[strings.TrimPrefix(r.Resource, "ed-fi/")] = r
	}
	return v, by
}

// disturb edits one demographic, deletes another, makes a class period of its own and renames one.
func (w *world) disturb() (edited, deleted, extra, renamed string) {
	w.t.Helper()
	const demographics = "ed-fi/studentEducationOrganizationAssociations"
	logins, periods := w.idsBy(demographics, "loginId"), w.idsBy("ed-fi/classPeriods", "classPeriodName")
	edited, deleted, renamed = logins["login1"], logins["login2"], periods["P1"]
	w.other(func(ctx context.Context, c *edfi.Client) {
		body, _, err := c.Get(ctx, demographics, edited)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = c.Put(ctx, demographics, edited, []byte(strings.Replace(string(body), "login1", "theirs", 1)))
		if err == nil {
			_, err = c.Delete(ctx, demographics, deleted)
		}
		if err == nil {
			_, err = c.Put(ctx, "ed-fi/classPeriods", renamed, []byte(`{"classPeriodName":"Renamed","schoolReference":{"schoolId":10}}`))
		}
		var answer edfi.Answer
		if err == nil {
			answer, err = c.Post(ctx, "ed-fi/classPeriods", []byte(`{"classPeriodName":"Theirs","schoolReference":{"schoolId":10}}`))
		}
		if err != nil {
			w.t.Fatal(err)
		}
		extra = answer.ID
	})
	return edited, deleted, extra, renamed
}

func TestVerifyNamesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	if v, by := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 || by["students"].Same != 10 {
		t.Errorf("got %+v, want a target as the ledger says", v)
	}
	edited, deleted, extra, renamed := w.disturb()
	v, by := w.verify(sync.VerifyOptions{IDs: 5})
	if v.Wrong() != 3 {
		t.Errorf("got %d wrong, want 3", v.Wrong())
	}
	want := map[string]map[string][]string{
		"studentEducationOrganizationAssociations": {"different": {edited}, "missing": {deleted}},
		"classPeriods": {"extra": {extra}, "moved": {renamed}},
	}
	for resource, ids := range want {
		if diff := cmp.Diff(by[resource].IDs, ids); diff != "" {
			t.Errorf("%s (-got +want):\n%s", resource, diff)
		}
	}
	if v, _ := w.verify(sync.VerifyOptions{}); v.Resources[0].IDs != nil {
		t.Errorf("got ids %v, want none unless asked for", v.Resources[0].IDs)
	}
	w.resync()
	if v, _ := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 {
		t.Errorf("got %+v after a resync, want nothing wrong", v)
	}
}

func TestVerifyOfASampleReadsNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.mustRun()
	v, _ := w.verify(sync.VerifyOptions{Sample: 7})
	var read int64
	for _, r := range v.Resources {
		read += r.Read
	}
	if read != 7 || v.Wrong() != 0 || v.Mode != "sample" {
		t.Errorf("got %d records read, %d wrong, mode %s; want 7 read and none wrong", read, v.Wrong(), v.Mode)
	}
	w.wipe()
	if v, _ := w.verify(sync.VerifyOptions{Sample: 7}); v.Wrong() != 7 {
		t.Errorf("got %d wrong of a wiped target, want all 7", v.Wrong())
	}
}

func TestVerifyCountsEntriesTheLedgerIsNotSureOfApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.wipe()
	w.options.Resync = true
	w.front.intercept(refuseWrites)
	if _, _, err := w.run(); err != nil {
		t.Logf("the run ended early, as it may: %v", err)
	}
	w.options.Resync = false
	w.front.intercept(nil)
	if v, by := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 || by["students"].Unsettled != 4 {
		t.Errorf("got %+v, want four unsettled students and nothing wrong: the ledger says itself that they are missing", by["students"])
	}
}

func TestVerifySinceTheLastRunNeedsAPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, closeAll := w.engine()
	defer closeAll()
	if _, err := e.Verify(t.Context(), sync.VerifyOptions{SinceLast: true}); !errors.Is(err, sync.ErrNoPosition) {
		t.Errorf("got %v, want ErrNoPosition", err)
	}
}

func TestVerifySinceTheLastRunReadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	w.notePosition()
	if v, by := w.verify(sync.VerifyOptions{SinceLast: true}); v.Wrong() != 0 || by["students"].Read != 0 {
		t.Errorf("got %+v, want nothing read and nothing wrong", v)
	}
	edited, deleted, extra, renamed := w.disturb()
	v, by := w.verify(sync.VerifyOptions{SinceLast: true, IDs: 5})
	want := map[string]map[string][]string{
		"studentEducationOrganizationAssociations": {"different": {edited}, "missing": {deleted}},
		"classPeriods": {"extra": {extra}, "moved": {renamed}},
	}
	for resource, ids := range want {
		if diff := cmp.Diff(by[resource].IDs, ids); diff != "" {
			t.Errorf("%s (-got +want):\n%s", resource, diff)
		}
	}
	if v.Wrong() != 3 || by["students"].Read != 0 || by["studentEducationOrganizationAssociations"].Read != 1 {
		t.Errorf("got %+v, want three wrong and only what changed read", v)
	}
}

// notePosition notes the target's newest change version, as a run does.
func (w *world) notePosition() {
	w.t.Helper()
	var newest int64
	w.other(func(ctx context.Context, c *edfi.Client) {
		versions, err := c.ChangeVersions(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		newest = versions.Newest
	})
	w.setTarget(syncdb.TargetState{ChangeVersion: newest})
}
