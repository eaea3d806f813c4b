package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/mappings"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// opened is one connection with all that a run needs.
type opened struct {
	engine  *sync.Engine
	ledger  *syncdb.DB
	clients *clients // that outlive it; nil = it has its own
	closers []func()
}

// close closes what was opened, the last first.
func (o *opened) close() {
	for _, closer := range slices.Backward(o.closers) {
		closer()
	}
}

// open opens ledger, source and target of a connection and wires the engine. The caller calls close.
func (a *app) open(ctx context.Context, cfg *config.Config, conn *config.Connection) (*opened, error) {
	return a.openWith(ctx, cfg, conn, &opened{})
}

// openWith is open with what o has already: a ledger, and clients, that stay open.
func (a *app) openWith(ctx context.Context, cfg *config.Config, conn *config.Connection, o *opened) (*opened, error) {
	if err := o.open(ctx, cfg, conn, logger(a.err, cfg.Log).With(slog.String("connection", conn.FullName()))); err != nil {
		o.close()
		return nil, hinted(a.located(cfg, conn, err))
	}
	return o, nil
}

func (o *opened) open(ctx context.Context, cfg *config.Config, conn *config.Connection, log *slog.Logger) error {
	pack, err := loadPack(conn)
	if err != nil {
		return usageError(err)
	}
	if err := sourceThere(conn); err != nil {
		return err
	}
	if o.ledger == nil {
		if o.ledger, err = openLedger(ctx, cfg); err != nil {
			return err
		}
		o.closers = append(o.closers, func() { logClose(log, "ledger", o.ledger.Close()) })
	}
	target, model, err := o.connect(ctx, conn, log)
	if err != nil {
		return err
	}
	order, err := loadOrder(ctx, target, model, log)
	if err != nil {
		return err
	}
	db, err := source.Open(ctx, sourceConfig(conn, pack))
	if err != nil {
		return err
	}
	o.closers = append(o.closers, func() { logClose(log, "source", db.Close()) })
	queries, err := bind(ctx, db, pack, model, conn)
	if err != nil {
		return err
	}
	id, ring, err := o.ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return err
	}
	if err := o.ledger.SetLimits(ctx, id.ID, limitsOf(conn)); err != nil {
		return err
	}
	guards, err := safeguardsOf(conn, pack)
	if err != nil {
		return usageError(err)
	}
	version, err := configVersion(conn)
	if err != nil {
		return usageError(err)
	}
	o.engine = &sync.Engine{
		Config: version,
		Model:  model, Dependencies: order, Source: sync.FromSource(db, queries), Ledger: o.ledger, Keys: ring, Connection: id, Logger: log,
		Target: func(check func() error) sync.Target { return target.Guarded(check) }, Reader: target,
		Options: sync.Options{
			WorkDir: cfg.WorkDir, CallTimeout: time.Duration(conn.Target.Timeout), LeaseTTL: leaseTTL(conn), SettleDelay: time.Duration(conn.SettleDelay),
			History: time.Duration(conn.History), Stalled: stalledAfter(conn), QueryTimeout: time.Duration(conn.Source.StatementTimeout),
			Workers: conn.Target.Concurrency.Max, Rules: rulesOf(conn),
			Safeguards: guards, Schools: schoolsOf(conn),
		},
	}
	return nil
}

// schoolsOf is the part of the district that a connection syncs.
func schoolsOf(conn *config.Connection) sync.Schools {
	var s sync.Schools
	for _, id := range conn.Schools {
		s.Only = append(s.Only, int64(id))
	}
	for _, id := range conn.ExceptSchools {
		s.Except = append(s.Except, int64(id))
	}
	return s
}

// connect opens the target and finds the model of its data.
func (o *opened) connect(ctx context.Context, conn *config.Connection, log *slog.Logger) (*edfi.Client, *schema.Model, error) {
	var target *edfi.Client
	var err error
	if o.clients != nil {
		target, err = o.clients.client(ctx, conn)
	} else if target, err = edfi.Connect(ctx, targetConfig(conn, log)); err == nil {
		o.closers = append(o.closers, target.Close)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := target.Login(ctx); err != nil { // wrong credentials are found before the source is read
		return nil, nil, err
	}
	model, err := chooseModel(ctx, target, conn.Target.Standard)
	return target, model, err
}

// openTarget opens ledger and target of a connection, to compare them: an engine without a source. The caller calls close.
func (a *app) openTarget(ctx context.Context, cfg *config.Config, conn *config.Connection) (*opened, error) {
	o := &opened{}
	err := func() (err error) {
		log := logger(a.err, cfg.Log).With(slog.String("connection", conn.FullName()))
		if o.ledger, err = existingLedger(ctx, cfg); err != nil {
			return err
		}
		o.closers = append(o.closers, func() { logClose(log, "ledger", o.ledger.Close()) })
		target, model, err := o.connect(ctx, conn, log)
		if err != nil {
			return err
		}
		id, ring, err := o.ledger.Connection(ctx, conn.Tenant, conn.Name)
		if err != nil {
			return err
		}
		o.engine = &sync.Engine{
			Model: model, Ledger: o.ledger, Keys: ring, Connection: id, Logger: log, Reader: target,
			Target:  func(check func() error) sync.Target { return target.Guarded(check) },
			Options: sync.Options{WorkDir: cfg.WorkDir, Workers: conn.Target.Concurrency.Max, Rules: rulesOf(conn)},
		}
		return nil
	}()
	if err != nil {
		o.close()
		return nil, hinted(err)
	}
	return o, nil
}

// leaseTTL is how long a run may write without renewing its right to: long enough that one call always fits in (I7).
func leaseTTL(conn *config.Connection) time.Duration {
	return max(time.Minute, 2*time.Duration(conn.Target.Timeout))
}

// stalledAfter is how long a run may go without progress: not less than a call may take with all its repeats, each of which a target may ask to wait for.
func stalledAfter(conn *config.Connection) time.Duration {
	if conn.Stalled == 0 {
		return 0
	}
	const longestPause = 2 * time.Minute // edfi.Config.MaxRetryAfter
	return max(time.Duration(conn.Stalled), time.Duration(conn.Target.Retries+1)*(time.Duration(conn.Target.Timeout)+longestPause))
}

func rulesOf(conn *config.Connection) schema.Rules {
	return schema.Rules{Version: schema.CanonicalVersion, FoldKeys: conn.FoldKeys}
}

func logClose(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("close", slog.String("what", what), slog.Any("error", err))
	}
}

// hinted puts the hint of an Ed-Fi error into its text.
func hinted(err error) error {
	var target *edfi.Error
	if errors.As(err, &target) && target.Hint != "" && !strings.Contains(err.Error(), target.Hint) {
		return fmt.Errorf("target: %w\n  %s", err, target.Hint)
	}
	return err
}

// loadPack reads the connection's mapping pack and leaves out the resources the connection does not sync.
func loadPack(conn *config.Connection) (*source.Pack, error) {
	files, err := packFiles(conn.Pack)
	if err != nil {
		return nil, err
	}
	pack, err := source.LoadPack(files, conn.Source.Driver)
	if err != nil {
		return nil, fmt.Errorf("mapping pack %s:\n%w", conn.Pack, err)
	}
	if err := narrow(pack, conn); err != nil {
		return nil, err
	}
	return pack, nil
}

// narrow leaves out the resources of a pack that are off.
func narrow(pack *source.Pack, conn *config.Connection) error {
	switch {
	case len(conn.Resources) == 0:
		return nil
	case conn.Off():
		pack.Off, pack.Queries = mapped(pack), nil
		return nil
	}
	all := mapped(pack)
	wanted := map[string]bool{}
	for _, name := range conn.Resources {
		wanted[strings.ToLower(fullResource(name))] = false
	}
	pack.Queries = slices.DeleteFunc(pack.Queries, func(q *source.Query) bool {
		_, in := wanted[strings.ToLower(q.Resource)]
		wanted[strings.ToLower(q.Resource)] = true
		return !in
	})
	var missing []string
	for _, name := range conn.Resources {
		if !wanted[strings.ToLower(fullResource(name))] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("connection %s: the pack has no query for: %s", conn.FullName(), strings.Join(missing, ", "))
	}
	on := mapped(pack)
	pack.Off = slices.DeleteFunc(all, func(name string) bool { return slices.Contains(on, name) })
	return nil
}

// mapped lists the resources that a pack has queries for.
func mapped(pack *source.Pack) []string {
	out := make([]string, len(pack.Queries))
	for i, q := range pack.Queries {
		out[i] = q.Resource
	}
	return slices.Compact(out) // queries are sorted by resource
}

// fullResource is a resource's name with its schema, which may be left out when it is ed-fi.
func fullResource(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "ed-fi/" + name
}

// resourcesOf finds the resources that names stand for among those known. A name that stands for none is an error: what it was meant to do
// would silently not happen.
func resourcesOf(known, names []string) ([]string, error) {
	found := make([]string, 0, len(names))
	for _, name := range names {
		full := fullResource(name)
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, full) })
		if i < 0 {
			hint := "edfisync plan lists the connection's resources"
			if near := config.Nearest(full, known); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, fmt.Errorf("the connection syncs no resource %q (%s)", name, hint)
		}
		found = append(found, known[i])
	}
	return found, nil
}

func packFiles(pack string) (fs.FS, error) {
	switch name, embedded := strings.CutPrefix(pack, config.EmbeddedPack); {
	case embedded && name == "limitless":
		return mappings.Limitless(), nil
	case embedded && name == "limitless-4.0":
		return mappings.LimitlessDS40(), nil
	case embedded:
		return nil, fmt.Errorf("there is no mapping pack %s in the program; there are %[2]slimitless and %[2]slimitless-4.0", pack, config.EmbeddedPack)
	}
	if info, err := os.Stat(pack); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("mapping pack %s is not a folder; a pack of the program is written as %sNAME", pack, config.EmbeddedPack)
	}
	return os.DirFS(pack), nil
}

// sourceConfig is what the source package needs to know. The school year is a parameter of most packs, and the connection knows it.
func sourceConfig(conn *config.Connection, pack *source.Pack) source.Config {
	params := map[string]string{}
	for _, param := range pack.Params {
		if param.Name == "school_year" {
			params[param.Name] = strconv.Itoa(conn.SchoolYear)
		}
	}
	for name, value := range conn.Source.Params {
		params[name] = value
	}
	return source.Config{
		Driver: conn.Source.Driver, DSN: conn.Source.DSN.Reveal(), Readers: conn.Source.Readers,
		StatementTimeout: time.Duration(conn.Source.StatementTimeout), ApplicationName: "edfisync " + conn.FullName(), Params: params,
		Watermark: pack.Watermark, Dial: sourceDial(conn.SourceGuard),
	}
}

// sourceDial connects to the servers that a guard allows; nil when there is none.
func sourceDial(guard *httpd.Egress) source.Dial {
	if guard == nil {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := guard.Dial(ctx, network, address)
		var forbidden *httpd.ForbiddenError
		if errors.As(err, &forbidden) {
			return nil, &source.Error{Op: "connect", Err: forbidden, Hint: "service.egress.allow allows it; sources that stand in the configuration file may be anywhere"}
		}
		return conn, err
	}
}

// sourceThere refuses a SQLite file that does not exist by its name, before anything is asked for. The path is no secret, unlike other
// connection strings.
func sourceThere(conn *config.Connection) error {
	dsn := conn.Source.DSN.Reveal()
	if conn.Source.Driver != source.SQLite || strings.HasPrefix(dsn, "file:") {
		return nil
	}
	if _, err := os.Stat(dsn); errors.Is(err, fs.ErrNotExist) {
		return usageError(missingSource{fmt.Errorf("source: there is no file %s (correct source.dsn of connection %s; a relative path starts at the configuration file's folder)",
			dsn, conn.FullName())})
	}
	return nil
}

// missingSource says that the file of a SQLite source is not there.
type missingSource struct{ error }

// failureOf is sync.FailureOf, of what is found out before a run as well.
func failureOf(err error) string {
	var missing missingSource
	if errors.As(err, &missing) {
		return sync.FailureSource
	}
	var strange *strangeLedgerError
	if errors.As(err, &strange) {
		return sync.FailureLedger
	}
	return sync.FailureOf(err)
}

// descriptorsOf are the connection's own descriptor maps, which go over the pack's.
func descriptorsOf(conn *config.Connection, pack *source.Pack) (schema.DescriptorMaps, error) {
	extra := schema.DescriptorMaps{}
	for descriptor, codes := range conn.Descriptors {
		extra[descriptor] = map[string]string{}
		for code, value := range codes {
			uri, err := source.DescriptorURI(pack.Namespace, descriptor, value)
			if err != nil {
				return nil, usageError(fmt.Errorf("connection %s: descriptors.%s.%s: %w", conn.FullName(), descriptor, code, err))
			}
			extra[descriptor][code] = uri
		}
	}
	return extra, nil
}

// bind matches the pack's queries with the model, with the connection's own descriptor maps on top. Problems of the pack are usage errors.
func bind(ctx context.Context, db *source.DB, pack *source.Pack, model *schema.Model, conn *config.Connection) ([]*source.Bound, error) {
	extra, err := descriptorsOf(conn, pack)
	if err != nil {
		return nil, err
	}
	queries, err := db.Bind(ctx, nil, pack, model, rulesOf(conn), extra)
	if len(source.Problems(err)) > 0 {
		return nil, usageError(fmt.Errorf("mapping pack %s:\n%w", conn.Pack, err))
	}
	return queries, err
}

// targetConfig is what the client needs to know.
func targetConfig(conn *config.Connection, log *slog.Logger) edfi.Config {
	t := conn.Target
	retries := t.Retries
	if retries == 0 {
		retries = -1 // the client's word for none
	}
	var dial func(ctx context.Context, network, address string) (net.Conn, error)
	if conn.Guard != nil {
		dial = conn.Guard.Transport().DialContext
	}
	return edfi.Config{
		DialContext: dial,
		BaseURL:     t.URL, ClientID: t.ClientID, ClientSecret: t.ClientSecret.Reveal(), SchoolYear: conn.SchoolYear, Tenant: t.Tenant, Context: t.Context,
		Timeout: time.Duration(t.Timeout), MinConcurrency: t.Concurrency.Min, MaxConcurrency: t.Concurrency.Max, MaxRetries: retries,
		UserAgent: "edfisync/" + buildInfo().Version, Logger: log,
	}
}

// chooseModel finds the model of the target's data: a bundled catalog, or the document the target describes itself with.
func chooseModel(ctx context.Context, target *edfi.Client, standard string) (*schema.Model, error) {
	if standard == config.StandardAuto {
		standard = config.StandardLive
		for _, version := range schema.BundledVersions() {
			if announced := target.Info().Standard; announced == version || strings.HasPrefix(announced, version+".") {
				standard = version
			}
		}
	}
	if standard != config.StandardLive {
		model, err := schema.Bundled(standard)
		if err != nil {
			return nil, usageError(fmt.Errorf("target.standard: %w", err))
		}
		return model, nil
	}
	resources, descriptors, err := target.OpenAPI(ctx)
	if err != nil {
		return nil, err
	}
	model, err := schema.ReadOpenAPI(resources, descriptors)
	if err != nil {
		return nil, fmt.Errorf("read the target's OpenAPI documents: %w", err)
	}
	return model, nil
}

// loadOrder asks the target in which order it wants its resources, and computes it as the target would when it does not tell.
func loadOrder(ctx context.Context, target *edfi.Client, model *schema.Model, log *slog.Logger) ([]schema.Dependency, error) {
	order, err := target.Dependencies(ctx)
	if err == nil {
		return order, nil
	}
	if !notOffered(err) {
		return nil, err
	}
	log.Info("the target does not tell its load order; it is computed from the model")
	return schema.Dependencies(model)
}

// notOffered tells whether the target lacks a feature that a run can do without.
func notOffered(err error) bool {
	var target *edfi.Error
	return errors.As(err, &target) && (target.Code == "no-dependencies" || target.Code == "no-token-info")
}
