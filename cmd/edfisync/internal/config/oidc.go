package config

// OIDC is an identity provider at which people log in to the console (OpenID Connect).
type OIDC struct {
	Issuer       string            `yaml:"issuer" validate:"omitempty,url"` // "" = people log in by key only
	URL          string            `yaml:"url" validate:"required_with=Issuer,omitempty,url"`
	ClientID     string            `yaml:"client_id" validate:"required_with=Issuer"`
	ClientSecret Secret            `yaml:"client_secret"`
	Scopes       []string          `yaml:"scopes"` // besides openid
	RoleClaim    string            `yaml:"role_claim"`
	Roles        map[string]string `yaml:"roles" validate:"required_with=Issuer,dive,oneof=viewer operator approver admin auditor"` // value of the claim → role
	StudentData  []string          `yaml:"student_data"`                                                                            // values of the claim
	TenantClaim  string            `yaml:"tenant_claim"`                                                                            // "" = every tenant
	Algorithms   []string          `yaml:"algorithms" validate:"min=1,dive,oneof=RS256 RS384 RS512 ES256 ES384 ES512 PS256 PS384 PS512 EdDSA"`
}

func (o *OIDC) setDefaults() {
	o.Scopes, o.RoleClaim, o.Algorithms = []string{"profile", "email"}, "groups", []string{"RS256"}
}
