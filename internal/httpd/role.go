package httpd

import (
	"context"
	"fmt"
	"net/netip"
)

// Role is what a principal may do. Each of viewer, operator, approver and admin may do what those before it may. An auditor reads what a viewer
// reads, and the audit trail; nothing else.
type Role uint8

// The roles. The zero Role may do nothing.
const (
	Viewer   Role = 1 // reads what holds no student data
	Operator Role = 2 // starts, pauses and cancels runs
	Approver Role = 3 // decides about what safeguards hold
	Admin    Role = 4 // keys and settings
	Auditor  Role = 5 // reads, the audit trail too
)

// Roles returns all roles, the weakest first.
func Roles() []Role { return []Role{Viewer, Operator, Approver, Admin, Auditor} }

func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	case Approver:
		return "approver"
	case Admin:
		return "admin"
	case Auditor:
		return "auditor"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole reads what String writes.
func ParseRole(text string) (Role, error) {
	for _, r := range Roles() {
		if r.String() == text {
			return r, nil
		}
	}
	return 0, fmt.Errorf("%q is not a role; want viewer, operator, approver, admin or auditor", text)
}

// Rule says who may call a route, and how. A route cannot be registered without one: the zero Rule is refused.
type Rule struct {
	Public      bool // anybody, without a key; then Least is zero
	Least       Role // the weakest role that may: Viewer, Operator, Approver or Admin
	Auditor     bool // an auditor may too, whatever Least is; where Least is Viewer an auditor always may
	StudentData bool // only with the right to see student data besides
	EveryTenant bool // only principals that are bound to no tenant: what it shows or changes belongs to all of them
	Anywhere    bool // from addresses outside the allow-list too: health
	Unlimited   bool // exempt from the rate limit: a trigger that coalesces by itself. Failing log-ins are limited all the same
	Stream      bool // the answer may take for ever; the handler sets the deadlines of its writes
	Page        bool // it answers people: RouterConfig.RefusePage says why they may not
	MaxBody     int64
}

// Check returns an error when the rule says nothing, or contradicts itself.
func (r Rule) Check() error {
	switch {
	case r.Public && (r.Least != 0 || r.Auditor || r.StudentData || r.EveryTenant):
		return fmt.Errorf("a public route asks for no role and no right")
	case !r.Public && (r.Least < Viewer || r.Least > Admin):
		return fmt.Errorf("a rule is public or names the weakest role: viewer, operator, approver or admin")
	}
	return nil
}

// Allows reports whether the rule lets a principal in.
func (r Rule) Allows(p Principal) bool {
	switch {
	case r.Public:
		return true
	case r.StudentData && !p.StudentData, r.EveryTenant && p.Tenant != "":
		return false
	case p.Role == Auditor:
		return r.Auditor || r.Least == Viewer
	}
	return p.Role >= r.Least && p.Role <= Admin
}

// Principal is who makes a request.
type Principal struct {
	ID          string // stable: of the key, or of the person at the identity provider
	Name        string // for people
	Role        Role
	Tenant      string // the one it is bound to; "" = every tenant
	StudentData bool   // may see student data; each look is audited
}

// Who is how the audit trail names the principal.
func (p Principal) Who() string {
	if p.Name == "" {
		return p.ID
	}
	return p.Name + " (" + p.ID + ")"
}

// Sees reports whether objects of a tenant exist for the principal (I13). What it does not see is answered as not found.
func (p Principal) Sees(tenant string) bool { return p.Tenant == "" || p.Tenant == tenant }

// contextKey is the type of this package's values in a request's context.
type contextKey int

const requestKey contextKey = 0

// requestInfo is what the router found out about a request.
type requestInfo struct {
	id        string
	client    netip.Addr
	secure    bool
	principal Principal
}

func info(ctx context.Context) *requestInfo {
	if i, ok := ctx.Value(requestKey).(*requestInfo); ok {
		return i
	}
	return &requestInfo{}
}

// PrincipalOf returns who makes the request of a context; the zero Principal on public routes and outside of requests.
func PrincipalOf(ctx context.Context) Principal { return info(ctx).principal }

// RequestID returns the id of the request, which the answer and the log have too; "" outside of requests.
func RequestID(ctx context.Context) string { return info(ctx).id }

// ClientOf returns the address a request comes from, behind trusted proxies; the zero Addr outside of requests.
func ClientOf(ctx context.Context) netip.Addr { return info(ctx).client }

// Secure reports whether the client speaks TLS, to us or to a trusted proxy.
func Secure(ctx context.Context) bool { return info(ctx).secure }
