package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// witness is what the last run knew of the ledger, kept in a small file away from it. A ledger that was restored from a backup
// has a lower generation than its witness, and one that is not the same at all has another id; either way it does not know what the last
// runs sent, and a person has to say that this is meant (F54).
type witness struct {
	Ledger     string `json:"ledger"`
	Generation int64  `json:"generation"` // grows when a run starts, and when it ends
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
	return witness{Ledger: id, Generation: generation}, err
}

// contradicts returns an error when the ledger is not the one of the last run, or is an older state of it.
func (w witnesses) contradicts(now witness) error {
	file := w.there()
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var last witness
	switch err := json.Unmarshal(text, &last); {
	case err != nil || last.Ledger == "":
		return fmt.Errorf("%s is damaged: nothing tells whether this is the ledger of the last run", file)
	case last.Ledger != now.Ledger:
		return errors.New("this is not the ledger of the last run: it does not know what was sent")
	case last.Generation > now.Generation:
		return fmt.Errorf("the ledger is older than the last run: it was restored from a backup, and misses %s", counted((last.Generation-now.Generation+1)/2, "run")) // a killed run only started
	}
	return nil
}

// strangeLedger tells a person whose ledger its witness contradicts what can be done about it, the best way first.
func strangeLedger(cfg *config.Config, err error) error {
	return fmt.Errorf(`%w
  The ledger is %s. Look first whether ledger.dsn or work_dir is wrong.
  When it was lost or restored: edfisync adopt reads what the target holds (edfisync adopt --plan only counts). Records stay ours, and the next
  run sends only what differs. This is the recommended way.
  To go on without: edfisync run --accept-ledger. It sends what the ledger does not know again, and what it meets that way is never deleted until
  it is adopted`, err, ledgerPlace(cfg))
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
	w := a.witnessesOf(cfg)
	if missing(cfg) && !accept {
		if err := w.contradicts(witness{}); err != nil {
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
	strange := w.contradicts(state)
	switch {
	case strange != nil && !accept:
		return strangeLedger(cfg, strange)
	case strange != nil:
		return a.audit(ctx, o.ledger, o.engine.Connection, "run.accept-ledger", "ledger", map[string]any{"why": strange.Error()})
	case w.there() == "" && state.Generation > 0:
		w.log.Warn(unwitnessed, slog.String("looked at", w.first))
	}
	return nil
}

// witnessed keeps what a run, or what else wrote to the ledger, has left it at. It is done also when the caller was interrupted.
func (a *app) witnessed(ctx context.Context, cfg *config.Config, o *opened) {
	if state, err := observe(context.WithoutCancel(ctx), o.ledger); err == nil {
		a.witnessesOf(cfg).remember(state)
	}
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
