package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/syncdb"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" default:"withargs" help:"List what people did, the last first."`
	Verify auditVerifyCmd `cmd:"" help:"Check that no row of the trail was changed, dropped, moved or cut off."`
}

// Help is the long help of the command.
func (auditCmd) Help() string {
	return `The ledger notes each act of a person that changed something or showed student data: who, when, what, and why. The rows are chained by keyed hashes.

"audit verify" names the first row that is not as it was written. It ends with code 5 then. Keep the last line it prints in another place: with
--anchor it shows later that the trail was not taken away or put back as a whole.

Examples:

    edfisync audit --limit 50
    edfisync audit verify
    edfisync audit verify --anchor 214:9f86d081884c7d65...`
}

type auditListCmd struct {
	Limit      int    `default:"20" placeholder:"N" help:"Show the last N (default: 20)."`
	Action     string `placeholder:"ACT" help:"Only this act, such as key.revoke; with a dot at its end all that begin so: key."`
	Who        string `placeholder:"TEXT" help:"Only of whoever has this in their name."`
	Connection string `placeholder:"TENANT/NAME" help:"Only about this connection."`
}

// Run lists the last rows.
func (c *auditListCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 {
		return usageError(errors.New("--limit: want 1 or more"))
	}
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		last, err := ledger.FindAudit(ctx, syncdb.AuditFilter{Action: c.Action, Who: c.Who, Connection: c.Connection, Limit: c.Limit})
		if err != nil {
			return err
		}
		if a.JSON {
			lines := make([]auditLine, len(last))
			for i, r := range last {
				lines[i] = auditLine{AuditRow: r, Hash: hex.EncodeToString(r.Hash)}
			}
			a.printJSON(lines)
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ROW\tAT\tWHO\tDID\tCONNECTION\tTO\tDETAIL")
		for _, r := range last {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, when(r.At), r.Who, r.Action, r.Connection, r.Object, r.Detail)
		}
		flush(w)
		return nil
	})
}

// auditLine is a row with its hash as people write hashes.
type auditLine struct {
	syncdb.AuditRow
	Hash string `json:"hash"`
}

type auditVerifyCmd struct {
	Anchor string `placeholder:"ROW:HASH" help:"What an earlier verification printed: that row must still be there, with that hash."`
}

// auditVerdict is what verify found.
type auditVerdict struct {
	OK       bool   `json:"ok"`
	Rows     int64  `json:"rows"`
	FirstBad int64  `json:"firstBad,omitempty"`
	Removed  int64  `json:"removed,omitempty"` // rows up to this one were kept for long enough, and are gone
	Anchor   string `json:"anchor,omitempty"`  // row and hash of the last row
}

// Run checks the chain, and the anchor when one is given.
func (c *auditVerifyCmd) Run(ctx context.Context, a *app) error {
	row, hash, err := parseAnchor(c.Anchor)
	if err != nil {
		return usageError(err)
	}
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		var v auditVerdict
		if v.FirstBad, err = ledger.VerifyAudit(ctx); err != nil {
			return err
		}
		cut, cutHash, err := ledger.AuditCut(ctx)
		if err != nil {
			return err
		}
		v.Removed = cut
		switch {
		case v.FirstBad != 0 || row == 0:
		case row < cut:
			return fmt.Errorf("row %d was kept for long enough and is gone, as those up to %d are; check against an anchor that is not as old (edfisync audit verify has just found the others as written)", row, cut)
		case row == cut:
			if hex.EncodeToString(cutHash) != hash {
				v.FirstBad = row
			}
		default:
			kept, err := ledger.AuditRows(ctx, row-1, 1)
			if err != nil {
				return err
			}
			if len(kept) == 0 || kept[0].ID != row || hex.EncodeToString(kept[0].Hash) != hash {
				v.FirstBad = row
			}
		}
		last, err := ledger.FindAudit(ctx, syncdb.AuditFilter{Limit: 1})
		if err != nil {
			return err
		}
		if len(last) > 0 {
			v.Rows = last[0].ID - v.Removed
		}
		v.OK = v.FirstBad == 0
		if v.OK && len(last) > 0 {
			v.Anchor = fmt.Sprintf("%d:%x", last[0].ID, last[0].Hash)
		}
		if a.JSON {
			a.printJSON(v)
		} else {
			v.print(a)
		}
		if !v.OK {
			return quietly(exitDiffers)
		}
		return nil
	})
}

func (v auditVerdict) print(a *app) {
	switch {
	case !v.OK:
		fmt.Fprintf(a.out, "FAIL  row %d of the audit trail is not as it was written, or is missing\n", v.FirstBad)
	case v.Rows == 0:
		fmt.Fprintln(a.out, "ok    the audit trail is empty")
	default:
		if v.Removed > 0 {
			fmt.Fprintf(a.out, "rows up to %d were kept for long enough and are gone\n", v.Removed)
		}
		fmt.Fprintf(a.out, "ok    %s as written; keep this elsewhere to check against:\n%s\n", counted(v.Rows, "row"), v.Anchor)
	}
}

// parseAnchor reads "ROW:HASH"; row is 0 when there is no anchor.
func parseAnchor(text string) (row int64, hash string, err error) {
	if text == "" {
		return 0, "", nil
	}
	number, hash, found := strings.Cut(strings.TrimSpace(text), ":")
	row, err = strconv.ParseInt(number, 10, 64)
	if b, decode := hex.DecodeString(hash); !found || err != nil || row < 1 || decode != nil || len(b) != 32 {
		return 0, "", errors.New("--anchor: want the row and its hash, as audit verify printed them: 214:9f86…")
	}
	return row, strings.ToLower(hash), nil
}
