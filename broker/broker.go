// Package broker carries payloads between nodes, by channel, fast and without promises.
//
// A broker may lose, repeat and reorder payloads; the journal repairs that (see package channel). What an
// implementation does promise, and package brokertest checks against each of them:
//
//   - A payload reaches every other node that has the channel subscribed, and never the node that published it.
//   - Publish, Subscribe and Unsubscribe never block: they change what is wanted and return.
//   - When the connection is lost it comes back by itself (backoff with jitter) and everything wanted is subscribed
//     again. Each time a subscription becomes live, Handler.Subscribed names it: what was published before that
//     moment may have been missed.
//   - A connection that is silently dead is found by probe messages within seconds.
package broker

import (
	"context"
	"errors"
	"time"
)

// Broker delivers payloads to the other nodes of a cluster.
type Broker interface {
	// Publish queues payload for all other nodes that have channel subscribed. The broker owns payload from then on.
	// It returns ErrFull when its bounded queue is full and ErrDown while there is no connection; the payload is then
	// dropped and counted.
	Publish(channel string, payload []byte) error
	// Subscribe adds channels to the wanted set. A Subscribed follows, also for channels that are wanted already.
	Subscribe(channels ...string)
	// Unsubscribe removes channels from the wanted set. Payloads under way may still arrive.
	Unsubscribe(channels ...string)
	// State tells how the connection is now.
	State() State
	// Shared says whether this broker connects nodes at all (false for local:).
	Shared() bool
	// Close ends all goroutines of the broker; no handler call happens after it returned.
	Close(ctx context.Context) error
}

// Handler hears what a broker has to say. Calls come from the broker's goroutines, those about one channel one
// after the other; they must return quickly, because the socket is not read meanwhile.
type Handler interface {
	// Receive takes one payload from another node. payload is valid only during the call.
	Receive(channel string, payload []byte)
	// Subscribed says that these channels are live from now on.
	Subscribed(channels []string)
	// StateChanged says that the connection came up or went down.
	StateChanged(s State)
}

// State of a broker's connection.
type State struct {
	// Up is true when publishing works and every partition's subscription has proved alive by a probe.
	Up bool
	// Since is when Up last changed.
	Since time.Time
	// Detail is a sentence for people: what is wrong, or what is connected.
	Detail string
}

// Errors of brokers.
var (
	// ErrFull: the queue of outgoing payloads is full.
	ErrFull = errors.New("broker queue full")
	// ErrDown: there is no connection.
	ErrDown = errors.New("broker down")
	// ErrURL: the broker URL cannot be understood.
	ErrURL = errors.New("bad broker URL")
)
