package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
)

func refuseWrites(rw http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/data/") {
		return false
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(http.StatusBadRequest)
	_, _ = rw.Write([]byte(`{"detail":"no","type":"urn:ed-fi:api:bad-request:data-validation-failed","title":"Data Validation Failed","status":400}`))
	return true
}

// receipt returns the receipt of a run as it is handed out.
func (w *world) receipt(run int64) []byte {
	w.t.Helper()
	document, err := sync.ReceiptDocument(w.t.Context(), w.ledger, w.conn.ID, run)
	if err != nil {
		w.t.Fatal(err)
	}
	return document
}

// verifyReceipt verifies the target against a receipt.
func (w *world) verifyReceipt(document []byte) map[string]sync.ReceiptResult {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	r, err := e.CheckReceipt(document)
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := e.VerifyReceipt(w.t.Context(), r, 10)
	if err != nil {
		w.t.Fatal(err)
	}
	by := map[string]sync.ReceiptResult{}
	for _, r := range v.Resources {
		by[strings.TrimPrefix(r.Resource, "ed-fi/")] = r
	}
	return by
}

func failing(by map[string]sync.ReceiptResult) []string {
	var out []string
	for name, r := range by {
		if !r.Pass {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestReceiptSaysWhatARunDidAndVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.exec(`update student set birth = null where id = 3`)
	s, _ := w.mustRun()
	document := w.receipt(s.RunID)
	r, err := sync.ReadReceipt(document)
	if err != nil {
		t.Fatal(err)
	}
	st := r.Statement
	if st.Run != s.RunID || st.Connection != "default/tiny" || st.Previous != nil || st.At.IsZero() {
		t.Errorf("got statement %+v", st)
	}
	if diff := cmp.Diff(st.Exceptions, sync.Exceptions{Invalid: 1, Blocked: 2}); diff != "" {
		t.Errorf("exceptions (-got +want):\n%s", diff)
	}
	i := slices.IndexFunc(st.Resources, func(r sync.StatementResource) bool { return r.Resource == "ed-fi/students" })
	if got := st.Resources[i]; got.Rows != 10 || got.Valid != 9 || got.Entries != 9 || got.Live != 9 || got.RootRun != s.RunID {
		t.Errorf("got %+v, want 10 rows, 9 of them valid and confirmed", got)
	}
	if bad := failing(w.verifyReceipt(document)); len(bad) > 0 {
		t.Errorf("got failing %v, want all to pass", bad)
	}
	for _, marker := range []string{"S0001", "First1", "Surname", "login1"} {
		if bytes.Contains(document, []byte(marker)) {
			t.Errorf("the receipt holds %q: student data (I14)", marker)
		}
	}
}

func TestEveryChangedByteOfAReceiptShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	s, _ := w.mustRun()
	document := w.receipt(s.RunID)
	e, closeAll := w.engine()
	defer closeAll()
	if _, err := e.CheckReceipt(append(bytes.Clone(document), '\n')); err != nil {
		t.Fatalf("the receipt as it is: %v", err)
	}
	// Hashes of buckets are 5 kB each; every byte outside of them, and every 97th inside.
	from, to := bytes.Index(document, []byte(`"buckets"`))+len(`"buckets":{`), bytes.Index(document, []byte(`},"publicKey"`))
	for i := range document {
		if i > from+40 && i < to && i%97 != 0 {
			continue
		}
		for _, flip := range []byte{1, 32} {
			changed := bytes.Clone(document)
			changed[i] ^= flip
			if _, err := e.CheckReceipt(changed); err == nil {
				t.Fatalf("byte %d (%q) changed to %q: the receipt still verifies", i, document[i], changed[i])
			}
		}
	}
	for name, changed := range map[string][]byte{
		"cut off":            document[:len(document)-1],
		"a space in between": bytes.Replace(document, []byte(`,"run":`), []byte(`, "run":`), 1),
		"something after it": append(bytes.Clone(document), []byte(` {}`)...),
		"empty":              {},
	} {
		if _, err := e.CheckReceipt(changed); !errors.Is(err, sync.ErrReceipt) {
			t.Errorf("%s: got %v, want ErrReceipt", name, err)
		}
	}
}

func TestReceiptOfAnotherConnectionIsRefused(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	w.fill(1)
	s, _ := w.mustRun()
	e, closeAll := other.engine()
	defer closeAll()
	if _, err := e.CheckReceipt(w.receipt(s.RunID)); !errors.Is(err, sync.ErrOtherKey) {
		t.Errorf("got %v, want ErrOtherKey", err)
	}
}

func TestOneChangedRecordOfTheTargetIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(30)
	s, _ := w.mustRun()
	document := w.receipt(s.RunID)
	edited, deleted, _, renamed := w.disturb()
	by := w.verifyReceipt(document)
	if diff := cmp.Diff(failing(by), []string{"classPeriods", "studentEducationOrganizationAssociations"}); diff != "" {
		t.Errorf("failing resources (-got +want):\n%s", diff)
	}
	got := by["studentEducationOrganizationAssociations"]
	if diff := cmp.Diff(got.IDs, map[string][]string{"different": {edited}, "missing": {deleted}}); diff != "" {
		t.Errorf("ids (-got +want):\n%s", diff)
	}
	if len(got.Buckets) == 0 || len(got.Buckets) > 2 {
		t.Errorf("got buckets %v, want the one or two of these records", got.Buckets)
	}
	if diff := cmp.Diff(by["classPeriods"].IDs, map[string][]string{"moved": {renamed}}); diff != "" {
		t.Errorf("ids (-got +want):\n%s", diff)
	}
}

func TestReceiptVerifiesWithoutTheLedgersEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	s, _ := w.mustRun()
	document := w.receipt(s.RunID)
	w.wipeLedger([]string{
		"ed-fi/localEducationAgencies", "ed-fi/schools", "ed-fi/classPeriods", "ed-fi/students", "ed-fi/studentSchoolAssociations",
		"ed-fi/studentEducationOrganizationAssociations",
	})
	if bad := failing(w.verifyReceipt(document)); len(bad) > 0 {
		t.Errorf("got failing %v, want all to pass: the target alone is enough", bad)
	}
	id := w.idsBy("ed-fi/studentEducationOrganizationAssociations", "loginId")["login7"]
	w.other(func(ctx context.Context, c *edfi.Client) {
		if _, err := c.Delete(ctx, "ed-fi/studentEducationOrganizationAssociations", id); err != nil {
			t.Fatal(err)
		}
	})
	got := w.verifyReceipt(document)["studentEducationOrganizationAssociations"]
	if got.Pass || len(got.Buckets) != 1 || got.Stated != 10 || got.Found != 9 {
		t.Errorf("got %+v, want one bucket that differs", got)
	}
}

func TestRootsAreTakenFromTheLastReceiptOnlyWhileNobodyWrote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	first, _ := w.mustRun()
	second, _ := w.mustRun()
	w.exec(`update demographic set login = 'x' where id = 1`)
	third, _ := w.mustRun()
	rootRuns := func(run int64) map[string]int64 {
		var r sync.Receipt
		if err := json.Unmarshal(w.receipt(run), &r); err != nil {
			t.Fatal(err)
		}
		out := map[string]int64{}
		for _, res := range r.Statement.Resources {
			out[res.Resource] = res.RootRun
		}
		return out
	}
	if got := rootRuns(second.RunID); got["ed-fi/students"] != first.RunID {
		t.Errorf("got %v, want the roots of run %d in a run that wrote nothing", got, first.RunID)
	}
	got := rootRuns(third.RunID)
	if got["ed-fi/students"] != first.RunID || got["ed-fi/studentEducationOrganizationAssociations"] != third.RunID {
		t.Errorf("got %v, want only the written resource hashed anew", got)
	}
	if bad := failing(w.verifyReceipt(w.receipt(third.RunID))); len(bad) > 0 {
		t.Errorf("got failing %v", bad)
	}
	r, err := sync.ReadReceipt(w.receipt(third.RunID))
	if err != nil || r.Statement.Previous == nil || r.Statement.Previous.Run != second.RunID {
		t.Errorf("got %v, %v: want the receipt chained to run %d", r, err, second.RunID)
	}
	// A run that broke off may have written without a receipt.
	w.exec(`update demographic set login = 'y' where id = 2`)
	ctx, cancel := context.WithCancel(t.Context())
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			cancel()
		}
		return false
	})
	e, closeAll := w.engine()
	defer closeAll()
	if _, err := e.Run(ctx); err == nil {
		t.Fatal("the run was to be canceled")
	}
	w.front.intercept(nil)
	last, _ := w.mustRun()
	if got := rootRuns(last.RunID); got["ed-fi/students"] != last.RunID {
		t.Errorf("got %v, want every root computed anew after a run without a receipt", got)
	}
	if bad := failing(w.verifyReceipt(w.receipt(last.RunID))); len(bad) > 0 {
		t.Errorf("got failing %v", bad)
	}
}

func TestReceiptVerifiesAfterRecordsGotOtherKeysWithTheirParents(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.exec(`delete from seat`)
	w.exec(`delete from section`)
	w.mustRun()
	w.exec(`update offering set code = null where id = 1`) // invalid: its record stays, and follows the session's name at the target
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	for range 2 {
		s, _ := w.mustRun() // the first of them moves the entry to the key its record has
		if bad := failing(w.verifyReceipt(w.receipt(s.RunID))); len(bad) > 0 {
			t.Errorf("run %d: target and ledger are equal, and the receipt does not verify: %v", s.RunID, bad)
		}
	}
}

func FuzzReadReceipt(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"publicKey":"","signature":"","statement":{"format":1}}`,
		`{"buckets":{"ed-fi/students":"AAAA"},"publicKey":"AAAA","signature":"AAAA","statement":{"at":"2026-01-01T00:00:00Z","connection":"a/b",` +
			`"exceptions":{"blocked":0,"failed":0,"held":0,"invalid":0,"rejected":0},"format":1,"hashRules":2,"keyGeneration":1,"resources":null,"run":1}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if r, err := sync.ReadReceipt(document); err == nil {
			t.Errorf("a receipt nobody signed was taken: %+v", r)
		} else if !errors.Is(err, sync.ErrReceipt) {
			t.Errorf("got %v, want ErrReceipt", err)
		}
	})
}

// A student without an enrolment is not shown to a vendor any more: what is shown still verifies, and what is not is counted.
func TestAReceiptVerifiesWithoutWhatTheTargetDoesNotShow(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.options.Safeguards = lenient()
	w.enrol(1, 6)
	w.mustRun()
	lost := w.idOf("studentEducationOrganizationAssociations", "studentUniqueId=S0001")
	w.exec(`delete from enrolment where student in (1, 2)`)
	s, _ := w.mustRun()
	clean(t, s)
	document := w.receipt(s.RunID)
	by := w.verifyReceipt(document)
	if bad := failing(by); len(bad) != 0 {
		t.Errorf("failing %v: %+v", bad, by)
	}
	for resource, want := range map[string]sync.ReceiptResult{
		"students": {Stated: 6, Found: 4, Hidden: 2}, "studentEducationOrganizationAssociations": {Stated: 6, Found: 4, Hidden: 2},
		"studentSchoolAssociations": {Stated: 4, Found: 4},
	} {
		if got := by[resource]; got.Stated != want.Stated || got.Found != want.Found || got.Hidden != want.Hidden {
			t.Errorf("%s: got %+v, want %d stated, %d found, %d hidden", resource, got, want.Stated, want.Found, want.Hidden)
		}
	}
	// One that is shown is changed by somebody else, and one that is not shown is deleted: both are named.
	w.mustAs(adminID, 204, "DELETE", "studentEducationOrganizationAssociations/"+lost, "")
	w.exec(`update student set last = 'Other' where id = 3`)
	w.mustRun()
	by = w.verifyReceipt(document)
	if diff := cmp.Diff([]string{"studentEducationOrganizationAssociations", "students"}, failing(by)); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
	if got := by["studentEducationOrganizationAssociations"]; got.Hidden != 1 || len(got.IDs["missing"]) != 1 {
		t.Errorf("got %+v, want one hidden and one missing", got)
	}
}
