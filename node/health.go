package node

import (
	"context"
	"time"

	"barrage/broker"
)

// Health is how a node's surroundings are.
type Health struct {
	// JournalOK says that the journal answered the last time it was asked; Journal says so in words, and nothing of where it is: why it
	// does not answer is in the log.
	JournalOK bool
	Journal   string
	Broker    broker.State
}

// Mode says in a word how the node hears of others' messages.
func (h Health) Mode() string {
	switch {
	case !h.JournalOK:
		return "journal away"
	case !h.Broker.Up:
		return "following the journal"
	}
	return "normal"
}

const (
	healthEvery   = time.Second
	healthTimeout = 3 * time.Second
)

// Health tells how the journal and the broker are, as of about a second ago.
func (n *Node) Health() Health {
	h := *n.health.Load()
	h.Broker = n.broker.State()
	return h
}

// watchJournal asks the journal for a head now and then, and logs when it goes away or comes back.
func (n *Node) watchJournal(ctx context.Context) {
	for first := true; ; first = false {
		h := Health{JournalOK: true, Journal: "answers"}
		asked, cancel := context.WithTimeout(ctx, healthTimeout)
		_, err := n.journal.Heads(asked, []string{"barrage"})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h = Health{Journal: "does not answer; the log of this node says why"}
		}
		was := n.health.Swap(&h)
		switch {
		case err != nil && (was.JournalOK || first):
			n.log.Error("the journal does not answer; publishes are refused until it does", "error", err)
		case err != nil:
			n.log.Debug("the journal still does not answer", "error", err)
		case err == nil && !was.JournalOK && !first:
			n.log.Info("the journal answers again")
		}
		if !pause(ctx, healthEvery) {
			return
		}
	}
}
