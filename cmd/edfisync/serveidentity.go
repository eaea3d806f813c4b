package main

import (
	"fmt"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
)

// identityOf is the identity provider of the configuration, nil when it names none.
func identityOf(cfg config.Service) (*console.Identity, error) {
	o := cfg.OIDC
	if o.Issuer == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	guard, err := cfg.Egress.Guard()
	if err != nil {
		return nil, usageError(err)
	}
	i := &console.Identity{
		Issuer: o.Issuer, URL: o.URL, ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), Scopes: o.Scopes, RoleClaim: o.RoleClaim, Roles: o.Roles,
		StudentData: o.StudentData, TenantClaim: o.TenantClaim, Algorithms: o.Algorithms, Egress: *guard,
	}
	if err := i.Check(); err != nil {
		return nil, usageError(fmt.Errorf("service.oidc.%w", err))
	}
	return i, nil
}
