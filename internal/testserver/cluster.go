package testserver

import (
	"fmt"
	"strings"

	"barrage/internal/testcert"
)

// NodeCluster is a whole installation: PostgreSQL, Redis, nodes named a, b, c, …, and nginx in front of them. Its
// methods are for one goroutine; the addresses may be asked for from any.
type NodeCluster struct {
	Postgres *Postgres
	Standby  *Postgres // nil unless ClusterOptions.Standby
	Redis    *Redis
	Nodes    []*Node
	Nginx    *Nginx
}

// ClusterOptions changes how a cluster is started. The zero value is three nodes.
type ClusterOptions struct {
	// Nodes is the number of nodes; 0 means 3.
	Nodes int
	// Env is added to the environment of each node, NAME=value.
	Env []string
	// Broker replaces the broker URL of the nodes, for instance to put a Proxy between; it is given Redis's address.
	Broker func(redis string) string
	// Journal replaces the journal URL of the nodes; it is given PostgreSQL's.
	Journal func(postgres string) string
	// Unsafe runs PostgreSQL without fsync: faster, and still safe when only the server dies.
	Unsafe bool
	// Standby starts a second PostgreSQL, which the first one waits for with every commit; the nodes know both.
	Standby bool
	// Secure makes PostgreSQL and Redis take TLS alone, from clients with a certificate, and with a password, Secret.
	Secure bool
}

// Secret is the password of secure clusters: nothing may tell it.
const Secret = "not/to:be@told"

// StartCluster starts n nodes with PostgreSQL, Redis and nginx, and waits until all of them are ready.
func StartCluster(n int) (*NodeCluster, error) {
	return StartClusterWith(ClusterOptions{Nodes: n, Unsafe: true})
}

// StartClusterWith is StartCluster with options.
func StartClusterWith(o ClusterOptions) (*NodeCluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if _, err := Binary(); err != nil { // before the servers are started: it is what fails most often
		return nil, err
	}
	c := &NodeCluster{}
	if err := c.start(o); err != nil {
		c.Close()
		return nil, fmt.Errorf("start a cluster of %d nodes: %w", o.Nodes, err)
	}
	return c, nil
}

func (c *NodeCluster) start(o ClusterOptions) (err error) {
	database, memory := PostgresOptions{Unsafe: o.Unsafe}, RedisOptions{}
	if o.Secure {
		server, client := testcert.New(1), testcert.New(2)
		database.TLS, database.Client, database.Password = &server, &client, Secret
		memory.TLS, memory.Client, memory.User, memory.Password = &server, &client, "nodes", Secret
		memory.Rules = []string{"resetchannels", "&barrage:*", "-@all", "+@connection", "+@pubsub"}
	}
	if c.Postgres, err = StartPostgresWith(database); err != nil {
		return err
	}
	if c.Redis, err = StartRedisWith(memory); err != nil {
		return err
	}
	journal, broker := c.Postgres.URL(), c.Redis.URL()
	if o.Standby {
		if c.Standby, err = c.Postgres.StartStandby(); err != nil {
			return err
		}
		journal = c.Postgres.URLWith(c.Standby)
	}
	if o.Journal != nil {
		journal = o.Journal(journal)
	}
	if o.Broker != nil {
		broker = o.Broker(c.Redis.Addr())
	}
	for i := range o.Nodes {
		node, err := StartNode(NodeOptions{
			Name: nodeName(i), Journal: journal, Broker: broker,
			Env: append([]string{"BARRAGE_TRUSTED_PROXIES=127.0.0.1"}, o.Env...),
		})
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, node)
	}
	c.Nginx, err = StartNginx(c.Addrs())
	return err
}

// nodeName is a, b, …, z, n27, n28, …
func nodeName(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return fmt.Sprint("n", i+1)
}

// Addrs are the addresses of the nodes, host:port.
func (c *NodeCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// URL is the address of the cluster, which is nginx's.
func (c *NodeCluster) URL() string { return c.Nginx.URL() }

// Logs returns the logs of all nodes and of nginx, each under a line with its name: for failure messages.
func (c *NodeCluster) Logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "--- node %s\n%s", n.Name(), tail(n.Logs(), 8<<10))
	}
	if c.Nginx != nil {
		fmt.Fprintf(&b, "--- nginx\n%s", tail(c.Nginx.Logs(), 4<<10))
	}
	return b.String()
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}

// Close ends everything and removes all files. It may be called more than once.
func (c *NodeCluster) Close() {
	if c.Nginx != nil {
		c.Nginx.Close()
	}
	for _, n := range c.Nodes {
		n.Close()
	}
	if c.Redis != nil {
		c.Redis.Close()
	}
	if c.Standby != nil {
		c.Standby.Close()
	}
	if c.Postgres != nil {
		c.Postgres.Close()
	}
}
