package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
)

// What systemd is told (sd_notify).
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)

// tellManager notifies; that it cannot be told is no reason not to serve.
func (s *service) tellManager(ctx context.Context, state string) {
	if err := notify(s.lookupEnv, state); err != nil {
		s.log.WarnContext(ctx, "the service manager cannot be told", slog.String("state", state), slog.Any("error", err))
	}
}

// notify tells the service manager that started the process, if it wants to know.
func notify(lookupEnv func(string) (string, bool), state string) error {
	address, ok := lookupEnv("NOTIFY_SOCKET")
	if !ok || address == "" {
		return nil
	}
	if strings.HasPrefix(address, "@") { // an abstract one
		address = "\x00" + address[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
