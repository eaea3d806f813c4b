package alerts

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
)

// Kinds of notices.
const (
	Firing    = "firing"
	Recovered = "recovered"
	Test      = "test"
)

// Notice is what a receiver gets, as JSON in a webhook and as text in a mail. It holds no student data.
type Notice struct {
	ID         string    `json:"id"` // the same in every delivery of it: who has it already can leave it out
	Kind       string    `json:"kind"`
	At         time.Time `json:"at"` // of the change, by the ledger's clock
	Tenant     string    `json:"tenant,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Condition  Condition `json:"condition,omitempty"`
	Title      string    `json:"title"`
	Detail     string    `json:"detail,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	Since      time.Time `json:"since,omitzero"` // recovered: since when it had fired
}

// newNotice tells a change.
func newNotice(c Connection, condition Condition, before, after State) Notice {
	n := Notice{ID: rand.Text(), Kind: Firing, At: after.Since, Tenant: c.Tenant, Connection: c.Name, Condition: condition, Title: condition.Title(), Detail: after.Detail}
	if after.Firing {
		n.Remedy = condition.Remedy()
		return n
	}
	n.Kind, n.Title = Recovered, "over: "+condition.Title()
	if before.Firing {
		n.Since = before.Since
	}
	return n
}

// NewTest returns a notice with which somebody tries a receiver.
func NewTest(now time.Time) Notice {
	return Notice{ID: rand.Text(), Kind: Test, At: now.UTC().Truncate(time.Millisecond), Title: "a test of edfisync's alerts", Remedy: "nothing is to be done"}
}

// Body is the notice as a webhook gets it.
func (n Notice) Body() json.RawMessage {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // texts and times always marshal
	}
	return b
}

// Subject is one line: "[edfisync] firing acme/north: the target cannot be reached".
func (n Notice) Subject() string {
	if n.Connection == "" {
		return fmt.Sprintf("[edfisync] %s: %s", n.Kind, n.Title)
	}
	return fmt.Sprintf("[edfisync] %s %s/%s: %s", n.Kind, n.Tenant, n.Connection, n.Title)
}

// Text is the notice for people.
func (n Notice) Text() string {
	text := n.Title + "\n\n"
	line := func(name, value string) {
		if value != "" {
			text += fmt.Sprintf("%-12s %s\n", name, value)
		}
	}
	line("kind", n.Kind)
	line("tenant", n.Tenant)
	line("connection", n.Connection)
	line("condition", string(n.Condition))
	line("detail", n.Detail)
	line("at", n.At.Format(time.RFC3339))
	if !n.Since.IsZero() {
		line("fired since", n.Since.Format(time.RFC3339))
	}
	line("what to do", n.Remedy)
	line("notice", n.ID)
	return text
}
