package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"barrage/internal/testcert"
)

// Redis is one redis-server process that keeps nothing on disk. Its methods may be called from any goroutine.
type Redis struct {
	process
	dir     string
	owns    bool // dir is removed by Close
	options RedisOptions
}

// RedisOptions changes how a test's Redis server runs. The zero value is one without TLS that lets everybody in.
type RedisOptions struct {
	// TLS is the server's certificate, which is its own authority; with it connections are taken over TLS alone.
	TLS *testcert.Pair
	// Client is the certificate that clients must show; only with TLS. Nobody asks for one when it is nil.
	Client *testcert.Pair
	// User and Password are those of the only user, who has the Rules of an access control list. Without User nobody is asked.
	User, Password string
	Rules          []string
}

// StartRedis starts a single Redis server.
func StartRedis() (*Redis, error) { return StartRedisWith(RedisOptions{}) }

// StartRedisWith is StartRedis with options.
func StartRedisWith(o RedisOptions) (*Redis, error) {
	dir, err := os.MkdirTemp("", "barrage-redis-")
	if err != nil {
		return nil, err
	}
	var r *Redis
	more, err := o.arguments(dir)
	if err == nil {
		r, err = startRedis(dir, more...)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	r.owns, r.options = true, o
	return r, nil
}

// arguments writes the certificates into dir and returns what the server is told of them and of users.
func (o *RedisOptions) arguments(dir string) (args []string, err error) {
	if o.User != "" {
		args = append(append(args, "--user", "default", "off", "--user", o.User, "on", ">"+o.Password), o.Rules...)
	}
	if o.TLS == nil {
		return args, nil
	}
	server, client := filepath.Join(dir, serverFiles), filepath.Join(dir, clientFiles)
	if err := o.TLS.WriteTo(server, server+".key"); err != nil {
		return nil, err
	}
	args = append(args, "--tls-cert-file", server, "--tls-key-file", server+".key")
	if o.Client == nil {
		return append(args, "--tls-auth-clients", "no", "--tls-ca-cert-file", server), nil
	}
	return append(args, "--tls-auth-clients", "yes", "--tls-ca-cert-file", client), o.Client.WriteTo(client, client+".key")
}

// startRedis starts a server in dir with more arguments than the usual ones.
func startRedis(dir string, more ...string) (*Redis, error) {
	port, addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	ports := []string{"--port", port}
	if slices.Contains(more, "--tls-cert-file") {
		ports = []string{"--port", "0", "--tls-port", port}
	}
	args := append(append(ports, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no"), more...)
	r := &Redis{dir: dir, process: process{
		name: "redis-server", args: args, addr: addr, log: filepath.Join(dir, "redis.log"),
	}}
	return r, r.Start()
}

// Addr is the server's address, host:port.
func (r *Redis) Addr() string { return r.addr }

// URL is the server's address as a broker URL. With TLS it checks the server's certificate.
func (r *Redis) URL() string {
	host, o := r.addr, &r.options
	if o.User != "" {
		host = url.UserPassword(o.User, o.Password).String() + "@" + host
	}
	if o.TLS == nil {
		return "redis://" + host
	}
	text := "rediss://" + host + "?tls_ca=" + r.CA()
	if o.Client != nil {
		cert, key := r.ClientFiles()
		text += "&tls_cert=" + cert + "&tls_key=" + key
	}
	return text
}

// CA is the file of the authority that signed the server's certificate.
func (r *Redis) CA() string { return filepath.Join(r.dir, serverFiles) }

// ClientFiles are the certificate that clients must show, and its key.
func (r *Redis) ClientFiles() (cert, key string) {
	cert = filepath.Join(r.dir, clientFiles)
	return cert, cert + ".key"
}

// PID is the number of the server's process; 0 while it does not run.
func (r *Redis) PID() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return 0
	}
	return r.cmd.Process.Pid
}

// Close ends the server and removes its files.
func (r *Redis) Close() error {
	err := r.Kill()
	if r.owns {
		err = errors.Join(err, os.RemoveAll(r.dir))
	}
	return err
}

// Do sends one command with redis-cli and returns what it printed. It knows no TLS and no users.
func (r *Redis) Do(args ...string) (string, error) {
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "redis-cli", append([]string{"-e", "-h", host, "-p", port}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("redis-cli %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Sentinel is a master and a replica watched by three sentinels.
type Sentinel struct {
	// Servers are the two data servers; which of them is the master changes.
	Servers []*Redis
	// Watchers are the sentinels.
	Watchers []*Redis
	dir      string
}

// sentinelMaster is the name by which the sentinels know the master.
const sentinelMaster = "barrage"

// StartRedisSentinel starts a master, a replica and three sentinels, and waits until they know one another.
func StartRedisSentinel() (*Sentinel, error) {
	dir, err := os.MkdirTemp("", "barrage-sentinel-")
	if err != nil {
		return nil, err
	}
	s := &Sentinel{dir: dir}
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) start() error {
	for i := range 2 {
		dir, err := subdir(s.dir, fmt.Sprint("server", i))
		if err != nil {
			return err
		}
		more := []string{"--repl-diskless-sync-delay", "0"}
		if i > 0 {
			host, port, _ := net.SplitHostPort(s.Servers[0].Addr())
			more = append(more, "--replicaof", host+" "+port)
		}
		r, err := startRedis(dir, more...)
		if err != nil {
			return err
		}
		s.Servers = append(s.Servers, r)
	}
	if err := waitUntil(startLimit, "the replica finished its first synchronisation", s.replicating); err != nil {
		return err
	}
	for i := range 3 {
		w, err := s.startWatcher(fmt.Sprint("sentinel", i))
		if err != nil {
			return err
		}
		s.Watchers = append(s.Watchers, w)
	}
	return waitUntil(startLimit, "all sentinels knew the replica and one another", s.complete)
}

// startWatcher starts one sentinel; it writes what it learns into its own configuration file.
func (s *Sentinel) startWatcher(name string) (*Redis, error) {
	dir, err := subdir(s.dir, name)
	if err != nil {
		return nil, err
	}
	port, addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	host, masterPort, _ := net.SplitHostPort(s.Servers[0].Addr())
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf(`port %[1]s
bind 127.0.0.1
dir %[2]s
sentinel monitor %[3]s %[4]s %[5]s 2
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 5000
`, port, dir, sentinelMaster, host, masterPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	w := &Redis{dir: dir, process: process{
		name: "redis-server", args: []string{file, "--sentinel"}, addr: addr, log: filepath.Join(dir, "redis.log"),
	}}
	return w, w.Start()
}

func (s *Sentinel) replicating() bool {
	info, err := s.Servers[1].Do("INFO", "replication")
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// complete says whether each sentinel knows the replica and the two other sentinels.
func (s *Sentinel) complete() bool {
	for _, w := range s.Watchers {
		info, err := w.Do("INFO", "sentinel")
		if err != nil || !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=1,sentinels=3") {
			return false
		}
	}
	return true
}

// URL is the group as a broker URL.
func (s *Sentinel) URL() string {
	return "redis-sentinel://" + join(s.Watchers) + "/" + sentinelMaster
}

// Master returns the server that the sentinels call master now.
func (s *Sentinel) Master() (*Redis, error) {
	out, err := s.Watchers[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMaster)
	if err != nil {
		return nil, err
	}
	addr := strings.Join(strings.Fields(out), ":")
	for _, r := range s.Servers {
		if r.Addr() == addr {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the sentinels name an unknown master %q", addr)
}

// Failover makes the replica master by a sentinel's command and waits until the sentinels say so. The old master
// lives on as a replica. To see a failover after a crash, Kill what Master returns instead.
func (s *Sentinel) Failover() error {
	before, err := s.Master()
	if err != nil {
		return err
	}
	if _, err := s.Watchers[0].Do("SENTINEL", "FAILOVER", sentinelMaster); err != nil {
		return err
	}
	return s.WaitMaster(before)
}

// WaitMaster waits until another server than before is master.
func (s *Sentinel) WaitMaster(before *Redis) error {
	return waitUntil(60*time.Second, "the sentinels named another master", func() bool {
		now, err := s.Master()
		return err == nil && now != before
	})
}

// Close ends all processes and removes their files.
func (s *Sentinel) Close() error {
	return errors.Join(closeAll(s.Watchers), closeAll(s.Servers), os.RemoveAll(s.dir))
}

// Cluster is a Redis Cluster of three masters without replicas.
type Cluster struct {
	Servers []*Redis
	dir     string
}

// clusterSlots is how many hash slots a Redis Cluster has.
const clusterSlots = 16384

// StartRedisCluster starts three masters that share the slots, and waits until the cluster serves all of them.
func StartRedisCluster() (*Cluster, error) {
	dir, err := os.MkdirTemp("", "barrage-cluster-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	if err := c.start(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start() error {
	const masters = 3
	buses := make([]string, masters)
	for i := range masters {
		dir, err := subdir(c.dir, fmt.Sprint("server", i))
		if err != nil {
			return err
		}
		if buses[i], _, err = freeAddr(); err != nil {
			return err
		}
		r, err := startRedis(dir, "--cluster-enabled", "yes", "--cluster-port", buses[i],
			"--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf")
		if err != nil {
			return err
		}
		c.Servers = append(c.Servers, r)
		from, to := i*clusterSlots/masters, (i+1)*clusterSlots/masters-1
		if _, err := r.Do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(from), fmt.Sprint(to)); err != nil {
			return err
		}
	}
	for i, r := range c.Servers[1:] {
		host, port, _ := net.SplitHostPort(r.Addr())
		if _, err := c.Servers[0].Do("CLUSTER", "MEET", host, port, buses[i+1]); err != nil {
			return err
		}
	}
	return c.WaitReady()
}

// WaitReady waits until every server says that all slots are served.
func (c *Cluster) WaitReady() error {
	return waitUntil(startLimit, "the cluster served all slots", func() bool {
		for _, r := range c.Servers {
			info, err := r.Do("CLUSTER", "INFO")
			if err != nil || !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c.Servers))) {
				return false
			}
		}
		return true
	})
}

// URL is the cluster as a broker URL.
func (c *Cluster) URL() string { return "redis-cluster://" + join(c.Servers) }

// Owner returns the index of the server that serves the slot of key, and the slot.
func (c *Cluster) Owner(key string) (server int, slot string, err error) {
	if slot, err = c.Servers[0].Do("CLUSTER", "KEYSLOT", key); err != nil {
		return 0, "", err
	}
	shards, err := c.Servers[0].Do("CLUSTER", "NODES")
	if err != nil {
		return 0, "", err
	}
	for line := range strings.Lines(shards) {
		fields := strings.Fields(line)
		for _, span := range fields[min(8, len(fields)):] {
			if !inSpan(span, slot) {
				continue
			}
			for i, r := range c.Servers {
				if strings.HasPrefix(fields[1], r.Addr()+"@") {
					return i, slot, nil
				}
			}
		}
	}
	return 0, "", fmt.Errorf("no server serves slot %s:\n%s", slot, shards)
}

// inSpan says whether slot lies in a span as CLUSTER NODES writes it: "7" or "0-5460".
func inSpan(span, slot string) bool {
	var from, to, n int
	if _, err := fmt.Sscan(slot, &n); err != nil {
		return false
	}
	if k, _ := fmt.Sscanf(span, "%d-%d", &from, &to); k == 1 {
		to = from
	} else if k != 2 {
		return false
	}
	return from <= n && n <= to
}

// MoveSlot hands an empty slot to the server with index to, as a resharding does at its end.
func (c *Cluster) MoveSlot(slot string, to int) error {
	id, err := c.Servers[to].Do("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	// The new owner must hear it first, or the slot would be nobody's for a moment.
	order := []*Redis{c.Servers[to]}
	for i, r := range c.Servers {
		if i != to {
			order = append(order, r)
		}
	}
	for _, r := range order {
		if _, err := r.Do("CLUSTER", "SETSLOT", slot, "NODE", id); err != nil {
			return err
		}
	}
	return nil
}

// Close ends all processes and removes their files.
func (c *Cluster) Close() error { return errors.Join(closeAll(c.Servers), os.RemoveAll(c.dir)) }

func join(servers []*Redis) string {
	addrs := make([]string, len(servers))
	for i, r := range servers {
		addrs[i] = r.Addr()
	}
	return strings.Join(addrs, ",")
}

func closeAll(servers []*Redis) error {
	var errs []error
	for _, r := range servers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
