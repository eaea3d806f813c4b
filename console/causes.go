package console

import (
	"context"
	"sync"
	"time"

	engine "github.com/edfisync/edfisync/sync"
)

// A run that ends keeps its ranking of causes. While one is under way, ranking reads every row with a problem, of which there may be a million; a page of
// issues must not.
const (
	rankingAge   = 30 * time.Second // a run that is under way changes them, too
	rankingsMax  = 200              // connections
	rankedAtOnce = 5000             // rows; of more, what the last run that ended has kept is shown until the run under way ends
)

// rankings keeps the ranked causes of connections for a while. Safe for concurrent use; of those who ask at once for one connection one ranks.
type rankings struct {
	mu sync.Mutex
	of map[int64]*ranking
}

type ranking struct {
	mu         sync.Mutex
	at         time.Time // when it was made
	generation int64     // of the ledger then: each run that ends has a new one
	causes     []engine.Cause
}

func newRankings() *rankings { return &rankings{of: map[int64]*ranking{}} }

// entry is the ranking of a connection, which may not be made yet. When there are too many, another goes.
func (r *rankings) entry(connection int64) *ranking {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.of[connection]; ok {
		return e
	}
	if len(r.of) >= rankingsMax {
		for id := range r.of { // any will do: it is made again when somebody asks
			delete(r.of, id)
			break
		}
	}
	e := &ranking{}
	r.of[connection] = e
	return e
}

// openCauses returns the open issues of a connection by rank. The slice must not be changed.
func (s *Console) openCauses(ctx context.Context, connection int64) ([]engine.Cause, error) {
	kept, err := s.c.Ledger.RankingOf(ctx, connection)
	if err != nil {
		return nil, err
	}
	if kept.Current {
		return engine.OpenCauses(ctx, s.c.Ledger, connection, rankedAtOnce)
	}
	_, generation, err := s.c.Ledger.Identity(ctx)
	if err != nil {
		return nil, err
	}
	e := s.rankings.entry(connection)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.at.IsZero() && e.generation == generation && time.Since(e.at) < rankingAge {
		return e.causes, nil
	}
	causes, err := engine.OpenCauses(ctx, s.c.Ledger, connection, rankedAtOnce)
	if err != nil {
		return nil, err
	}
	e.at, e.generation, e.causes = time.Now(), generation, causes
	return causes, nil
}

// forget lets the next who asks for a connection's causes read them anew.
func (r *rankings) forget(connection int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, connection)
}
