package main

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestNotifyTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no such socket")
	}
	path := filepath.Join(t.TempDir(), "n")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	env := func(value string) func(string) (string, bool) {
		return func(name string) (string, bool) { return value, name == "NOTIFY_SOCKET" && value != "" }
	}
	if err := notify(env(path), notifyReady); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 100)
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := socket.Read(text)
	if err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("got %q, %v", text[:n], err)
	}
	if err := notify(env(""), notifyReady); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	if err := notify(env(filepath.Join(t.TempDir(), "none")), notifyStopping); err == nil {
		t.Error("one that does not listen: want an error")
	}
}
