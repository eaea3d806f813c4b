package alerts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SignatureHeader is the header of a webhook's call that says when it was made and proves who made it: "t=1795000000,v1=hex". Each v1 is the HMAC-SHA256
// of the decimal t, a dot and the body, under one of the receiver's secrets: while a secret is replaced there are two.
const SignatureHeader = "Edfisync-Signature"

// NoticeHeader is the header with the notice's id, for those who look for it before they read the body. The body has it too, and is what is signed.
const NoticeHeader = "Edfisync-Notice"

// Sign returns the value of SignatureHeader for a body that is sent at that time.
func Sign(body []byte, at time.Time, secrets ...string) string {
	t := strconv.FormatInt(at.Unix(), 10)
	value := "t=" + t
	for _, secret := range secrets {
		value += ",v1=" + hex.EncodeToString(signature(t, body, secret))
	}
	return value
}

func signature(t string, body []byte, secret string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// Why a call is not believed.
var (
	ErrSignature = errors.New("the signature is missing or wrong")
	ErrTime      = errors.New("the call is too old, or from the future")
	ErrSeen      = errors.New("the notice was here before")
)

// Verifier checks calls of a webhook, as a receiver written in Go can. The zero Window means 5 minutes. Safe for concurrent use.
type Verifier struct {
	Secrets []string      // one is enough; two while a secret is replaced
	Window  time.Duration // how far a call's time may be from ours

	mu   sync.Mutex
	seen map[string]time.Time // by id of the notice
}

// Verify returns the notice of a call, or says why it is not to be acted upon. ErrSeen is no attack as a rule: delivery is at least once, so answer it with
// 200 and do nothing. Ids are remembered for twice the window, beyond which the time of the call is refused; a receiver that acts on no notice twice for
// longer keeps them in its database.
func (v *Verifier) Verify(header string, body []byte, now time.Time) (Notice, error) {
	window := v.Window
	if window == 0 {
		window = 5 * time.Minute
	}
	t, signatures := parse(header)
	sent, err := strconv.ParseInt(t, 10, 64)
	if err != nil || len(signatures) == 0 {
		return Notice{}, ErrSignature
	}
	right := false
	for _, secret := range v.Secrets {
		want := signature(t, body, secret)
		for _, got := range signatures {
			right = hmac.Equal(want, got) && secret != "" || right
		}
	}
	if !right {
		return Notice{}, ErrSignature
	}
	if age := now.Sub(time.Unix(sent, 0)); age > window || age < -window {
		return Notice{}, ErrTime
	}
	var n Notice
	if err := json.Unmarshal(body, &n); err != nil {
		return Notice{}, fmt.Errorf("the notice cannot be read: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, until := range v.seen {
		if now.After(until) {
			delete(v.seen, id)
		}
	}
	if _, ok := v.seen[n.ID]; ok {
		return n, ErrSeen
	}
	if v.seen == nil {
		v.seen = map[string]time.Time{}
	}
	v.seen[n.ID] = now.Add(2 * window)
	return n, nil
}

// parse reads SignatureHeader. What it does not know it leaves out; a t given twice makes it none.
func parse(header string) (t string, signatures [][]byte) {
	times := 0
	for _, part := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			t = value
			times++
		case "v1":
			if mac, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, mac)
			}
		}
	}
	if times != 1 {
		return "", nil
	}
	return t, signatures
}
