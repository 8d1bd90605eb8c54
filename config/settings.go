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

	// secret says what of the value must not be shown.
	secret secrecy
	// field points at the setting's place in c. Its type decides how values are read.
	field func(c *Config) any
}

// secrecy is what of a value is a secret.
type secrecy uint8

const (
	// public values are shown.
	public secrecy = iota
	// urlSecret is a URL with a password in it, which Mask hides.
	urlSecret
	// wholeSecret is hidden as a whole.
	wholeSecret
	// keySecret is NAME:SCOPE:KEY, of which the key is hidden.
	keySecret
)

// show gives a value, or an item of a list, as it may be shown.
func (s secrecy) show(text string) string {
	switch {
	case s == urlSecret:
		return Mask(text)
	case s == keySecret:
		return maskItem(text)
	case s == wholeSecret && text != "":
		return masked
	}
	return text
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
		Doc: "The address (host:port) for clients, pages and metrics. Without authentication (see auth.secret) anyone who can " +
			"connect may read and publish, so other than loopback addresses need open: true. Port 0 takes a free port.",
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
			"Empty means sqlite:DATA/journal.db. docs/databases.md has TLS and a standby that takes over.",
		secret: urlSecret,
		field:  func(c *Config) any { return &c.Journal },
	}, {
		Name: "broker", Hint: "URL", Summary: "local:, redis://…, redis-sentinel://… or redis-cluster://…",
		Doc: "How nodes hear of each other's messages at once: local: (this node is alone), redis://…, redis-sentinel://… or " +
			"redis-cluster://…. All but local: need a journal that the nodes share. docs/databases.md has TLS and users.",
		secret: urlSecret,
		field:  func(c *Config) any { return &c.Broker },
	}, {
		Name: "engine", Hint: "NAME", Summary: "auto or portable",
		Doc: "How connections are served: auto is the best of this system, on Linux epoll loops without a goroutine, a buffer " +
			"or a timer for an idle connection; portable is one goroutine for each, as on all other systems.",
		field: func(c *Config) any { return &c.Engine },
	}, {
		Name: "open", Summary: "allow listening on the network without authentication",
		Doc: "Allows listening on other than loopback addresses although anyone who can connect may read and publish. With " +
			"authentication it is not needed. Set it behind a proxy that decides who may connect, or where everyone may.",
		field: func(c *Config) any { return &c.Open },
	}, {
		Name: "origins", Hint: "LIST", Summary: "origins besides the node's own whose pages may connect; * allows all",
		Doc: "The origins (scheme://host[:port]) besides the node's own whose pages may connect; \"*\" allows all, but not to act for users " +
			"that a proxy names (auth.user_header). A node without authentication, unless open is set, answers only to IP addresses, to " +
			"localhost and names under it, and to the hosts of these origins: every other Host is refused with 421. " +
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
			"namespaces, where a value with a comma, a semicolon or a quote in it stands in double quotes. class is durable (every message " +
			"is stored before it is acknowledged, the default) or live (nothing is stored, " +
			"each message is delivered at most once, and a reader that is too slow skips ahead). merge, 0s to 10s, is how long a message " +
			"may wait for others while the channel is busy, so that they go out together: in a channel with very many members the number " +
			"of writes costs, not that of messages. A quiet channel never waits. The default is 0s: never. " +
			"subscribe, publish, history and presence say who may do so: nobody (but the server API; who has a subscription token for a " +
			"channel, or whose personal channel it is, may subscribe all the same), subscriber (who is subscribed to the channel), user " +
			"(everyone with a user id, and subscribers) or anyone. What is not given is, with authentication, nobody, and subscriber for " +
			"history; without authentication it is anyone. join_leave (true or false, the default) tells members of others that come and go. " +
			"pattern is a regular expression (RE2) that the whole name after the colon must match. " +
			"count and age are history.count and history.age for the channels of this namespace; 0, the default, means those. " +
			"All nodes of a cluster need the same namespaces.",
		field: func(c *Config) any { return &c.Namespaces },
	}, {
		Name: "auth.secret", Hint: "LIST", Summary: "secrets of tokens signed with HMAC (HS256, HS384, HS512)",
		Doc: "The secrets of tokens that are signed with HMAC (HS256, HS384, HS512), at least 16 bytes each; barrage token secret makes " +
			"one. Tokens made with any of them are accepted, so that a secret can be replaced: add the new one, let what mints tokens use " +
			"it, and remove the old one when its tokens have expired. A secret with a comma in it must be written as an item of a list in the " +
			"file. Other users of a machine can see flags: give secrets in the file or in the environment. With this, auth.keys, auth.jwks " +
			"or auth.user_header there is authentication: what a namespace does not open is closed (docs/security.md), and the node may " +
			"listen on the network.",
		secret: wholeSecret,
		field:  func(c *Config) any { return &c.Auth.Secrets },
	}, {
		Name: "auth.keys", Hint: "LIST", Summary: "PEM files with public keys of tokens (RS, PS, ES, EdDSA)",
		Doc: "The paths of PEM files with the public keys, or certificates, of tokens that are signed with RSA (RS256 to PS512, 2048 bits or " +
			"more), EC (ES256, ES384, ES512) or Ed25519 (EdDSA). A file may hold several keys. The files are looked at every few seconds; one " +
			"that cannot be used leaves its keys from before in use.",
		field: func(c *Config) any { return &c.Auth.Keys },
	}, {
		Name: "auth.jwks", Hint: "LIST", Summary: "ISSUER=URL or URL of JSON Web Key Sets with keys of tokens",
		Doc: "Where the keys of tokens are fetched, as JSON Web Key Sets: ISSUER=URL for tokens whose claim iss is ISSUER, which must then be " +
			"signed with one of these keys and no other; or, at most once, a URL alone for all other tokens. The keys are fetched at the start " +
			"and every 10 minutes, and at most every 10 seconds when a token names a key that is not there. While they have not arrived, their " +
			"tokens are answered with a temporary error. Use https: over http everybody on the way can put keys of their own there.",
		secret: urlSecret,
		field:  func(c *Config) any { return &c.Auth.JWKS },
	}, {
		Name: "auth.audience", Hint: "NAME", Summary: "what tokens must have in their claim aud",
		Doc:   "What must be in a token's claim aud. Empty means that the claim is not looked at.",
		field: func(c *Config) any { return &c.Auth.Audience },
	}, {
		Name: "auth.issuer", Hint: "NAME", Summary: "what tokens must have as their claim iss",
		Doc:   "What must be a token's claim iss, unless it is an issuer of auth.jwks. Empty means that the claim only selects among those.",
		field: func(c *Config) any { return &c.Auth.Issuer },
	}, {
		Name: "auth.anonymous", Summary: "let clients without a token connect",
		Doc: "Lets clients without a token connect although there is authentication. They may do what namespaces allow to anyone. " +
			"A token that is wrong is refused all the same.",
		field: func(c *Config) any { return &c.Auth.Anonymous },
	}, {
		Name: "auth.user_header", Hint: "NAME", Summary: "header in which a proxy of trusted_proxies tells the user id",
		Doc: "The name of the header of the handshake, such as X-User-Id, in which a proxy that has authenticated the client tells its user " +
			"id. Only the proxies in trusted_proxies are believed, which must be set; from others the header is ignored. The proxy must remove " +
			"the header when a client has sent it.",
		field: func(c *Config) any { return &c.Auth.UserHeader },
	}, {
		Name: "auth.personal", Summary: "subscribe each Centrifuge client with a user id to its channel #USER",
		Doc: "Subscribes each client of the Centrifuge protocol that has a user id to its personal channel #USER when it connects, without it " +
			"asking. A user id with # or a comma in it has no personal channel.",
		field: func(c *Config) any { return &c.Auth.Personal },
	}, {
		Name: "api.keys", Hint: "LIST", Summary: "keys of the server API, each NAME:SCOPE:KEY",
		Doc: "The keys with which your own servers may use the server API (docs/api.md), each written as NAME:SCOPE:KEY. NAME is for logs. " +
			"SCOPE is publish (publish and broadcast), read (history, presence, channels, info, connections), publish+read, or admin (everything). " +
			"KEY is 16 to 256 characters without spaces and commas, best random ones: openssl rand -hex 32. Without any key the server API " +
			"is closed, also on loopback. Whoever lists the machine's processes sees flags: rather use the file, the environment or api.keys_file.",
		secret: keySecret,
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
		Name: "rpc.url", Hint: "URL", Summary: "your service that answers rpc of Centrifuge clients",
		Doc: "The address (http or https) of your own service that answers what clients of the Centrifuge protocol ask by rpc, and takes " +
			"what they send: docs/api.md has what it is asked and what it may answer. A name and a password in the address are sent as Basic " +
			"authentication. Empty means none: rpc is then error 108, and send closes the connection.",
		secret: urlSecret,
		field:  func(c *Config) any { return &c.RPC.URL },
	}, {
		Name: "rpc.timeout", Hint: "DURATION", Summary: "time that the service of rpc.url may take",
		Doc:   "How long the service of rpc.url may take for an answer, 100ms to 1m; the client is then told to try again.",
		field: func(c *Config) any { return &c.RPC.Timeout },
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
		Doc: "The largest message a client may send, 1B to 16MiB. A larger one closes the connection with code 1009; the welcome of /ws tells the limit. " +
			"It bounds the memory that one connection can claim.",
		field: func(c *Config) any { return size{&c.Limits.Message} },
	}, {
		Name: "limits.connections", Hint: "N", Summary: "most connections of the node; 0 means no limit",
		Doc: "The most connections of the node; further ones are refused with HTTP 503. 0 means no limit. The default " +
			"is far below what an operating system's limits allow a tuned machine, so that a flood ends here and not in a crash.",
		field: func(c *Config) any { return &c.Limits.Connections },
	}, {
		Name: "limits.connections_per_address", Hint: "N", Summary: "most connections of one client address; 0 means no limit",
		Doc: "The most connections of one client address, or one /64 of IPv6; further ones are refused with HTTP 429. Loopback addresses are " +
			"exempt. 0, the default, means no limit: behind a proxy that is not in trusted_proxies all clients share one address, " +
			"and a mobile carrier or a company puts thousands behind one.",
		field: func(c *Config) any { return &c.Limits.ConnectionsPerAddress },
	}, {
		Name: "limits.commands", Hint: "N", Summary: "commands a connection may send per second; 0 means no limit",
		Doc: "How many commands (on /raw: messages) one connection may send per second, and twice that at once after a pause. What is " +
			"more is refused with error 111 and the time to wait; a connection that is refused 100 times in a row, and one on /raw at once, " +
			"is closed with code 3013. 0, the default, means no limit: 64 may be under way at a time in any case, and tools such as " +
			"barrage bench and barrage replay send everything over few connections. Set it where clients are strangers: 100 is generous.",
		field: func(c *Config) any { return &c.Limits.Commands },
	}, {
		Name: "limits.publishes", Hint: "N", Summary: "messages a connection may publish per second; 0 means no limit",
		Doc: "How many messages one connection may publish per second, and twice that at once after a pause; see limits.commands for " +
			"what happens to more. 0, the default, means no limit. Set it where clients are strangers: 50 is generous, 5 is enough for a chat.",
		field: func(c *Config) any { return &c.Limits.Publishes },
	}, {
		Name: "limits.user_connections", Hint: "N", Summary: "most connections of one user; 0 means no limit",
		Doc: "The most connections of one user at once, on all nodes as far as they have told each other; further ones are closed " +
			"with code 3504. 0 means no limit. Clients without a user id are not concerned.",
		field: func(c *Config) any { return &c.Limits.UserConnections },
	}, {
		Name: "limits.user_publishes", Hint: "N", Summary: "messages a user may publish per second; 0 means no limit",
		Doc: "How many messages all connections of one user may publish per second, and twice that at once after a pause, on all nodes " +
			"as far as they have told each other; more is refused with error 111 and the time to wait. 0 means no limit. Clients without a " +
			"user id, and the server API, are not concerned.",
		field: func(c *Config) any { return &c.Limits.UserPublishes },
	}, {
		Name: "limits.address_connects", Hint: "N", Summary: "connections an address may open per second; 0 means no limit",
		Doc: "How many connections one client address, or one /64 of IPv6, may open per second, and twice that at once after a pause; " +
			"further ones are refused with HTTP 429 and Retry-After. Loopback addresses are exempt. 0, the default, means no limit, for the " +
			"reasons that limits.connections_per_address has.",
		field: func(c *Config) any { return &c.Limits.AddressConnects },
	}, {
		Name: "limits.channel_publishes", Hint: "N", Summary: "messages clients may publish into a channel per second; 0 means no limit",
		Doc: "How many messages all clients of this node together may publish into one channel per second, and twice that at once after " +
			"a pause; more is refused with error 111 and the time to wait. The server API is not concerned. 0, the default, means no limit.",
		field: func(c *Config) any { return &c.Limits.ChannelPublishes },
	}, {
		Name: "limits.queue", Hint: "SIZE", Summary: "most bytes of answers that may wait to be read on a connection",
		Doc: "The most bytes of answers, at least 64KiB, that may wait until a client reads them. While more than half of it waits, the " +
			"client's commands are not read, and its large answers are made only when there is room again; one of them, up to 1 MiB, may " +
			"go beyond. What it did not ask for, such as the news that it was unsubscribed, closes the connection with code 3008 when there " +
			"is no room. Messages of channels do not count: of them nothing is kept for a slow reader. It bounds the memory that one " +
			"connection can claim.",
		field: func(c *Config) any { return size{&c.Limits.Queue} },
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
