package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type issuesExportCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Out        string `short:"o" type:"path" placeholder:"FILE" help:"Write to this file, which only you can read (default: standard output)."`
	Owner      string `enum:"all,mapping,source-data,source data,target-host,target host,us" default:"all" help:"Only what this owner can act on: mapping, source-data, target-host or us."`
	Archived   bool   `help:"The rows of archived issues, too."`
	Summary    bool   `help:"One line for each issue, without rows: no student data."`
}

// Help is the long help of the command.
func (issuesExportCmd) Help() string {
	return `Writes one line for each row that is not in sync, with its key in the SIS, cause, owner and remedy. It holds student data and is noted in
the audit trail; with --summary there is one line for each issue and no student data. Cells that a spreadsheet would take for a formula
begin with an apostrophe.

Examples:

    edfisync issues export --out issues.csv
    edfisync issues export --owner source-data --out for-the-registrar.csv
    edfisync issues export --summary`
}

// Run writes the file.
func (c *issuesExportCmd) Run(ctx context.Context, a *app) error {
	if a.JSON && c.Out == "" {
		return usageError(errors.New("--json says on standard output what was written; give --out FILE (edfisync issues --json is the list as JSON)"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		out := a.out
		if c.Out != "" {
			file, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return usageError(fmt.Errorf("--out: %w", err))
			}
			defer file.Close() //nolint:errcheck // closed below when all went well
			out = file
			n, err := c.write(ctx, a, ledger, conn, out)
			if err == nil {
				err = file.Close()
			}
			if err != nil {
				return errors.Join(err, os.Remove(c.Out))
			}
			if a.JSON {
				a.printJSON(struct {
					File string `json:"file"`
					Rows int    `json:"rows"`
				}{c.Out, n})
				return nil
			}
			fmt.Fprintf(a.err, "%s written to %s\n", counted(int64(n), "row"), c.Out)
			return nil
		}
		_, err := c.write(ctx, a, ledger, conn, out)
		return err
	})
}

// exportPage is how many rows are in memory at once.
const exportPage = 1000

func (c *issuesExportCmd) write(ctx context.Context, a *app, ledger *syncdb.DB, conn syncdb.Connection, out io.Writer) (rows int, err error) {
	causes, err := sync.OpenCauses(ctx, ledger, conn.ID, 0)
	if err != nil {
		return 0, err
	}
	if inSight, archived := sync.PartArchived(causes); !c.Archived && len(archived) > 0 {
		causes = inSight
		fmt.Fprintf(a.err, "%s left out: archived; --archived writes their rows, too\n", counted(int64(len(archived)), "issue"))
	}
	w := &safeCSV{w: csv.NewWriter(out)}
	columns := []string{"issue", "owner", "outcome", "code", "resource", "cause", "what to do", "since run", "last run"}
	if c.Summary {
		w.write(append(columns, "rows", "frees")...)
	} else {
		if err := a.audit(ctx, ledger, conn, "issues.export", "issues", map[string]any{"owner": c.Owner}); err != nil {
			return 0, err
		}
		w.write(append(columns, "source key", "natural key", "waits for", "details")...)
	}
	for i := range causes {
		cause := &causes[i]
		if c.Owner != "all" && strings.ReplaceAll(cause.Owner, " ", "-") != strings.ReplaceAll(c.Owner, " ", "-") {
			continue
		}
		line := []string{
			strconv.FormatInt(cause.ID, 10), cause.Owner, cause.Outcome, cause.Code, cause.Resource, cause.Cause, cause.Hint,
			strconv.FormatInt(cause.FirstRun, 10), strconv.FormatInt(cause.LastRun, 10),
		}
		if c.Summary {
			w.write(append(line, strconv.FormatInt(cause.Rows, 10), strconv.FormatInt(cause.Own+cause.Frees, 10))...)
			rows++
			continue
		}
		n, err := exportRows(ctx, w, ledger, conn.ID, cause, line)
		rows += n
		if err != nil {
			return rows, err
		}
	}
	return rows, w.flush()
}

// exportRows writes the rows of one issue, page by page.
func exportRows(ctx context.Context, w *safeCSV, ledger *syncdb.DB, conn int64, cause *sync.Cause, line []string) (rows int, err error) {
	filter := syncdb.ProblemFilter{Resource: cause.Resource, IssueID: cause.ID, Limit: exportPage}
	for {
		problems, err := ledger.Problems(ctx, conn, filter)
		if err != nil {
			return rows, err
		}
		for i := range problems {
			row, err := sync.ReadRow(&problems[i], sync.ShowValues)
			if err != nil {
				return rows, fmt.Errorf("read a row of issue %d: %w", cause.ID, err)
			}
			w.write(append(line[:len(line):len(line)], row.SourceKey, string(row.NaturalKey), row.WaitsFor(), rulesOfRow(&row))...)
			rows++
		}
		if len(problems) < exportPage {
			return rows, nil
		}
		filter.After = problems[len(problems)-1].SourceHash
	}
}

// rulesOfRow lists what is wrong with a row, in one cell.
func rulesOfRow(r *sync.IssueRow) string {
	var all []string
	for _, p := range r.Problems {
		text := p.Path + ": " + p.Message
		if p.Value != "" {
			text += fmt.Sprintf(" (%q)", p.Value)
		}
		all = append(all, text)
	}
	if r.Message != "" {
		all = append(all, r.Message)
	}
	if r.Status != 0 {
		all = append(all, fmt.Sprintf("%s answered %d", r.Call, r.Status))
	}
	return strings.Join(all, "; ")
}

// safeCSV writes CSV in which no cell is taken for a formula. Its first error is kept for flush.
type safeCSV struct {
	w   *csv.Writer
	err error
}

func (s *safeCSV) write(cells ...string) {
	safe := make([]string, len(cells))
	for i, cell := range cells {
		safe[i] = safeCell(cell)
	}
	if s.err == nil {
		s.err = s.w.Write(safe)
	}
}

func (s *safeCSV) flush() error {
	s.w.Flush()
	if err := errors.Join(s.err, s.w.Error()); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// safeCell puts an apostrophe before what a spreadsheet would run as a formula (OWASP, CSV injection): a cell that begins with = + - @, in whatever width,
// tab or carriage return, after blanks, quotes and marks that cannot be seen too, since some programs drop those; and the same behind a semicolon or tab within
// a cell, where a program of another country begins a new one.
func safeCell(cell string) string {
	var safe strings.Builder
	for cell != "" {
		end := strings.IndexAny(cell, ";\t") + 1
		if end == 0 {
			end = len(cell)
		}
		if formula(cell[:end]) {
			safe.WriteByte('\'')
		}
		safe.WriteString(cell[:end])
		cell = cell[end:]
	}
	return safe.String()
}

// formula reports whether a spreadsheet may run what is in a cell.
func formula(cell string) bool {
	begins := strings.TrimLeftFunc(cell, func(r rune) bool {
		return r != '\t' && r != '\r' && (r == '"' || r == '\'' || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r))
	})
	first, _ := utf8.DecodeRuneInString(begins)
	return begins != "" && strings.ContainsRune("=+-@\t\r＝＋－＠", first)
}
