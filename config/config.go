// Package config holds the settings of a node, where they come from, and what they mean. Settings come from a YAML
// file, then the environment (BARRAGE_ and the name in capitals, dots as underscores), then flags; the later one wins.
// An unknown key is an error that names the nearest known one.
//
// Load only reads; Config.Validate says whether what was read makes sense together. Both report every problem they
// find, each as one sentence. Nothing here opens a network connection or creates a file.
package config

import (
	"path/filepath"
	"time"
)

//go:generate go run ../cmd/barrage config reference --output ../docs/settings.md

// Config is everything that can be set for one node. Default gives the embedded defaults. The table in settings.go
// gives each field its name, unit and documentation.
type Config struct {
	// Listen is the address for clients, pages and metrics. Without authentication (AuthEnabled) it must be a loopback address
	// unless Open is set.
	Listen string
	// Name is the node's name in welcomes, logs and metrics; it must be unique in the cluster. Empty means the
	// host's name followed by a random suffix.
	Name string
	// Data is the folder for what this node stores itself; it is created when missing.
	Data string
	// Journal is memory:, sqlite:PATH or postgres://…; empty means sqlite:DATA/journal.db.
	Journal string
	// Broker is local:, redis://…, redis-sentinel://… or redis-cluster://….
	Broker string
	// Engine is auto or portable: see the table in settings.go.
	Engine string
	// Open allows listening on other than loopback addresses although anyone who can connect may read and publish.
	Open bool
	// Origins lists the origins (scheme://host[:port]) besides the node's own whose pages may connect; "*" allows all.
	Origins []string
	// TrustedProxies lists addresses and prefixes (CIDR) whose X-Forwarded-For is believed.
	TrustedProxies []string
	// Compression lets clients negotiate permessage-deflate.
	Compression bool
	// CompressionThreshold is the smallest payload that is sent compressed, in bytes.
	CompressionThreshold int
	// Namespaces say how channels behave, by the part of their name before the first colon.
	Namespaces Namespaces

	Auth    Auth
	API     API
	RPC     RPC
	TLS     TLS
	Limits  Limits
	History History
	Log     Log

	// DebugEndpoints opens /echo and /debug/pprof/: see the table in settings.go.
	DebugEndpoints bool
}

// API says who may use the server API, and where.
type API struct {
	// Keys are items of the form NAME:SCOPE:KEY. Without any, and without KeysFile, the API is closed.
	Keys []string
	// KeysFile is the path of a file with a line "SCOPE KEY [NAME]" for each key; empty means none.
	KeysFile string
	// Listen is an address of the API's own; empty means that it is served on Config.Listen.
	Listen string
	// Body is the largest body of a request, in bytes; 1 to MaxBody.
	Body int
}

// RPC says who answers what clients of the Centrifuge protocol ask by rpc.
type RPC struct {
	// URL of the operator's service; empty for none.
	URL string
	// Timeout is how long it may take; MinRPC to MaxRPC.
	Timeout time.Duration
}

// Bounds of RPC.Timeout.
const (
	MinRPC = 100 * time.Millisecond
	MaxRPC = time.Minute
)

// MaxBody is the largest value of API.Body, in bytes.
const MaxBody = 64 << 20

// TLS says whether clients, pages and metrics are served over TLS. Both paths are given, or none.
type TLS struct {
	// Cert is the path of the certificate chain in PEM; empty means that there is no TLS.
	Cert string
	// Key is the path of the certificate's private key in PEM.
	Key string
}

// Enabled says whether the node serves TLS.
func (t TLS) Enabled() bool { return t.Cert != "" }

// Limits bounds what clients may use.
type Limits struct {
	// Message is the largest message a client may send, in bytes; 1 to MaxMessage.
	Message int
	// Connections is the most connections of the node; 0 means no limit.
	Connections int
	// ConnectionsPerAddress is the most connections of one client address; 0 means no limit.
	ConnectionsPerAddress int
	// Commands and Publishes are how many a connection may send per second; 0 means no limit. Bursts may be twice that.
	Commands  int
	Publishes int
	// UserConnections is the most connections of one user, UserPublishes how many messages all of them may publish per second;
	// 0 means no limit.
	UserConnections int
	UserPublishes   int
	// AddressConnects is how many connections an address may open per second; 0 means no limit.
	AddressConnects int
	// ChannelPublishes is how many messages a second this node's clients may publish into one channel; 0 means no limit.
	ChannelPublishes int
	// Queue is the most bytes of answers that may wait to be read on a connection.
	Queue int
	// Handshake is how long a client may take from connecting to the end of its upgrade request.
	Handshake time.Duration
	// Ping is how often an idle connection is pinged.
	Ping time.Duration
	// Pong is how long after a ping something must arrive.
	Pong time.Duration
	// Write is how long a client may take no bytes at all before it is closed.
	Write time.Duration
	// Drain is how long SIGTERM waits for connections to end before the process exits; 0 means not at all.
	Drain time.Duration
}

// MaxMessage is the largest value of Limits.Message, in bytes.
const MaxMessage = 16 << 20

// minQueue and MaxQueue bound Limits.Queue, in bytes.
const (
	minQueue = 64 << 10
	MaxQueue = 1 << 30
)

// History says what channels keep.
type History struct {
	// Count keeps the last Count messages of each channel; 0 means no limit.
	Count int64
	// Age keeps messages younger than this; 0 means no limit.
	Age time.Duration
	// Trim is how often older messages are removed.
	Trim time.Duration
}

// Log says how the node logs.
type Log struct {
	// Level is debug, info, warn or error.
	Level string
	// Format is text or json.
	Format string
}

// Default gives the settings of a node that is told nothing: reachable from its own machine only, with its journal
// in ./barrage-data.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8000",
		Data:   "./barrage-data",
		Broker: "local:",
		Engine: "auto",

		CompressionThreshold: 512,

		API: API{Body: 8 << 20},
		RPC: RPC{Timeout: 5 * time.Second},

		Limits: Limits{
			Message:     64 << 10,
			Connections: 100_000,
			Queue:       1 << 20,

			UserConnections: 100,
			UserPublishes:   100,

			Handshake: 10 * time.Second,
			Ping:      25 * time.Second,
			Pong:      10 * time.Second,
			Write:     30 * time.Second,
			Drain:     10 * time.Second,
		},
		History: History{
			Count: 100_000,
			Age:   30 * 24 * time.Hour,
			Trim:  time.Minute,
		},
		Log: Log{Level: "info", Format: "text"},
	}
}

// JournalURL is the journal to open: Journal, or the default place inside Data when that is empty.
func (c *Config) JournalURL() string {
	if c.Journal != "" {
		return c.Journal
	}
	return "sqlite:" + filepath.Join(c.Data, "journal.db")
}
