package console_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
)

// A stream of events, which may be open for long, ends soon after the key it was opened with was revoked; others go on.
func TestAStreamEndsWhenItsKeyDoes(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	admin, good := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "viewer"})
	asked, _ := s.ask(admin, "lincoln")
	for _, path := range []string{"/events", fmt.Sprintf("/runs/%d/events", asked.Run.ID)} {
		key := s.key(console.NewKey{Role: "viewer"})
		ends, status := s.listen(path, key)
		goesOn, other := s.listen(path, good)
		if status != 200 || other != 200 {
			t.Fatalf("got %d and %d", status, other)
		}
		if got := s.do("DELETE", "/api/v1/keys/"+s.keyID(key), admin, ""); got.status != 200 {
			t.Fatalf("revoke the key: %d %s", got.status, got.body)
		}
		late := time.After(20 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-ends:
			case <-late:
				t.Fatalf("%s: the stream of a revoked key is open after twenty seconds", path)
			}
		}
		for open := true; open; {
			select {
			case _, ok := <-goesOn:
				if !ok {
					t.Fatalf("%s: the stream of a good key has ended", path)
				}
			default:
				open = false
			}
		}
	}
}
