package jobs_test

import (
	"path/filepath"
	"testing"

	"github.com/edfisync/edfisync/jobs"
)

func TestStatesCountsTheJobsOfAQueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		s := f.start("rings only", 0, nil)
		if got, err := jobs.States(t.Context(), f.queue); err != nil || len(got) != 0 {
			t.Errorf("an empty queue: got %v, %v", got, err)
		}
		if _, _, err := ask(t.Context(), s, f.connection("one"), "api"); err != nil {
			t.Fatal(err)
		}
		got, err := jobs.States(t.Context(), f.queue)
		if err != nil || len(got) != 1 || got[0].State != "available" || got[0].Jobs < 1 || got[0].Oldest.Year() < 2026 {
			t.Errorf("with a job: got %+v, %v", got, err)
		}
	})
}

func TestStatesOfNoQueueIsAnError(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"sqlite:" + filepath.Join(t.TempDir(), "none.db"), "mysql://nonsense", "postgres://127.0.0.1:1/none?connect_timeout=1"} {
		if got, err := jobs.States(t.Context(), dsn); err == nil {
			t.Errorf("%s: got %v, want an error", dsn, got)
		}
	}
}
