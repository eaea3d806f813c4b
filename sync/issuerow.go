package sync

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// IssueRow is one row that is not in sync, as it is shown to people.
type IssueRow struct {
	SourceKey string          `json:"sourceKey,omitempty"` // data
	Outcome   string          `json:"outcome"`
	BlockedBy json.RawMessage `json:"blockedBy,omitempty"` // data
	rowDetail
}

// rowDetail is what the engine keeps of a row (syncdb.Problem.Detail): of an invalid one the rules it breaks, of a call the answer.
type rowDetail struct {
	Query         string           `json:"query,omitempty"`
	NaturalKey    json.RawMessage  `json:"naturalKey,omitempty"` // data
	Message       string           `json:"message,omitempty"`
	Problems      []schema.Problem `json:"problems,omitempty"` // their values are data
	Call          string           `json:"call,omitempty"`
	Status        int              `json:"status,omitempty"`
	Type          string           `json:"type,omitempty"`
	CorrelationID string           `json:"correlationId,omitempty"`
	Hint          string           `json:"hint,omitempty"`
	Error         string           `json:"error,omitempty"`  // data: it may quote the target
	Answer        string           `json:"answer,omitempty"` // data
}

// RowShown says how much of a row is shown.
type RowShown uint8

// From the least to the most. What is more than ShowRules is student data: who shows it has it noted in the audit trail first (I16), and it goes
// nowhere else (I14).
const (
	ShowRules  RowShown = 1 // codes, paths, states
	ShowValues RowShown = 2 // keys and values, too
	ShowAnswer RowShown = 3 // what the target answered, too, word for word
)

// ReadRow reads the row of a problem.
func ReadRow(p *syncdb.Problem, shown RowShown) (IssueRow, error) {
	row := IssueRow{SourceKey: p.SourceKey, Outcome: p.Outcome, BlockedBy: p.BlockedBy}
	if len(p.Detail) > 0 {
		if err := json.Unmarshal(p.Detail, &row.rowDetail); err != nil {
			return IssueRow{}, fmt.Errorf("decode its details: %w", err)
		}
	}
	if string(row.NaturalKey) == "null" {
		row.NaturalKey = nil
	}
	if shown < ShowAnswer {
		row.Answer = ""
	}
	if shown < ShowValues {
		row.SourceKey, row.BlockedBy, row.NaturalKey, row.Error = "", nil, nil, ""
		for i := range row.Problems {
			row.Problems[i].Value = ""
		}
	}
	return row, nil
}

// WaitsFor names what the row waits for: its entity and key, or whatever else the engine noted; "" when it waits for nothing, or values are not shown.
func (r *IssueRow) WaitsFor() string {
	text := r.BlockedBy
	type missing struct {
		Entity     string          `json:"entity"`
		NaturalKey json.RawMessage `json:"naturalKey"`
	}
	var by struct {
		missing
		OneOf []missing `json:"oneOf"`
	}
	if err := json.Unmarshal(text, &by); err != nil || by.Entity == "" {
		return string(text)
	}
	name := strings.TrimSpace(by.Entity + " " + string(by.NaturalKey))
	for i, one := range by.OneOf {
		if i == 0 {
			name = "one of " + one.Entity + " " + string(one.NaturalKey)
			continue
		}
		name += ", " + string(one.NaturalKey)
	}
	return name
}
