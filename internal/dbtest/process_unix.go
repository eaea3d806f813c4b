//go:build unix

package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// user is whom a server runs as; nil credential: whoever we are.
type user struct {
	credential *syscall.Credential
}

// lookupUser returns the account when this process is root and must not run the server itself.
func lookupUser(account string) (*user, error) {
	if os.Geteuid() != 0 {
		return &user{}, nil
	}
	a, err := osuser.Lookup(account)
	if err != nil {
		return nil, fmt.Errorf("database servers do not run as root, and there is no user %s to run one as: %w", account, err)
	}
	uid, err := strconv.ParseUint(a.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of %s: %w", account, err)
	}
	gid, err := strconv.ParseUint(a.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of %s: %w", account, err)
	}
	return &user{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func (u *user) own(dir string) error {
	if u.credential == nil {
		return nil
	}
	if err := os.Chown(dir, int(u.credential.Uid), int(u.credential.Gid)); err != nil {
		return fmt.Errorf("hand over folder: %w", err)
	}
	return nil
}

// command runs in dir, with an environment of its own: nothing of ours, such as PGPORT, reaches the server.
func (u *user) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(context.WithoutCancel(ctx), name, args...)
	c.Dir = dir
	c.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LC_ALL=C", "HOME=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential}
	return c
}

// process is a started server. While life is open, an attached one lives.
type process struct {
	cmd  *exec.Cmd
	life *os.File
}

// watch starts the server and waits for the end of its input, which comes when the process that holds the other end is gone, however
// it ended. Then it ends the server and removes the folder, unless it was told to keep it.
const watch = `dir=$1 signal=$2; shift 2
"$@" </dev/null >"$dir/log" 2>&1 &
echo $! >"$dir/server"
told=$(cat)
kill -s "$signal" $! 2>/dev/null
wait $!
[ "$told" = keep ] || { cd / && rm -rf "$dir"; }`

func launch(cmd *exec.Cmd, u *user, dir string, detached bool, signal string) (*process, error) {
	if detached {
		log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr.Setsid = true
		return &process{cmd: cmd}, cmd.Start()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	watched := u.command(context.Background(), dir, "/bin/sh", append([]string{"-c", watch, "sh", dir, signal, cmd.Path}, cmd.Args[1:]...)...)
	watched.Stdin = r
	watched.SysProcAttr.Setsid = true // a Ctrl-C meant for the tests reaches the server only through the pipe
	if err := watched.Start(); err != nil {
		w.Close()
		return nil, err
	}
	return &process{cmd: watched, life: w}, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	if p.life != nil {
		_ = p.life.Close()
	} else {
		_ = p.cmd.Process.Kill()
	}
	_ = p.cmd.Wait() // how a server ends that nobody needs any more does not matter
}

// kill ends an attached server that answered, with all its processes at once. The folder stays.
func (p *process) kill(dir string) error {
	if p.life == nil {
		return errors.New("kill server: it is detached")
	}
	text, err := os.ReadFile(filepath.Join(dir, "server"))
	if err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	server, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	// Stopped, it starts no process while its processes are listed, and does not mind their ends.
	if err := syscall.Kill(server, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	children, err := childrenOf(server)
	for _, pid := range append(children, server) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended by itself is as dead
	}
	_, told := p.life.WriteString("keep")
	if err := errors.Join(err, told, p.life.Close()); err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	_ = p.cmd.Wait()               // says that the server was killed
	for _, pid := range children { // whose memory the next server would meet
		if err := gone(pid); err != nil {
			return fmt.Errorf("kill server: %w", err)
		}
	}
	return nil
}

// gone waits for the end of a process that was killed and is not ours to wait for.
func gone(pid int) error {
	for deadline := time.Now().Add(endTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(text, []byte(") Z ")) || bytes.Contains(text, []byte(") X ")) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// childrenOf lists the processes a process has started. It needs /proc, which Linux has.
func childrenOf(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // gone meanwhile
		}
		after := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state, parent, …; the name before may hold anything
		if len(after) > 1 && after[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				return nil, err
			}
			out = append(out, pid)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no process of %d was found in /proc", parent)
	}
	return out, nil
}

// endTimeout is how long a server may take to end before its folder is removed all the same.
const endTimeout = 20 * time.Second

// End ends a detached server that an earlier process started, and removes its folder. It does nothing to a server that is gone.
func End(pid int, dir string) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("stop server %d: %w", pid, err)
	}
	sig := os.Signal(syscall.SIGQUIT)
	for deadline := time.Now().Add(endTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := p.Signal(sig); err != nil { // gone
			break
		}
		sig = syscall.Signal(0) // asks only whether it is still there
	}
	return os.RemoveAll(dir)
}
