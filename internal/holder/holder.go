// Package holder names the process that holds a lease so that another process on the same machine can tell when it is dead. A killed
// process cannot give its lease back; without this its connection would wait for the lease to run out. It knows nothing of leases.
package holder

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Name returns this process's name: machine, process-id space, process id and start. It is the same for the life of the process and names
// no person and no path. Safe for concurrent use.
func Name() string { return name(os.Getpid()) }

func name(pid int) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s|%s|%d|%s", host, space(), pid, started(pid))
}

// Dead reports whether the process that called itself by this name surely runs no more: it was started on this machine, in this process-id
// space, and no process with its id and start is there. False means nobody can say; so does a system that does not tell when processes
// started.
func Dead(holder string) bool {
	parts := strings.Split(holder, "|")
	if len(parts) != 4 || parts[1] == "" || parts[3] == "" {
		return false
	}
	pid, err := strconv.Atoi(parts[2])
	if err != nil || pid <= 0 {
		return false
	}
	mine := strings.Split(Name(), "|")
	if parts[0] != mine[0] || parts[1] != mine[1] {
		return false
	}
	return started(pid) != parts[3]
}

// space names the machine's boot and its process-id namespace; "" where the system does not tell.
func space() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + ns
}

// started returns when a process started, in clock ticks since boot (proc(5), field 22 of stat); "" when there is no such process.
func started(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the name in parentheses and may hold blanks.
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" { // a zombie runs no more
		return ""
	}
	return fields[19]
}
