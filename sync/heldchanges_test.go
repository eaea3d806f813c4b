package sync_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// heldChanges are those of the one open hold, by what they say they would send after.
func (w *world) heldChanges(data bool) []sync.HeldChange {
	w.t.Helper()
	var ops []syncdb.PlanOp
	err := w.ledger.PlanOps(w.t.Context(), w.conn.ID, w.oneHold(syncdb.PlanOpen).ID, func(o syncdb.PlanOp) error { ops = append(ops, o); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	e, closeAll := w.engine()
	defer closeAll()
	got, err := e.HeldChanges(w.t.Context(), w.ledger, ops, data)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func TestWhatHeldUpdatesWouldChangeIsShownElementByElement(t *testing.T) {
	t.Parallel()
	for _, history := range []time.Duration{time.Hour, 0} {
		from := map[time.Duration]string{time.Hour: "history", 0: "target"}[history]
		t.Run("before is from the "+from, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.options.History = history
			w.options.Safeguards.Updates = sync.Limit{Count: 5, Percent: 1}
			w.fill(40)
			w.mustRun()
			w.exec(`update student set last = 'Held' || id where id <= 20`)
			if _, calls := w.mustRun(); len(calls) != 0 {
				t.Fatalf("calls were made: %v", calls)
			}
			w.exec(`update student set first = 'Later' where id = 3`)
			w.exec(`update student set last = '' where id = 4`)

			notes := map[string]int{}
			for _, c := range w.heldChanges(true) {
				notes[c.Note]++
				if c.From != from || c.Verb != "update" || c.Resource != "ed-fi/students" || c.SourceKey == "" || !strings.Contains(string(c.NaturalKey), "S00") {
					t.Errorf("got %+v", c)
				}
				switch c.SourceKey {
				case "3":
					if !slices.Equal(c.Elements, []string{"firstName", "lastSurname"}) {
						t.Errorf("of the row that changed again: %v", c.Elements)
					}
				case "4":
					if len(c.Elements) != 0 || !strings.Contains(c.Note, "breaks rules since then: ") {
						t.Errorf("of the row that breaks rules now: %+v", c)
					}
				default:
					want := []sync.FieldChange{{Path: "lastSurname", Before: json.RawMessage(`"Surname"`), After: json.RawMessage(fmt.Sprintf("%q", "Held"+c.SourceKey))}}
					if len(c.Fields) != 1 || c.Fields[0].Path != "lastSurname" || string(c.Fields[0].Before) != string(want[0].Before) || string(c.Fields[0].After) != string(want[0].After) || c.Note != "" {
						t.Errorf("got %+v, want %s", c, want[0].After)
					}
				}
			}
			if notes[""] != 18 {
				t.Errorf("notes: %v, want none of 18 records", notes)
			}
			text, err := json.Marshal(w.heldChanges(false))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "lastSurname") || strings.Contains(string(text), `"Surname"`) || strings.Contains(string(text), "Held1") || strings.Contains(string(text), "S00") {
				t.Errorf("without the right to see student data: %s", text)
			}
		})
	}
}

func TestWhatHeldDeletesWouldRemoveIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(60)
	w.mustRun()
	w.exec(`delete from demographic where id > 20`)
	w.mustRun()
	for i, c := range w.heldChanges(true) {
		if c.Verb != "delete" || c.From != "target" || len(c.Fields) == 0 || c.Fields[0].After != nil || c.Fields[0].Before == nil {
			t.Fatalf("call %d: %+v", i, c)
		}
	}
}
