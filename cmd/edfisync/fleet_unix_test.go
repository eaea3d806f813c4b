//go:build unix

package main

import "syscall"

const stopSignal, wakeSignal = syscall.SIGSTOP, syscall.SIGCONT
