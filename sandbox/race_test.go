package sandbox

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Everything at once on few records: writes, deletes, key changes, reads of all kinds, resets, and the writer of the store file. Run with the
// race detector it looks for unguarded memory, without it for broken promises.
func TestEverythingAtOnceLeavesTheStoreWhole(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *Options) { o.Store = filepath.Join(t.TempDir(), "s.db"); o.PageLimit = 5 })
	c.district()
	session := c.first("sessions")
	const rounds = 30
	var wg sync.WaitGroup
	worker := func(f func(c *client, i int)) {
		wg.Go(func() {
			for i := range rounds {
				f(&client{t: t, s: c.s, base: c.base, token: c.token}, i)
			}
		})
	}
	name := func(i int) string { return fmt.Sprintf(`"Fall%d"`, i%3) }
	worker(func(c *client, i int) {
		c.do(http.MethodPut, "sessions/"+session, strings.Replace(sessionBody, `"Fall"`, name(i), 1))
	})
	for w := range 2 {
		worker(func(c *client, i int) {
			a := c.do(http.MethodPost, "studentSchoolAttendanceEvents", strings.NewReplacer(`"Fall"`, name(i), "09-03", fmt.Sprintf("09-%02d", 10+i%5+w)).Replace(attendBody))
			if a.Status == http.StatusCreated && i%2 == 0 {
				c.do(http.MethodDelete, "studentSchoolAttendanceEvents/"+a.id(), "")
			}
		})
	}
	worker(func(c *client, i int) {
		c.do(http.MethodPost, "sections", strings.NewReplacer(`"Fall"`, name(i), "S1", fmt.Sprint("S", i%4)).Replace(sectionBody))
	})
	worker(func(c *client, i int) {
		c.must(http.StatusOK, http.MethodGet, "sections?totalCount=true&limit=5&sessionName=Fall1", "")
		c.must(http.StatusOK, http.MethodGet, "studentSchoolAttendanceEvents?limit=5", "")
		c.must(http.StatusOK, http.MethodGet, "studentSectionAssociations/partitions", "")
	})
	worker(func(c *client, i int) {
		if i%10 == 0 {
			c.s.ResetStats()
		}
		c.raw(http.MethodGet, "/sandbox/stats", "")
	})
	worker(func(c *client, i int) {
		c.raw(http.MethodGet, "/changeQueries/v1/availableChangeVersions", "")
		c.must(http.StatusOK, http.MethodGet, "studentSchoolAttendanceEvents/deletes?minChangeVersion=1", "")
		c.must(http.StatusOK, http.MethodGet, "sessions/keyChanges", "")
	})
	c.s.Snapshot("")
	worker(func(c *client, i int) {
		if i%10 == 5 {
			if err := c.s.Restore(""); err != nil {
				t.Error(err)
			}
			c.s.Snapshot("")
		}
	})
	wg.Wait()
	checkIntegrity(t, c.s)
}
