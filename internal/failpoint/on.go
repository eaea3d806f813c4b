//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Enabled says whether the program was built with the tag failpoints.
const Enabled = true

// order is what the environment asks for. Safe for concurrent use.
type order struct {
	mu       sync.Mutex
	log      *os.File // nil = none
	point    Point    // "" = none
	left     int      // times it must still be reached
	resource string   // "" = any
	verb     string   // "" = any
}

var given = sync.OnceValue(func() *order { //nolint:gochecknoglobals // of one process that is to be killed, in no other build
	o, err := read(os.Getenv("EDFISYNC_FAILPOINT"), os.Getenv("EDFISYNC_FAILPOINT_LOG"))
	if err != nil {
		panic(err) // a test that asks for what cannot be must not pass
	}
	return o
})

func read(text, log string) (*order, error) {
	o := &order{}
	if log != "" {
		file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open EDFISYNC_FAILPOINT_LOG: %w", err)
		}
		o.log = file
	}
	if text == "" {
		return o, nil
	}
	parts := strings.SplitN(text, ":", 3)
	n, err := 0, error(nil)
	if len(parts) > 1 {
		n, err = strconv.Atoi(parts[1])
	}
	if err != nil || n < 1 {
		return nil, fmt.Errorf("EDFISYNC_FAILPOINT=%s: want POINT:N or POINT:N:RESOURCE/VERB, N from 1", text)
	}
	o.point, o.left = Point(parts[0]), n
	if len(parts) == 3 {
		i := strings.LastIndexByte(parts[2], '/')
		o.resource, o.verb = parts[2][:max(i, 0)], parts[2][i+1:]
	}
	return o, nil
}

// Reach notes that the process is at a point, and kills the process when that is what was asked for; then it does not return. resource and
// verb ("POST") may be empty. Safe for concurrent use.
func Reach(p Point, resource, verb string) {
	o := given()
	o.mu.Lock()
	die := o.reach(p, resource, verb)
	if !die {
		o.mu.Unlock()
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // the lock stays: nothing passes another point while the signal is on its way
}

// reach writes the log and reports whether the process is to die here.
func (o *order) reach(p Point, resource, verb string) bool {
	die := o.point == p && (o.resource == "" || o.resource == resource) && (o.verb == "" || o.verb == verb)
	if die {
		o.left--
		die = o.left == 0
	}
	if o.log != nil {
		line := fmt.Sprintf("%s %s %s\n", p, resource, verb)
		if die {
			line += "KILL " + line
		}
		if _, err := o.log.WriteString(line); err != nil {
			panic(fmt.Errorf("write EDFISYNC_FAILPOINT_LOG: %w", err))
		}
	}
	return die
}
