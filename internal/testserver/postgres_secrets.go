package testserver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of files in a PostgreSQL server's folder. The keys of certificates have .key behind them.
const (
	serverFiles  = "server.pem"
	clientFiles  = "client.pem"
	passwordFile = "password"
)

func (p *Postgres) file(name string) string { return filepath.Join(p.dir, name) }

// writeSecrets writes the certificates and the password, for the server and its clients to read.
func (p *Postgres) writeSecrets() error {
	o := &p.options
	var written []string
	if o.TLS != nil {
		if err := o.TLS.WriteTo(p.file(serverFiles), p.file(serverFiles+".key")); err != nil {
			return err
		}
		written = append(written, serverFiles, serverFiles+".key")
	}
	if o.Client != nil {
		if err := o.Client.WriteTo(p.file(clientFiles), p.file(clientFiles+".key")); err != nil {
			return err
		}
		written = append(written, clientFiles, clientFiles+".key")
	}
	if o.Password != "" {
		if err := os.WriteFile(p.file(passwordFile), []byte(o.Password+"\n"), 0o600); err != nil {
			return err
		}
		written = append(written, passwordFile)
	}
	for _, name := range written {
		if err := p.own(p.file(name)); err != nil {
			return err
		}
	}
	return nil
}

// hostRules is pg_hba.conf: who may connect, and what they must show.
func (p *Postgres) hostRules() string {
	kind, method := "host", "trust"
	if p.options.Password != "" {
		method = "scram-sha-256"
	}
	if p.options.TLS != nil {
		kind = "hostssl"
		if p.options.Client != nil {
			method += " clientcert=verify-ca"
		}
	}
	return kind + " all all 127.0.0.0/8 " + method + "\n" +
		kind + " replication all 127.0.0.0/8 " + method + "\n"
}

// freeMemory gives back the shared memory of a server that ended by SIGKILL: it outlives the process that made it. The file that names
// it is gone after every other end.
func (p *Postgres) freeMemory() error {
	if p.dir == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(p.dataFolder(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return nil
	}
	key := strings.Fields(lines[6]) // key and id
	if len(key) != 2 {
		return nil
	}
	id, err := strconv.Atoi(key[1])
	if err != nil {
		return err
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if errors.Is(err, unix.EINVAL) { // somebody was faster
		return nil
	}
	return err
}
