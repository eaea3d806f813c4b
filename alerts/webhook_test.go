package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
)

// receiver is a webhook of somebody who checks signatures as docs/operations.md says.
type receiver struct {
	*httptest.Server
	verifier *alerts.Verifier
	status   atomic.Int64 // what it answers instead; 0 = what is right

	mu      gosync.Mutex
	headers []string // and bodies as they came, for an attacker who saw them
	bodies  [][]byte
	acted   []alerts.Notice
}

func newReceiver(t *testing.T, secrets ...string) *receiver {
	t.Helper()
	r := &receiver{verifier: &alerts.Verifier{Secrets: secrets}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers, r.bodies = append(r.headers, q.Header.Get(alerts.SignatureHeader)), append(r.bodies, body)
	if status := r.status.Load(); status != 0 {
		w.WriteHeader(int(status))
		return
	}
	n, err := r.verifier.Verify(q.Header.Get(alerts.SignatureHeader), body, time.Now())
	switch {
	case errors.Is(err, alerts.ErrSeen):
	case err != nil:
		http.Error(w, err.Error(), http.StatusUnauthorized)
	default:
		r.acted = append(r.acted, n)
	}
}

func loopback(t *testing.T) httpd.Egress {
	t.Helper()
	e, err := httpd.ParseEgress([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func webhook(t *testing.T, url string, secrets ...string) *alerts.Webhook {
	t.Helper()
	w, err := alerts.NewWebhook("ops", url, secrets, nil, loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const newSecret, oldSecret = "the secret of today, 32 characters", "the secret of yesterday, 32 chars"

func TestASignedNoticeIsActedUponOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, newSecret)
	w, n := webhook(t, r.URL, newSecret), alerts.NewTest(time.Now())
	for range 3 { // at least once
		if err := w.Send(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.acted) != 1 || r.acted[0] != n {
		t.Errorf("acted upon %+v, want %+v once", r.acted, n)
	}
}

// What an attacker who can call the webhook, and has seen earlier calls, tries.
func TestAttacksOnAWebhook(t *testing.T) {
	t.Parallel()
	now := time.Now()
	body := alerts.NewTest(now).Body()
	good := alerts.Sign(body, now, newSecret)
	_, mac, _ := strings.Cut(good, ",v1=")
	cases := map[string]struct {
		header  string
		body    []byte
		secrets []string // of the receiver; nil = the current one
		want    error
	}{
		"no signature":                              {"", body, nil, alerts.ErrSignature},
		"a signature without a time":                {"v1=" + mac, body, nil, alerts.ErrSignature},
		"a time without a signature":                {fmt.Sprintf("t=%d", now.Unix()), body, nil, alerts.ErrSignature},
		"signed with another secret":                {alerts.Sign(body, now, "guessed"), body, nil, alerts.ErrSignature},
		"signed with the empty secret":              {alerts.Sign(body, now, ""), body, []string{newSecret, ""}, alerts.ErrSignature},
		"the body was changed":                      {good, []byte(strings.Replace(string(body), "test", "tests", 1)), nil, alerts.ErrSignature},
		"the time was made later":                   {strings.Replace(good, fmt.Sprint(now.Unix()), fmt.Sprint(now.Unix()+1), 1), body, nil, alerts.ErrSignature},
		"a second time":                             {good + ",t=1", body, nil, alerts.ErrSignature},
		"an older scheme":                           {strings.Replace(good, "v1=", "v0=", 1), body, nil, alerts.ErrSignature},
		"half of the signature":                     {good[:len(good)-32], body, nil, alerts.ErrSignature},
		"a call of six minutes ago":                 {alerts.Sign(body, now.Add(-6*time.Minute), newSecret), body, nil, alerts.ErrTime},
		"a call of the future":                      {alerts.Sign(body, now.Add(6*time.Minute), newSecret), body, nil, alerts.ErrTime},
		"the old secret after its overlap":          {alerts.Sign(body, now, oldSecret), body, []string{newSecret}, alerts.ErrSignature},
		"the old secret, in the overlap":            {alerts.Sign(body, now, newSecret, oldSecret), body, []string{oldSecret}, nil},
		"the new secret, in the overlap":            {alerts.Sign(body, now, newSecret, oldSecret), body, []string{newSecret}, nil},
		"a receiver that has both":                  {alerts.Sign(body, now, newSecret, oldSecret), body, []string{oldSecret, newSecret}, nil},
		"a call of four minutes ago, which is late": {alerts.Sign(body, now.Add(-4*time.Minute), newSecret), body, nil, nil},
	}
	attacks := []string{"the same call again"}
	for name, c := range cases {
		if c.want != nil { // the others are to show that what is right is believed
			attacks = append(attacks, name)
		}
	}
	attacktest.Played(t, attacktest.Webhook, attacks)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &alerts.Verifier{Secrets: c.secrets}
			if c.secrets == nil {
				v.Secrets = []string{newSecret}
			}
			if _, err := v.Verify(c.header, c.body, now); !errors.Is(err, c.want) || (c.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("the same call again", func(t *testing.T) {
		t.Parallel()
		v := &alerts.Verifier{Secrets: []string{newSecret}}
		for at, want := range []error{nil, alerts.ErrSeen, alerts.ErrSeen} {
			if _, err := v.Verify(good, body, now.Add(time.Duration(at)*2*time.Minute)); !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", at, err, want)
			}
		}
		if _, err := v.Verify(good, body, now.Add(11*time.Minute)); !errors.Is(err, alerts.ErrTime) {
			t.Errorf("after it is forgotten: %v", err)
		}
	})
}

// While a secret is replaced, receivers with the old one and with the new one believe the same call; over real HTTP.
func TestASecretIsReplacedWithoutANoticeGettingLost(t *testing.T) {
	t.Parallel()
	before, after := newReceiver(t, oldSecret), newReceiver(t, newSecret)
	for _, r := range []*receiver{before, after} {
		if err := webhook(t, r.URL, newSecret, oldSecret).Send(t.Context(), alerts.NewTest(time.Now())); err != nil {
			t.Errorf("in the overlap: %v", err)
		}
	}
	if err := webhook(t, before.URL, newSecret).Send(t.Context(), alerts.NewTest(time.Now())); err == nil {
		t.Error("a receiver with the old secret only believes calls after the overlap")
	}
}

func TestWebhooksThatRefuse(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, newSecret)
	w := webhook(t, r.URL+"/hook/SECRETPATH", newSecret)
	for _, status := range []int64{301, 400, 404, 410, 500, 503} {
		r.status.Store(status)
		err := w.Send(t.Context(), alerts.NewTest(time.Now()))
		var permanent *backoff.PermanentError
		if err == nil || errors.As(err, &permanent) != (status == 410) || strings.Contains(err.Error(), "SECRETPATH") {
			t.Errorf("%d: %v", status, err)
		}
	}
	r.Close()
	if err := w.Send(t.Context(), alerts.NewTest(time.Now())); err == nil || strings.Contains(err.Error(), "SECRETPATH") {
		t.Errorf("nobody is there: %v", err)
	}
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done() // a body that never ends
	}))
	defer slow.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_ = webhook(t, slow.URL, newSecret).Send(ctx, alerts.NewTest(time.Now()))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a receiver that hangs took %s", took)
	}
}

func TestWebhooksGoWhereTheyMayGoOnly(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, newSecret)
	attacks := map[string]string{
		"this machine": r.URL, "its name": strings.Replace(r.URL, "127.0.0.1", "localhost", 1), "metadata of a cloud": "http://169.254.169.254/latest/",
		"IPv6": "http://[::1]:1/", "IPv4 in IPv6": strings.Replace(r.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), "a private network": "http://10.0.0.1/",
		"another scheme": "file:///etc/passwd", "a password": "http://a:b@example.org/",
	}
	attacktest.Played(t, attacktest.Webhook, slices.Collect(maps.Keys(attacks)))
	for name, address := range attacks {
		w, err := alerts.NewWebhook("ops", address, []string{newSecret}, nil, httpd.Egress{})
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err = w.Send(ctx, alerts.NewTest(time.Now()))
			cancel()
			var forbidden *httpd.ForbiddenError
			if !errors.As(err, &forbidden) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err == nil {
			t.Errorf("%s was called", name)
		}
	}
	if len(r.bodies) != 0 {
		t.Error("something arrived")
	}
}

func TestAReceiverOfSomeTenantsGetsTheirNoticesOnly(t *testing.T) {
	t.Parallel()
	w, err := alerts.NewWebhook("acme", "https://hooks.example.org/", []string{newSecret}, []string{"acme"}, httpd.Egress{})
	if err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[string]bool{"acme": true, "other": false, "": false} {
		if got := w.Wants(tenant); got != want {
			t.Errorf("wants notices of %q: %t", tenant, got)
		}
	}
}
