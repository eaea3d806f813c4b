package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/syncdb"
)

type alertsCmd struct {
	List   alertsListCmd   `cmd:"" default:"withargs" help:"List what is wrong now."`
	Mutes  alertsMutesCmd  `cmd:"" help:"List what is muted."`
	Mute   alertsMuteCmd   `cmd:"" help:"Tell nobody of alerts for a while."`
	Unmute alertsUnmuteCmd `cmd:"" help:"End a mute."`
	Test   alertsTestCmd   `cmd:"" help:"Send every receiver a test notice."`
}

// Help is the long help of the command.
func (alertsCmd) Help() string {
	return `The service tells webhooks and mailboxes (service.alerts of the configuration) when something is wrong with a connection, and when it is right again: once for
each change. Conditions: run-failed, target-unreachable, source-unreachable, credentials-refused, ledger-restored, not-fresh, hold-waiting, target-reset, quarantined, audit-broken, configuration-wrong.

Examples:

    edfisync alerts
    edfisync alerts mute lincoln --for 4h --why "the state's API is moved"
    edfisync alerts mute --condition not-fresh --for 2d --why "holidays"
    edfisync alerts mutes
    edfisync alerts unmute 3
    edfisync alerts test`
}

// alertShown is an alert as the command line prints it.
type alertShown struct {
	Tenant     string    `json:"tenant,omitempty"`
	Connection string    `json:"connection,omitempty"` // "" = the ledger as a whole
	Condition  string    `json:"condition"`
	Firing     bool      `json:"firing"`
	Since      time.Time `json:"since"`
	Title      string    `json:"title"`
	Detail     string    `json:"detail,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	Muted      bool      `json:"muted"`
}

type alertsListCmd struct {
	All bool `help:"List those that are over too."`
}

// Run lists alerts as the service keeps them.
func (c *alertsListCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		have, err := ledger.Alerts(ctx)
		if err != nil {
			return err
		}
		mutes, connections, err := mutesOf(ctx, ledger)
		if err != nil {
			return err
		}
		shown := []alertShown{}
		for _, alert := range have {
			if !alert.Firing && !c.All {
				continue
			}
			i := slices.IndexFunc(connections, func(x syncdb.Connection) bool { return x.ID == alert.ConnectionID })
			condition := alerts.Condition(alert.Condition)
			s := alertShown{Condition: alert.Condition, Firing: alert.Firing, Since: alert.Since, Title: condition.Title(), Detail: alert.Detail}
			switch {
			case i >= 0:
				s.Tenant, s.Connection = connections[i].Tenant, connections[i].Name
			case alert.ConnectionID != 0:
				continue
			}
			if alert.Firing {
				s.Remedy = condition.Remedy()
			}
			s.Muted = slices.ContainsFunc(mutes, func(m syncdb.AlertMute) bool { return m.Covers(s.Tenant, alert.ConnectionID, alert.Condition) })
			shown = append(shown, s)
		}
		if a.JSON {
			a.printJSON(shown)
			return nil
		}
		if len(shown) == 0 {
			fmt.Fprintln(a.out, "no alert is firing, as far as the service has looked")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CONNECTION\tCONDITION\tSTATE\tSINCE\tDETAIL\tWHAT TO DO")
		for _, s := range shown {
			state := "over"
			if s.Firing {
				state = "firing"
			}
			if s.Muted {
				state += ", muted"
			}
			name := "(the ledger)"
			if s.Connection != "" {
				name = fullName(s.Tenant, s.Connection)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", name, s.Condition, state, when(s.Since), s.Detail, s.Remedy)
		}
		flush(w)
		return nil
	})
}

// muteShown is a mute as the command line prints it.
type muteShown struct {
	syncdb.AlertMute
	Tenant     string `json:"tenant,omitempty"`     // "" = every one
	Connection string `json:"connection,omitempty"` // "" = all of the tenant
}

func showMute(m syncdb.AlertMute, connections []syncdb.Connection) muteShown {
	out := muteShown{AlertMute: m, Tenant: m.Tenant}
	for _, c := range connections {
		if c.ID == m.ConnectionID {
			out.Tenant, out.Connection = c.Tenant, c.Name
		}
	}
	return out
}

// covers says what a mute is about.
func (m muteShown) covers() string {
	what := "all alerts"
	if m.Condition != "" {
		what = m.Condition
	}
	switch {
	case m.Connection != "":
		return what + " of " + fullName(m.Tenant, m.Connection)
	case m.Tenant != "":
		return what + " of tenant " + m.Tenant
	}
	return what
}

// mutesOf reads the mutes there are, and the connections they may be of.
func mutesOf(ctx context.Context, ledger *syncdb.DB) ([]syncdb.AlertMute, []syncdb.Connection, error) {
	mutes, err := ledger.Mutes(ctx)
	if err != nil {
		return nil, nil, err
	}
	connections, err := ledger.Connections(ctx)
	return mutes, connections, err
}

type alertsMutesCmd struct{}

// Run lists mutes.
func (c *alertsMutesCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		mutes, connections, err := mutesOf(ctx, ledger)
		if err != nil {
			return err
		}
		shown := make([]muteShown, len(mutes))
		for i, m := range mutes {
			shown[i] = showMute(m, connections)
		}
		if a.JSON {
			a.printJSON(shown)
			return nil
		}
		if len(shown) == 0 {
			fmt.Fprintln(a.out, "nothing is muted")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "MUTE\tWHAT\tUNTIL\tWHO\tWHY")
		for _, m := range shown {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", m.ID, m.covers(), when(m.Until), m.Who, m.Why)
		}
		flush(w)
		return nil
	})
}

// longestMute is the longest time for which somebody may be kept from knowing.
const longestMute = 90 * 24 * time.Hour

type alertsMuteCmd struct {
	Connection string `arg:"" optional:"" help:"Connection (default: all of them)."`
	Condition  string `placeholder:"CONDITION" help:"Only this condition (default: all of them)."`
	For        days   `required:"" placeholder:"TIME" help:"For so long, such as 4h or 2d; 90d at most."`
	Why        string `required:"" placeholder:"TEXT" help:"Why, for those who will ask. No student data."`
}

// Run mutes.
func (c *alertsMuteCmd) Run(ctx context.Context, a *app) error {
	if c.For <= 0 || time.Duration(c.For) > longestMute {
		return usageError(errors.New("--for: want more than nothing, and 90d at most"))
	}
	if c.Condition != "" && !slices.Contains(alerts.Conditions(), alerts.Condition(c.Condition)) {
		return usageError(fmt.Errorf("there is no condition %q; there are %v", c.Condition, alerts.Conditions()))
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	m := syncdb.AlertMute{Condition: c.Condition, Who: operator(), Why: c.Why, Until: time.Now().Add(time.Duration(c.For))}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return err
	}
	var made muteShown
	err = func() error {
		about := ""
		if c.Connection != "" {
			conn, err := pick(cfg, c.Connection)
			if err != nil {
				return err
			}
			kept, _, err := ledger.Connection(ctx, conn.Tenant, conn.Name)
			if err != nil {
				return err
			}
			m.Tenant, m.ConnectionID, about = kept.Tenant, kept.ID, kept.Tenant+"/"+kept.Name
		}
		detail, err := json.Marshal(map[string]any{"condition": c.Condition, "until": m.Until.UTC().Format(time.RFC3339), "why": c.Why})
		if err != nil {
			return err
		}
		kept, err := ledger.SetMute(ctx, m, syncdb.AuditRow{Who: operator(), Action: "alert.mute", Connection: about, Detail: detail})
		if err != nil {
			return err
		}
		connections, err := ledger.Connections(ctx)
		made = showMute(kept, connections)
		return err
	}()
	if err = errors.Join(err, ledger.Close()); err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(made)
		return nil
	}
	fmt.Fprintf(a.out, "mute %d: nobody is told of %s until %s\n", made.ID, made.covers(), when(made.Until))
	return nil
}

type alertsUnmuteCmd struct {
	Mute int64  `arg:"" help:"Number of the mute; edfisync alerts mutes lists them."`
	Why  string `placeholder:"TEXT" help:"For the audit trail. No student data, please."`
}

// Run ends a mute.
func (c *alertsUnmuteCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		m, err := ledger.Mute(ctx, c.Mute)
		if err != nil {
			return noMute(err, c.Mute)
		}
		connections, err := ledger.Connections(ctx)
		if err != nil {
			return err
		}
		shown, about := showMute(m, connections), ""
		if shown.Connection != "" {
			about = shown.Tenant + "/" + shown.Connection
		}
		row := syncdb.AuditRow{Who: operator(), Action: "alert.unmute", Connection: about}
		if c.Why != "" {
			if row.Detail, err = json.Marshal(map[string]string{"why": c.Why}); err != nil {
				return err
			}
		}
		if err := ledger.EndMute(ctx, c.Mute, row); err != nil {
			return noMute(err, c.Mute)
		}
		if a.JSON {
			a.printJSON(shown)
			return nil
		}
		fmt.Fprintf(a.out, "mute %d is over: %s are told again\n", c.Mute, shown.covers())
		return nil
	})
}

func noMute(err error, id int64) error {
	if errors.Is(err, syncdb.ErrNotFound) {
		return usageError(fmt.Errorf("there is no mute %d, or it is over; edfisync alerts mutes lists them", id))
	}
	return err
}

type alertsTestCmd struct{}

// Run tries the receivers.
func (c *alertsTestCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	receivers, err := receiversOf(cfg)
	if err != nil {
		return err
	}
	if len(receivers) == 0 {
		return usageError(errors.New("there are no receivers: name them under service.alerts of the configuration"))
	}
	ledger, err := openLedger(ctx, cfg)
	if err != nil {
		return err
	}
	if err := errors.Join(ledger.Audit(ctx, syncdb.AuditRow{Who: operator(), Action: "alert.test"}), ledger.Close()); err != nil {
		return err // I16
	}
	results := tryReceivers(ctx, receivers)
	failed := slices.ContainsFunc(results, func(r tried) bool { return r.Error != "" })
	if a.JSON {
		a.printJSON(results)
	} else {
		for _, r := range results {
			if r.Error != "" {
				fmt.Fprintf(a.out, "%s: not delivered: %s\n", r.Receiver, r.Error)
				continue
			}
			fmt.Fprintf(a.out, "%s: delivered\n", r.Receiver)
		}
	}
	if failed {
		return quietly(exitFailed)
	}
	return nil
}
