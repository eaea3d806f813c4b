package sync

import (
	"context"
	"fmt"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// hashRules numbers what makes hashes comparable: the version of the canonical form and how the target compares keys.
func hashRules(r schema.Rules) int {
	n := r.Version * 2
	if r.FoldKeys {
		n++
	}
	return n
}

// checkRules refuses a resource whose entries were hashed under other rules: every record would look changed, every key new, and what the
// ledger knows would be sent again or deleted (I5).
func (s *scanner) checkRules(ctx context.Context, r *scanned) error {
	scope, err := s.e.Ledger.Scope(ctx, s.e.Connection.ID, r.Path)
	if err != nil {
		return err
	}
	r.noted = scope
	r.noted.Resource = r.Path
	want := syncdb.Scope{
		Resource: r.Path, KeyGeneration: s.e.Keys.Generation(), HashRules: hashRules(s.o.Rules), ScanMark: scope.ScanMark,
	}
	switch {
	case scope.HashRules == 0:
		r.scope = &want
	case scope.HashRules != want.HashRules:
		return fmt.Errorf("the ledger's entries of %s were made under other rules for comparing keys (fold_keys, or an older version of "+
			"edfisync): put the connection's fold_keys back, or start the connection with an empty ledger", r.Path)
	case scope.KeyGeneration != want.KeyGeneration:
		return fmt.Errorf("the ledger's entries of %s were made under hash key generation %d, and this is %d", r.Path, scope.KeyGeneration, want.KeyGeneration)
	}
	return nil
}
