package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// issueRowJSON is one row that is not in sync.
type issueRowJSON struct {
	Record   string `json:"record" doc:"Names the record without student data, for GET /connections/{connection}/records/{schema}/{resource}/{record}."`
	Resource string `json:"resource"`
	sync.IssueRow
	WaitsForResource string `json:"waitsForResource,omitempty" doc:"What it waits for is of this resource,"`
	WaitsForRecord   string `json:"waitsForRecord,omitempty" doc:"and is this record."`
}

type issueRowsInput struct {
	IDPath
	Paging
}

// issueRows lists the rows of an issue without student data.
func (s *Console) issueRows(ctx context.Context, in *issueRowsInput) (*list[issueRowJSON], error) {
	issue, c, err := s.issue(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.rowsOf(ctx, issue, c, in.Paging, sync.ShowRules)
}

// issueData lists them with keys, values and answers, once that is in the audit trail (I16).
func (s *Console) issueData(ctx context.Context, in *issueRowsInput) (*list[issueRowJSON], error) {
	issue, c, err := s.issue(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := rowsAfter(in.Cursor); err != nil {
		return nil, err
	}
	shown := map[string]any{"rows": in.Limit, "answer": true}
	if err := s.c.Ledger.Audit(ctx, act(ctx, "issues.show", c.Tenant, c.Name, fmt.Sprintf("issue %d", issue.ID), shown)); err != nil {
		return nil, err
	}
	return s.rowsOf(ctx, issue, c, in.Paging, sync.ShowAnswer)
}

// issue finds an issue that the principal of a request sees.
func (s *Console) issue(ctx context.Context, id int64) (syncdb.Issue, syncdb.Connection, error) {
	issue, connection, err := s.c.Ledger.FindIssue(ctx, id)
	if err != nil {
		return issue, syncdb.Connection{}, missingAs(err, "issue")
	}
	c, err := s.owner(ctx, connection, "issue")
	return issue, c, err
}

func (s *Console) rowsOf(ctx context.Context, issue syncdb.Issue, c syncdb.Connection, page Paging, shown sync.RowShown) (*list[issueRowJSON], error) {
	after, err := rowsAfter(page.Cursor)
	if err != nil {
		return nil, err
	}
	problems, err := s.c.Ledger.Problems(ctx, c.ID, syncdb.ProblemFilter{Resource: issue.Resource, IssueID: issue.ID, After: after, Limit: page.Limit + 1})
	if err != nil {
		return nil, err
	}
	out := &list[issueRowJSON]{}
	out.Body.Items = make([]issueRowJSON, 0, len(problems))
	for i := range problems {
		p := &problems[i]
		if i == page.Limit {
			last := problems[i-1].SourceHash
			out.Body.Next = base64.RawURLEncoding.EncodeToString(append([]byte("r1:"), last[:]...))
			break
		}
		row, err := sync.ReadRow(p, shown)
		if err != nil {
			return nil, fmt.Errorf("read a row of issue %d: %w", issue.ID, err)
		}
		item := issueRowJSON{Record: sync.IDOf(p).String(), Resource: p.Resource, IssueRow: row}
		if p.BlockedResource != "" && !p.BlockedKey.IsZero() {
			item.WaitsForResource, item.WaitsForRecord = p.BlockedResource, sync.RecordID{Resource: p.BlockedResource, Key: p.BlockedKey}.String()
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}

// rowsAfter is the place that a cursor of rows stands for.
func rowsAfter(cursor string) (after syncdb.Hash, err error) {
	if cursor == "" {
		return after, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(text) != 3+len(after) || string(text[:3]) != "r1:" {
		return after, refuse(http.StatusUnprocessableEntity, "invalid", "this is no cursor of a page; start again without one")
	}
	return syncdb.Hash(text[3:]), nil
}

// retryJSON says what the next run sends again.
type retryJSON struct {
	Records int `json:"records" doc:"Refused records that the next run sends again though they have not changed. All others it tries again anyway."`
}

// retryIssue lets the next run send the refused records of an issue again.
func (s *Console) retryIssue(ctx context.Context, in *IDPath) (*one[retryJSON], error) {
	issue, c, err := s.issue(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if issue.ClearedRun != 0 {
		return nil, refuse(http.StatusConflict, "issue-settled", "issue %d was settled by run %d: no record is out of sync for it", issue.ID, issue.ClearedRun)
	}
	return s.retry(ctx, c.ID, syncdb.ProblemFilter{IssueID: issue.ID}, act(ctx, "retry", c.Tenant, c.Name, fmt.Sprintf("issue %d", issue.ID), nil))
}

type retryInput struct {
	ConnectionPath
	Body *struct {
		Resource string `json:"resource,omitempty" required:"false" maxLength:"200" doc:"Only records of this resource, such as ed-fi/students."`
	} `required:"false"`
}

// retryAll does so for all refused records of a connection, or of one resource.
func (s *Console) retryAll(ctx context.Context, in *retryInput) (*one[retryJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	filter, object := syncdb.ProblemFilter{}, "all"
	if in.Body != nil && in.Body.Resource != "" {
		if err := said("resource", in.Body.Resource); err != nil {
			return nil, err
		}
		filter.Resource, object = in.Body.Resource, in.Body.Resource
	}
	return s.retry(ctx, c.ID, filter, act(ctx, "retry", c.Tenant, c.Name, object, nil))
}

func (s *Console) retry(ctx context.Context, connection int64, filter syncdb.ProblemFilter, row syncdb.AuditRow) (*one[retryJSON], error) {
	n, err := s.c.Ledger.RetryProblemsAs(ctx, connection, filter, row)
	if err != nil {
		return nil, err
	}
	return &one[retryJSON]{retryJSON{n}}, nil
}
