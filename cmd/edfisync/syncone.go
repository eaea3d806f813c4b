package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/edfisync/edfisync/sync"
)

type syncOneCmd struct {
	recordArgs
	Wait     bool `help:"Wait for a run that is in progress instead of failing."`
	ShowData bool `help:"Show what was sent and answered. This is student data, and noted in the audit trail."`
}

// Help is the long help of the command.
func (syncOneCmd) Help() string {
	return `Sends one record now and shows every step: its row, what it refers to, how it compares with the ledger, the call and its answer. It takes the
same way as in a run, so that nothing is sent twice and the next run finds it done; a record that was refused before is sent again. Nothing
is deleted, and no other row is sent.

Examples:

    edfisync sync-one students studentUniqueId=604822
    edfisync sync-one students --source-row 1017 --show-data`
}

// Run sends the record.
func (c *syncOneCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name(a.in)
	if err != nil {
		return err
	}
	cfg, o, err := a.openNamed(ctx, c.Connection)
	if err != nil {
		return err
	}
	defer o.close()
	if err := a.known(ctx, cfg, o, a.witnessesOf(cfg), false); err != nil {
		return err
	}
	object, err := o.engine.ObjectOf(name)
	if err != nil {
		return named(err)
	}
	if err := a.audit(ctx, o.ledger, o.engine.Connection, "sync-one", object, map[string]any{"data": c.ShowData}); err != nil {
		return err
	}
	var sent *sync.Sent
	err = a.exclusively(ctx, cfg, o, c.Wait, func() error {
		sent, err = o.engine.SendOne(ctx, name)
		return err
	})
	a.witnessed(ctx, cfg, o)
	if err != nil {
		return named(err)
	}
	c.print(a, sent)
	switch sent.Outcome {
	case "created", "updated", "unchanged", "rekeyed":
		return nil
	case "held":
		return quietly(exitHeld)
	}
	return quietly(exitProblems)
}

// callJSON is a call with what it sent, for --show-data.
type callJSON struct {
	Call    string          `json:"call"`
	Status  int             `json:"status"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Answer  string          `json:"answer,omitempty"`
}

func (c *syncOneCmd) print(a *app, s *sync.Sent) {
	if a.JSON {
		out := struct {
			*sync.Sent
			Calls []callJSON `json:"calls,omitempty"`
		}{Sent: s}
		for _, n := range s.Notes {
			if n.Attempt != nil && c.ShowData {
				out.Calls = append(out.Calls, callJSON{n.Step, n.Attempt.Status, n.Attempt.Payload, string(n.Attempt.Answer)})
			}
		}
		a.printJSON(out)
		return
	}
	printSent(a.out, s, c.ShowData)
}

func printSent(out io.Writer, s *sync.Sent, data bool) {
	for i, n := range s.Notes {
		fmt.Fprintf(out, "%d. %s: %s\n", i+1, n.Step, n.Text)
		if n.Attempt == nil || !data {
			continue
		}
		if len(n.Attempt.Payload) > 0 {
			fmt.Fprintf(out, "   sent: %s\n", n.Attempt.Payload)
		}
		if len(n.Attempt.Answer) > 0 {
			fmt.Fprintf(out, "   answer: %s\n", n.Attempt.Answer)
		}
	}
	if d := s.Decided; d != nil {
		fmt.Fprintf(out, "\n%s\n  what to do: nothing, or take it back: edfisync holds reopen %d.%d --why TEXT\n", d.Why(), d.Hold, d.Edition)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(out, "\n%s (%s): %s\n", p.Code, p.Owner, p.Cause)
		if p.Hint != "" {
			fmt.Fprintf(out, "  what to do: %s\n", p.Hint)
		}
	}
}
