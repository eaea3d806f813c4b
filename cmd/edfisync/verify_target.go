package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type verifyCmd struct {
	Receipt    string `arg:"" optional:"" type:"path" help:"Receipt file (edfisync receipts show RUN) to verify the target against, instead of the ledger."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Sample     *int   `placeholder:"N" help:"Read only N records, chosen at random."`
	SinceLast  bool   `help:"Read only what the target says has changed after the last run."`
	IDs        int    `name:"ids" default:"0" placeholder:"N" help:"List up to N of the target's ids per resource and finding."`
	Signature  bool   `help:"Only check the receipt itself; needs neither target nor configuration when --key is given."`
	Key        string `placeholder:"KEY" help:"Public key to check the receipt with (edfisync receipts key)."`
}

// Help is the long help of the command.
func (verifyCmd) Help() string {
	return `Re-reads the target and compares it with the ledger, or with the signed receipt of a run. Nothing is written, there or here.

Missing, different and moved records are not as the last run left them: somebody else changed them. "edfisync run --resync" sets them right.
Extra records are at the target and not in the ledger: another client's, or not adopted. They are never touched.

Examples:

    edfisync verify
    edfisync verify --sample 500 --json
    edfisync verify --since-last --ids 10
    edfisync receipts show 12 > receipt.json && edfisync verify receipt.json`
}

func (c *verifyCmd) check() error {
	switch {
	case c.Sample != nil && *c.Sample < 1:
		return errors.New("--sample: want 1 or more; without it every record is read")
	case c.IDs < 0:
		return errors.New("--ids: want 0 or more")
	case c.Sample != nil && c.SinceLast:
		return errors.New("--sample and --since-last exclude each other")
	case c.Receipt != "" && (c.Sample != nil || c.SinceLast):
		return errors.New("a receipt is verified against all records: leave --sample and --since-last out")
	case c.Receipt == "" && (c.Signature || c.Key != ""):
		return errors.New("--signature and --key go with a receipt")
	}
	return nil
}

// Run verifies.
func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return usageError(err)
	}
	var document []byte
	if c.Receipt != "" {
		var err error
		if document, err = os.ReadFile(c.Receipt); err != nil {
			return usageError(fmt.Errorf("read the receipt: %w", err))
		}
		if err := checkSignature(document, c.Key); err != nil {
			return err
		}
		if c.Signature && c.Key != "" {
			return a.printSignature(document)
		}
	}
	cfg, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	if document != nil {
		return c.receipt(ctx, a, cfg, conn, document)
	}
	return c.ledger(ctx, a, cfg, conn)
}

// checkSignature checks a receipt in itself, and against a public key when there is one.
func checkSignature(document []byte, key string) error {
	r, err := sync.ReadReceipt(document)
	if err != nil {
		return &exitError{code: exitDiffers, err: err}
	}
	if key != "" && strings.TrimSpace(key) != publicKeyText(r.PublicKey) {
		return &exitError{code: exitDiffers, err: errors.New("the receipt was signed with another key than the one given")}
	}
	return nil
}

func (a *app) printSignature(document []byte) error {
	r, err := sync.ReadReceipt(document)
	if err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(map[string]any{"signature": true, "statement": r.Statement})
		return nil
	}
	fmt.Fprintf(a.out, "ok    the signature is right: run %d of %s, %s\n", r.Statement.Run, r.Statement.Connection, when(r.Statement.At))
	return nil
}

// ledger verifies the target against the ledger.
func (c *verifyCmd) ledger(ctx context.Context, a *app, cfg *config.Config, conn *config.Connection) error {
	o, err := a.openTarget(ctx, cfg, conn)
	if err != nil {
		return err
	}
	defer o.close()
	pack, err := loadPack(conn)
	if err != nil {
		return usageError(err)
	}
	options := sync.VerifyOptions{SinceLast: c.SinceLast, IDs: c.IDs}
	if c.Sample != nil {
		options.Sample = *c.Sample
	}
	for _, q := range pack.Queries {
		if _, ok := o.engine.Model.Resource(q.Resource); ok {
			options.Resources = append(options.Resources, q.Resource)
		}
	}
	var v *sync.Verification
	err = a.undisturbed(ctx, o, func() (err error) {
		v, err = o.engine.Verify(ctx, options)
		return err
	})
	if err != nil {
		return hinted(err)
	}
	if a.JSON {
		a.printJSON(v)
	} else {
		remedy, err := a.remedyOf(ctx, cfg, o)
		if err != nil {
			return err
		}
		a.printVerification(v, remedy)
	}
	return quietly(codeOfVerification(v))
}

// codeOfVerification is the exit code of a verification: what differs goes before what could not be read, of which nobody knows.
func codeOfVerification(v *sync.Verification) exitCode {
	switch {
	case v.Wrong() > 0:
		return exitDiffers
	case v.Failed() > 0:
		return exitFailed
	}
	return exitOK
}

// remedyOf is what sets right a target that is not as the ledger says. No run goes on with a ledger that its witness contradicts (F54): there it is the
// ledger that does not know what was sent.
func (a *app) remedyOf(ctx context.Context, cfg *config.Config, o *opened) (string, error) {
	state, err := observe(ctx, o.ledger)
	if err != nil {
		return "", err
	}
	why, err := a.witnessesOf(cfg).refusedFor(ctx, o.ledger, state, nameOf(o.engine.Connection))
	switch {
	case err != nil:
		return "", err
	case why != nil:
		return fmt.Sprintf("no run goes on with this ledger: %v\n  edfisync adopt reads what the target holds into the ledger (edfisync adopt --plan only counts); then runs go on", why), nil
	}
	return "edfisync run --resync sets it right", nil
}

// undisturbed does fn, and refuses when a run of the connection is in progress before or after it: half of what it does would look wrong.
func (a *app) undisturbed(ctx context.Context, o *opened, fn func() error) error {
	last := func() (syncdb.Run, error) {
		runs, err := o.ledger.Runs(ctx, o.engine.Connection.ID, 5)
		if err != nil {
			return syncdb.Run{}, err
		}
		for _, r := range runs {
			if r.State != syncdb.RunWaiting {
				return r, nil
			}
		}
		return syncdb.Run{}, nil
	}
	before, err := last()
	if err != nil {
		return err
	}
	if before.State == syncdb.RunRunning {
		return fmt.Errorf("run %d is in progress: verify after it", before.ID)
	}
	finish := a.follow(o)
	err = fn()
	finish()
	if err != nil {
		return err
	}
	after, err := last()
	if err != nil {
		return err
	}
	if after.ID != before.ID {
		return fmt.Errorf("run %d began meanwhile, so the comparison says nothing: verify again", after.ID)
	}
	return nil
}

// printVerification prints what was found, and remedy when something is wrong.
func (a *app) printVerification(v *sync.Verification, remedy string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ledger\tread\tsame\tmissing\tdifferent\tmoved\textra\t")
	var all sync.ResourceVerification
	row := func(name string, r sync.ResourceVerification) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", grouped(r.Entries), grouped(r.Read), grouped(r.Same), grouped(r.Missing), grouped(r.Different),
			grouped(r.Moved), grouped(r.Extra), name)
	}
	for _, r := range v.Resources {
		row(r.Resource, r)
		all.Entries, all.Read, all.Same, all.Missing = all.Entries+r.Entries, all.Read+r.Read, all.Same+r.Same, all.Missing+r.Missing
		all.Different, all.Moved, all.Extra = all.Different+r.Different, all.Moved+r.Moved, all.Extra+r.Extra
		all.Duplicate, all.Unread, all.Unsettled = all.Duplicate+r.Duplicate, all.Unread+r.Unread, all.Unsettled+r.Unsettled
		all.Hidden += r.Hidden
	}
	row("all", all)
	flush(w)
	fmt.Fprintln(a.out)
	for _, r := range v.Resources {
		a.printIDs(r.Resource, r.IDs)
		if r.Failed != "" {
			fmt.Fprintf(a.out, "%s could not be read: %s\n", r.Resource, r.Failed)
		}
	}
	if all.Unsettled > 0 {
		fmt.Fprintf(a.out, "%s the ledger itself is not sure of: the next run settles them\n", counted(all.Unsettled, "record"))
	}
	if all.Hidden > 0 {
		fmt.Fprintf(a.out, "%s not shown to these credentials: nothing is known of them\n", counted(all.Hidden, "record")+are(all.Hidden))
	}
	if n := all.Duplicate + all.Unread; n > 0 {
		fmt.Fprintf(a.out, "%s under a natural key twice, or not readable: edfisync adopt files them as issues\n", counted(n, "record"))
	}
	if n := v.Failed(); n > 0 {
		fmt.Fprintf(a.out, "nothing is known of %s that could not be read\n  %s\n", counted(n, "resource"), unreadable(v.Mode))
	}
	switch {
	case v.Wrong() > 0:
		fmt.Fprintln(a.out, "the target is not as the ledger says; "+remedy)
	case v.Failed() == int64(len(v.Resources)):
		fmt.Fprintln(a.out, "nothing could be verified")
	case v.Failed() > 0:
		fmt.Fprintln(a.out, "what could be read is as the ledger says")
	case v.Mode == "sample":
		fmt.Fprintln(a.out, "every record of the sample is as the ledger says")
	case v.Mode == "since-last":
		fmt.Fprintln(a.out, "nothing of ours was changed after the last run")
	default:
		fmt.Fprintln(a.out, "the target is as the ledger says")
	}
}

// unreadable is what helps when resources could not be read.
func unreadable(mode string) string {
	if mode == "since-last" {
		return "--since-last reads the target's change queries, for which a claim set needs ReadChanges: ask the target's host for it, or leave --since-last out, which reads the records themselves"
	}
	return "the claim set of these credentials has to allow reading them: ask the target's host; edfisync check --forecast tells what the credentials may do"
}

// receipt verifies the target against a receipt.
func (c *verifyCmd) receipt(ctx context.Context, a *app, cfg *config.Config, conn *config.Connection, document []byte) error {
	o, err := a.openTarget(ctx, cfg, conn)
	if err != nil {
		return err
	}
	defer o.close()
	r, err := o.engine.CheckReceipt(document)
	if err != nil {
		return &exitError{code: exitDiffers, err: err}
	}
	if c.Signature {
		return a.printSignature(document)
	}
	var v *sync.ReceiptVerification
	err = a.undisturbed(ctx, o, func() (err error) {
		v, err = o.engine.VerifyReceipt(ctx, r, c.IDs)
		return err
	})
	if err != nil {
		return hinted(err)
	}
	if a.JSON {
		a.printJSON(v)
	} else {
		a.printReceiptVerification(v, c.IDs)
		if r.Statement.Alarm != "" {
			fmt.Fprintf(a.out, "the run found the target reset: %s\n", r.Statement.Alarm)
		}
		if newest, err := o.ledger.Receipts(ctx, o.engine.Connection.ID, 1); err == nil && len(newest) > 0 && newest[0].RunID > v.Run {
			fmt.Fprintf(a.out, "the receipt is of run %d, and run %d came after it: what that one sent differs rightly\n", v.Run, newest[0].RunID)
		}
	}
	if v.Failed() > 0 {
		return quietly(exitDiffers)
	}
	return nil
}

func (a *app) printReceiptVerification(v *sync.ReceiptVerification, ids int) {
	fmt.Fprintf(a.out, "ok    the signature is right: run %d\n", v.Run)
	for _, r := range v.Resources {
		switch {
		case r.Failed != "":
			fmt.Fprintf(a.out, "FAIL  %s: could not be read: %s\n", r.Resource, r.Failed)
		case r.Pass:
			fmt.Fprintf(a.out, "ok    %s: %s", r.Resource, counted(r.Stated, "record"))
			if r.Hidden > 0 {
				fmt.Fprintf(a.out, ", %s of them not shown to these credentials", grouped(r.Hidden))
			}
			fmt.Fprintln(a.out)
		default:
			fmt.Fprintf(a.out, "FAIL  %s: %s stated, %s found", r.Resource, grouped(r.Stated), grouped(r.Found))
			if r.Hidden > 0 {
				fmt.Fprintf(a.out, ", %s not shown to these credentials", grouped(r.Hidden))
			}
			if len(r.Buckets) > 0 {
				fmt.Fprintf(a.out, "; buckets that differ: %s", strings.Join(r.Buckets, " "))
			}
			fmt.Fprintln(a.out)
			a.printIDs("      "+r.Resource, r.IDs)
		}
	}
	if n := v.Hidden(); n > 0 {
		fmt.Fprintf(a.out, "%s not shown to these credentials, so %s cannot be checked: what the ledger says was sent stands for %s\n", counted(n, "record")+are(n), itThey(n), them(n))
	}
	if n := v.Failed(); n > 0 {
		fmt.Fprintf(a.out, "%s not as the receipt says\n", counted(int64(n), "resource")+are(int64(n)))
		if ids == 0 {
			fmt.Fprintln(a.out, "--ids N lists up to N ids of each that the ledger knows in the buckets that differ")
		}
		return
	}
	if v.Hidden() > 0 {
		fmt.Fprintln(a.out, "what the target shows is as the receipt says")
		return
	}
	fmt.Fprintln(a.out, "the target is as the receipt says")
}

func itThey(n int64) string {
	if n == 1 {
		return "it"
	}
	return "they"
}
