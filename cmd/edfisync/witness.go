package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// witness is what the last run knew of the ledger, kept in a small file beside the configuration. A ledger that was restored from a backup
// has a lower generation than its witness, and one that is not the same at all has another id; either way it does not know what the last
// runs sent, and a person has to say that this is meant (F54).
type witness struct {
	Ledger     string `json:"ledger"`
	Generation int64  `json:"generation"` // grows with every finished run
}

func witnessFile(configFile string) string { return configFile + ".witness" }

// observe reads what the ledger says of itself.
func observe(ctx context.Context, ledger *syncdb.DB) (witness, error) {
	id, generation, err := ledger.Identity(ctx)
	return witness{Ledger: id, Generation: generation}, err
}

// contradicts returns an error when the ledger is not the one of the last run, or is an older state of it.
func contradicts(file string, now witness) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
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
		return fmt.Errorf("the ledger is older than the last run: it was restored from a backup, and misses %s", counted(last.Generation-now.Generation, "run"))
	}
	return nil
}

// witnessed keeps what a run, or what else wrote to the ledger, has left it at. It is done also when the caller was interrupted.
func (a *app) witnessed(ctx context.Context, cfg *config.Config, o *opened) {
	if state, err := observe(context.WithoutCancel(ctx), o.ledger); err == nil {
		remember(witnessFile(a.Config), state, logger(a.err, cfg.Log))
	}
}

// remember writes the witness. A folder that cannot be written to is no reason to fail a run. The ledger has its generation durably by now, so
// the witness never knows of more than a ledger that lost power does.
func remember(file string, now witness, log *slog.Logger) {
	text, err := json.Marshal(now)
	if err == nil {
		failpoint.Reach(failpoint.WitnessBefore, "", "")
		err = replace(witnessStorage{}, file, text)
		failpoint.Reach(failpoint.WitnessAfter, "", "")
	}
	if err != nil {
		log.Info("a ledger restored from a backup would not be noticed: the witness file cannot be written", slog.Any("error", err))
	}
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
