package main

import "os"

//nolint:gochecknoglobals // there are none on Windows; the tests that send them are skipped
var stopSignal, wakeSignal = os.Kill, os.Kill
