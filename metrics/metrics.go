// Package metrics shows a node's counters to Prometheus. It owns no counter: each is read where it is kept.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"barrage/gateway"
	"barrage/internal/keypair"
	"barrage/node"
	"barrage/session"
)

// Journal holds what is measured of appends.
type Journal struct {
	duration prometheus.Histogram
	size     prometheus.Histogram
	failures prometheus.Counter
}

// NewJournal makes the instruments for a node's Observe option.
func NewJournal() *Journal {
	return &Journal{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "barrage_journal_append_seconds", Help: "Time of one append of a batch to the journal.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 15),
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "barrage_journal_batch_messages", Help: "Messages in one append.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "barrage_journal_append_failures_total", Help: "Appends that failed.",
		}),
	}
}

// Observe takes note of one append.
func (j *Journal) Observe(n int, took time.Duration, err error) {
	if err != nil {
		j.failures.Inc()
		return
	}
	j.duration.Observe(took.Seconds())
	j.size.Observe(float64(n))
}

// New makes a registry that shows everything about one node.
func New(n *node.Node, g *gateway.Gateway, j *Journal) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(j.duration, j.size, j.failures, newPauses())
	register(r, nodeCounters(n))
	register(r, channelCounters(n))
	register(r, gatewayCounters(g))
	gauges(r, n, g)
	return r
}

// counter is one counter of a package.
type counter struct {
	name, help string
	value      *atomic.Int64
}

func register(r *prometheus.Registry, counters []counter) {
	for _, c := range counters {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "barrage_" + c.name, Help: c.help},
			func() float64 { return float64(c.value.Load()) }))
	}
}

// nodeCounters are those of what a node publishes, and of what nodes ask each other.
func nodeCounters(n *node.Node) []counter {
	nodeStats, others := n.Stats(), n.ClusterStats()
	return []counter{
		{"published_total", "Publishes acknowledged.", &nodeStats.Published},
		{"publishes_refused_total", "Publishes refused because the journal is away or behind.", &nodeStats.Refused},
		{"broker_sent_total", "Payloads handed to the broker.", &nodeStats.BrokerSent},
		{"broker_dropped_total", "Payloads that the broker did not take; other nodes find their content in the journal, unless it was live.", &nodeStats.BrokerDropped},
		{"live_dropped_total", "Live messages that other nodes were not given: too many waited, or the broker was away.", &nodeStats.LiveDropped},
		{"broker_heard_total", "Payloads heard from other nodes.", &nodeStats.BrokerHeard},
		{"broker_bad_total", "Payloads from other nodes that could not be read.", &nodeStats.BrokerBad},
		{"rosters_total", "Rosters and counts of members that all nodes were asked for.", &nodeStats.Rosters},
		{"rosters_shared_total", "Rosters and counts answered by what all nodes had just been asked.", &nodeStats.RostersShared},
		{"joins_total", "Joins told to the members of small channels.", &nodeStats.Joins},
		{"leaves_total", "Leaves told to the members of small channels.", &nodeStats.Leaves},
		{"moves_untold_total", "Joins and leaves not told, because the user was there all the time or came back soon, or the channel is large.", &nodeStats.MovesUntold},
		{"moves_dropped_total", "Joins and leaves not told because too many waited.", &nodeStats.MovesDropped},
		{"cluster_asks_total", "Questions to other nodes, or to this one alone when there is no other.", &others.Asks},
		{"cluster_missing_total", "Answers to them that did not come in time, or were refusals.", &others.Missing},
		{"cluster_late_total", "Answers that came too late, or again.", &others.Late},
		{"cluster_refused_total", "Questions to other nodes refused because too many were under way.", &others.Refused},
		{"cluster_heard_total", "Questions and news of other nodes that were taken.", &others.Heard},
		{"cluster_dropped_total", "Questions and news of other nodes that found no room, or came again.", &others.Dropped},
		{"cluster_bad_total", "Payloads about the cluster that could not be read, mostly of another version.", &others.Bad},
	}
}

// channelCounters are those of channels and their members.
func channelCounters(n *node.Node) []counter {
	hub, out := n.Hub().Stats(), &n.Writers().Stats
	return []counter{
		{"channel_messages_total", "Messages given to channels with members.", &hub.Delivered},
		{"channel_duplicates_total", "Messages that arrived again, or live ones that arrived late, and were dropped.", &hub.Dropped},
		{"channel_overflow_total", "Early messages that found no room to wait and were read from the journal.", &hub.Overflow},
		{"channel_repairs_total", "Reads of the journal that repaired a gap.", &hub.Fetches},
		{"channel_page_reads_total", "Reads of the journal for members that were behind memory.", &hub.PageReads},
		{"channel_opens_total", "Channels opened.", &hub.Opens},
		{"channel_head_checks_total", "Comparisons of heads with the journal.", &hub.Checks},
		{"channel_resets_total", "Channels whose epoch changed.", &hub.Resets},
		{"channel_skips_total", "Gaps that retention had removed from the journal.", &hub.Skips},
		{"channel_live_messages_total", "Messages given to live channels with members.", &hub.Live},
		{"channel_strays_total", "Messages of one class for a channel of the other, from a node with other namespaces; they were dropped.", &hub.Strays},
		{"member_skips_total", "Times that a slow member of a live channel skipped ahead.", &hub.SkippedMembers},
		{"member_skipped_messages_total", "Messages that slow members of live channels were not given.", &hub.SkippedMessages},
		{"member_missed_total", "Members told that messages they need are no longer kept.", &hub.Missed},
		{"fanout_writes_total", "Writes to client sockets.", &out.Writes},
		{"fanout_bytes_total", "Bytes written to client sockets.", &out.Bytes},
		{"fanout_deliveries_total", "Messages delivered to members.", &out.Entries},
		{"fanout_skipped_total", "Messages not delivered to their own publisher, who asked for that.", &out.Skipped},
		{"fanout_blocked_total", "Times that a client's socket was full.", &out.Blocked},
		{"fanout_merge_windows_total", "Merge windows that messages waited for.", &out.Windows},
		{"fanout_merged_total", "Times that messages waited for a merge window.", &out.Merged},
		{"fanout_page_wants_total", "Times that a member was behind memory.", &out.PageWants},
	}
}

// gatewayCounters are those of connections.
func gatewayCounters(g *gateway.Gateway) []counter {
	gate, secure, tooMuch := g.Stats(), g.TLSStats(), g.Limits.Stats()
	sent := g.Compression
	if sent == nil {
		sent = new(session.Compression) // it stays at 0
	}
	return []counter{
		{"connections_accepted_total", "Connections accepted.", &gate.Accepted},
		{"connections_refused_total", "Handshakes refused.", &gate.Refused},
		{"requests_misdirected_total", "Requests refused because they were for a name that is not one of this machine's; only without authentication.", &gate.Misdirected},
		{"connections_closed_total", "Connections ended.", &gate.Closed},
		{"connections_denied_total", "Connections closed at once because they showed no valid token, or their user had too many.", &gate.Denied},
		{"connections_channels_passed_total", "Channels that clients of the Centrifuge protocol or their tokens named and were not subscribed to: there are none of that name, or they may not.", &gate.PassedOver},
		{"limited_commands_total", "Commands refused because the connection sent too many.", &tooMuch.Commands},
		{"limited_publishes_total", "Publishes refused because the connection published too much.", &tooMuch.Publishes},
		{"limited_user_publishes_total", "Publishes refused because the user published too much.", &tooMuch.UserPublishes},
		{"limited_channel_publishes_total", "Publishes refused because too much was published into the channel.", &tooMuch.ChannelPublishes},
		{"limited_user_connections_total", "Connections refused because the user had too many.", &tooMuch.UserConnections},
		{"limited_address_connects_total", "Handshakes refused because the address connected too often.", &tooMuch.AddressConnects},
		{"limited_closed_total", "Connections closed because they went on although they were refused.", &tooMuch.Closed},
		{"connections_silent_total", "Connections closed because they did not answer a ping.", &gate.NoPong},
		{"connections_slow_total", "Connections closed because they accepted no bytes, or left no room for what they had to be told.", &gate.Slow},
		{"connections_violation_total", "Connections closed because they broke the protocol.", &gate.Violation},
		{"connections_bomb_total", "Connections closed because a compressed message was too large once it was inflated.", &gate.Bombs},
		{"emulated_total", "Requests with commands of clients over SSE and HTTP streaming that were taken for a session here.", &gate.Emulated},
		{"emulated_forwarded_total", "Requests with commands of such clients that the node with the session took.", &gate.Forwarded},
		{"emulated_stray_total", "Requests with commands that nobody took: no node has the session, or it is full.", &gate.Stray},
		{"received_total", "Messages received from clients.", &gate.Received},
		{"received_compressed_total", "Messages received from clients that came compressed.", &gate.Inflated},
		{"compressed_total", "Payloads compressed for sending: of a message for all its receivers, once per wire format.", &sent.Deflated},
		{"compressed_before_bytes_total", "Bytes of the payloads that were compressed.", &sent.Before},
		{"compressed_after_bytes_total", "Bytes of the same payloads as they are sent.", &sent.After},
		{"tls_handshakes_total", "TLS handshakes completed.", &secure.Handshakes},
		{"tls_handshakes_failed_total", "TLS handshakes that failed or took too long.", &secure.Failed},
		{"tls_handshakes_crowded_total", "TLS handshakes cut because too many others waited for theirs.", &secure.Crowded},
	}
}

func gauges(r *prometheus.Registry, n *node.Node, g *gateway.Gateway) {
	for _, c := range []struct {
		name, help string
		value      func() float64
	}{
		{"connections", "Connections now.", func() float64 { return float64(g.Count()) }},
		{"nodes", "Live nodes, this one among them.", func() float64 { return float64(len(n.Cluster())) }},
		{"channels", "Channels in use on this node.", func() float64 { return float64(n.Hub().Channels()) }},
		{"journal_queue_messages", "Messages that wait for the journal.", func() float64 { return float64(n.Queue().Queued) }},
		{"journal_up", "1 when the journal answers.", func() float64 { return truth(n.Health().JournalOK) }},
		{"broker_up", "1 when the broker works; 0 when the node follows the journal instead.", func() float64 { return truth(n.Health().Broker.Up) }},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "barrage_" + c.name, Help: c.help}, c.value))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Certificate adds what is to be known about the certificate of a node that serves TLS.
func Certificate(r *prometheus.Registry, p *keypair.Pair) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "barrage_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends to be valid, in seconds since 1970; only with TLS.",
		}, func() float64 { return float64(p.Expires().Unix()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "barrage_tls_reloads_total", Help: "Certificates taken because their files changed; only with TLS.",
		}, func() float64 { return float64(p.Reloads.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "barrage_tls_reload_failures_total", Help: "Changes of the certificate's files that could not be used, so that the one before stayed in use; only with TLS.",
		}, func() float64 { return float64(p.Failures.Load()) }),
	)
}
