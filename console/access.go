package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// auditJSON is a row of the audit trail as the API shows it.
type auditJSON struct {
	ID         int64           `json:"id"`
	At         time.Time       `json:"at"`
	Who        string          `json:"who"`
	Action     string          `json:"action"`
	Connection string          `json:"connection,omitempty" doc:"tenant/name; with nothing after the slash: about the tenant."`
	Object     string          `json:"object,omitempty"`
	Detail     json.RawMessage `json:"detail,omitempty"`
	Hash       string          `json:"hash"`
}

type auditInput struct {
	Paging
	Action     string `query:"action" maxLength:"100" doc:"Only this act; with a dot at its end all that begin so: key."`
	Who        string `query:"who" maxLength:"200" doc:"Only of whoever has this in their name."`
	Connection string `query:"connection" maxLength:"200" doc:"Only about this connection."`
}

// listAudit lists the audit trail: all of it, or what is about the principal's tenant (I13).
func (s *Console) listAudit(ctx context.Context, in *auditInput) (*list[auditJSON], error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	f := syncdb.AuditFilter{Tenant: httpd.PrincipalOf(ctx).Tenant, Action: in.Action, Who: in.Who, Before: before, Limit: in.Limit + 1}
	if in.Connection != "" {
		tenant, name := split(in.Connection)
		f.Connection = tenant + "/" + name
	}
	rows, err := s.c.Ledger.FindAudit(ctx, f)
	if err != nil {
		return nil, err
	}
	return newList(rows, in.Limit, func(r syncdb.AuditRow) int64 { return r.ID }, func(r syncdb.AuditRow) auditJSON {
		return auditJSON{r.ID, r.At, r.Who, r.Action, r.Connection, r.Object, r.Detail, hex.EncodeToString(r.Hash)}
	}), nil
}

// verdictJSON is what a verification of the audit trail found.
type verdictJSON struct {
	OK       bool   `json:"ok"`
	Rows     int64  `json:"rows"`
	FirstBad int64  `json:"firstBad,omitempty" doc:"The first row that is not as it was written, or is missing."`
	Removed  int64  `json:"removed,omitempty" doc:"Rows up to this one were kept for long enough and are gone."`
	Anchor   string `json:"anchor,omitempty" doc:"Number and hash of the last row. Keep it elsewhere, to check against with edfisync audit verify --anchor."`
}

func (s *Console) verifyAudit(ctx context.Context, _ *struct{}) (*one[verdictJSON], error) {
	bad, err := s.c.Ledger.VerifyAudit(ctx)
	if err != nil {
		return nil, err
	}
	last, err := s.c.Ledger.FindAudit(ctx, syncdb.AuditFilter{Limit: 1})
	if err != nil {
		return nil, err
	}
	cut, _, err := s.c.Ledger.AuditCut(ctx)
	if err != nil {
		return nil, err
	}
	out := &one[verdictJSON]{verdictJSON{OK: bad == 0, FirstBad: bad, Removed: cut}}
	if len(last) > 0 {
		out.Body.Rows = last[0].ID - cut
		if out.Body.OK {
			out.Body.Anchor = fmt.Sprintf("%d:%x", last[0].ID, last[0].Hash)
		}
	}
	return out, nil
}

// meJSON is who makes a request.
type meJSON struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Role        string `json:"role" enum:"viewer,operator,approver,admin,auditor"`
	Tenant      string `json:"tenant,omitempty" doc:"Left out: every tenant."`
	StudentData bool   `json:"studentData"`
	Version     string `json:"version" doc:"Of the service."`
}

func (s *Console) me(ctx context.Context, _ *struct{}) (*one[meJSON], error) {
	p := httpd.PrincipalOf(ctx)
	return &one[meJSON]{meJSON{p.ID, p.Name, p.Role.String(), p.Tenant, p.StudentData, s.c.Version}}, nil
}

// keyJSON is a key as the API shows it.
type keyJSON struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Role        string    `json:"role" enum:"viewer,operator,approver,admin,auditor"`
	Tenant      string    `json:"tenant,omitempty" doc:"Left out: every tenant."`
	StudentData bool      `json:"studentData"`
	Networks    []string  `json:"networks,omitempty"`
	State       string    `json:"state" enum:"good,expired,revoked"`
	CreatedAt   time.Time `json:"createdAt"`
	CreatedBy   string    `json:"createdBy"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	RotatedAt   time.Time `json:"rotatedAt,omitzero"`
	OldUntil    time.Time `json:"oldUntil,omitzero" doc:"Until when the secret before the last rotation is good, too."`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	UsedAt      time.Time `json:"usedAt,omitzero" doc:"Last use, to the minute."`
}

func keyOf(k syncdb.APIKey) keyJSON {
	state := "good"
	switch {
	case !k.RevokedAt.IsZero():
		state = "revoked"
	case !k.ExpiresAt.IsZero() && !time.Now().Before(k.ExpiresAt):
		state = "expired"
	}
	return keyJSON{
		k.ID, k.Name, k.Role, k.Tenant, k.StudentData, k.Networks, state, k.CreatedAt, k.CreatedBy, k.ExpiresAt, k.RotatedAt, k.OldUntil, k.RevokedAt, k.UsedAt,
	}
}

// secretOutput is a key with its secret, the only time it is shown.
type secretOutput struct {
	Location string `header:"Location"`
	Body     struct {
		Info keyJSON `json:"info"`
		Key  string  `json:"key" doc:"What to send as Authorization: Bearer. It is not shown again."`
	}
}

func secretAnswer(k syncdb.APIKey, token string) *secretOutput {
	out := &secretOutput{Location: base + "/keys/" + k.ID}
	out.Body.Info, out.Body.Key = keyOf(k), token
	return out
}

func (s *Console) listKeys(ctx context.Context, in *struct{ Paging }) (*list[keyJSON], error) {
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	all, err := s.c.Ledger.APIKeys(ctx)
	if err != nil {
		return nil, err
	}
	p, shown := httpd.PrincipalOf(ctx), []keyJSON{}
	for _, k := range all {
		if p.Sees(k.Tenant) {
			shown = append(shown, keyOf(k))
		}
	}
	return window(shown, skip, in.Limit), nil
}

// KeyPath is the key in a path. It is exported so that huma fills it in.
type KeyPath struct {
	ID string `path:"id" maxLength:"40"`
}

// key finds a key that the principal of a request sees.
func (s *Console) key(ctx context.Context, id string) (syncdb.APIKey, error) {
	k, err := s.c.Ledger.APIKey(ctx, id)
	if err != nil {
		return k, missingAs(err, "key")
	}
	if !httpd.PrincipalOf(ctx).Sees(k.Tenant) {
		return k, notFound("key")
	}
	return k, nil
}

func (s *Console) showKey(ctx context.Context, in *KeyPath) (*one[keyJSON], error) {
	k, err := s.key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &one[keyJSON]{keyOf(k)}, nil
}

type newKeyInput struct {
	Body struct {
		Name        string    `json:"name" minLength:"1" maxLength:"100"`
		Role        string    `json:"role" enum:"viewer,operator,approver,admin,auditor"`
		Tenant      string    `json:"tenant,omitempty" required:"false" maxLength:"100" doc:"Left out: every tenant; for a key that is bound to one: its own."`
		StudentData bool      `json:"studentData,omitempty" required:"false" doc:"May see student data. Only who may, can let others."`
		Networks    []string  `json:"networks,omitempty" required:"false" maxItems:"50" doc:"It may be used from here only: 10.20.0.0/16, 2001:db8::/32."`
		ExpiresAt   time.Time `json:"expiresAt,omitempty" required:"false" doc:"Left out: never."`
	}
}

// createKey makes a key. Nobody makes one that may more than they may.
func (s *Console) createKey(ctx context.Context, in *newKeyInput) (*secretOutput, error) {
	p := httpd.PrincipalOf(ctx)
	spec := NewKey{
		Name: in.Body.Name, Role: in.Body.Role, Tenant: in.Body.Tenant, StudentData: in.Body.StudentData, Networks: in.Body.Networks, ExpiresAt: in.Body.ExpiresAt,
	}
	if spec.Tenant == "" {
		spec.Tenant = p.Tenant
	}
	if !p.Sees(spec.Tenant) {
		return nil, refuse(http.StatusForbidden, "forbidden", "your key is bound to another tenant")
	}
	if spec.StudentData && !p.StudentData {
		return nil, refuse(http.StatusForbidden, "forbidden", "only who may see student data can let others see it")
	}
	k, token, err := CreateKey(ctx, s.c.Ledger, spec, p.Who())
	if err != nil {
		return nil, keyProblem(err)
	}
	return secretAnswer(k, token), nil
}

func keyProblem(err error) error {
	var invalid *InvalidError
	switch {
	case errors.As(err, &invalid):
		return refuse(http.StatusUnprocessableEntity, "invalid", "%s", invalid)
	case errors.Is(err, syncdb.ErrKeyName):
		return refuse(http.StatusConflict, "key-name", "%s", syncdb.ErrKeyName)
	case errors.Is(err, syncdb.ErrKeyRevoked):
		return refuse(http.StatusConflict, "key-revoked", "%s", syncdb.ErrKeyRevoked)
	}
	return missingAs(err, "key")
}

type rotateInput struct {
	KeyPath
	Body *struct {
		Overlap string `json:"overlap,omitempty" required:"false" maxLength:"20" doc:"For so long the old secret is good too: 24h (the default), 0s to 720h."`
	} `required:"false"`
}

// rotateKey gives a key a new secret. Who gets it may use it, so it must be one they could have made.
func (s *Console) rotateKey(ctx context.Context, in *rotateInput) (*secretOutput, error) {
	k, err := s.key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	p := httpd.PrincipalOf(ctx)
	if k.StudentData && !p.StudentData {
		return nil, refuse(http.StatusForbidden, "forbidden", "this key may see student data, and yours may not")
	}
	overlap := 24 * time.Hour
	if in.Body != nil && in.Body.Overlap != "" {
		if overlap, err = time.ParseDuration(strings.TrimSpace(in.Body.Overlap)); err != nil {
			return nil, refuse(http.StatusUnprocessableEntity, "invalid", "overlap: want a time such as 24h or 30m")
		}
	}
	k, token, err := RotateKey(ctx, s.c.Ledger, in.ID, overlap, p.Who())
	if err != nil {
		return nil, keyProblem(err)
	}
	return secretAnswer(k, token), nil
}

func (s *Console) revokeKey(ctx context.Context, in *KeyPath) (*one[keyJSON], error) {
	if _, err := s.key(ctx, in.ID); err != nil {
		return nil, err
	}
	k, err := RevokeKey(ctx, s.c.Ledger, in.ID, httpd.PrincipalOf(ctx).Who())
	if err != nil {
		return nil, keyProblem(err)
	}
	return &one[keyJSON]{keyOf(k)}, nil
}
