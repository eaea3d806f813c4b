package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type connectionsCmd struct {
	List   connectionsListCmd   `cmd:"" default:"withargs" help:"List the connections of configuration file and ledger."`
	Show   connectionsShowCmd   `cmd:"" help:"Show a connection of the ledger, or its versions."`
	Import connectionsImportCmd `cmd:"" help:"Keep the connections of a file in the ledger."`
	Export connectionsExportCmd `cmd:"" help:"Write connections of the ledger as a file, without secrets."`
	Diff   connectionsDiffCmd   `cmd:"" help:"Show what importing a file would change."`
	Clone  connectionsCloneCmd  `cmd:"" help:"Copy a connection of the ledger, without its secrets."`
	Test   connectionsTestCmd   `cmd:"" help:"Test source, mapping pack and target of a connection; send nothing."`
	Remove connectionsRemoveCmd `cmd:"" help:"Remove a connection from the ledger, and say what becomes of what it sent."`
}

// Help is the long help of the command.
func (connectionsCmd) Help() string {
	return `A connection is defined in the configuration file, or in the ledger. There it can be changed while the service runs: the next run takes it as it is then. Each
change is a version, with who made it and when. A name is in one of both places.

A file to import has the shape of the configuration: "connections:" and a list. What is a secret in clear in it is sealed in the ledger and cannot be
read back; references, ${NAME}, ${file:path} and ${sealed:name}, stay what they are. Relative paths begin at the folder of the configuration.

Examples:

    edfisync connections import districts.yaml --dry-run
    edfisync connections import districts.yaml
    edfisync connections export lincoln-2027 > lincoln.yaml
    edfisync connections clone lincoln-2027 lincoln-2028 --school-year 2028
    edfisync connections test lincoln-2028`
}

// define calls fn with what changes connections of the ledger. Unless create, there must be a ledger.
func (a *app) define(ctx context.Context, create bool, fn func(d *definer) error) error {
	file, err := a.load()
	if err != nil {
		return err
	}
	open := existingLedger
	if create {
		open = openLedger
	} else if unmade(file) {
		return &exitError{code: exitFailed, err: errors.New("there is no ledger yet, and so no connection in it; edfisync connections import makes it")}
	}
	ledger, err := open(ctx, file)
	if err != nil {
		return err
	}
	return errors.Join(fn(&definer{ledger: ledger, env: a.environment(), file: file, path: a.Config}), ledger.Close())
}

// byOperator is the audit row of what is done at this terminal.
func byOperator(action, tenant, name string, detail map[string]any) syncdb.AuditRow {
	row := syncdb.AuditRow{Who: operator(), Action: action, Connection: tenant + "/" + name}
	if detail != nil {
		row.Detail, _ = json.Marshal(detail) // strings and numbers always marshal
	}
	return row
}

// connectionLine is a connection in a list.
type connectionLine struct {
	Name       string     `json:"name"`
	Where      string     `json:"where"` // file or ledger
	Version    int64      `json:"version,omitempty"`
	SchoolYear int        `json:"schoolYear,omitempty"`
	Cron       string     `json:"cron,omitempty"`
	TimeZone   string     `json:"timeZone,omitempty"`
	Next       *jobs.Next `json:"next,omitempty"` // the run that comes next when nobody asks for one, as the API has it
	ChangedAt  time.Time  `json:"changedAt,omitzero"`
	ChangedBy  string     `json:"changedBy,omitempty"`
	Problem    string     `json:"problem,omitempty"` // why it cannot be used on this machine
}

type connectionsListCmd struct{}

// Run lists connections.
func (connectionsListCmd) Run(ctx context.Context, a *app) error {
	lines, err := a.connectionLines(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(append([]connectionLine{}, lines...))
		return nil
	}
	if len(lines) == 0 {
		fmt.Fprintln(a.out, "there are no connections: write one into the configuration (config.example.yaml shows how), or import one with: edfisync connections import FILE")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONNECTION\tWHERE\tVERSION\tYEAR\tSCHEDULE\tNEXT RUN\tCHANGED\tBY")
	for _, l := range lines {
		version, schedule, next := "", "", ""
		if l.Version > 0 {
			version = fmt.Sprint(l.Version)
		}
		if l.Cron != "" {
			schedule = l.Cron + " " + l.TimeZone
		}
		if l.Next != nil {
			next = nextText(l.Next, l.TimeZone)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.Name, l.Where, version, l.SchoolYear, schedule, next, when(l.ChangedAt), l.ChangedBy)
	}
	flush(w)
	for _, l := range lines {
		if l.Problem != "" {
			fmt.Fprintf(a.out, "\n%s cannot be used here: %s\n", l.Name, l.Problem)
		}
	}
	return nil
}

func (a *app) connectionLines(ctx context.Context) (lines []connectionLine, err error) {
	cfg, broken, err := a.all(ctx)
	if err != nil {
		return nil, err
	}
	line := func(conn *config.Connection) connectionLine {
		l := connectionLine{Name: conn.FullName(), Where: "file", SchoolYear: conn.SchoolYear, Cron: conn.Schedule.Cron}
		if l.Cron != "" {
			l.TimeZone = conn.Schedule.TimeZone
		}
		if conn.Version > 0 {
			l.Where, l.Version = "ledger", conn.Version
		}
		return l
	}
	for i := range cfg.Connections {
		lines = append(lines, line(&cfg.Connections[i]))
	}
	for _, b := range broken {
		l := line(b.conn)
		l.Problem = b.err.Error()
		lines = append(lines, l)
	}
	if unmade(cfg) {
		return lines, nil
	}
	return lines, a.define(ctx, false, func(d *definer) error {
		definitions, err := d.ledger.Definitions(ctx)
		if err != nil {
			return err
		}
		for _, def := range definitions {
			i := slices.IndexFunc(lines, func(l connectionLine) bool { return l.Name == fullName(def.Tenant, def.Name) })
			if i < 0 {
				continue
			}
			lines[i].ChangedAt, lines[i].ChangedBy = def.At, def.Who
			if w, problems := config.ReadConnection(def.Text, d.env); len(problems) == 0 && lines[i].Problem == "" {
				missing, err := d.unset(ctx, w)
				if err != nil {
					return err
				}
				if len(missing) > 0 {
					lines[i].Problem = notSet(w.Connection, missing[0]).Error()
				}
			}
		}
		return d.foresee(ctx, cfg, lines)
	})
}

// foresee says of the connections that can be used when they are run next.
func (d *definer) foresee(ctx context.Context, cfg *config.Config, lines []connectionLine) error {
	known, err := d.ledger.Connections(ctx)
	if err != nil {
		return err
	}
	prospects, err := d.ledger.Prospects(ctx)
	if err != nil {
		return err
	}
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		at := slices.IndexFunc(known, func(c syncdb.Connection) bool { return c.Tenant == conn.Tenant && c.Name == conn.Name })
		line := slices.IndexFunc(lines, func(l connectionLine) bool { return l.Name == conn.FullName() })
		if at < 0 || line < 0 || lines[line].Problem != "" {
			continue
		}
		if lines[line].Next, err = nextRun(cfg, conn, prospects[known[at].ID]); err != nil {
			return err
		}
	}
	return nil
}

// definitionShown is a version of a connection of the ledger.
type definitionShown struct {
	Name       string          `json:"name"`
	Version    int64           `json:"version"`
	At         time.Time       `json:"at"`
	Who        string          `json:"who"`
	Removed    bool            `json:"removed,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
}

func shownDefinition(d *syncdb.Definition) definitionShown {
	return definitionShown{Name: fullName(d.Tenant, d.Name), Version: d.Version, At: d.At, Who: d.Who, Removed: d.Text == nil, Definition: d.Text}
}

// notThere says that the ledger has no such connection, and where it is if the configuration file has it.
func (d *definer) notThere(tenant, name string, err error) error {
	if !errors.Is(err, syncdb.ErrNotFound) {
		return err
	}
	if at := inFile(d.file, tenant, name); at >= 0 {
		path := fmt.Sprintf("connections[%d].name", at)
		return usageError(fmt.Errorf("connection %s is not in the ledger but in %s:%d; change it there", fullName(tenant, name), d.path, config.Line(d.path, path)))
	}
	return usageError(fmt.Errorf("the ledger has no connection %s (edfisync connections lists them)", fullName(tenant, name)))
}

type connectionsShowCmd struct {
	Name     string `arg:"" help:"The connection, or TENANT/NAME."`
	Versions bool   `help:"List its versions, the newest first."`
	Version  int64  `placeholder:"N" help:"Show this version instead of the newest."`
}

// Run shows a connection.
func (c *connectionsShowCmd) Run(ctx context.Context, a *app) error {
	tenant, name := splitName(c.Name)
	return a.define(ctx, false, func(d *definer) error {
		versions, err := d.ledger.DefinitionVersions(ctx, tenant, name)
		if err == nil && (len(versions) == 0 || versions[0].Text == nil && !c.Versions && c.Version == 0) {
			err = syncdb.ErrNotFound
		}
		if err != nil {
			return d.notThere(tenant, name, err)
		}
		if c.Versions {
			return a.printVersions(versions)
		}
		if c.Version != 0 {
			versions = slices.DeleteFunc(versions, func(v syncdb.Definition) bool { return v.Version != c.Version })
			if len(versions) == 0 {
				return usageError(fmt.Errorf("connection %s has no version %d", c.Name, c.Version))
			}
		}
		shown := &versions[0]
		if a.JSON {
			a.printJSON(shownDefinition(shown))
			return nil
		}
		fmt.Fprintf(a.out, "# version %d of %s, by %s\n", shown.Version, when(shown.At), shown.Who)
		if shown.Text == nil {
			fmt.Fprintln(a.out, "# it was removed")
			return nil
		}
		return a.printDefinitions(versions[:1])
	})
}

func (a *app) printVersions(versions []syncdb.Definition) error {
	type line struct {
		definitionShown
		Changes []config.FieldChange `json:"changes,omitempty"`
	}
	lines := make([]line, len(versions))
	for i := range versions {
		lines[i].definitionShown = shownDefinition(&versions[i])
		var before json.RawMessage
		if i+1 < len(versions) {
			before = versions[i+1].Text
		}
		var err error
		if lines[i].Changes, err = config.Changes(before, versions[i].Text); err != nil {
			return err
		}
	}
	if a.JSON {
		a.printJSON(lines)
		return nil
	}
	for _, l := range lines {
		what := ""
		if l.Removed {
			what = ": removed"
		}
		fmt.Fprintf(a.out, "version %d, %s, by %s%s\n", l.Version, when(l.At), l.Who, what)
		if !l.Removed {
			printChanges(a.out, l.Changes)
		}
	}
	return nil
}

func (a *app) printDefinitions(definitions []syncdb.Definition) error {
	text, err := config.YAML(definitions)
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

func printChanges(out io.Writer, changes []config.FieldChange) {
	for _, c := range changes {
		switch {
		case c.From == "":
			fmt.Fprintf(out, "  + %s: %s\n", c.Path, c.To)
		case c.To == "":
			fmt.Fprintf(out, "  - %s: %s\n", c.Path, c.From)
		default:
			fmt.Fprintf(out, "  ~ %s: %s → %s\n", c.Path, c.From, c.To)
		}
	}
}

type connectionsImportCmd struct {
	File   string `arg:"" help:"The file, or - for standard input."`
	DryRun bool   `help:"Show what would change, and change nothing."`
}

// Run keeps the connections of a file.
func (c *connectionsImportCmd) Run(ctx context.Context, a *app) error {
	return a.proposed(ctx, c.File, !c.DryRun, func(d *definer, proposals []proposal) error {
		if !c.DryRun {
			err := d.keep(ctx, proposals, func(p *proposal, action string, detail map[string]any) syncdb.AuditRow {
				return byOperator(action, p.written.Tenant, p.written.Name, detail)
			})
			if err != nil {
				return err
			}
		}
		if a.JSON {
			a.printJSON(map[string]any{"dryRun": c.DryRun, "connections": append([]proposal{}, proposals...)})
			return nil
		}
		printProposals(a.out, proposals, !c.DryRun)
		return nil
	})
}

// proposed calls fn with what keeping the connections of a file would change.
func (a *app) proposed(ctx context.Context, file string, create bool, fn func(d *definer, proposals []proposal) error) error {
	text, err := a.fileOrInput(file)
	if err != nil {
		return usageError(err)
	}
	written, problems := config.ReadConnections(file, text, a.environment())
	if len(problems) > 0 {
		return usageError(problems)
	}
	return a.define(ctx, create, func(d *definer) error {
		proposals, err := d.propose(ctx, file, written)
		if problems := (config.Problems)(nil); errors.As(err, &problems) {
			return usageError(err)
		}
		if err != nil {
			return err
		}
		return fn(d, proposals)
	})
}

// fileOrInput reads a file, or standard input for -.
func (a *app) fileOrInput(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.in)
	}
	return os.ReadFile(file)
}

// printProposals says what changes, or has changed.
func printProposals(out io.Writer, proposals []proposal, done bool) {
	for i := range proposals {
		p := &proposals[i]
		word := map[string]string{actionCreate: "would be made", actionChange: "would change", actionNone: "is as it was"}[p.Action]
		if done {
			word = map[string]string{actionCreate: "is made", actionChange: "is changed", actionNone: "is as it was"}[p.Action]
		}
		fmt.Fprintf(out, "%s %s (version %d)\n", p.Name, word, p.Version)
		printChanges(out, p.Changes)
		for _, name := range p.Secrets {
			fmt.Fprintf(out, "  * a new value is sealed as ${sealed:%s}\n", name)
		}
		for _, warning := range p.Warnings {
			fmt.Fprintf(out, "  ! %s\n", warning)
		}
	}
}

type connectionsExportCmd struct {
	Names []string `arg:"" optional:"" name:"name" help:"The connections; all of the ledger without one."`
}

// Run writes connections.
func (c *connectionsExportCmd) Run(ctx context.Context, a *app) error {
	return a.define(ctx, false, func(d *definer) error {
		var out []syncdb.Definition
		var err error
		if len(c.Names) == 0 {
			out, err = d.ledger.Definitions(ctx)
		}
		for _, full := range c.Names {
			tenant, name := splitName(full)
			def, err := d.ledger.Definition(ctx, tenant, name)
			if err != nil {
				return d.notThere(tenant, name, err)
			}
			out = append(out, def)
		}
		if err != nil {
			return err
		}
		if a.JSON {
			texts := make([]json.RawMessage, len(out))
			for i := range out {
				texts[i] = out[i].Text
			}
			a.printJSON(map[string]any{"connections": texts})
			return nil
		}
		return a.printDefinitions(out)
	})
}

type connectionsDiffCmd struct {
	File string `arg:"" help:"The file, or - for standard input."`
}

// Run compares a file with the ledger.
func (c *connectionsDiffCmd) Run(ctx context.Context, a *app) error {
	return a.proposed(ctx, c.File, false, func(d *definer, proposals []proposal) error {
		all, err := d.ledger.Definitions(ctx)
		if err != nil {
			return err
		}
		var only []string
		for _, def := range all {
			if name := fullName(def.Tenant, def.Name); !slices.ContainsFunc(proposals, func(p proposal) bool { return p.Name == name }) {
				only = append(only, name)
			}
		}
		differ := slices.DeleteFunc(slices.Clone(proposals), func(p proposal) bool { return p.Action == actionNone })
		switch {
		case a.JSON:
			a.printJSON(map[string]any{"differ": append([]proposal{}, differ...), "onlyInLedger": append([]string{}, only...)})
		case len(differ) == 0:
			fmt.Fprintf(a.out, "the connections of %s are in the ledger as they are there\n", c.File)
		default:
			printProposals(a.out, differ, false)
		}
		if len(only) > 0 && !a.JSON {
			fmt.Fprintf(a.out, "only in the ledger, importing leaves them as they are: %s\n", strings.Join(only, ", "))
		}
		if len(differ) > 0 {
			return quietly(exitDiffers)
		}
		return nil
	})
}

type connectionsCloneCmd struct {
	From       string `arg:"" help:"The connection to copy, or TENANT/NAME."`
	To         string `arg:"" help:"Name of the copy, in the same tenant."`
	SchoolYear int    `placeholder:"YEAR" help:"School year of the copy, the year it ends in (default: the same)."`
}

// Run copies a connection.
func (c *connectionsCloneCmd) Run(ctx context.Context, a *app) error {
	tenant, from := splitName(c.From)
	return a.define(ctx, false, func(d *definer) error {
		p, problems, err := d.clone(ctx, tenant, from, strings.TrimPrefix(c.To, tenant+"/"), c.SchoolYear)
		switch {
		case err != nil:
			return d.notThere(tenant, from, err)
		case len(problems) > 0:
			for i := range problems {
				problems[i].File = "the copy"
			}
			return usageError(problems)
		case p.from != 0:
			return usageError(fmt.Errorf("there is a connection %s already", p.Name))
		}
		if err := d.keep(ctx, []proposal{p}, func(_ *proposal, _ string, detail map[string]any) syncdb.AuditRow {
			detail["from"] = fullName(tenant, from)
			return byOperator("connection.clone", tenant, p.written.Name, detail)
		}); err != nil {
			return err
		}
		unset, err := d.unset(ctx, p.written)
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(map[string]any{"name": p.Name, "version": p.Version, "unset": append([]string{}, unset...)})
			return nil
		}
		fmt.Fprintf(a.out, "%s is made (version %d), without the secrets of %s\n", p.Name, p.Version, c.From)
		for _, name := range unset {
			fmt.Fprintf(a.out, "  it runs when this is set: %s\n", setCommand(tenant, name))
		}
		return nil
	})
}

type connectionsRemoveCmd struct {
	Name     string `arg:"" help:"The connection, or TENANT/NAME."`
	Withdraw bool   `xor:"records" help:"Have its records removed from the target first: all its resources are switched off, and a run holds the removal for approval."`
	Keep     bool   `xor:"records" help:"Leave its records at the target, and have the ledger forget them. Nobody's run deletes or updates them any more. Wants the name once more."`
	Remember bool   `xor:"records" help:"Leave its records at the target and in the ledger: a connection of that name goes on from there."`
	Confirm  string `placeholder:"NAME" help:"With --keep: the name once more, instead of being asked for it."`
}

// Help is the long help of the command.
func (connectionsRemoveCmd) Help() string {
	return `Removes a connection of the ledger. When it owns records at the target it is not removed before somebody says what is to become of them:

    --withdraw   they are to go. The connection syncs nothing any more, and a run is asked for that holds their removal for approval. Approve it
                 (edfisync holds), let it run once more, then remove the connection. Records that were there before it are never deleted.
    --keep       they stay, and the ledger forgets them, with what was sent, issues and holds. Runs, receipts and the audit trail stay.
    --remember   they stay, and the ledger goes on knowing them: to move the connection into the configuration file, or to come back later.

Examples:

    edfisync connections remove lincoln-2027
    edfisync connections remove lincoln-2027 --withdraw
    edfisync connections remove lincoln-2027 --keep --confirm lincoln-2027`
}

// Run removes a connection.
func (c *connectionsRemoveCmd) Run(ctx context.Context, a *app) error {
	tenant, name := splitName(c.Name)
	if c.Confirm != "" && !c.Keep {
		return usageError(errors.New("--confirm goes with --keep"))
	}
	return a.define(ctx, false, func(d *definer) error {
		if c.Withdraw {
			return c.withdraw(ctx, a, d)
		}
		records := ""
		switch {
		case c.Keep:
			records = recordsKeep
			if err := c.confirmed(ctx, a, d); err != nil {
				return err
			}
		case c.Remember:
			records = recordsRemember
		}
		left, err := d.remove(ctx, tenant, name, 0, records, byOperator("connection.remove", tenant, name, nil))
		var running *syncdb.RunningError
		var owns *leftError
		switch {
		case errors.As(err, &owns):
			return c.ways(ctx, a, d, owns)
		case errors.As(err, &running), errors.Is(err, syncdb.ErrVersion):
			return err
		case err != nil:
			return d.notThere(tenant, name, err)
		case a.JSON:
			a.printJSON(left)
			return nil
		}
		left.print(a.out, tenant, name)
		return nil
	})
}

// print says what a removal has left.
func (left *remains) print(out io.Writer, tenant, name string) {
	if left.Removed {
		fmt.Fprintf(out, "%s is removed: nothing runs for it any more\n", fullName(tenant, name))
	}
	switch {
	case left.Forgotten:
		fmt.Fprintf(out, "  %s at the target, and the ledger does not know %s any more: no run updates or deletes %s\n", counted(left.Records, "record")+stay(left.Records), them(left.Records), them(left.Records))
	default:
		fmt.Fprintf(out, "  what stays: %s at the target, and what the ledger knows of them; a connection of that name goes on from there\n", counted(left.Records, "record"))
	}
	if left.Met > 0 {
		fmt.Fprintf(out, "  %s at the target before it, and stay as they are\n", counted(left.Met, "record")+were(left.Met))
	}
	for _, secret := range left.Secrets {
		fmt.Fprintf(out, "  a sealed secret that nothing needs any more: edfisync secrets remove %s\n", strings.TrimPrefix(setCommand(tenant, secret), "edfisync secrets set "))
	}
}

func stay(n int64) string {
	if n == 1 {
		return " stays"
	}
	return " stay"
}

// ways says what the connection owns, what of its removal waits, and what can be done.
func (c *connectionsRemoveCmd) ways(ctx context.Context, a *app, d *definer, owns *leftError) error {
	tenant, name := splitName(c.Name)
	id, _, err := d.ledger.Connection(ctx, tenant, name)
	if err != nil {
		return err
	}
	waits := ""
	holds, err := d.ledger.Plans(ctx, id.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold})
	if err != nil {
		return err
	}
	for _, h := range holds {
		if h.Rule != string(sync.RuleOutOfScope) {
			continue
		}
		switch h.State {
		case syncdb.PlanOpen:
			waits = fmt.Sprintf("\nHold %d.%d has the removal of %s and waits for approval: edfisync holds show %d", h.ID, h.Edition, counted(h.Ops, "record"), h.ID)
		case syncdb.PlanApproved:
			waits = fmt.Sprintf("\nThe removal of %s is approved (hold %d.%d); the next run makes it: edfisync run --ask --connection %s", counted(h.Ops, "record"), h.ID, h.Edition, c.Name)
		}
	}
	return usageError(fmt.Errorf("%w%s\n  edfisync connections remove %[3]s --withdraw   they are to go: a run holds their removal for approval\n"+
		"  edfisync connections remove %[3]s --keep       they stay, and the ledger forgets them\n"+
		"  edfisync connections remove %[3]s --remember   they stay, and a connection of that name goes on from there", owns, waits, c.Name))
}

// confirmed asks for the name once more: what the ledger forgets nobody brings back.
func (c *connectionsRemoveCmd) confirmed(ctx context.Context, a *app, d *definer) error {
	tenant, name := splitName(c.Name)
	have, err := d.ledger.HoldingsOf(ctx, tenant, name)
	if err != nil {
		return err
	}
	said := c.Confirm
	if said == "" {
		fmt.Fprintf(a.err, "%s owns %s. They stay, and the ledger forgets them, with what was sent, issues and holds; nobody can undo that.\nThe name once more: ", c.Name, ownedText(have))
		line, err := bufio.NewReader(io.LimitReader(a.in, 1000)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the name from standard input: %w", err)
		}
		said = strings.TrimSpace(line)
	}
	if said != c.Name && said != tenant+"/"+name {
		return usageError(fmt.Errorf("nothing was removed: the name to confirm is %s (--confirm %s)", c.Name, c.Name))
	}
	return nil
}

// withdraw has what the connection sent be offered for removal.
func (c *connectionsRemoveCmd) withdraw(ctx context.Context, a *app, d *definer) (err error) {
	tenant, name := splitName(c.Name)
	out, err := d.withdraw(ctx, tenant, name, 0, byOperator("connection.withdraw", tenant, name, nil))
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		return usageError(problems)
	case errors.Is(err, syncdb.ErrVersion):
		return err
	case err != nil:
		return d.notThere(tenant, name, err)
	}
	id, _, err := d.ledger.Connection(ctx, tenant, name)
	if err != nil {
		return err
	}
	bell, err := jobs.Open(ctx, jobs.Config{Ledger: d.ledger, Queue: jobs.QueueConfig{DSN: queueDSN(d.file)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bell.Close()) }()
	run, _, err := bell.AskAs(ctx, id.ID, "cli", syncdb.RunScope{}, byOperator("run.ask", tenant, name, nil))
	if err != nil {
		return fmt.Errorf("all resources are off, and the run that is to hold the removal could not be asked for: %w", err)
	}
	out.Run = run.ID
	if a.JSON {
		a.printJSON(out)
		return nil
	}
	fmt.Fprintf(a.out, "%s syncs nothing any more (version %d); it owns %s\n", c.Name, out.Version, ownedText(syncdb.Holdings{Owned: out.Records, Resources: out.Resources}))
	fmt.Fprintf(a.out, "  run %d is asked for: it holds their removal for approval. Without a service, do it: edfisync run --connection %s\n", out.Run, c.Name)
	fmt.Fprintf(a.out, "  then: edfisync holds, approve it, and run again; then: edfisync connections remove %s\n", c.Name)
	if out.Met > 0 {
		fmt.Fprintf(a.out, "  %s at the target before it, and stay\n", counted(out.Met, "record")+were(out.Met))
	}
	return nil
}
