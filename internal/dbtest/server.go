package dbtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// startTimeout is how long a server may take to answer, on a machine that runs other tests beside it.
const startTimeout = 2 * time.Minute

// Server is a running database server.
type Server struct {
	DSN string // of its administrator
	Dir string // everything it keeps
	PID int

	process *process
	again   func(ctx context.Context) error // starts it again on what it keeps
}

// StartPostgres starts a PostgreSQL server with an empty data folder. A detached one outlives this process until Stop; else it ends,
// and its folder goes, when this process does. When the programs are missing, the error says so.
func StartPostgres(ctx context.Context, detached bool) (*Server, error) {
	return startPostgres(ctx, detached, "max_connections=500", "shared_buffers=128MB", "max_wal_size=2GB",
		"fsync=off", "full_page_writes=off") // test data need not survive the machine
}

// StartDurablePostgres starts a PostgreSQL server that keeps what it committed, as servers do that people rely on: for tests that kill it
// with Kill and go on after Restart. It ends, and its folder goes, with this process.
func StartDurablePostgres(ctx context.Context) (*Server, error) {
	// synchronous_commit is on by itself, and a test may change it. syncfs: else a restart syncs a thousand files one by one.
	return startPostgres(ctx, false, "max_connections=100", "shared_buffers=32MB", "fsync=on", "full_page_writes=on", "recovery_init_sync_method=syncfs")
}

func startPostgres(ctx context.Context, detached bool, settings ...string) (*Server, error) {
	bin, err := find("postgres", "/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres")
	if err != nil {
		return nil, err
	}
	return start(ctx, "postgres", detached, "QUIT", func(ctx context.Context, u *user, dir string, port int) (*exec.Cmd, error) {
		data := filepath.Join(dir, "data")
		initdb := u.command(ctx, dir, filepath.Join(filepath.Dir(bin), "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
			"--locale=C", "--no-sync", "--no-instructions")
		if out, err := initdb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("initdb: %w: %s", err, out)
		}
		args := []string{"-D", data, "-p", strconv.Itoa(port)}
		for _, setting := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories="}, settings...) {
			args = append(args, "-c", setting)
		}
		return u.command(ctx, dir, bin, args...), nil
	}, func(port int) (string, string) {
		return "postgres", fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	})
}

// StartMariaDB is StartPostgres for MariaDB.
func StartMariaDB(ctx context.Context, detached bool) (*Server, error) {
	bin, err := find("mariadbd", "/usr/sbin/mariadbd", "/usr/libexec/mariadbd")
	if err != nil {
		return nil, err
	}
	install, err := find("mariadb-install-db", "/usr/bin/mariadb-install-db")
	if err != nil {
		return nil, err
	}
	return start(ctx, "mysql", detached, "KILL", func(ctx context.Context, u *user, dir string, port int) (*exec.Cmd, error) {
		data := filepath.Join(dir, "data")
		setup := u.command(ctx, dir, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
		if out, err := setup.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, out)
		}
		return u.command(ctx, dir, bin, "--no-defaults", "--datadir="+data, "--tmpdir="+dir, "--socket="+filepath.Join(dir, "s"),
			"--pid-file="+filepath.Join(dir, "pid"), "--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--max-connections=200",
			"--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"), nil
	}, func(port int) (string, string) {
		return "mysql", fmt.Sprintf("root@tcp(127.0.0.1:%d)/", port)
	})
}

// start runs a server as its own user when this process is root, since neither server runs as root, and waits until it answers.
func start(ctx context.Context, account string, detached bool, signal string,
	prepare func(context.Context, *user, string, int) (*exec.Cmd, error), address func(port int) (driver, dsn string),
) (*Server, error) {
	u, err := lookupUser(account)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "testdb-")
	if err != nil {
		return nil, fmt.Errorf("make folder for the server: %w", err)
	}
	s := &Server{Dir: dir}
	if err := u.own(dir); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	cmd, err := prepare(ctx, u, dir, port)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	driver, dsn := address(port)
	s.DSN = dsn
	s.again = func(ctx context.Context) error {
		cmd := u.command(ctx, dir, cmd.Path, cmd.Args[1:]...)
		var err error
		if s.process, err = launch(cmd, u, dir, detached, signal); err != nil {
			return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
		}
		s.PID = s.process.pid()
		return s.answers(ctx, driver, filepath.Base(cmd.Path))
	}
	if err := s.again(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// answers waits until the server does.
func (s *Server) answers(ctx context.Context, driver, name string) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := run(driver, s.DSN, `SELECT 1`)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("%s does not answer: %w: %s", name, err, text)
		}
	}
}

// Kill ends every process of an attached server at once (kill -9), as the end of its machine would but for what the system had taken from it to
// write. Its folder stays.
func (s *Server) Kill() error { return s.process.kill(s.Dir) }

// Restart starts a server again that was killed, on what it keeps and under the same address, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error { return s.again(ctx) }

// Stop ends the server and removes its folder.
func (s *Server) Stop() error {
	if s.process != nil {
		s.process.stop()
	}
	return os.RemoveAll(s.Dir)
}

// find returns a program from PATH, else the last match of the patterns, which is the newest version.
func find(name string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, p := range patterns {
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			return slices.MaxFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }), nil
		}
	}
	return "", fmt.Errorf("%s is not installed (Debian: apt-get install postgresql mariadb-server)", name)
}

func freePort(ctx context.Context) (int, error) {
	var cfg net.ListenConfig
	l, err := cfg.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
