package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// recordArgs name one record.
type recordArgs struct {
	Resource   string `arg:"" help:"Resource, such as ed-fi/students."`
	Key        string `arg:"" optional:"" help:"Natural key: name=value,name=value (edfisync catalog RESOURCE lists the names); - reads it from standard input."`
	SourceKey  string `name:"source-row" aliases:"source-key" placeholder:"KEY" help:"Instead of the natural key, the key of the row in the SIS (_key of its query); - reads it from standard input."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
}

// name reads what the arguments name. A key that is "-" is the first line of in: one that is typed as an argument stands in the list of processes and in
// the history of the shell (I14).
func (r *recordArgs) name(in io.Reader) (sync.RecordName, error) {
	for _, key := range []*string{&r.Key, &r.SourceKey} {
		if *key != "-" {
			continue
		}
		line, err := bufio.NewReader(in).ReadString('\n')
		if *key = strings.TrimRight(line, "\r\n"); *key == "" {
			return sync.RecordName{}, usageError(errors.Join(errors.New("standard input has no key in its first line"), err))
		}
		break
	}
	out := sync.RecordName{Resource: r.Resource, SourceKey: r.SourceKey}
	if (r.Key == "") == (r.SourceKey == "") {
		return out, usageError(errors.New("give the natural key as name=value,name=value, or --source-row"))
	}
	if r.Key == "" {
		return out, nil
	}
	var err error
	if out.Key, err = sync.ParseNaturalKey(r.Key); err != nil {
		return out, usageError(err)
	}
	return out, nil
}

// named makes a name that cannot be one a usage error.
func named(err error) error {
	var unknown *sync.UnknownRecordError
	if errors.As(err, &unknown) {
		return usageError(err)
	}
	return hinted(err)
}

type traceCmd struct {
	recordArgs
	ShowData bool `help:"Show values: keys, what was sent, what the target answered, its copy. This is noted in the audit trail."`
	Attempts int  `default:"20" placeholder:"N" help:"Show the last N calls (default: 20)."`
}

// Help is the long help of the command.
func (traceCmd) Help() string {
	return `Shows all that is known of one record, from the SIS to the target: its source row, the rules it breaks, the ledger's entry, issues, every call
that was made for it, what it refers to, what refers to it, and how the target's copy differs from the row now. Nothing is sent or changed.

Without --show-data there are hashes, codes, states and times only. With it there is student data, and the look is noted in the audit
trail first.

Examples:

    edfisync trace students studentUniqueId=604822
    edfisync trace students --source-row 1017 --show-data
    edfisync trace students - < key.txt
    edfisync trace studentSchoolAssociations entryDate=2026-08-17,schoolId=255901001,studentUniqueId=604822 --json`
}

// Run prints the trace.
func (c *traceCmd) Run(ctx context.Context, a *app) error {
	if c.Attempts < 1 {
		return usageError(errors.New("--attempts: want 1 or more"))
	}
	name, err := c.name(a.in)
	if err != nil {
		return err
	}
	_, o, err := a.openNamed(ctx, c.Connection)
	if err != nil {
		return err
	}
	defer o.close()
	if c.ShowData {
		object, err := o.engine.ObjectOf(name)
		if err != nil {
			return named(err)
		}
		if err := a.audit(ctx, o.ledger, o.engine.Connection, "trace.show", object, nil); err != nil {
			return err
		}
	}
	t, err := o.engine.Trace(ctx, o.ledger, name, sync.TraceOptions{Data: c.ShowData, Attempts: c.Attempts})
	if err != nil {
		return named(err)
	}
	if a.JSON {
		a.printJSON(t)
		return nil
	}
	printTrace(a.out, t)
	return nil
}

// openNamed opens the connection a flag names. It makes no ledger.
func (a *app) openNamed(ctx context.Context, name string) (*config.Config, *opened, error) {
	cfg, conn, err := a.picked(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if missing(cfg) {
		return nil, nil, &exitError{code: exitFailed, err: errors.New("there is no ledger yet: the first edfisync run makes it")}
	}
	o, err := a.open(ctx, cfg, conn)
	return cfg, o, err
}

// printTrace writes a trace as a person reads it, from the source to the target.
func printTrace(out io.Writer, t *sync.Trace) {
	line := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	data := func(name string, value json.RawMessage) {
		if len(value) > 0 {
			line("    %s: %s", name, value)
		}
	}
	line("%s  %s  key hash %s", t.Resource, t.NaturalKey, orElse(t.KeyHash, "not known"))
	line("\nsource")
	switch {
	case !t.Synced:
		line("  the connection does not sync this resource")
	case len(t.Rows) == 0:
		line("  no row")
	}
	for _, r := range t.Rows {
		line("  row %s of %s, record hash %s", orElse(r.SourceKey, r.SourceHash), r.Query, orElse(r.RecordHash, "none: it breaks rules"))
		for _, p := range r.Problems {
			line("    breaks %s: %s: %s %s", p.Code, p.Path, p.Message, p.Value)
		}
		data("payload", r.Payload)
	}
	line("\nledger")
	if len(t.Entries) == 0 {
		line("  no entry: the target does not hold it, as far as we know")
	}
	for _, e := range t.Entries {
		former := ""
		if e.Former {
			former = ", under a key the row had before"
		}
		line("  %s, %s, id %s, record hash %s, written by run %d%s", e.State, e.Origin, orElse(e.EdfiID, "not known"), orElse(e.RecordHash, "not known"), e.Run, former)
		data("key", e.NaturalKey)
	}
	if t.OpenCalls > 0 {
		line("  %s of the connection without an answer; the next run settles them", counted(int64(t.OpenCalls), "call"))
	}
	for _, p := range t.Problems {
		line("  %s: %s (%s)\n    %s\n    what to do: %s", p.Outcome, p.Code, p.Owner, p.Cause, p.Hint)
		data("detail", p.Detail)
	}
	for _, d := range t.Decided {
		if d.State == string(syncdb.PlanApproved) {
			line("  somebody approved this %s: hold %d.%d; the next run makes it", d.Call, d.Hold, d.Edition)
			continue
		}
		line("  %s: this %s is not made\n    what to do: nothing, or take it back: edfisync holds reopen %d.%d --why TEXT", d.Why(), d.Call, d.Hold, d.Edition)
	}
	if len(t.Attempts) > 0 {
		line("\ncalls")
	}
	if t.Earlier > 0 {
		line("  and %s before these", counted(int64(t.Earlier), "call"))
	}
	for _, at := range t.Attempts {
		line("  run %d, %s: %s, status %d, record %s", at.Run, when(at.At), at.Call, at.Status, at.Effect)
		data("sent", at.Payload)
		if at.Answer != "" {
			line("    answer: %s", at.Answer)
		}
	}
	printRelatives(line, t)
	printCopy(line, data, t)
}

func printRelatives(line func(string, ...any), t *sync.Trace) {
	if len(t.Parents) > 0 {
		line("\nrefers to")
	}
	for _, p := range t.Parents {
		text := fmt.Sprintf("  %s (%s): %s", p.Entity, p.Path, p.State)
		if len(p.NaturalKey) > 0 {
			text = fmt.Sprintf("  %s %s (%s): %s", p.Entity, p.NaturalKey, p.Path, p.State)
		}
		if p.Issue != 0 {
			text += fmt.Sprintf(", see issue %d", p.Issue)
		}
		line("%s", text)
	}
	if len(t.Children) > 0 {
		line("\nreferred to by")
	}
	for _, c := range t.Children {
		text := fmt.Sprintf("  %s: %s", c.Resource, counted(c.Entries, "record"))
		if c.Waiting > 0 {
			text += fmt.Sprintf(", %s that wait for it", counted(c.Waiting, "row"))
		}
		line("%s", text)
		for _, key := range c.Keys {
			line("    %s", key)
		}
	}
}

func printCopy(line func(string, ...any), data func(string, json.RawMessage), trace *sync.Trace) {
	t := trace.Target
	if t == nil {
		return
	}
	line("\ntarget")
	switch {
	case t.Error != "":
		line("  its copy could not be read: %s", t.Error)
	case !t.Found:
		line("  it has no record with id %s", t.EdfiID)
	case !t.Compared && len(trace.Rows) == 0:
		line("  id %s; there is no row to compare it with", t.EdfiID)
	case !t.Compared:
		line("  id %s; not compared, since the row breaks rules", t.EdfiID)
	case len(t.Differs) == 0:
		line("  id %s, equal to what the row gives", t.EdfiID)
	default:
		line("  id %s, differs from what the row gives in: %s", t.EdfiID, strings.Join(t.Differs, ", "))
	}
	for _, f := range t.Fields {
		line("    %s: %s at the target, %s in the row", f.Path, orAbsent(f.Before), orAbsent(f.After))
	}
	data("copy", t.Copy)
}
