package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// States of issues as API and pages name them.
const (
	stateArchived = "archived"
	stateCleared  = "cleared"
)

type archiveInput struct {
	IDPath
	Body struct {
		Why string `json:"why" minLength:"1" maxLength:"500" doc:"For those who will ask. No student data, please."`
	}
}

// archiveIssue puts an issue out of sight, and that is in the audit trail with it (I16). What is synced does not change.
func (s *Console) archiveIssue(ctx context.Context, in *archiveInput) (*one[issueJSON], error) {
	issue, c, err := s.issue(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(in.Body.Why) == "" {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "say why")
	}
	if err := said("why", in.Body.Why); err != nil {
		return nil, err
	}
	put := syncdb.Archived{Who: httpd.PrincipalOf(ctx).Who(), Why: in.Body.Why}
	err = s.c.Ledger.ArchiveIssue(ctx, c.ID, issue.ID, put, act(ctx, "issue.archive", c.Tenant, c.Name, fmt.Sprintf("issue %d", issue.ID), map[string]any{"why": in.Body.Why}))
	var settled *syncdb.IssueSettledError
	if errors.As(err, &settled) {
		return nil, refuse(http.StatusConflict, "issue-settled", "%s", settled.Error())
	}
	if err != nil {
		return nil, missingAs(err, "issue")
	}
	s.rankings.forget(c.ID)
	return s.showIssue(ctx, &in.IDPath)
}

// unarchiveIssue brings it back.
func (s *Console) unarchiveIssue(ctx context.Context, in *IDPath) (*one[issueJSON], error) {
	issue, c, err := s.issue(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	was, err := s.c.Ledger.UnarchiveIssue(ctx, c.ID, issue.ID, act(ctx, "issue.unarchive", c.Tenant, c.Name, fmt.Sprintf("issue %d", issue.ID), nil))
	if err != nil {
		return nil, missingAs(err, "issue")
	}
	if !was {
		return nil, refuse(http.StatusConflict, "not-archived", "issue %d is not archived", issue.ID)
	}
	s.rankings.forget(c.ID)
	return s.showIssue(ctx, in)
}

func (s *Console) archiveForm(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	in := archiveInput{IDPath: IDPath{id}}
	if in.Body.Why, err = whyOf(r); err != nil {
		return err
	}
	if _, err := s.archiveIssue(r.Context(), &in); err != nil {
		return err
	}
	return done(w, r, "/issues/%d", id)
}

func (s *Console) unarchiveForm(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	if _, err := s.unarchiveIssue(r.Context(), &IDPath{id}); err != nil {
		return err
	}
	return done(w, r, "/issues/%d", id)
}
