package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/user"

	"github.com/edfisync/edfisync/syncdb"
)

// operator is who works at this terminal, as the audit trail names them: the user of the operating system.
func operator() string {
	u, err := user.Current()
	if err != nil {
		return "unknown user"
	}
	return u.Username
}

// audit notes an act of a person before it takes place: one that cannot be noted is not done (I16). detail holds names and counts only.
func (a *app) audit(ctx context.Context, ledger *syncdb.DB, conn syncdb.Connection, action, object string, detail map[string]any) error {
	var text json.RawMessage
	if detail != nil {
		var err error
		if text, err = json.Marshal(detail); err != nil {
			return fmt.Errorf("write the audit trail: %w", err)
		}
	}
	row := syncdb.AuditRow{Who: operator(), Action: action, Connection: conn.Tenant + "/" + conn.Name, Object: object, Detail: text}
	if err := ledger.Audit(ctx, row); err != nil {
		return fmt.Errorf("write the audit trail, without which this is not done: %w", err)
	}
	return nil
}
