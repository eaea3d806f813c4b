package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
)

// config is the configuration as it is now, with the connections of the ledger, or as it was when it could be read last.
func (s *service) config(ctx context.Context) *config.Config {
	s.mu.Lock()
	file, last := s.file, s.cfg
	s.mu.Unlock()
	var wrong error
	defer func() { s.noteWrong(wrong) }()
	if !s.fixed {
		read, err := s.load()
		wrong = err
		if err != nil {
			s.log.ErrorContext(ctx, "the configuration has become wrong; the last good one stays in force", slog.Any("error", err))
		} else {
			read.Service = file.Service // what the process was started with
			file = read
		}
	}
	if err := s.checkKey(ctx, file); err != nil {
		s.log.ErrorContext(ctx, "the ledger's master key cannot be checked, or the configuration does not have it; nothing new is taken over", slog.Any("error", err))
		return last
	}
	cfg, err := s.merge(ctx, file)
	if err != nil {
		s.log.ErrorContext(ctx, "the configuration cannot be used; the last good one stays in force", slog.Any("error", err))
		var exit *exitError
		if errors.As(err, &exit) { // not a ledger that does not answer
			wrong = err
		}
		return last
	}
	return cfg
}

// noteWrong keeps why the configuration cannot be used as it is, for those who ask.
func (s *service) noteWrong(wrong error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = wrong
}

// misconfigured says why the configuration cannot be used as it is now; nil when it is in force.
func (s *service) misconfigured() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

// merge puts a configuration file in force, with the connections of the ledger as they are now.
func (s *service) merge(ctx context.Context, file *config.Config) (*config.Config, error) {
	definitions, err := s.ledger.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	cfg, lost, err := s.withDefined(file, definitions)
	if err != nil {
		return nil, usageError(err)
	}
	for i := range cfg.Connections {
		s.ledger.RaiseGrace(time.Duration(cfg.Connections[i].Target.Timeout))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lost {
		if !slices.ContainsFunc(s.lost, func(known unusable) bool {
			return known.conn.FullName() == l.conn.FullName() && known.err.Error() == l.err.Error()
		}) {
			s.log.ErrorContext(ctx, "a connection of the ledger cannot be used here", slog.String("connection", l.conn.FullName()), slog.Any("error", l.err))
		}
	}
	s.file, s.cfg, s.lost = file, cfg, lost
	return cfg, nil
}

// unusable lists the connections of the ledger that could not be used when they were read last.
func (s *service) unusable() []unusable {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// lacksSecrets reports whether an error of unsealed says that a connection refers to sealed secrets that nobody has set. A run would only say so.
func lacksSecrets(err error) bool {
	var exit *exitError
	return errors.As(err, &exit)
}

// checkKey sees to it that the ledger's master key is the one in use: after edfisync secrets rekey another one is, which the configuration names.
func (s *service) checkKey(ctx context.Context, file *config.Config) error {
	err := s.ledger.CheckMaster(ctx)
	if !errors.Is(err, keys.ErrWrongMaster) {
		return err
	}
	master, err := masterKey(file)
	if err != nil {
		return err
	}
	next, err := nextKey(file)
	if err != nil {
		return err
	}
	if err := s.ledger.UseMaster(ctx, master, next); err != nil {
		return err
	}
	s.log.WarnContext(ctx, "the ledger was brought under another master key, which is in use now")
	return nil
}

// keyWatch is how often a process looks whether the ledger is still under its key.
const keyWatch = 5 * time.Second

// watchKey looks after the master key until ctx ends. The returned function waits for that.
func (s *service) watchKey(ctx context.Context) (wait func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg gosync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(keyWatch)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := s.ledger.CheckMaster(ctx); errors.Is(err, keys.ErrWrongMaster) {
					s.config(ctx)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
