package config

import (
	"strings"
	"time"
)

// Setting describes one key: what it is called in each source, and what it means.
type Setting struct {
	// Name is the key in the file; a dot separates a group from its member.
	Name string
	// Hint stands for the value in usage lines: ADDR, DIR, SIZE, ….
	Hint string
	// Summary is one line for --help, without a full stop.
	Summary string
	// Doc is the whole meaning: unit, what 0 and empty mean, what it costs, why the default is what it is.
	Doc string

	// secret says that the value is a URL whose password must not be shown, or a list of items whose last part must not be.
	secret bool
	// field points at the setting's place in c. Its type decides how values are read.
	field func(c *Config) any
}

// Env is the environment variable of the setting: limits.message is BARRAGE_LIMITS_MESSAGE.
func (s *Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Name, ".", "_"))
}

// Flag is the command line flag of the setting, without dashes in front: limits.message is limits-message.
func (s *Setting) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.Name) }

// Switch says that the setting is true or false, so that its flag needs no value.
func (s *Setting) Switch() bool {
	_, ok := s.field(new(Config)).(*bool)
	return ok
}

// mapping says that the setting is written as a mapping in the file.
func (s *Setting) mapping() bool {
	_, ok := s.field(new(Config)).(*Namespaces)
	return ok
}

// size is the type of fields that are read and written in bytes (64KiB) and not as a plain count.
type size struct{ bytes *int }

// Settings lists every setting in the order of the reference page. The slice is shared; do not change it.
func Settings() []Setting { return settings }

func find(name string) (*Setting, bool) {
	for i := range settings {
		if settings[i].Name == name {
			return &settings[i], true
		}
	}
	return nil, false
}

// isGroup says whether name is the first part of grouped keys.
func isGroup(name string) bool {
	for i := range settings {
		if strings.HasPrefix(settings[i].Name, name+".") {
			return true
		}
	}
	return false
}

var settings = []Setting{
	{
		Name: "listen", Hint: "ADDR", Summary: "address for clients, pages and metrics",
		Doc: "The address (host:port) for clients, pages and metrics. Without authentication anyone who can connect may " +
			"read and publish, so other than loopback addresses need open: true. Port 0 takes a free port.",
		field: func(c *Config) any { return &c.Listen },
	}, {
		Name: "name", Hint: "NODE", Summary: "name of this node, unique in the cluster (default: host name and a random suffix)",
		Doc: "The node's name in welcomes, logs and metrics: up to 64 letters, digits, dots, dashes and underscores. It must be " +
			"unique in the cluster. Empty means the host's name followed by a random suffix.",
		field: func(c *Config) any { return &c.Name },
	}, {
		Name: "data", Hint: "DIR", Summary: "folder for what this node stores itself",
		Doc:   "The folder for what this node stores itself; it is created when missing.",
		field: func(c *Config) any { return &c.Data },
	}, {
		Name: "journal", Hint: "URL", Summary: "memory:, sqlite:PATH or postgres://… (default: sqlite: in the data folder)",
		Doc: "Where messages are stored: memory: (gone when the node stops), sqlite:PATH (one node) or postgres://… (clusters). " +
			"Empty means sqlite:DATA/journal.db.",
		secret: true,
		field:  func(c *Config) any { return &c.Journal },
	}, {
		Name: "broker", Hint: "URL", Summary: "local:, redis://…, redis-sentinel://… or redis-cluster://…",
		Doc: "How nodes hear of each other's messages at once: local: (this node is alone), redis://…, redis-sentinel://… or " +
			"redis-cluster://…. All but local: need a journal that the nodes share.",
		secret: true,
		field:  func(c *Config) any { return &c.Broker },
	}, {
		Name: "engine", Hint: "NAME", Summary: "auto or portable",
		Doc: "How connections are served: auto is the best of this system, on Linux epoll loops without a goroutine, a buffer " +
			"or a timer for an idle connection; portable is one goroutine for each, as on all other systems.",
		field: func(c *Config) any { return &c.Engine },
	}, {
		Name: "open", Summary: "allow listening on the network without authentication",
		Doc: "Allows listening on other than loopback addresses although anyone who can connect may read and publish. " +
			"Set it behind a proxy that decides who may connect, or where everyone may.",
		field: func(c *Config) any { return &c.Open },
	}, {
		Name: "origins", Hint: "LIST", Summary: "origins besides the node's own whose pages may connect; * allows all",
		Doc: "The origins (scheme://host[:port]) besides the node's own whose pages may connect; \"*\" allows all. " +
			"Programs that are no browsers send no origin and are not concerned.",
		field: func(c *Config) any { return &c.Origins },
	}, {
		Name: "trusted_proxies", Hint: "LIST", Summary: "addresses and prefixes whose X-Forwarded-For is believed",
		Doc: "The addresses and prefixes (CIDR) of proxies whose X-Forwarded-For is believed. From anyone else the header " +
			"is ignored, because a client could write into it what it likes.",
		field: func(c *Config) any { return &c.TrustedProxies },
	}, {
		Name: "compression", Summary: "let clients negotiate permessage-deflate",
		Doc: "Lets clients negotiate permessage-deflate (RFC 7692), which all browsers offer. A message is compressed once per " +
			"wire format for all who receive it, but not before: without receivers that have negotiated it, it costs nothing. " +
			"docs/compression.md says when it is worth its processor time and its second buffer for each channel.",
		field: func(c *Config) any { return &c.Compression },
	}, {
		Name: "compression_threshold", Hint: "SIZE", Summary: "smallest payload that is sent compressed",
		Doc: "The smallest payload that is sent compressed, 0B to 16MiB, when compression is on. Short messages have little to " +
			"leave out: below the default it costs more processor time than the bytes are worth. What clients may send is not concerned.",
		field: func(c *Config) any { return size{&c.CompressionThreshold} },
	}, {
		Name: "namespaces", Hint: "LIST", Summary: "how channels NAME:… behave, such as live:class=live,merge=50ms;big:merge=200ms",
		Doc: "How channels behave, by the part of their name before the first colon: a channel NAME:REST belongs to the namespace " +
			"NAME when that is in this list, and every other channel to the one called default, which may be in the list too. In the " +
			"file it is a mapping of names to {class: …, merge: …}; in the environment and in flags one text, with semicolons between " +
			"namespaces. class is durable (every message is stored before it is acknowledged, the default) or live (nothing is stored, " +
			"each message is delivered at most once, and a reader that is too slow skips ahead). merge, 0s to 10s, is how long a message " +
			"may wait for others while the channel is busy, so that they go out together: in a channel with very many members the number " +
			"of writes costs, not that of messages. A quiet channel never waits. The default is 0s: never. All nodes of a cluster need " +
			"the same namespaces.",
		field: func(c *Config) any { return &c.Namespaces },
	}, {
		Name: "api.keys", Hint: "LIST", Summary: "keys of the server API, each NAME:SCOPE:KEY",
		Doc: "The keys with which your own servers may use the server API (docs/api.md), each written as NAME:SCOPE:KEY. NAME is for logs. " +
			"SCOPE is publish (publish and broadcast), read (history, presence, channels, info, connections), publish+read, or admin (everything). " +
			"KEY is 16 to 256 characters without spaces and commas, best random ones: openssl rand -hex 32. Without any key the server API " +
			"is closed, also on loopback. Whoever lists the machine's processes sees flags: rather use the file, the environment or api.keys_file.",
		secret: true,
		field:  func(c *Config) any { return &c.API.Keys },
	}, {
		Name: "api.keys_file", Hint: "FILE", Summary: "file with a line SCOPE KEY [NAME] for each key of the server API",
		Doc: "The path of a file with keys of the server API besides api.keys, one on each line: SCOPE KEY [NAME]. Empty lines and those that " +
			"begin with # are passed over. The file is looked at every few seconds, so that keys are added and withdrawn without a restart; " +
			"a file that cannot be used leaves the keys before it in force. Empty means no file.",
		field: func(c *Config) any { return &c.API.KeysFile },
	}, {
		Name: "api.listen", Hint: "ADDR", Summary: "address of the server API alone, such as 127.0.0.1:9000",
		Doc: "An address (host:port) for the server API alone, so that it is not on the one that clients use: then nothing below /api is " +
			"served on listen. With tls.cert it is served over TLS too. Empty means that the server API is served on listen.",
		field: func(c *Config) any { return &c.API.Listen },
	}, {
		Name: "api.body", Hint: "SIZE", Summary: "largest request of the server API",
		Doc: "The largest body of a request to the server API, 1B to 64MiB; a larger one is refused with HTTP 413. The default is that of " +
			"the project's configuration of nginx.",
		field: func(c *Config) any { return size{&c.API.Body} },
	}, {
		Name: "tls.cert", Hint: "FILE", Summary: "certificate chain in PEM: clients, pages and metrics are served over TLS",
		Doc: "The path of a PEM file with the server's certificate, followed by those between it and its authority. With it " +
			"and tls.key everything on listen is served over TLS 1.2 or 1.3 (wss://, https://), and nothing without. The files " +
			"are looked at every few seconds: connections that are made after a change get the new certificate, those that " +
			"there are go on, and a pair that cannot be used leaves the one before in use. Empty means no TLS.",
		field: func(c *Config) any { return &c.TLS.Cert },
	}, {
		Name: "tls.key", Hint: "FILE", Summary: "private key of tls.cert in PEM",
		Doc:   "The path of a PEM file with the private key of the certificate in tls.cert, without a passphrase.",
		field: func(c *Config) any { return &c.TLS.Key },
	}, {
		Name: "limits.message", Hint: "SIZE", Summary: "largest message a client may send",
		Doc: "The largest message a client may send, 1B to 16MiB. A larger one closes the connection with code 1009. " +
			"It bounds the memory that one connection can claim.",
		field: func(c *Config) any { return size{&c.Limits.Message} },
	}, {
		Name: "limits.connections", Hint: "N", Summary: "most connections of the node; 0 means no limit",
		Doc: "The most connections of the node; further ones are refused with HTTP 503. 0 means no limit. The default " +
			"is far below what an operating system's limits allow a tuned machine, so that a flood ends here and not in a crash.",
		field: func(c *Config) any { return &c.Limits.Connections },
	}, {
		Name: "limits.connections_per_address", Hint: "N", Summary: "most connections of one client address; 0 means no limit",
		Doc: "The most connections of one client address; further ones are refused with HTTP 429. Loopback addresses are " +
			"exempt. 0, the default, means no limit: behind a proxy that is not in trusted_proxies all clients share one address, " +
			"and a mobile carrier or a company puts thousands behind one.",
		field: func(c *Config) any { return &c.Limits.ConnectionsPerAddress },
	}, {
		Name: "limits.handshake", Hint: "DURATION", Summary: "time from connecting to the end of the upgrade request",
		Doc: "How long a client may take from connecting to the end of its upgrade request, at least 100ms. With TLS its " +
			"handshake and then the request may take that time each.",
		field: func(c *Config) any { return &c.Limits.Handshake },
	}, {
		Name: "limits.ping", Hint: "DURATION", Summary: "how often an idle connection is pinged",
		Doc: "How often an idle connection is pinged, at least 1s. The default stays well below the 60 seconds after which " +
			"common proxies cut a silent connection.",
		field: func(c *Config) any { return &c.Limits.Ping },
	}, {
		Name: "limits.pong", Hint: "DURATION", Summary: "time in which something must arrive after a ping",
		Doc:   "How long after a ping something must arrive, at least 1s; otherwise the connection is closed with code 3012.",
		field: func(c *Config) any { return &c.Limits.Pong },
	}, {
		Name: "limits.write", Hint: "DURATION", Summary: "time a client may take no bytes before it is closed",
		Doc: "How long a client may take no bytes at all, at least 1s, before it is closed with code 3008. It can come back and " +
			"resume where it was.",
		field: func(c *Config) any { return &c.Limits.Write },
	}, {
		Name: "limits.drain", Hint: "DURATION", Summary: "time SIGTERM waits for connections to end",
		Doc:   "How long SIGTERM waits for connections to end before the process exits; 0 means not at all.",
		field: func(c *Config) any { return &c.Limits.Drain },
	}, {
		Name: "history.count", Hint: "N", Summary: "messages each channel keeps; 0 means no limit",
		Doc: "How many of its last messages each channel keeps; 0 means no limit. The default holds a day of a busy room " +
			"and keeps one runaway channel from filling the disk.",
		field: func(c *Config) any { return &c.History.Count },
	}, {
		Name: "history.age", Hint: "DURATION", Summary: "how long messages are kept; 0 means for ever",
		Doc: "How long messages are kept; 0 means for ever. A client that was away for longer cannot resume without a " +
			"gap and is told so.",
		field: func(c *Config) any { return &c.History.Age },
	}, {
		Name: "history.trim", Hint: "DURATION", Summary: "how often older messages are removed",
		Doc: "How often messages beyond history.count and history.age are removed from the journal, at least 1s. A node goes on " +
			"giving out what it has in memory: the newest 1,000 messages (or 1 MiB) of a channel in use.",
		field: func(c *Config) any { return &c.History.Trim },
	}, {
		Name: "log.level", Hint: "LEVEL", Summary: "debug, info, warn or error",
		Doc:   "The least important level that is logged: debug, info, warn or error.",
		field: func(c *Config) any { return &c.Log.Level },
	}, {
		Name: "log.format", Hint: "FORMAT", Summary: "text or json",
		Doc:   "How log lines are written: text for people, json for machines.",
		field: func(c *Config) any { return &c.Log.Format },
	}, {
		Name: "debug_endpoints", Summary: "open /echo and /debug/pprof/, for tests and profiles",
		Doc: "Opens /echo, a WebSocket that gives back the text and binary messages that it is sent, for suites that test " +
			"the protocol, and /debug/pprof/, Go's profiles. Nobody but you may reach them: an echo costs as much as its user " +
			"likes to send, and a profile slows the node down and shows what is in its memory. Leave it off in production, or keep both " +
			"paths from the public at the proxy.",
		field: func(c *Config) any { return &c.DebugEndpoints },
	},
}

// set reads text into the setting's field. The error says what is expected, without the setting's name.
func (s *Setting) set(c *Config, text string) error {
	var err error
	switch p := s.field(c).(type) {
	case *string:
		*p = text
	case *bool:
		*p, err = parseSwitch(text)
	case *int:
		*p, err = parseCount[int](text)
	case *int64:
		*p, err = parseCount[int64](text)
	case size:
		*p.bytes, err = ParseSize(text)
	case *time.Duration:
		*p, err = ParseDuration(text)
	case *[]string:
		*p = splitList(text)
	case *Namespaces:
		*p, err = parseNamespaces(text)
	}
	return err
}

// setList reads a YAML list; only list settings take one.
func (s *Setting) setList(c *Config, items []string) bool {
	p, ok := s.field(c).(*[]string)
	if ok {
		*p = items
	}
	return ok
}

// format writes the value that c has for the setting as one line of text that set reads back; lists with commas.
func (s *Setting) format(c *Config) string {
	switch p := s.field(c).(type) {
	case *string:
		return *p
	case *bool:
		return formatSwitch(*p)
	case *int:
		return formatCount(int64(*p))
	case *int64:
		return formatCount(*p)
	case size:
		return FormatSize(*p.bytes)
	case *time.Duration:
		return FormatDuration(*p)
	case *[]string:
		return strings.Join(*p, ",")
	case *Namespaces:
		return p.format()
	}
	return ""
}

// DefaultTexts gives the default of each setting by name, as one would write it in a flag.
func DefaultTexts() map[string]string {
	c, texts := Default(), map[string]string{}
	for i := range settings {
		texts[settings[i].Name] = settings[i].format(&c)
	}
	return texts
}
