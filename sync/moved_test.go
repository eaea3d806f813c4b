package sync_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const periods = "ed-fi/classPeriods"

// renamePeriods gives class periods other names, as another client, one after the other.
func renamePeriods(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string, names ...[2]string) {
	t.Helper()
	for _, to := range names {
		if _, err := c.Put(ctx, periods, ids[to[0]], []byte(`{"classPeriodName":"`+to[1]+`","schoolReference":{"schoolId":10}}`)); err != nil {
			t.Fatal(err)
		}
	}
}

func makePeriod(ctx context.Context, t *testing.T, c *edfi.Client, name string) (id string) {
	t.Helper()
	answer, err := c.Post(ctx, periods, []byte(`{"classPeriodName":"`+name+`","schoolReference":{"schoolId":10}}`))
	if err != nil {
		t.Fatal(err)
	}
	return answer.ID
}

// TestOurRecordsStayOursWhateverKeysOthersGiveThem: every record we created is found again by its id (I9), so in the end the target has what the
// source has, and nothing of ours stays when the rows go (I1).
func TestOurRecordsStayOursWhateverKeysOthersGiveThem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		do     func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string)
		theirs int                       // records of the other client that stay when our rows go
		moved  int64                     // as verify counts them
		others sync.ResourceVerification // of the rest, what verify counts
	}{
		{
			"two records that swapped their keys",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				renamePeriods(ctx, t, c, ids, [2]string{"P1", "tmp"}, [2]string{"P2", "P1"}, [2]string{"P1", "P2"})
			},
			0, 2, sync.ResourceVerification{Same: 2},
		},
		{
			"three records that passed their keys on in a circle",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				renamePeriods(ctx, t, c, ids, [2]string{"P3", "tmp"}, [2]string{"P2", "P3"}, [2]string{"P1", "P2"}, [2]string{"P3", "P1"})
			},
			0, 3, sync.ResourceVerification{Same: 1},
		},
		{
			"a chain with a new key at its end",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				renamePeriods(ctx, t, c, ids, [2]string{"P3", "P4"}, [2]string{"P2", "P3"}, [2]string{"P1", "P2"})
			},
			0, 3, sync.ResourceVerification{Same: 1},
		},
		{
			"a record with the key of one that was deleted",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				if _, err := c.Delete(ctx, periods, ids["P2"]); err != nil {
					t.Fatal(err)
				}
				renamePeriods(ctx, t, c, ids, [2]string{"P1", "P2"})
			},
			0, 1, sync.ResourceVerification{Same: 2, Different: 1},
		},
		{
			"a record that was renamed, and another client's in its place",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				renamePeriods(ctx, t, c, ids, [2]string{"P1", "P9"})
				makePeriod(ctx, t, c, "P1")
			},
			1, 1, sync.ResourceVerification{Same: 3, Different: 1},
		},
		{
			"a chain, and another client's record at its beginning",
			func(ctx context.Context, t *testing.T, c *edfi.Client, ids map[string]string) {
				renamePeriods(ctx, t, c, ids, [2]string{"P2", "P9"}, [2]string{"P1", "P2"})
				makePeriod(ctx, t, c, "P1")
			},
			1, 2, sync.ResourceVerification{Same: 2, Different: 1},
		},
	}
	for _, tt := range tests {
		for _, how := range []string{"resync", "adopt"} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.fill(2)
				w.exec(`insert into period values (3, 'P3', 10), (4, 'P0', 10)`) // P0 stays, so that the source is not empty
				w.options.Safeguards = lenient()
				w.mustRun()
				ids := w.idsBy(periods, "classPeriodName")
				ours := map[string]bool{ids["P1"]: true, ids["P2"]: true, ids["P3"]: true}
				w.other(func(ctx context.Context, c *edfi.Client) { tt.do(ctx, t, c, ids) })
				_, by := w.verify(sync.VerifyOptions{})
				got := by["classPeriods"]
				if diff := cmp.Diff(sync.ResourceVerification{Same: got.Same, Different: got.Different, Missing: got.Missing}, tt.others); diff != "" || got.Moved != tt.moved {
					t.Errorf("verify counts %+v, want %d moved, and of the others (-got +want):\n%s", got, tt.moved, diff)
				}

				if how == "resync" {
					w.resync()
				} else {
					w.adopt(sync.AdoptOptions{})
					for _, e := range w.entries(periods) {
						if ours[e.EdfiID] && e.Origin != syncdb.Created {
							t.Errorf("%s: got origin %d, want what we created to stay created", e.Key, e.Origin)
						}
					}
				}
				w.mustRun()
				w.converged()
				if names := w.idsBy(periods, "classPeriodName"); len(names) != 4 || names["P1"] == "" || names["P2"] == "" || names["P3"] == "" {
					t.Errorf("got %v at the target, want what the source has", names)
				}
				if _, by := w.verify(sync.VerifyOptions{}); by["classPeriods"].Same != 4 {
					t.Errorf("got %+v, want a ledger that says what the target has (I2)", by["classPeriods"])
				}

				theirs := tt.theirs
				if how == "adopt" {
					theirs = 0 // what a row has the key of was taken over
				}
				w.exec(`delete from period where name <> 'P0'`)
				w.mustRun()
				w.converged()
				if n := w.count(periods) - 1; n != theirs {
					t.Errorf("%d records are left when no row is, want %d: those another client made", n, theirs)
				}
			})
		}
	}
}

// TestNoMovedRecordIsForgottenBetweenTwoWrites: records that took each other's keys are corrected in one transaction, however many they are (I9).
func TestNoMovedRecordIsForgottenBetweenTwoWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.exec(`delete from period`)
	const n = 1010 // more than a correction takes at once
	for i := range n {
		w.exec(`insert into period values (?, ?, 10)`, i, fmt.Sprintf("P%04d", i))
	}
	w.options.Safeguards = lenient()
	w.mustRun()
	ids := w.idsBy(periods, "classPeriodName")
	w.other(func(ctx context.Context, c *edfi.Client) {
		var names [][2]string
		for i := n - 1; i >= 0; i-- {
			names = append(names, [2]string{fmt.Sprintf("P%04d", i), fmt.Sprintf("P%04d", i+1)})
		}
		renamePeriods(ctx, t, c, ids, names...)
	})
	broken := &takesOnePut{ledger: w.ledger}
	w.ledger = broken
	w.options.Resync = true
	if _, _, err := w.run(); err == nil {
		t.Fatal("the run went on though the ledger could not be written")
	}
	w.ledger, w.options.Resync = broken.ledger, false
	w.resync()
	w.converged()
	got := w.idsBy(periods, "classPeriodName")
	if len(got) != n || got[fmt.Sprintf("P%04d", n)] != "" {
		t.Errorf("the target has %d records, the source %d", len(got), n)
	}
	var have []string
	for _, e := range w.entries(periods) {
		have = append(have, e.EdfiID)
		if e.Origin != syncdb.Created {
			t.Errorf("%s: got origin %d, want what we created to stay created", e.Key, e.Origin)
		}
	}
	want := slices.Sorted(maps.Values(got))
	slices.Sort(have)
	if diff := cmp.Diff(have, want); diff != "" {
		t.Errorf("ids of the ledger and of the target (-got +want):\n%s", diff)
	}
}

// takesOnePut is a ledger that breaks after entries were put once.
type takesOnePut struct {
	ledger
	done bool
}

func (l *takesOnePut) PutEntries(ctx context.Context, lease syncdb.Lease, resource string, entries []syncdb.Entry) error {
	if l.done {
		return errors.New("disk full")
	}
	l.done = true
	return l.ledger.PutEntries(ctx, lease, resource, entries)
}

func (*takesOnePut) DropEntries(context.Context, syncdb.Lease, string, []syncdb.Hash) error {
	return errors.New("disk full")
}
