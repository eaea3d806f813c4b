package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// witness is what the last run knew of the ledger, kept in a small file away from it. A ledger that was restored from a backup
// has a lower generation than its witness, or another mark at that generation, and one that is not the same at all has another id; either way it does
// not know what the last runs sent, and a person has to say that this is meant, for each of its connections (F54).
type witness struct {
	Ledger     string             `json:"ledger"`
	Generation int64              `json:"generation"`        // grows when a run starts, and when it ends
	Mark       string             `json:"mark,omitempty"`    // of that generation; "" = of a ledger that had none yet
	At         time.Time          `json:"at,omitzero"`       // when it was written
	Refused    map[string]refusal `json:"refused,omitempty"` // by connection: the ledger was accepted for another one, and not for it yet
}

// refusal is why a connection is not synced.
type refusal struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"` // when what the ledger lost was seen last
}

// witnesses are the places of the witness, in the order they are tried. The second is written when the first cannot be, and taken away when the
// first was: where it is, it is the one that was written last.
type witnesses struct {
	first, second string // second is "" when both are one
	withLedger    bool   // the second is where the ledger is
	log           *slog.Logger
}

// witnessesOf are the places the configuration gives the witness: beside the file, or what ledger.witness names; then work_dir.
func (a *app) witnessesOf(cfg *config.Config) witnesses {
	w := witnesses{first: cfg.Ledger.Witness, log: logger(a.err, cfg.Log)}
	if w.first == "" {
		w.first = a.Config + ".witness"
	}
	w.second = filepath.Join(cfg.WorkDir, filepath.Base(w.first))
	if absolute, err := filepath.Abs(w.first); err == nil && absolute == w.second {
		w.second = ""
	}
	if ledger := ledgerFile(cfg); ledger != "" {
		inside, err := filepath.Rel(cfg.WorkDir, ledger)
		w.withLedger = err == nil && filepath.IsLocal(inside)
	}
	return w
}

// there is the file the witness is in, "" when there is none.
func (w witnesses) there() string {
	for _, file := range []string{w.second, w.first} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file // one that cannot be looked at is not taken for absent
		}
	}
	return ""
}

// unprotected says what the second place does not notice.
func (w witnesses) unprotected() string {
	if w.withLedger {
		return "a ledger that is lost or restored together with work_dir is not noticed"
	}
	return "a ledger that is lost or restored is not noticed when work_dir is lost as well"
}

// unwitnessed is what a run and check say of a ledger that has finished runs, and no witness.
const unwitnessed = "there is no witness of the ledger's last run: whether it was restored from a backup since, nobody can tell"

// observe reads what the ledger says of itself.
func observe(ctx context.Context, ledger *syncdb.DB) (witness, error) {
	id, generation, err := ledger.Identity(ctx)
	if err != nil {
		return witness{}, err
	}
	mark, err := ledger.Mark(ctx, generation)
	return witness{Ledger: id, Generation: generation, Mark: mark, At: time.Now().UTC()}, err
}

// read returns the witness; there is false when there is none.
func (w witnesses) read() (last witness, there bool, err error) {
	file := w.there()
	if file == "" {
		return witness{}, false, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return witness{}, true, fmt.Errorf("read %s: %w", file, err)
	}
	if err := json.Unmarshal(text, &last); err != nil || last.Ledger == "" {
		return witness{}, true, fmt.Errorf("%s is damaged: nothing tells whether this is the ledger of the last run", file)
	}
	return last, true, nil
}

// errNotTheLedger: the witness is of another ledger.
var errNotTheLedger = errors.New("this is not the ledger of the last run: it does not know what was sent")

// missed returns an error when there was a ledger, which is not there any more.
func (w witnesses) missed() error {
	switch _, there, err := w.read(); {
	case err != nil:
		return err
	case there:
		return errNotTheLedger
	}
	return nil
}

// contradicts returns an error when the ledger is not the one of the witness, or an older state of it, or goes on from an older state. How many runs
// have ended on it since, for whatever reason, makes no difference.
func (last witness) contradicts(ctx context.Context, ledger *syncdb.DB, now witness) error {
	const missing = "it was restored from a backup, and misses %s"
	runs := func(n int64) string { return counted((n+1)/2, "run") } // a killed run only started
	switch {
	case last.Ledger != now.Ledger:
		return errNotTheLedger
	case last.Generation > now.Generation:
		return fmt.Errorf("the ledger is older than the last run: "+missing, runs(last.Generation-now.Generation))
	case last.Mark == "":
		return nil
	}
	switch mark, err := ledger.Mark(ctx, last.Generation); {
	case err != nil:
		return err
	case mark != "" && mark != last.Mark:
		return errors.New("the ledger has gone on from an older state than the last run knew: it was restored from a backup, and misses runs")
	}
	return nil
}

// Acts in the audit trail by which a person says that a connection goes on with a ledger that its witness contradicts.
const (
	actAcceptLedger  = "run.accept-ledger"
	actAdoptedLedger = "adopt.ledger"
)

// refusedFor returns why a connection may not go on with the ledger; nil when it may. What was accepted for it on another machine, later than the
// witness here was written, counts (I16: it is in the audit trail).
func (w witnesses) refusedFor(ctx context.Context, ledger *syncdb.DB, now witness, conn string) (why error, err error) {
	last, there, err := w.read()
	if err != nil {
		return err, nil // a damaged witness is for a person to look at
	}
	if !there {
		return nil, nil
	}
	since := last.At
	why = last.contradicts(ctx, ledger, now)
	if r, refused := last.Refused[conn]; why == nil && refused {
		why, since = errors.New(r.Why), r.Since
	}
	if why == nil || since.IsZero() {
		return why, nil
	}
	for _, act := range []string{actAcceptLedger, actAdoptedLedger} {
		rows, err := ledger.FindAudit(ctx, syncdb.AuditFilter{Connection: conn, Action: act, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 && rows[0].At.After(since) {
			return nil, nil
		}
	}
	return why, nil
}

// strangeLedgerError: the witness contradicts the ledger. It tells a person what can be done about it, the best way first.
type strangeLedgerError struct {
	place string
	err   error
}

func (e *strangeLedgerError) Error() string {
	return fmt.Sprintf(`%v
  The ledger is %s. Look first whether ledger.dsn or work_dir is wrong.
  When it was lost or restored: edfisync adopt reads what the target holds (edfisync adopt --plan only counts). Records stay ours, and the next
  run sends only what differs. This is the recommended way.
  To go on without: edfisync run --accept-ledger. It sends what the ledger does not know again, and what it meets that way is never deleted until
  it is adopted. Either is said for one connection, and the others stay refused`, e.err, e.place)
}

func (e *strangeLedgerError) Unwrap() error { return e.err }

func strangeLedger(cfg *config.Config, err error) error {
	return &strangeLedgerError{place: ledgerPlace(cfg), err: err}
}

// ledgerPlace names the ledger without its secrets.
func ledgerPlace(cfg *config.Config) string {
	if file := ledgerFile(cfg); file != "" {
		return file
	}
	return "the database that ledger.dsn names"
}

// openKnown opens a connection as open does, when its ledger is the one of the last run (F54). With accept it is opened also when it is not,
// which is noted in the audit trail (I16). A ledger that was there and is gone is not made anew before somebody has said so.
func (a *app) openKnown(ctx context.Context, cfg *config.Config, conn *config.Connection, accept bool) (*opened, error) {
	if missing(cfg) && !accept {
		if err := a.witnessesOf(cfg).missed(); err != nil {
			return nil, strangeLedger(cfg, fmt.Errorf("%s is not there, and there was a ledger before: %w", ledgerFile(cfg), err))
		}
	}
	return a.openWitnessed(ctx, cfg, conn, &opened{}, accept)
}

// openWitnessed opens a connection with what o has already, when the witness of its ledger does not contradict.
func (a *app) openWitnessed(ctx context.Context, cfg *config.Config, conn *config.Connection, o *opened, accept bool) (*opened, error) {
	o, err := a.openWith(ctx, cfg, conn, o)
	if err != nil {
		return nil, err
	}
	if err := a.known(ctx, cfg, o, a.witnessesOf(cfg), accept); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// known refuses a ledger that its witness contradicts, unless that is accepted. From then on every run on it is witnessed before it sends anything: a backup
// from before it does not know what it sent, even if it is killed.
func (a *app) known(ctx context.Context, cfg *config.Config, o *opened, w witnesses, accept bool) error {
	o.engine.Begun = func(ctx context.Context, _ syncdb.Run) { a.witnessed(ctx, cfg, o) }
	state, err := observe(ctx, o.ledger)
	if err != nil {
		return err
	}
	why, err := w.refusedFor(ctx, o.ledger, state, nameOf(o.engine.Connection))
	switch {
	case err != nil:
		return err
	case why != nil && !accept:
		return strangeLedger(cfg, why)
	case why != nil:
		return a.accepted(ctx, cfg, o, actAcceptLedger, why)
	case w.there() == "" && state.Generation > 0:
		w.log.Warn(unwitnessed, slog.String("looked at", w.first))
	}
	return nil
}

// nameOf is a connection in the audit trail, and in the witness.
func nameOf(c syncdb.Connection) string { return c.Tenant + "/" + c.Name }

// adoptedLedger notes that the ledger knows what is at the target of a connection again, so that its next run may go on with it even when it is a new
// ledger, or a restored one (F54).
func (a *app) adoptedLedger(ctx context.Context, cfg *config.Config, o *opened) error {
	state, err := observe(ctx, o.ledger)
	if err != nil {
		return err
	}
	why, err := a.witnessesOf(cfg).refusedFor(ctx, o.ledger, state, nameOf(o.engine.Connection))
	if err != nil {
		return err
	}
	if why != nil {
		return a.accepted(ctx, cfg, o, actAdoptedLedger, why)
	}
	a.witnessed(ctx, cfg, o)
	return nil
}

// accepted notes that a person goes on with a ledger that the witness contradicts, for one connection: for the others it has to be said, too.
func (a *app) accepted(ctx context.Context, cfg *config.Config, o *opened, act string, why error) error {
	if err := a.audit(ctx, o.ledger, o.engine.Connection, act, "ledger", map[string]any{"why": why.Error()}); err != nil {
		return err
	}
	return a.remember(ctx, cfg, o)
}

// witnessed keeps what a run, or what else wrote to the ledger, has left it at. It is done also when the caller was interrupted.
func (a *app) witnessed(ctx context.Context, cfg *config.Config, o *opened) {
	if err := a.remember(context.WithoutCancel(ctx), cfg, o); err != nil {
		logger(a.err, cfg.Log).Warn("what the ledger is at cannot be witnessed", slog.Any("error", err))
	}
}

// remember writes the witness for a connection that goes on with the ledger. For whom it is not accepted yet it stays so; when the witness before
// contradicts it, that is every other connection.
func (a *app) remember(ctx context.Context, cfg *config.Config, o *opened) error {
	w := a.witnessesOf(cfg)
	state, err := observe(ctx, o.ledger)
	if err != nil {
		return err
	}
	last, there, err := w.read()
	why := err
	if there && err == nil {
		why = last.contradicts(ctx, o.ledger, state)
	}
	state.Refused = maps.Clone(last.Refused)
	if why != nil {
		if state.Refused, err = a.refuseAll(ctx, cfg, o.ledger, refusal{Why: why.Error(), Since: last.At}); err != nil {
			return err
		}
	}
	delete(state.Refused, nameOf(o.engine.Connection))
	w.remember(state)
	return nil
}

// refuseAll refuses every connection there is, in the configuration or in the ledger.
func (a *app) refuseAll(ctx context.Context, cfg *config.Config, ledger *syncdb.DB, r refusal) (map[string]refusal, error) {
	known, err := ledger.Connections(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Connections {
		known = append(known, syncdb.Connection{Tenant: cfg.Connections[i].Tenant, Name: cfg.Connections[i].Name})
	}
	out := map[string]refusal{}
	for _, c := range known {
		out[nameOf(c)] = r
	}
	return out, nil
}

// remember writes the witness. A folder that cannot be written to is no reason to fail a run, and it is said at every run what is not noticed for
// want of it. The ledger has its generation durably by now, so the witness never knows of more than a ledger that lost power does.
func (w witnesses) remember(now witness) {
	text, err := json.Marshal(now)
	if err == nil {
		failpoint.Reach(failpoint.WitnessBefore, "", "")
		err = replace(witnessStorage{}, w.first, text)
		failpoint.Reach(failpoint.WitnessAfter, "", "")
	}
	if err == nil {
		if w.second != "" {
			if err := os.Remove(w.second); err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.log.Warn("take away the witness of the time when "+w.first+" could not be written", slog.Any("error", err))
			}
		}
		return
	}
	if w.second != "" {
		second := replace(witnessStorage{}, w.second, text)
		if second == nil {
			level := slog.LevelInfo // a server's ledger is not lost with the folder
			if w.withLedger {
				level = slog.LevelWarn
			}
			w.log.Log(context.Background(), level, "the witness of the ledger is in "+w.second+", since its own place cannot be written: "+w.unprotected()+
				"; ledger.witness names a better place", slog.Any("error", err))
			return
		}
		err = errors.Join(err, second)
	}
	w.log.Warn("the witness of the ledger cannot be written: a ledger that is lost, or restored from a backup, would not be noticed; "+
		"ledger.witness names a file that can be", slog.Any("error", err))
}

// witnessStorage is where the witness is kept: this machine's file system, with a point to be killed at.
type witnessStorage struct{ machineStorage }

func (s witnessStorage) Save(name string, text []byte) error {
	err := s.machineStorage.Save(name, text)
	if err == nil {
		failpoint.Reach(failpoint.WitnessWritten, "", "")
	}
	return err
}
