// Package open opens the broker that a URL names.
package open

import (
	"fmt"
	"log/slog"
	"strings"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/broker/redis"
)

// Options are what every broker needs. For more, open the broker by its own package.
type Options struct {
	// NodeID names this node towards the broker's server.
	NodeID string
	// Handler hears payloads and changes; nil means nobody does.
	Handler broker.Handler
	// Logger gets one line for each change of state; nil discards them.
	Logger *slog.Logger
}

// Broker opens what url names: local: (or an empty url), redis://, rediss://, redis-sentinel:// or redis-cluster://.
// It never needs a server to be up. Its only error is broker.ErrURL with a sentence that holds no password.
func Broker(url string, o Options) (broker.Broker, error) {
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return local.Open(o.Handler), nil
	case !found:
		return nil, fmt.Errorf("%w: it has no scheme; %s", broker.ErrURL, known)
	case scheme == "local" && rest == "":
		return local.Open(o.Handler), nil
	case scheme == "local":
		return nil, fmt.Errorf("%w: local: stands alone, nothing may follow it", broker.ErrURL)
	case strings.HasPrefix(scheme, "redis"):
		b, err := redis.Open(url, redis.Options{NodeID: o.NodeID, Handler: o.Handler, Logger: o.Logger})
		if err != nil {
			return nil, err // not b: an interface that holds a nil *redis.Broker is not nil
		}
		return b, nil
	default:
		return nil, fmt.Errorf("%w: the scheme %q is unknown; %s", broker.ErrURL, scheme, known)
	}
}

const known = "known are local:, redis://, rediss://, redis-sentinel:// and redis-cluster://"
