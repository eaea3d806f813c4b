package config

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Secret is a value that is never printed: not in messages, logs, JSON or a debugger's dump (I15).
type Secret string

const redacted = "[secret]"

var (
	_ fmt.Formatter          = Secret("")
	_ slog.LogValuer         = Secret("")
	_ encoding.TextMarshaler = Secret("")
)

// Reveal returns the value itself, for the one call that needs it.
func (s Secret) Reveal() string { return string(s) }

// Sealed lists the sealed secrets that the value refers to.
func (s Secret) Sealed() []string {
	parts := strings.Split(string(s), sealedMark)
	var names []string
	for i := 1; i < len(parts); i += 2 { // text, name, text, name, text
		names = append(names, parts[i])
	}
	return names
}

// Unseal returns the value with the sealed secrets it refers to.
func (s Secret) Unseal(open func(name string) (string, error)) (Secret, error) {
	parts := strings.Split(string(s), sealedMark)
	for i := 1; i < len(parts); i += 2 {
		value, err := open(parts[i])
		if err != nil {
			return "", err
		}
		parts[i] = value
	}
	return Secret(strings.Join(parts, "")), nil
}

var secretName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,198}[a-z0-9])?$`)

// SecretName reports whether a sealed secret can have the name.
func SecretName(name string) bool { return secretName.MatchString(name) }

// Format prints a stand-in, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue logs a stand-in.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a stand-in.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Duration is written as Go writes durations, 30s, 5m, 1h30m, or as a number of days: 30d.
type Duration time.Duration

// UnmarshalText reads a duration; its error does not repeat the text.
func (d *Duration) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*d = Duration(n) * Duration(24*time.Hour)
			return nil
		}
	}
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("want a duration such as 30s, 5m, 1h30m or 30d")
	}
	*d = Duration(v)
	return nil
}

// String writes the duration as it is read.
func (d Duration) String() string { return time.Duration(d).String() }
