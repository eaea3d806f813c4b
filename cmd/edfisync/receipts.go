package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type receiptsCmd struct {
	List receiptsListCmd `cmd:"" default:"withargs" help:"List the receipts, the newest first."`
	Show receiptsShowCmd `cmd:"" help:"Print the receipt of a run: the document to keep or to hand out."`
	Key  receiptsKeyCmd  `cmd:"" help:"Print the public key receipts are checked with."`
}

// Help is the long help of the command.
func (receiptsCmd) Help() string {
	return `Each run that finishes writes a signed receipt: per resource how many rows are valid, how many records the target has confirmed, a hash over them, and
what is not equal, by class. It holds no student data.

Examples:

    edfisync receipts
    edfisync receipts show 12 > receipt.json
    edfisync verify receipt.json`
}

type receiptsListCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Limit      int    `default:"20" placeholder:"N" help:"Show the last N (default: 20)."`
}

// receiptLine is one receipt in a list.
type receiptLine struct {
	Run        int64           `json:"run"`
	At         time.Time       `json:"at"`
	Resources  int             `json:"resources"`
	Valid      int64           `json:"valid"`
	Live       int64           `json:"live"`
	Exceptions sync.Exceptions `json:"exceptions"`
}

// Run lists receipts.
func (c *receiptsListCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 {
		return usageError(errors.New("--limit: want 1 or more"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		kept, err := ledger.Receipts(ctx, conn.ID, c.Limit)
		if err != nil {
			return err
		}
		lines := make([]receiptLine, len(kept))
		for i, k := range kept {
			var r sync.Receipt
			if err := json.Unmarshal(k.Document, &r); err != nil {
				return fmt.Errorf("read the receipt of run %d: %w", k.RunID, err)
			}
			line := receiptLine{Run: k.RunID, At: r.Statement.At, Resources: len(r.Statement.Resources), Exceptions: r.Statement.Exceptions}
			for _, res := range r.Statement.Resources {
				line.Valid, line.Live = line.Valid+res.Valid, line.Live+res.Live
			}
			lines[i] = line
		}
		if a.JSON {
			a.printJSON(lines)
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "RUN\tAT\tRESOURCES\tVALID ROWS\tCONFIRMED\tINVALID\tBLOCKED\tHELD\tREJECTED\tFAILED")
		for _, l := range lines {
			x := l.Exceptions
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Run, when(l.At), l.Resources, grouped(l.Valid), grouped(l.Live), grouped(x.Invalid),
				grouped(x.Blocked), grouped(x.Held), grouped(x.Rejected), grouped(x.Failed))
		}
		flush(w)
		return nil
	})
}

type receiptsShowCmd struct {
	ID         int64  `arg:"" name:"run" help:"Number of the run."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
}

// Run prints a receipt, byte for byte as it verifies.
func (c *receiptsShowCmd) Run(ctx context.Context, a *app) error {
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		document, err := sync.ReceiptDocument(ctx, ledger, conn.ID, c.ID)
		if errors.Is(err, syncdb.ErrNotFound) {
			return usageError(fmt.Errorf("run %d of this connection has no receipt (edfisync receipts lists those that have)", c.ID))
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s\n", document)
		return err
	})
}

type receiptsKeyCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
}

// Run prints the public key.
func (c *receiptsKeyCmd) Run(ctx context.Context, a *app) error {
	return a.lookWithKeys(ctx, c.Connection, func(_ *syncdb.DB, _ syncdb.Connection, ring *keys.Ring) error {
		public, err := ring.PublicKey(ring.Generation())
		if err != nil {
			return err
		}
		text := publicKeyText(public)
		if a.JSON {
			a.printJSON(map[string]any{"publicKey": text, "algorithm": "Ed25519", "generation": ring.Generation()})
			return nil
		}
		fmt.Fprintln(a.out, text)
		return nil
	})
}

// publicKeyText is a public key as receipts have it.
func publicKeyText(public []byte) string { return base64.StdEncoding.EncodeToString(public) }
