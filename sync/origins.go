package sync

import (
	"hash/maphash"

	"github.com/edfisync/edfisync/syncdb"
)

// origins tell what records of the target are to us, by id. An id takes 8 bytes of memory, for there may be a million of them: one in 2^64 that is not
// among them passes for one that is. Not safe for concurrent use while it is filled.
type origins struct {
	seed maphash.Seed
	of   map[uint64]syncdb.Origin
}

func newOrigins() *origins {
	return &origins{seed: maphash.MakeSeed(), of: map[uint64]syncdb.Origin{}}
}

// note takes an id in; "" is none.
func (o *origins) note(id string, origin syncdb.Origin) {
	if id != "" {
		o.of[maphash.String(o.seed, id)] = origin
	}
}

// origin returns what the record of an id is, 0 when it is not among them, or nobody knows any.
func (o *origins) origin(id string) syncdb.Origin {
	if o == nil || id == "" {
		return 0
	}
	return o.of[maphash.String(o.seed, id)]
}
