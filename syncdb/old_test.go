package syncdb_test

import (
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

func TestAClockThatLeapsIsNotBelievedAtOnce(t *testing.T) {
	t.Parallel()
	last := time.Date(2026, 3, 8, 6, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ now, last, want time.Time }{
		"a day later":                       {last.AddDate(0, 0, 1), last, last.AddDate(0, 0, 1)},
		"nobody has looked before":          {last.AddDate(1, 0, 0), time.Time{}, last.AddDate(1, 0, 0)},
		"a year later":                      {last.AddDate(1, 0, 0), last, last.AddDate(0, 0, 2)},
		"a year later once more":            {last.AddDate(1, 0, 1), last.AddDate(1, 0, 0), last.AddDate(1, 0, 1)},
		"an hour earlier":                   {last.Add(-time.Hour), last, last.Add(-time.Hour)},
		"as it is again after a wrong year": {last, last.AddDate(1, 0, 0), last},
	} {
		if got := syncdb.Believed(c.now, c.last); !got.Equal(c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
