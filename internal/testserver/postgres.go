package testserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"syscall"
	"time"

	"barrage/internal/testcert"

	"github.com/jackc/pgx/v5/pgconn"
)

// postgresLimit bounds how long a PostgreSQL server may take to start, recovery included, or to stop.
const postgresLimit = 60 * time.Second

// PostgresOptions changes how a test's PostgreSQL server runs. The zero value is PostgreSQL's own defaults.
type PostgresOptions struct {
	// Unsafe turns fsync and full_page_writes off: faster, and still safe when only the server dies. synchronous_commit
	// stays on: without it a server that crashes takes back commits that it has acknowledged.
	Unsafe bool
	// Settings are passed as -c name=value.
	Settings map[string]string
	// TLS is the server's certificate, which is its own authority; with it connections are taken over TLS alone.
	TLS *testcert.Pair
	// Client is the certificate that clients must show; only with TLS. Nobody asks for one when it is nil.
	Client *testcert.Pair
	// Password is that of the superuser; nobody is asked for one when it is empty.
	Password string
}

// Postgres is one PostgreSQL server of its own on 127.0.0.1, whose superuser is postgres. Its methods are for one
// goroutine; URL and Addr may be called from any.
type Postgres struct {
	options PostgresOptions
	bin     string // the folder of initdb and postgres
	dir     string // everything of this server; removed by Close
	port    int
	cred    *syscall.Credential // nil unless this process is root, which PostgreSQL refuses to run as

	cmd  *exec.Cmd     // nil while stopped
	done chan struct{} // closed when cmd has ended
}

// StartPostgres creates a database cluster in a temporary folder and starts it. It takes about two seconds.
func StartPostgres() (*Postgres, error) { return StartPostgresWith(PostgresOptions{}) }

// StartPostgresWith is StartPostgres with options.
func StartPostgresWith(o PostgresOptions) (*Postgres, error) { return startPostgres(o, initialise) }

func startPostgres(o PostgresOptions, fill func(*Postgres) error) (*Postgres, error) {
	p := &Postgres{options: o}
	if err := p.create(fill); err != nil {
		return nil, errors.Join(fmt.Errorf("testserver: create a PostgreSQL server: %w", err), p.Close())
	}
	var err error
	for range 3 { // somebody else may take the free port first
		if p.port, err = FreePort(); err != nil {
			break
		}
		if err = p.Start(); err == nil {
			return p, nil
		}
	}
	return nil, errors.Join(err, p.Close())
}

// URL is what a client connects to: the database postgres, as its superuser. With TLS it checks the server's certificate.
func (p *Postgres) URL() string { return p.url(p.Addr()) }

// URLWith is a URL that names several servers, of which the one that takes writes is to be chosen: p and its standby.
func (p *Postgres) URLWith(standby *Postgres) string {
	return p.url(p.Addr()+","+standby.Addr()) + "&target_session_attrs=read-write&connect_timeout=2"
}

func (p *Postgres) url(hosts string) string {
	user := url.User("postgres")
	if p.options.Password != "" {
		user = url.UserPassword("postgres", p.options.Password)
	}
	text := "postgres://" + user.String() + "@" + hosts + "/postgres?sslmode="
	if p.options.TLS == nil {
		return text + "disable"
	}
	text += "verify-full&sslrootcert=" + p.file(serverFiles)
	if p.options.Client != nil {
		text += "&sslcert=" + p.file(clientFiles) + "&sslkey=" + p.file(clientFiles+".key")
	}
	return text
}

// PID is the number of the server's first process, which started all others; 0 while it does not run.
func (p *Postgres) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Addr is the server's TCP address.
func (p *Postgres) Addr() string { return "127.0.0.1:" + strconv.Itoa(p.port) }

// Start starts a server that was stopped or killed, on the same port and data, and waits until it answers queries.
func (p *Postgres) Start() error {
	if p.cmd != nil {
		return errors.New("testserver: PostgreSQL is running already")
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command("postgres", p.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("testserver: start PostgreSQL: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in the log
	}()
	p.cmd, p.done = cmd, done
	if err := p.waitReady(); err != nil {
		return errors.Join(fmt.Errorf("testserver: start PostgreSQL: %w\n%s", err, p.logTail()), p.Kill())
	}
	return nil
}

// Stop ends the server in its "fast" mode: connections are cut off, everything is written to disk.
func (p *Postgres) Stop() error { return p.end(syscall.SIGINT) }

// Kill ends the server in its "immediate" mode, like a crash: the next Start goes through recovery.
func (p *Postgres) Kill() error { return p.end(syscall.SIGQUIT) }

// Crash ends the server's first process by SIGKILL, which gives it no time to tell anybody; the others end when they notice.
func (p *Postgres) Crash() error { return p.end(syscall.SIGKILL) }

// Close ends the server and removes its files.
func (p *Postgres) Close() error {
	err := errors.Join(p.Kill(), p.freeMemory())
	if p.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *Postgres) end(sig syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	process, done := p.cmd.Process, p.done
	p.cmd = nil
	_ = process.Signal(sig) // fails only when it has ended already
	select {
	case <-done:
		return nil
	case <-time.After(postgresLimit):
		_ = process.Kill()
		<-done
		return fmt.Errorf("testserver: PostgreSQL did not end within %s after %s", postgresLimit, sig)
	}
}

// create finds the binaries and makes the server's folder, which fill fills with data.
func (p *Postgres) create(fill func(*Postgres) error) (err error) {
	if p.bin, err = postgresFolder(); err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp("", "barrage-pg-"); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := p.becomeUser("postgres"); err != nil {
			return err
		}
	}
	if err := p.writeSecrets(); err != nil {
		return err
	}
	return fill(p)
}

// initialise is the way to fill a data folder that begins empty.
func initialise(p *Postgres) error {
	args := []string{"-D", p.dataFolder(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"}
	if p.options.Password != "" {
		args = append(args, "--pwfile", p.file(passwordFile))
	}
	if out, err := p.command("initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(p.dataFolder(), "pg_hba.conf"), []byte(p.hostRules()), 0o600)
}

// becomeUser hands the folder to an unprivileged user, whom the server's processes will run as.
func (p *Postgres) becomeUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("PostgreSQL cannot run as root, and there is no other user to run it as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return p.own(p.dir)
}

// own hands a file to the user whom the server's processes run as.
func (p *Postgres) own(path string) error {
	if p.cred == nil {
		return nil
	}
	return os.Chown(path, int(p.cred.Uid), int(p.cred.Gid))
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGDATA=", "PGOPTIONS=", "PGTZ=UTC")
	cmd.SysProcAttr.Credential = p.cred
	return cmd
}

func (p *Postgres) arguments() []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": p.dir,
		"max_connections":         "200",
		// In the data folder, so that nothing is left of a server that ends by SIGKILL.
		"dynamic_shared_memory_type": "mmap",
	}
	if len(p.dir) > 80 { // a socket's path is limited to about 100 bytes
		settings["unix_socket_directories"] = ""
	}
	if p.options.Unsafe {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	if p.options.TLS != nil {
		settings["ssl"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", p.file(serverFiles), p.file(serverFiles+".key")
		if p.options.Client != nil {
			settings["ssl_ca_file"] = p.file(clientFiles)
		}
	}
	maps.Copy(settings, p.options.Settings)
	args := []string{"-D", p.dataFolder(), "-p", strconv.Itoa(p.port)}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// waitReady waits until the server lets a client in: while it starts or recovers it accepts and refuses.
func (p *Postgres) waitReady() error {
	deadline := time.Now().Add(postgresLimit)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := pgconn.Connect(ctx, p.URL())
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-p.done:
			return errors.New("the server ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Postgres) dataFolder() string { return filepath.Join(p.dir, "data") }
func (p *Postgres) logFile() string    { return filepath.Join(p.dir, "log") }

// logTail returns the end of the server's log, for error messages.
func (p *Postgres) logTail() []byte {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return nil
	}
	return b[max(0, len(b)-4096):]
}

// postgresFolder finds the folder that holds both initdb and postgres: on PATH, or the newest one where Debian and
// its relatives install them.
func postgresFolder() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "postgres")); err == nil {
				return filepath.Dir(path), nil
			}
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("initdb is neither on PATH nor in /usr/lib/postgresql/*/bin; install PostgreSQL (Debian: apt-get install postgresql)")
	}
	sort.Slice(found, func(i, j int) bool { return debianVersion(found[i]) < debianVersion(found[j]) })
	return filepath.Dir(found[len(found)-1]), nil
}

// debianVersion is the 15 of /usr/lib/postgresql/15/bin/initdb; 0 when it is no number.
func debianVersion(initdb string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	if err != nil {
		return 0
	}
	return n
}
