package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is what alerts need of the ledger. *syncdb.DB is one.
type Ledger interface {
	Looking
	Outbox
	Checking
}

// Looking is where alerts are, and what they are computed from.
type Looking interface {
	Alerts(ctx context.Context) ([]syncdb.Alert, error)
	AlertFacts(ctx context.Context) (facts map[int64]syncdb.AlertFacts, now time.Time, err error)
	Mutes(ctx context.Context) ([]syncdb.AlertMute, error)
	// ChangeAlert reports false when another process has changed the alert since it was read.
	ChangeAlert(ctx context.Context, a syncdb.Alert, notice *syncdb.AlertNotice) (changed bool, err error)
}

// Outbox is what is to be delivered.
type Outbox interface {
	ClaimDelivery(ctx context.Context, receiver string, lasts time.Duration) (d syncdb.AlertDelivery, found bool, err error)
	EndDelivery(ctx context.Context, d syncdb.AlertDelivery, end syncdb.DeliveryEnd) error
	PurgeNotices(ctx context.Context, age time.Duration) (int64, error)
}

// Checking is the reading through of the audit trail, of which processes take turns.
type Checking interface {
	ClaimAuditCheck(ctx context.Context, every time.Duration) (bool, error)
	VerifyAudit(ctx context.Context) (firstBad int64, err error)
	SaveAuditCheck(ctx context.Context, firstBad int64) error
	AuditCheck(ctx context.Context) (firstBad int64, at time.Time, err error)
}

var _ Ledger = (*syncdb.DB)(nil)

// Connection is one whose alerts are kept.
type Connection struct {
	ID           int64
	Tenant, Name string
	Limits       Limits
}

// Receiver is where notices go.
type Receiver interface {
	// Name is unique among receivers, and the same in every process.
	Name() string
	// Wants reports whether notices of a tenant are for it; "" is the ledger as a whole.
	Wants(tenant string) bool
	// Send delivers a notice, which it may have delivered before. An error that no repeat mends is a *backoff.PermanentError. It must end with ctx. Errors
	// hold no secrets.
	Send(ctx context.Context, n Notice) error
}

// Config of a Service. Ledger and Connections are required.
type Config struct {
	Ledger      Ledger
	Connections func(ctx context.Context) ([]Connection, error)
	Receivers   []Receiver
	Damping     Damping
	Every       time.Duration // how often the facts are looked at; 0 means 30 s
	AuditEvery  time.Duration // how often the audit trail is read through by one of the processes; 0 means 1 h, negative never
	SendTime    time.Duration // longest time of one attempt to deliver; 0 means 20 s
	FirstWait   time.Duration // before the first repeat; 0 means 5 s
	GiveUp      time.Duration // how long a notice is tried to be delivered; 0 means 24 h
	Logger      *slog.Logger
	// Misconfigured reports whether the configuration of this process is wrong now. nil: it never is.
	Misconfigured func() bool
	// Delivered is told what came of an attempt: sent, failed (it is tried again) or given-up. nil: nobody is.
	Delivered func(receiver, outcome string)
}

// kept is for how long notices are kept.
const kept = 30 * 24 * time.Hour

// longestWait is the longest pause between attempts.
const longestWait = 30 * time.Minute

// Service looks at the facts and delivers notices. Make it with New. Any number of processes may run one on the same ledger.
type Service struct {
	c      Config
	log    *slog.Logger
	cancel context.CancelFunc
	wg     gosync.WaitGroup
	wake   map[string]chan struct{} // by receiver
	right  atomic.Bool              // the configuration of this process is right, and the alert was seen to be over since

	mu       gosync.Mutex
	version  int64     // of the alert that a configuration is wrong, when it was seen last
	since    time.Time // it has this version: no process has said since that its configuration is wrong
	affirmed time.Time // this process said so
}

// affirmEvery is how often a process says again that its configuration is wrong.
const affirmEvery = time.Minute

// unaffirmed is how long the alert that a configuration is wrong stands when no process says so any more.
func (s *Service) unaffirmed() time.Duration { return max(15*time.Minute, 5*s.c.Every) }

// New returns a Service that does nothing yet.
func New(c Config) *Service {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Every, 30*time.Second)
	set(&c.AuditEvery, time.Hour)
	set(&c.SendTime, 20*time.Second)
	set(&c.FirstWait, 5*time.Second)
	set(&c.GiveUp, 24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Delivered == nil {
		c.Delivered = func(string, string) {}
	}
	s := &Service{c: c, log: c.Logger, wake: map[string]chan struct{}{}}
	for _, r := range c.Receivers {
		s.wake[r.Name()] = make(chan struct{}, 1)
	}
	return s
}

// Start begins to look and to deliver, until Stop. It is called once. A receiver that hangs keeps nothing else waiting: each has a goroutine of its own.
func (s *Service) Start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.wg.Go(func() { s.every(ctx, s.c.Every, s.Look) })
	s.wg.Go(func() {
		s.every(ctx, time.Hour, func(ctx context.Context) error {
			_, err := s.c.Ledger.PurgeNotices(ctx, kept)
			return err
		})
	})
	for _, r := range s.c.Receivers {
		s.wg.Go(func() { s.deliver(ctx, r) })
	}
	if s.c.AuditEvery > 0 {
		s.wg.Go(func() { s.every(ctx, min(s.c.AuditEvery, time.Minute), s.checkAudit) })
	}
}

// Stop ends it, and what it is about to send. What was not delivered is so later, by whichever process. It may be called twice, and without Start.
func (s *Service) Stop() {
	if s.cancel != nil {
		s.cancel()
	}
	s.wg.Wait()
}

// every does fn at once and then again and again.
func (s *Service) every(ctx context.Context, pause time.Duration, fn func(context.Context) error) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "look after alerts", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// alertKey names an alert.
type alertKey struct {
	connection int64
	condition  Condition
}

// Look compares alerts with the facts once, and lays out notices of what has changed. The alerts are read before the facts: a process that was held up in
// between changes nothing by facts that are older than what another has made of newer ones.
func (s *Service) Look(ctx context.Context) error {
	ledger := s.c.Ledger
	have, err := ledger.Alerts(ctx)
	if err != nil {
		return err
	}
	mutes, err := ledger.Mutes(ctx)
	if err != nil {
		return err
	}
	connections, err := s.c.Connections(ctx)
	if err != nil {
		return err
	}
	firstBad, checked, err := ledger.AuditCheck(ctx)
	if err != nil {
		return err
	}
	facts, now, err := ledger.AlertFacts(ctx)
	if err != nil {
		return err
	}
	known := make(map[alertKey]syncdb.Alert, len(have))
	for _, a := range have {
		known[alertKey{a.ConnectionID, Condition(a.Condition)}] = a
	}
	var failures []error
	for _, c := range connections {
		f, ok := facts[c.ID]
		if !ok {
			continue // it is made this moment
		}
		for _, claim := range Of(f, c.Limits, now) {
			failures = append(failures, s.judge(ctx, c, known[alertKey{c.ID, claim.Condition}], claim, now, mutes))
		}
	}
	if !checked.IsZero() {
		claim := Claim{Condition: AuditBroken, Holds: firstBad != 0}
		failures = append(failures, s.judge(ctx, Connection{}, known[alertKey{0, AuditBroken}], claim, now, mutes))
	}
	failures = append(failures, s.judgeConfiguration(ctx, known[alertKey{0, ConfigurationWrong}], now, mutes))
	return errors.Join(failures...)
}

// judgeConfiguration raises the alert that this process's configuration is wrong. Others may have a file of their own, so a right one says so only
//
//   - when the process begins and when its own has become right, until the alert is over, and
//   - when nobody has said for a while that his is wrong: the process that said so is gone, with its machine or its file.
//
// A process whose configuration is wrong says so again every minute, by a new version of the alert.
func (s *Service) judgeConfiguration(ctx context.Context, a syncdb.Alert, now time.Time, mutes []syncdb.AlertMute) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Version != s.version || s.since.IsZero() {
		s.version, s.since = a.Version, now
	}
	wrong := s.c.Misconfigured != nil && s.c.Misconfigured()
	left := a.Firing && now.Sub(s.since) >= s.unaffirmed()
	if !wrong && s.right.Load() && !left {
		return nil
	}
	changed, err := s.bring(ctx, Connection{}, a, Claim{Condition: ConfigurationWrong, Holds: wrong}, now, mutes)
	if err != nil {
		return err
	}
	switch {
	case changed:
		a.Version++
		s.version = a.Version // that was nobody else
		s.affirmed = now
	case wrong && a.Firing && now.Sub(s.affirmed) >= affirmEvery:
		if _, err := s.c.Ledger.ChangeAlert(ctx, a, nil); err != nil {
			return err
		}
		s.affirmed = now
	}
	s.right.Store(!wrong && !a.Firing && a.Turning.IsZero())
	return nil
}

// judge brings one alert up to the facts.
func (s *Service) judge(ctx context.Context, c Connection, a syncdb.Alert, claim Claim, now time.Time, mutes []syncdb.AlertMute) error {
	_, err := s.bring(ctx, c, a, claim, now, mutes)
	return err
}

// bring is judge; changed tells whether this process has made a new version of the alert.
func (s *Service) bring(ctx context.Context, c Connection, a syncdb.Alert, claim Claim, now time.Time, mutes []syncdb.AlertMute) (changed bool, err error) {
	if a.Version == 0 && !claim.Holds {
		return false, nil // it was never seen
	}
	muted := slices.ContainsFunc(mutes, func(m syncdb.AlertMute) bool { return m.Covers(c.Tenant, c.ID, string(claim.Condition)) })
	before := State{a.Firing, a.Told, a.Since, a.Turning, a.Detail}
	after, tell := before.Next(claim, now, s.c.Damping, muted)
	if after == before {
		return false, nil
	}
	var notice *syncdb.AlertNotice
	if tell {
		n := newNotice(c, claim.Condition, before, after)
		notice = &syncdb.AlertNotice{ID: n.ID, ConnectionID: c.ID, Condition: string(claim.Condition), Body: n.Body(), Receivers: s.receivers(c.Tenant)}
	}
	changed, err = s.c.Ledger.ChangeAlert(ctx, syncdb.Alert{
		ConnectionID: c.ID, Condition: string(claim.Condition), Version: a.Version,
		Firing: after.Firing, Told: after.Told, Since: after.Since, Turning: after.Turning, Detail: after.Detail,
	}, notice)
	if err != nil || !changed || !tell {
		return changed, err
	}
	s.log.WarnContext(ctx, "alert", slog.String("tenant", c.Tenant), slog.String("connection", c.Name), slog.String("condition", string(claim.Condition)), slog.Bool("firing", after.Firing))
	for _, name := range notice.Receivers {
		select {
		case s.wake[name] <- struct{}{}:
		default:
		}
	}
	return changed, nil
}

// receivers are those who want notices of a tenant.
func (s *Service) receivers(tenant string) []string {
	var names []string
	for _, r := range s.c.Receivers {
		if r.Wants(tenant) {
			names = append(names, r.Name())
		}
	}
	return names
}

// deliver brings a receiver its notices, in their order.
func (s *Service) deliver(ctx context.Context, r Receiver) {
	ticker := time.NewTicker(min(s.c.Every, s.c.FirstWait))
	defer ticker.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = s.deliverOne(ctx, r); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "deliver notices", slog.String("receiver", r.Name()), slog.Any("error", err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake[r.Name()]:
		case <-ticker.C:
		}
	}
}

// deliverOne tries the oldest notice a receiver did not get; more is true when it has it now.
func (s *Service) deliverOne(ctx context.Context, r Receiver) (more bool, err error) {
	d, found, err := s.c.Ledger.ClaimDelivery(ctx, r.Name(), 2*s.c.SendTime)
	if err != nil || !found {
		return false, err
	}
	var n Notice
	if err = json.Unmarshal(d.Body, &n); err == nil {
		sending, cancel := context.WithTimeout(ctx, s.c.SendTime)
		err = r.Send(sending, n)
		cancel()
	}
	end := syncdb.DeliveryEnd{Sent: err == nil}
	var permanent *backoff.PermanentError
	switch {
	case err == nil:
	case errors.As(err, &permanent), time.Since(d.CreatedAt) > s.c.GiveUp:
		end.GivenUp, end.Why = true, err.Error()
	default:
		end.Again, end.Why = s.wait(d.Attempts), err.Error()
	}
	outcome := "sent"
	if err != nil {
		outcome = "failed"
		if end.GivenUp {
			outcome = "given-up"
		}
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "a notice was not delivered", slog.String("receiver", r.Name()), slog.String("notice", d.ID), slog.Int("attempt", d.Attempts),
				slog.Bool("givenUp", end.GivenUp), slog.Any("error", err))
		}
	}
	s.c.Delivered(r.Name(), outcome)
	noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return end.Sent || end.GivenUp, s.c.Ledger.EndDelivery(noting, d, end)
}

// wait is the pause after an attempt: it doubles each time, jittered.
func (s *Service) wait(attempts int) time.Duration {
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(s.c.FirstWait), backoff.WithMaxInterval(longestWait), backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	wait := b.NextBackOff()
	for range min(attempts, 30) - 1 {
		wait = b.NextBackOff()
	}
	return wait
}

// checkAudit reads the audit trail through when it is this process's turn.
func (s *Service) checkAudit(ctx context.Context) error {
	mine, err := s.c.Ledger.ClaimAuditCheck(ctx, s.c.AuditEvery)
	if err != nil || !mine {
		return err
	}
	firstBad, err := s.c.Ledger.VerifyAudit(ctx)
	if err != nil {
		return err
	}
	return s.c.Ledger.SaveAuditCheck(ctx, firstBad)
}
