package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// Definitions changes the connections that are kept in the ledger. What is wrong with one is an *InvalidDefinition. Each act is audited in the transaction
// that does it (I16). Safe for concurrent use.
type Definitions interface {
	// Versions are those of a connection that is or was defined in the ledger, the newest first; none when it never was.
	Versions(ctx context.Context, tenant, name string) ([]syncdb.Definition, error)
	// Put makes a new version, from the one that was looked at, 0 when there is none; syncdb.ErrVersion says that there is another by now. The audit row is
	// completed with what changes. With dry it only says what would.
	Put(ctx context.Context, tenant, name string, from int64, text json.RawMessage, dry bool, act syncdb.AuditRow) (DefinitionChange, error)
	// Clone copies one under another name, without its secrets, and of another school year when that is not 0.
	Clone(ctx context.Context, tenant, from, to string, year int, act syncdb.AuditRow) (DefinitionChange, error)
	// Remove removes one, or, with RecordsWithdraw, has what it sent be offered for removal. A *RecordsLeft says that it owns records at the target and
	// records, one of the constants Records…, is ""; a *syncdb.RunningError that it runs.
	Remove(ctx context.Context, tenant, name string, from int64, records string, act syncdb.AuditRow) (RemovedDefinition, error)
	// Test tries what a run of a connection needs, of the ledger or of the configuration, and sends nothing.
	Test(ctx context.Context, tenant, name string) ([]Finding, error)
}

// Secrets changes the sealed secrets of the ledger. Nothing returns their values (I15).
type Secrets interface {
	Secrets(ctx context.Context, tenant string) ([]syncdb.Secret, error)
	SetSecret(ctx context.Context, tenant, name string, value []byte, act syncdb.AuditRow) (syncdb.Secret, error)
	// RemoveSecret returns a *syncdb.SecretUsedError when connections refer to it.
	RemoveSecret(ctx context.Context, tenant, name string, act syncdb.AuditRow) error
}

// DefinitionChange is what a change of a definition did.
type DefinitionChange struct {
	Version  int64           `json:"version"`
	Action   string          `json:"action" enum:"create,change,unchanged"`
	Changes  []SettingChange `json:"changes,omitempty"`
	Secrets  []string        `json:"secrets,omitempty" doc:"Sealed secrets that got a new value, from what was written in clear."`
	Warnings []string        `json:"warnings,omitempty"`
	Unset    []string        `json:"unset,omitempty" doc:"Sealed secrets it refers to that nobody has set. It does not run before."`
}

// SettingChange is what a change makes of one key.
type SettingChange struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// What becomes of the records a removed connection owns at the target.
const (
	RecordsRemember = "remember" // they stay, and the ledger knows them
	RecordsKeep     = "keep"     // they stay, and the ledger forgets them
	RecordsWithdraw = "withdraw" // a run holds their removal for approval; the connection is removed afterwards
)

// RecordsLeft says that a connection owns records at the target and nobody said what is to become of them.
type RecordsLeft struct{ Text string }

func (e *RecordsLeft) Error() string { return e.Text }

// RemovedDefinition is what is left of a connection.
type RemovedDefinition struct {
	Removed     bool             `json:"removed"`
	Records     int64            `json:"records" doc:"That the connection owned at the target when it was asked for: it made or adopted them."`
	Met         int64            `json:"met,omitempty" doc:"Records that were at the target before the connection. They always stay."`
	Resources   map[string]int64 `json:"resources,omitempty" doc:"The records it owned, by resource."`
	Forgotten   bool             `json:"forgotten,omitempty" doc:"The ledger does not know the records any more. Otherwise a connection of that name goes on from there."`
	Withdrawing bool             `json:"withdrawing,omitempty" doc:"All resources are off. Approve the hold of rule out-of-scope that the run makes, let it run again, then remove the connection."`
	Version     int64            `json:"version,omitempty" doc:"Of the definition whose resources are off."`
	Run         int64            `json:"run,omitempty" doc:"The run that holds the removal of the records for approval."`
	Secrets     []string         `json:"secrets,omitempty" doc:"Sealed secrets that no connection of the ledger refers to any more."`
}

// Finding is one thing that a test found.
type Finding struct {
	Part    string `json:"part" doc:"pack, resources, safeguards, target, credentials, read, claims, source, rights, snapshot, model, mapping, secrets or definition."`
	OK      bool   `json:"ok"`
	Warning bool   `json:"warning,omitempty" doc:"Worth knowing; a run works."`
	Detail  string `json:"detail"`
	Remedy  string `json:"remedy,omitempty" doc:"What to do."`
}

// InvalidDefinition says everything that is wrong with a definition, by the path of the key.
type InvalidDefinition struct {
	Problems map[string][]string
}

func (*InvalidDefinition) Error() string { return "the connection cannot be kept as it is" }

// definitionOutput is a definition, which can be given back with If-Match.
type definitionOutput struct {
	ETag string `header:"ETag"`
	Body json.RawMessage
}

// changedOutput is what a change did.
type changedOutput struct {
	Status   int
	Location string `header:"Location"`
	ETag     string `header:"ETag"`
	Body     DefinitionChange
}

// versionJSON is a version of a definition.
type versionJSON struct {
	Version    int64           `json:"version"`
	At         time.Time       `json:"at"`
	Who        string          `json:"who"`
	Removed    bool            `json:"removed,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
}

func etag(version int64) string {
	if version == 0 {
		return ""
	}
	return `"` + strconv.FormatInt(version, 10) + `"`
}

// newest is the newest version of a connection; its Text is nil when it was removed, its Version 0 when it never was there.
func (s *Console) newest(ctx context.Context, tenant, name string) (syncdb.Definition, error) {
	versions, err := s.c.Definitions.Versions(ctx, tenant, name)
	if err != nil || len(versions) == 0 {
		return syncdb.Definition{}, err
	}
	return versions[0], nil
}

// inLedger is the newest definition of a connection that the principal sees.
func (s *Console) inLedger(ctx context.Context, text string) (syncdb.Definition, error) {
	tenant, name := split(text)
	if !httpd.PrincipalOf(ctx).Sees(tenant) {
		return syncdb.Definition{}, notFound("connection")
	}
	def, err := s.newest(ctx, tenant, name)
	if err != nil || def.Text != nil {
		return def, err
	}
	c, err := s.connection(ctx, text)
	if err != nil {
		return def, err
	}
	if c.Version == 0 {
		return def, inFile()
	}
	return def, notFound("connection")
}

func inFile() error {
	return refuse(http.StatusConflict, "in-file", "the connection is defined in the configuration file; change it there, or move it: edfisync connections import")
}

func (s *Console) showDefinition(ctx context.Context, in *ConnectionPath) (*definitionOutput, error) {
	def, err := s.inLedger(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	return &definitionOutput{etag(def.Version), def.Text}, nil
}

func (s *Console) listVersions(ctx context.Context, in *struct {
	ConnectionPath
	Paging
},
) (*list[versionJSON], error) {
	tenant, name := split(in.Connection)
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	if !httpd.PrincipalOf(ctx).Sees(tenant) {
		return nil, notFound("connection")
	}
	versions, err := s.c.Definitions.Versions(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 { // of the configuration file, or nowhere
		if _, err := s.connection(ctx, in.Connection); err != nil {
			return nil, err
		}
	}
	all := make([]versionJSON, len(versions))
	for i, v := range versions {
		all[i] = versionJSON{v.Version, v.At, v.Who, v.Text == nil, v.Text}
	}
	return window(all, skip, in.Limit), nil
}

type putInput struct {
	ConnectionPath
	IfMatch string `header:"If-Match" maxLength:"100" doc:"ETag of the version that is changed. Required for a connection that is there, left out for a new one."`
	DryRun  bool   `query:"dryRun" doc:"Only say what would change."`
	RawBody []byte `contentType:"application/json"`
}

// putConnection makes or changes a connection of the ledger.
func (s *Console) putConnection(ctx context.Context, in *putInput) (*changedOutput, error) {
	tenant, name := split(in.Connection)
	if !httpd.PrincipalOf(ctx).Sees(tenant) || !slug(tenant) || !slug(name) {
		return nil, notFound("connection")
	}
	from, err := s.from(ctx, in.Connection, in.IfMatch, true)
	if err != nil {
		return nil, err
	}
	return s.put(ctx, tenant, name, from, in.RawBody, in.DryRun)
}

// from is the version that a change is made to: the one there is, when the request names it.
func (s *Console) from(ctx context.Context, text, ifMatch string, required bool) (int64, error) {
	tenant, name := split(text)
	def, err := s.newest(ctx, tenant, name)
	if err != nil {
		return 0, err
	}
	switch {
	case def.Text == nil:
		if c, err := s.connection(ctx, text); err == nil && c.Version == 0 {
			return 0, inFile()
		}
		if ifMatch != "" {
			return 0, changedMeanwhile()
		}
		return 0, nil
	case ifMatch == "" && required:
		return 0, refuse(http.StatusPreconditionRequired, "if-match", "say with If-Match which version is changed: its ETag is in the answer of GET …/definition")
	case ifMatch != "" && ifMatch != etag(def.Version):
		return 0, changedMeanwhile()
	}
	return def.Version, nil
}

func changedMeanwhile() error {
	return refuse(http.StatusPreconditionFailed, "changed", "the connection is not, or no longer, of this version; look again")
}

func (s *Console) put(ctx context.Context, tenant, name string, from int64, text json.RawMessage, dry bool) (*changedOutput, error) {
	row := act(ctx, "connection.change", tenant, name, "", nil)
	if from == 0 {
		row.Action = "connection.create"
	}
	change, err := s.c.Definitions.Put(ctx, tenant, name, from, text, dry, row)
	if err != nil {
		return nil, refusedDefinition(err)
	}
	out := &changedOutput{Status: http.StatusOK, ETag: etag(change.Version), Body: change}
	if dry {
		out.ETag = etag(from)
	} else if from == 0 {
		out.Status, out.Location = http.StatusCreated, base+"/connections/"+nameOf(tenant, name)
	}
	return out, nil
}

// refusedDefinition is the problem an error of Definitions is answered with.
func refusedDefinition(err error) error {
	var invalid *InvalidDefinition
	var running *syncdb.RunningError
	switch {
	case errors.As(err, &invalid):
		return &problem{http.StatusUnprocessableEntity, "invalid", invalid.Error(), invalid.Problems}
	case errors.Is(err, syncdb.ErrVersion):
		return changedMeanwhile()
	case errors.As(err, &running):
		return refuse(http.StatusConflict, "running", "%s", running.Error())
	case errors.Is(err, syncdb.ErrNotFound):
		return notFound("connection")
	}
	return err
}

type createInput struct {
	DryRun  bool   `query:"dryRun" doc:"Only say what would change."`
	RawBody []byte `contentType:"application/json"`
}

// createConnection makes a connection that is not there yet.
func (s *Console) createConnection(ctx context.Context, in *createInput) (*changedOutput, error) {
	var named struct {
		Name, Tenant string
	}
	if err := json.Unmarshal(in.RawBody, &named); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "the body is no connection: want a JSON object as below connections in the configuration")
	}
	if named.Tenant == "" {
		named.Tenant = defaultTenant
	}
	if !httpd.PrincipalOf(ctx).Sees(named.Tenant) {
		return nil, refuse(http.StatusForbidden, "forbidden", "this key makes connections of tenant %s only", httpd.PrincipalOf(ctx).Tenant)
	}
	if slug(named.Name) && slug(named.Tenant) { // else the definition is refused, with all that is wrong with it
		if err := s.free(ctx, named.Tenant, named.Name); err != nil {
			return nil, err
		}
	}
	return s.put(ctx, named.Tenant, named.Name, 0, in.RawBody, in.DryRun)
}

// free refuses a name that a connection has already.
func (s *Console) free(ctx context.Context, tenant, name string) error {
	from, err := s.from(ctx, nameOf(tenant, name), "", false)
	if err == nil && from != 0 {
		err = refuse(http.StatusConflict, "connection-name", "there is a connection of this name already")
	}
	return err
}

type removeInput struct {
	ConnectionPath
	IfMatch string `header:"If-Match" maxLength:"100" doc:"ETag of the version that was looked at; left out: whatever it is."`
	Records string `query:"records" enum:"remember,keep,withdraw" doc:"What becomes of the records it owns at the target; required when there are any. remember: they stay, and a connection of that name goes on from there. keep: they stay, and the ledger forgets them. withdraw: the connection is not removed yet; all its resources are switched off, and a run holds the removal of the records for approval."`
	Confirm string `query:"confirm" maxLength:"401" doc:"With records=keep: the name of the connection once more."`
}

func (s *Console) removeConnection(ctx context.Context, in *removeInput) (*one[RemovedDefinition], error) {
	def, err := s.inLedger(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if in.IfMatch != "" && in.IfMatch != etag(def.Version) {
		return nil, changedMeanwhile()
	}
	action := "connection.remove"
	switch {
	case in.Records == RecordsWithdraw:
		action = "connection.withdraw"
	case in.Records == RecordsKeep && in.Confirm != in.Connection:
		return nil, refuse(http.StatusUnprocessableEntity, "confirm", "what the ledger forgets nobody brings back: give the name of the connection once more, as confirm")
	}
	left, err := s.c.Definitions.Remove(ctx, def.Tenant, def.Name, def.Version, in.Records, act(ctx, action, def.Tenant, def.Name, "", nil))
	var owns *RecordsLeft
	if errors.As(err, &owns) {
		return nil, refuse(http.StatusConflict, "records-left", "%s: records=withdraw, keep or remember", owns.Text)
	}
	if err != nil {
		return nil, refusedDefinition(err)
	}
	return &one[RemovedDefinition]{left}, nil
}

type cloneInput struct {
	ConnectionPath
	Body struct {
		Name       string `json:"name" minLength:"1" maxLength:"200" doc:"Of the copy, in the same tenant."`
		SchoolYear int    `json:"schoolYear,omitempty" minimum:"1900" maximum:"2200" doc:"Of the copy; left out: the same."`
	}
}

func (s *Console) cloneConnection(ctx context.Context, in *cloneInput) (*changedOutput, error) {
	def, err := s.inLedger(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if !slug(in.Body.Name) {
		return nil, &problem{http.StatusUnprocessableEntity, "invalid", "the copy cannot have this name", map[string][]string{"name": {"want lower-case letters, digits, - and _"}}}
	}
	if err := s.free(ctx, def.Tenant, in.Body.Name); err != nil {
		return nil, err
	}
	row := act(ctx, "connection.clone", def.Tenant, in.Body.Name, "", map[string]any{"from": def.Name})
	change, err := s.c.Definitions.Clone(ctx, def.Tenant, def.Name, in.Body.Name, in.Body.SchoolYear, row)
	if err != nil {
		return nil, refusedDefinition(err)
	}
	return &changedOutput{
		Status: http.StatusCreated, Location: base + "/connections/" + nameOf(def.Tenant, in.Body.Name), ETag: etag(change.Version), Body: change,
	}, nil
}

// testJSON is the result of a test.
type testJSON struct {
	OK       bool      `json:"ok" doc:"Nothing failed."`
	Findings []Finding `json:"findings" nullable:"false"`
}

func (s *Console) testConnection(ctx context.Context, in *ConnectionPath) (*one[testJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if err := s.c.Ledger.Audit(ctx, act(ctx, "connection.test", c.Tenant, c.Name, "", nil)); err != nil {
		return nil, err
	}
	findings, err := s.c.Definitions.Test(ctx, c.Tenant, c.Name)
	if err != nil {
		return nil, refusedDefinition(err)
	}
	out := &one[testJSON]{testJSON{OK: true, Findings: append([]Finding{}, findings...)}}
	for _, f := range findings {
		out.Body.OK = out.Body.OK && f.OK
	}
	return out, nil
}

// secretJSON is what may be known of a sealed secret.
type secretJSON struct {
	Name    string    `json:"name" doc:"Its name in paths: the name, or tenant~name for another tenant than default. Connections refer to it as ${sealed:name}, without the tenant."`
	Tenant  string    `json:"tenant"`
	Version int64     `json:"version" doc:"One more each time it is set."`
	SetAt   time.Time `json:"setAt"`
	SetBy   string    `json:"setBy"`
}

func secretOf(s syncdb.Secret) secretJSON {
	return secretJSON{nameOf(s.Tenant, s.Name), s.Tenant, s.Version, s.SetAt, s.SetBy}
}

func (s *Console) listSecrets(ctx context.Context, in *struct{ Paging }) (*list[secretJSON], error) {
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	secrets, err := s.c.Secrets.Secrets(ctx, httpd.PrincipalOf(ctx).Tenant)
	if err != nil {
		return nil, err
	}
	all := make([]secretJSON, len(secrets))
	for i := range secrets {
		all[i] = secretOf(secrets[i])
	}
	return window(all, skip, in.Limit), nil
}

// SecretPath is the secret in a path. It is exported so that huma fills it in.
type SecretPath struct {
	Secret string `path:"secret" maxLength:"401" doc:"Name, or tenant~name for another tenant than default."`
}

type setSecretInput struct {
	SecretPath
	Body struct {
		Value string `json:"value" minLength:"1" maxLength:"65536" doc:"It is sealed, and nothing shows it again."`
	}
}

func (s *Console) setSecret(ctx context.Context, in *setSecretInput) (*one[secretJSON], error) {
	tenant, name := split(in.Secret)
	if !httpd.PrincipalOf(ctx).Sees(tenant) {
		return nil, notFound("secret")
	}
	if !slug(tenant) || !secretName(name) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "the name of a sealed secret has lower-case letters, digits, ., - and _")
	}
	if strings.ContainsRune(in.Body.Value, 0) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "the secret holds a NUL character")
	}
	set, err := s.c.Secrets.SetSecret(ctx, tenant, name, []byte(in.Body.Value), act(ctx, "secret.set", tenant, "", "secret "+name, nil))
	if err != nil {
		return nil, err
	}
	return &one[secretJSON]{secretOf(set)}, nil
}

// secretName is what the configuration takes as the name of a sealed secret.
func secretName(s string) bool {
	return len(s) <= 200 && slug(strings.ReplaceAll(s, ".", "x")) && !strings.HasPrefix(s, ".") && !strings.HasSuffix(s, ".")
}

func (s *Console) removeSecret(ctx context.Context, in *SecretPath) (*struct{}, error) {
	tenant, name := split(in.Secret)
	if !httpd.PrincipalOf(ctx).Sees(tenant) {
		return nil, notFound("secret")
	}
	err := s.c.Secrets.RemoveSecret(ctx, tenant, name, act(ctx, "secret.remove", tenant, "", "secret "+name, nil))
	var used *syncdb.SecretUsedError
	switch {
	case errors.Is(err, syncdb.ErrNotFound):
		return nil, notFound("secret")
	case errors.As(err, &used):
		return nil, refuse(http.StatusConflict, "secret-used", "%s", used.Error())
	}
	return nil, err
}

// definitionRoutes registers what is about connections of the ledger and their secrets.
func (s *Console) definitionRoutes(reads, steers, admins httpd.Rule) {
	op := func(method, path, id, tag, summary string, status int) huma.Operation {
		return huma.Operation{Method: method, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary, DefaultStatus: status}
	}
	put := op(http.MethodPut, "/connections/{connection}", "putConnection", "connections", "Make or change a connection of the ledger", http.StatusOK)
	create := op(http.MethodPost, "/connections", "createConnection", "connections", "Make a connection of the ledger", http.StatusCreated)
	for _, o := range []*huma.Operation{&put, &create} {
		o.SkipValidateBody = true // Definitions does it, and names every key
		o.RequestBody = &huma.RequestBody{
			Required: true, Description: "A connection as it stands below connections in the configuration (docs/configuration.md), as JSON.",
			Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: "object", AdditionalProperties: true}}},
		}
	}
	register(s, admins, create, s.createConnection)
	register(s, admins, put, s.putConnection)
	register(s, admins, op(http.MethodDelete, "/connections/{connection}", "removeConnection", "connections", "Remove a connection of the ledger, and say what becomes of what it sent", http.StatusOK), s.removeConnection)
	register(s, reads, op(http.MethodGet, "/connections/{connection}/definition", "showDefinition", "connections", "Show how a connection of the ledger is defined", http.StatusOK), s.showDefinition)
	register(s, reads, op(http.MethodGet, "/connections/{connection}/versions", "listVersions", "connections", "List the versions of a connection of the ledger, the newest first", http.StatusOK), s.listVersions)
	register(s, admins, op(http.MethodPost, "/connections/{connection}/clone", "cloneConnection", "connections", "Copy a connection of the ledger, without its secrets", http.StatusCreated), s.cloneConnection)
	register(s, steers, op(http.MethodPost, "/connections/{connection}/test", "testConnection", "connections", "Try source, mapping pack and target; send nothing", http.StatusOK), s.testConnection)
	register(s, admins, op(http.MethodGet, "/secrets", "listSecrets", "secrets", "List sealed secrets, without their values", http.StatusOK), s.listSecrets)
	register(s, admins, op(http.MethodPut, "/secrets/{secret}", "setSecret", "secrets", "Seal a secret; the next run uses it", http.StatusOK), s.setSecret)
	register(s, admins, op(http.MethodDelete, "/secrets/{secret}", "removeSecret", "secrets", "Remove a sealed secret that no connection refers to", http.StatusNoContent), s.removeSecret)
}
