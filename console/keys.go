package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// KeyLedger is what keys need of the ledger. *syncdb.DB is one.
type KeyLedger interface {
	APIKey(ctx context.Context, id string) (syncdb.APIKey, error)
	CreateKey(ctx context.Context, k syncdb.APIKey, act syncdb.AuditRow) (syncdb.APIKey, error)
	RotateKey(ctx context.Context, id string, hash [32]byte, overlap time.Duration, act syncdb.AuditRow) (syncdb.APIKey, error)
	RevokeKey(ctx context.Context, id string, act syncdb.AuditRow) (syncdb.APIKey, error)
	UseKey(ctx context.Context, id string) error
	Session(ctx context.Context, hash [32]byte) (syncdb.Session, error)
}

// NewKey says what a key shall be.
type NewKey struct {
	Name        string
	Role        string    // viewer, operator, approver, admin, auditor
	Tenant      string    // the one it is bound to; "" = every tenant
	StudentData bool      // may see student data
	Networks    []string  // it may be used from, such as 10.0.0.0/8; none = from everywhere
	ExpiresAt   time.Time // zero = never
}

// InvalidError says what is wrong with what somebody asked for.
type InvalidError struct {
	Field string // "role"
	Why   string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Why }

// Check returns an *InvalidError when there can be no such key.
func (k NewKey) Check(now time.Time) error {
	if _, err := httpd.ParseRole(k.Role); err != nil {
		return &InvalidError{"role", err.Error()}
	}
	if _, err := httpd.ParseNetworks(k.Networks); err != nil {
		return &InvalidError{"networks", err.Error()}
	}
	switch {
	case strings.TrimSpace(k.Name) == "":
		return &InvalidError{"name", "give the key a name that tells who uses it"}
	case len(k.Name) > 100:
		return &InvalidError{"name", "at most 100 characters"}
	case strings.ContainsFunc(k.Name, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return &InvalidError{"name", "letters, digits, blanks and punctuation only"}
	case k.Tenant != "" && !slug(k.Tenant):
		return &InvalidError{"tenant", "small letters, digits and dashes only"}
	case !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now):
		return &InvalidError{"expiresAt", "that is over already"}
	}
	return nil
}

// slug is what the configuration takes as the name of a tenant or connection.
func slug(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return s != "" && strings.Trim(s, "-_") == s
}

// CreateKey makes a key and returns it as its owner sends it: this is the only time the secret is there. It returns an *InvalidError for what cannot be,
// and syncdb.ErrKeyName. The act is audited in the same transaction (I16).
func CreateKey(ctx context.Context, ledger KeyLedger, k NewKey, who string) (made syncdb.APIKey, token string, err error) {
	if err := k.Check(time.Now()); err != nil {
		return syncdb.APIKey{}, "", err
	}
	secret, hash := httpd.NewSecret()
	made = syncdb.APIKey{
		ID: httpd.NewKeyID(), Name: strings.TrimSpace(k.Name), Role: k.Role, Tenant: k.Tenant, StudentData: k.StudentData, Networks: k.Networks, ExpiresAt: k.ExpiresAt,
		CreatedBy: who, Hash: hash,
	}
	made, err = ledger.CreateKey(ctx, made, keyAct("key.create", who, made, nil))
	if err != nil {
		return syncdb.APIKey{}, "", err
	}
	return made, httpd.FormatKey(made.ID, secret), nil
}

// MaxOverlap is the longest time for which the secret before a rotation opens the key.
const MaxOverlap = 30 * 24 * time.Hour

// RotateKey gives a key a new secret, and returns the key as its owner sends it from now on; the old one is good until the overlap is over.
func RotateKey(ctx context.Context, ledger KeyLedger, id string, overlap time.Duration, who string) (rotated syncdb.APIKey, token string, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return syncdb.APIKey{}, "", &InvalidError{"overlap", "want a time from 0 to 30 days"}
	}
	k, err := ledger.APIKey(ctx, id)
	if err != nil {
		return syncdb.APIKey{}, "", err
	}
	secret, hash := httpd.NewSecret()
	rotated, err = ledger.RotateKey(ctx, id, hash, overlap, keyAct("key.rotate", who, k, map[string]any{"overlap": overlap.String()}))
	if err != nil {
		return syncdb.APIKey{}, "", err
	}
	return rotated, httpd.FormatKey(id, secret), nil
}

// RevokeKey ends a key for good, and the sessions that were opened with it.
func RevokeKey(ctx context.Context, ledger KeyLedger, id, who string) (syncdb.APIKey, error) {
	k, err := ledger.APIKey(ctx, id)
	if err != nil {
		return syncdb.APIKey{}, err
	}
	return ledger.RevokeKey(ctx, id, keyAct("key.revoke", who, k, nil))
}

// keyAct is the audit row of an act on a key.
func keyAct(action, who string, k syncdb.APIKey, detail map[string]any) syncdb.AuditRow {
	all := map[string]any{"name": k.Name, "role": k.Role}
	if k.StudentData {
		all["studentData"] = true
	}
	if len(k.Networks) > 0 {
		all["networks"] = k.Networks
	}
	if !k.ExpiresAt.IsZero() {
		all["expiresAt"] = k.ExpiresAt.UTC().Format(time.RFC3339)
	}
	for name, v := range detail {
		all[name] = v
	}
	text, _ := json.Marshal(all) // strings and booleans always marshal
	return syncdb.AuditRow{Who: who, Action: action, Connection: ofTenant(k.Tenant), Object: "key " + k.ID, Detail: text}
}

// ofTenant is how an audit row is about a tenant, not one connection of it.
func ofTenant(tenant string) string {
	if tenant == "" {
		return ""
	}
	return tenant + "/"
}

// Keys shows a router the ledger's keys.
func Keys(ledger KeyLedger) httpd.Keys { return keyStore{ledger} }

// keyStore shows the router the ledger's keys and sessions.
type keyStore struct{ ledger KeyLedger }

var (
	_ httpd.Keys     = keyStore{}
	_ httpd.Sessions = keyStore{}
)

// Key implements httpd.Keys.
func (s keyStore) Key(ctx context.Context, id string) (httpd.Credential, error) {
	k, err := s.ledger.APIKey(ctx, id)
	if errors.Is(err, syncdb.ErrNotFound) {
		return httpd.Credential{}, httpd.ErrUnknown
	}
	if err != nil {
		return httpd.Credential{}, err
	}
	role, err := httpd.ParseRole(k.Role)
	if err != nil {
		return httpd.Credential{}, fmt.Errorf("key %s: %w", id, err)
	}
	networks, err := httpd.ParseNetworks(k.Networks)
	if err != nil {
		return httpd.Credential{}, fmt.Errorf("key %s: %w", id, err)
	}
	c := httpd.Credential{
		Principal: httpd.Principal{ID: k.ID, Name: k.Name, Role: role, Tenant: k.Tenant, StudentData: k.StudentData},
		Secrets:   []httpd.Secret{{Hash: k.Hash}}, Expires: k.ExpiresAt, Revoked: !k.RevokedAt.IsZero(), Networks: networks,
	}
	if !k.OldUntil.IsZero() {
		c.Secrets = append(c.Secrets, httpd.Secret{Hash: k.OldHash, Until: k.OldUntil})
	}
	return c, nil
}

// KeyUsed implements httpd.Keys.
func (s keyStore) KeyUsed(ctx context.Context, id string) error { return s.ledger.UseKey(ctx, id) }

// Session implements httpd.Sessions.
func (s keyStore) Session(ctx context.Context, hash httpd.SecretHash) (httpd.Credential, error) {
	got, err := s.ledger.Session(ctx, hash)
	if errors.Is(err, syncdb.ErrNotFound) {
		return httpd.Credential{}, httpd.ErrUnknown
	}
	if err != nil {
		return httpd.Credential{}, err
	}
	if got.KeyID != "" { // what the key may, and where, the session may
		c, err := s.Key(ctx, got.KeyID)
		c.Secrets, c.Expires = []httpd.Secret{{Hash: hash}}, got.ExpiresAt
		return c, err
	}
	role, err := httpd.ParseRole(got.Role)
	if err != nil {
		return httpd.Credential{}, fmt.Errorf("session of %s: %w", got.Subject, err)
	}
	return httpd.Credential{
		Principal: httpd.Principal{ID: got.Subject, Name: got.Name, Role: role, Tenant: got.Tenant, StudentData: got.StudentData},
		Secrets:   []httpd.Secret{{Hash: hash}}, Expires: got.ExpiresAt,
	}, nil
}
