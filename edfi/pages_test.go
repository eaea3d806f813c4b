package edfi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// collection serves n items by offset, at most most a page, or also by cursor.
type collection struct {
	n, most  int
	announce bool // refuse a larger limit rather than cap it
	cursor   bool
	gaps     bool // DMS: empty pages in between
	stuck    bool
	queries  []string
}

func (l *collection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.queries = append(l.queries, r.URL.RawQuery)
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	from, _ := strconv.Atoi(query.Get("offset"))
	if token := query.Get("pageToken"); token != "" {
		if query.Has("offset") || query.Has("limit") {
			problemAnswer(400, "bad-request:parameter-validation-failed")(w, r)
			return
		}
		limit, _ = strconv.Atoi(query.Get("pageSize"))
		from, _ = strconv.Atoi(token)
	}
	if limit > l.most && l.announce {
		writeJSON(w, 400, map[string]any{"type": typePrefix + "bad-request:parameter-validation-failed", "errors": []string{fmt.Sprintf("Limit must be a value between 0 and %d.", l.most)}})
		return
	}
	page := from
	if l.gaps { // tokens count pages, and every other page is empty
		from = page / 2 * l.most
	}
	items := []map[string]int{}
	to := min(from+min(limit, l.most), l.n)
	for i := from; i < to && (!l.gaps || page%2 == 0); i++ {
		items = append(items, map[string]int{"n": i})
	}
	switch {
	case !l.cursor:
	case l.stuck:
		w.Header().Set("Next-Page-Token", "1")
	case l.gaps && to < l.n: // a DMS ends the walk by leaving it out
		w.Header().Set("Next-Page-Token", strconv.Itoa(page+1))
	case !l.gaps && len(items) > 0: // the ODS sends it with every page that has items
		w.Header().Set("Next-Page-Token", strconv.Itoa(to))
	}
	writeJSON(w, 200, items)
}

func TestEachReadsEveryItemOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		dms   bool
		list  *collection
		opts  PageOptions
		first string
		calls int
	}{
		{"by offset", false, &collection{n: 7, most: 500}, PageOptions{Limit: 3}, "limit=3", 4},
		{"by offset, a whole number of pages", false, &collection{n: 6, most: 500}, PageOptions{Limit: 3}, "limit=3", 3},
		{"by offset, a host that caps pages silently", false, &collection{n: 7, most: 2}, PageOptions{}, "limit=500", 5},
		{"by offset, a host that says what it allows", false, &collection{n: 250, most: 100, announce: true}, PageOptions{}, "limit=500", 5},
		{"nothing", false, &collection{n: 0, most: 500}, PageOptions{}, "limit=500", 1},
		{"by cursor", false, &collection{n: 7, most: 500, cursor: true}, PageOptions{Limit: 3}, "limit=3", 4},
		{"by cursor, with empty pages in between (DMS)", true, &collection{n: 5, most: 2, cursor: true, gaps: true}, PageOptions{Limit: 2}, "limit=2", 5},
		{"a window of change versions by cursor", false, &collection{n: 3, most: 500, cursor: true}, PageOptions{MinChangeVersion: 5, MaxChangeVersion: 9}, "limit=500&maxChangeVersion=9&minChangeVersion=5", 2},
		{"a DMS starts no cursor with a last change version", true, &collection{n: 3, most: 2, cursor: true}, PageOptions{Limit: 2, MaxChangeVersion: 9}, "limit=2&maxChangeVersion=9", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root, path := plainRoot, "/api/data/v3/ed-fi/students"
			if tt.dms {
				root, path = dmsRoot, "/api/data/ed-fi/students"
			}
			h := newHost(t, root)
			h.mux.Handle("GET "+path, tt.list)
			c := h.client(t)
			var got []int
			err := c.Each(t.Context(), "ed-fi/students", tt.opts, func(item json.RawMessage) error {
				var v struct{ N int }
				err := json.Unmarshal(item, &v)
				got = append(got, v.N)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range got {
				if n != i {
					t.Errorf("item %d is %d", i, n)
				}
			}
			if len(got) != tt.list.n {
				t.Errorf("%d items, want %d", len(got), tt.list.n)
			}
			if tt.list.queries[0] != tt.first {
				t.Errorf("first query %s, want %s", tt.list.queries[0], tt.first)
			}
			if len(tt.list.queries) != tt.calls {
				t.Errorf("%d calls %v, want %d", len(tt.list.queries), tt.list.queries, tt.calls)
			}
		})
	}
}

func TestEachStops(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.mux.Handle("GET /api/data/v3/ed-fi/students", &collection{n: 7, most: 500})
	h.mux.Handle("GET /api/data/v3/ed-fi/sections", &collection{n: 7, most: 500, cursor: true, stuck: true})
	c := h.client(t)
	enough := errors.New("enough")
	seen := 0
	err := c.Each(t.Context(), "ed-fi/students", PageOptions{}, func(json.RawMessage) error {
		if seen++; seen == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != 2 {
		t.Errorf("walk that was stopped: %v after %d items", err, seen)
	}
	err = c.Each(t.Context(), "ed-fi/sections", PageOptions{}, func(json.RawMessage) error { return nil })
	if ClassOf(err) != Transient {
		t.Errorf("walk with a cursor that stands still: %v, want an error", err)
	}
}

func TestChangeQueries(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"7.x":          `{"oldestChangeVersion":3,"newestChangeVersion":100}`,
		"3.4 and less": `{"OldestChangeVersion":3,"NewestChangeVersion":100}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.mux.HandleFunc("GET /api/changeQueries/v1/availableChangeVersions", func(w http.ResponseWriter, r *http.Request) {
				if !h.authorized(r) {
					t.Error("no token")
				}
				_, _ = w.Write([]byte(body))
			})
			got, err := h.client(t).ChangeVersions(t.Context())
			if want := (ChangeVersions{Oldest: 3, Newest: 100}); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
	h := newHost(t, nil)
	h.data("GET /ed-fi/students/deletes", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("offset") != "" {
			writeJSON(w, 200, []int{})
			return
		}
		writeJSON(w, 200, []map[string]any{{"id": "a", "changeVersion": 5, "keyValues": map[string]string{"studentUniqueId": "1"}}})
	})
	h.data("GET /ed-fi/sections/keyChanges", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("offset") != "" {
			writeJSON(w, 200, []int{})
			return
		}
		writeJSON(w, 200, []map[string]any{{"id": "b", "changeVersion": 6, "oldKeyValues": map[string]int{"k": 1}, "newKeyValues": map[string]int{"k": 2}}})
	})
	c := h.client(t)
	var deletions []Deletion
	if err := c.Deletes(t.Context(), "ed-fi/students", PageOptions{MinChangeVersion: 4}, func(d Deletion) error { deletions = append(deletions, d); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Deletion{{ID: "a", ChangeVersion: 5, KeyValues: json.RawMessage(`{"studentUniqueId":"1"}`)}}, deletions); diff != "" {
		t.Errorf("deletions (-want +got):\n%s", diff)
	}
	var changes []KeyChange
	if err := c.KeyChanges(t.Context(), "ed-fi/sections", PageOptions{}, func(k KeyChange) error { changes = append(changes, k); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]KeyChange{{ID: "b", ChangeVersion: 6, OldKeyValues: json.RawMessage(`{"k":1}`), NewKeyValues: json.RawMessage(`{"k":2}`)}}, changes); diff != "" {
		t.Errorf("key changes (-want +got):\n%s", diff)
	}
}
