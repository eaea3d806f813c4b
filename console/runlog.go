package console

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

type runLogLedger interface {
	RunLog(ctx context.Context, run, after int64, limit int) ([]syncdb.LogLine, error)
}

// logLineJSON is a line of a run's log.
type logLineJSON struct {
	Line   int64           `json:"line" doc:"1, 2, 3, …"`
	At     time.Time       `json:"at"`
	Level  string          `json:"level" enum:"info,warning,error"`
	Text   string          `json:"text"`
	Detail json.RawMessage `json:"detail,omitempty" doc:"Strings and numbers by name: resource, verb, calls, took."`
}

func logLineOf(l syncdb.LogLine) logLineJSON {
	out := logLineJSON{Line: l.Line, At: l.At, Level: "info", Text: l.Text}
	switch {
	case l.Level >= slog.LevelError:
		out.Level = "error"
	case l.Level >= slog.LevelWarn:
		out.Level = "warning"
	}
	var detail map[string]any
	if json.Unmarshal(l.Detail, &detail) == nil && len(detail) > 0 {
		for name, value := range detail {
			if text, ok := value.(string); ok {
				detail[name] = withoutPaths(text)
			}
		}
		out.Detail = encode(detail)
	}
	return out
}

type runLogInput struct {
	IDPath
	Paging
}

// listRunLog lists what a run did and met, the first first.
func (s *Console) listRunLog(ctx context.Context, in *runLogInput) (*list[logLineJSON], error) {
	if _, _, err := s.run(ctx, in.ID); err != nil {
		return nil, err
	}
	after, err := in.before()
	if err != nil {
		return nil, err
	}
	lines, err := s.c.Ledger.RunLog(ctx, in.ID, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return newList(lines, in.Limit, func(l syncdb.LogLine) int64 { return l.Line }, logLineOf), nil
}

// logLinesShown is how many lines of its log the page of a run shows at once.
const logLinesShown = 200

// Mark is the level of warnings and errors in words, "" of other lines: colour alone says nothing to some.
func (l logLineJSON) Mark() string {
	if l.Level == "info" {
		return ""
	}
	return l.Level
}

// Resource is what the line is about, "" when it is about no resource.
func (l logLineJSON) Resource() string {
	var d struct {
		Resource string `json:"resource"`
	}
	_ = json.Unmarshal(l.Detail, &d) // none is no resource
	return d.Resource
}

// Details are the rest of what the line says.
func (l logLineJSON) Details() (out []detail) {
	for _, d := range detailsOf(l.Detail) {
		if d.Name != "resource" {
			d.Name = strings.ReplaceAll(d.Name, "_", " ")
			out = append(out, d)
		}
	}
	return out
}

// runLogRoutes registers what shows the log of a run.
func (s *Console) runLogRoutes(reads httpd.Rule) {
	register(s, reads, get("/runs/{id}/log", "listRunLog", "runs", "List what a run did and met, line by line"), s.listRunLog)
}

// sendLog sends the lines of a run's log after one, and returns the last it sent.
func (s *Console) sendLog(ctx context.Context, st *stream, run, after int64) (int64, error) {
	for {
		lines, err := s.c.Ledger.RunLog(ctx, run, after, logLinesShown)
		if err != nil || len(lines) == 0 {
			return after, err
		}
		for _, l := range lines {
			if err := st.send("log", fmt.Sprintf("line-%d", l.Line), logLineOf(l)); err != nil {
				return after, err
			}
			after = l.Line
		}
	}
}

// lineSeen is the last line of the log that a client got which connects again.
func lineSeen(id string) int64 {
	text, _ := strings.CutPrefix(id, "line-")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
