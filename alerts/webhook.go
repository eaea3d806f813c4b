package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/internal/httpd"
)

// Webhook posts notices to a URL, signed.
type Webhook struct {
	name    string
	url     string
	secrets []string
	tenants []string
	client  *http.Client
}

var _ Receiver = (*Webhook)(nil)

// NewWebhook returns the receiver behind a URL that egress lets it call. The first secret is the current one; another is the one before, for as long as
// the receiver may not have the new one yet. Tenants narrow what it is told; none = everything.
func NewWebhook(name, address string, secrets, tenants []string, egress httpd.Egress) (*Webhook, error) {
	if err := egress.CheckURL(address); err != nil {
		return nil, err
	}
	client := egress.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a signed body goes where it was meant to go
	return &Webhook{name: name, url: address, secrets: secrets, tenants: tenants, client: client}, nil
}

// Name implements Receiver.
func (w *Webhook) Name() string { return w.name }

// Wants implements Receiver.
func (w *Webhook) Wants(tenant string) bool { return wants(w.tenants, tenant) }

// wants: a receiver of some tenants gets nothing of the ledger as a whole, which is of all of them (I13).
func wants(tenants []string, tenant string) bool {
	return len(tenants) == 0 || slices.Contains(tenants, tenant)
}

// Send implements Receiver. Its errors do not hold the URL, which may be a secret.
func (w *Webhook) Send(ctx context.Context, n Notice) error {
	body := n.Body()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be called")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "edfisync")
	request.Header.Set(SignatureHeader, Sign(body, time.Now(), w.secrets...)) // anew for each attempt: an old one is refused
	request.Header.Set(NoticeHeader, n.ID)
	response, err := w.client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("call the webhook: %w", err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	switch {
	case response.StatusCode >= 200 && response.StatusCode < 300:
		return nil
	case response.StatusCode == http.StatusGone:
		return backoff.Permanent(fmt.Errorf("the webhook is gone (%d)", response.StatusCode))
	}
	return fmt.Errorf("the webhook answered %d", response.StatusCode)
}
