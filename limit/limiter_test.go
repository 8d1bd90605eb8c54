package limit

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"barrage/proto"
)

func TestATableIsBounded(t *testing.T) {
	table, r := NewTable[netip.Addr](1600), PerSecond(1)
	for i := range 100_000 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i))
		table.Take(netip.AddrFrom4(a), r, time.Duration(i)*time.Microsecond)
	}
	if n := table.Len(); n > 1600 {
		t.Errorf("100,000 addresses leave at most 1,600 buckets, not %d", n)
	}
}

func TestATableForgetsFirstWhatNeedNotBeKept(t *testing.T) {
	table, r := NewTable[int](shards*64), Rate{PerSecond: 1, Burst: 2}
	for i := range shards * 64 {
		table.Take(i, r, 0) // idle after a second
	}
	const busy = -1
	at := 10 * time.Second
	table.Take(busy, r, at)
	table.Take(busy, r, at)
	for i := range shards * 8 {
		table.Take(1_000_000+i, r, at)
	}
	if wait := table.Take(busy, r, at); wait != time.Second {
		t.Errorf("a bucket in use must stay when others need not be kept: it must wait 1s, not %v", wait)
	}
}

// others is a Usage that reports the same of everyone on other nodes, and notes what it is told.
type others struct {
	connections, here int
	publishes         float64
	added             int
}

func (o *others) Add(_ string, n int)    { o.added += n }
func (o *others) Connected(string)       { o.here++ }
func (o *others) Disconnected(string)    { o.here-- }
func (o *others) Remote(string) float64  { return o.publishes }
func (o *others) Connections(string) int { return o.here + o.connections }

func TestPublishIsRefusedByWhatIsTooMuch(t *testing.T) {
	for _, c := range []struct {
		options Options
		user    string
		allowed int
		message string
	}{
		{Options{}, "ann", 1000, ""},
		{Options{Publishes: Rate{5, 3}}, "", 3, "this connection publishes too much; at most 5 messages a second are allowed"},
		{Options{UserPublishes: Rate{5, 3}}, "", 1000, ""},
		{Options{UserPublishes: Rate{5, 3}}, "ann", 3, "you publish too much"},
		{Options{ChannelPublishes: Rate{5, 3}}, "", 3, "too much is published into this channel"},
	} {
		l := New(c.options)
		now, n := time.Now(), 0
		var conn Connection
		var err *proto.Error
		for n < 1000 && err == nil {
			if err = l.Publish(&conn, c.user, "room", now); err == nil {
				n++
			}
		}
		if n != c.allowed {
			t.Errorf("%+v lets %q publish %d at once, not %d", c.options, c.user, c.allowed, n)
		}
		if c.message != "" && (err == nil || err.Code != 111 || !err.Retry || err.RetryAfter != 200*time.Millisecond || !strings.HasPrefix(err.Message, c.message)) {
			t.Errorf("%+v must refuse with 111, %q and 200ms to wait, not %+v", c.options, c.message, err)
		}
	}
}

func TestAPublishThatIsRefusedCostsNothing(t *testing.T) {
	for _, o := range []Options{
		{Publishes: Rate{1, 2}, UserPublishes: Rate{1, 2}, ChannelPublishes: Rate{1, 1}},
		{Publishes: Rate{1, 2}, UserPublishes: Rate{1, 1}, ChannelPublishes: Rate{1, 2}},
	} {
		l := New(o)
		now := time.Now()
		var first, conn Connection
		if err := l.Publish(&first, "bob", "full", now); err != nil {
			t.Fatal(err)
		}
		user := "ann"
		if o.UserPublishes.Burst == 1 {
			user = "bob" // whose bucket is empty
		}
		for range 10 {
			if err := l.Publish(&conn, user, "full", now); err == nil {
				t.Fatalf("%+v must refuse a second publish", o)
			}
		}
		if conn.publishes != (Bucket{paid: now.Sub(l.began)}) {
			t.Errorf("%+v: a publish that is refused costs the connection nothing, but it owes %v", o, conn.publishes.paid-now.Sub(l.began))
		}
		for i := range 2 {
			if err := l.Publish(&conn, "ann", []string{"other", "another"}[i], now); err != nil && o.UserPublishes.Burst > i {
				t.Errorf("%+v: a publish that is refused costs its user nothing, but publish %d elsewhere is refused: %v", o, i+1, err)
			}
		}
	}
}

func TestOtherNodesLeaveLessOfARate(t *testing.T) {
	l := New(Options{UserPublishes: Rate{10, 1}, Usage: &others{publishes: 8}})
	now := time.Now()
	var conn Connection
	l.Publish(&conn, "ann", "room", now)
	if err := l.Publish(&conn, "ann", "room", now); err == nil || err.RetryAfter != 500*time.Millisecond {
		t.Errorf("with 8 of 10 a second used elsewhere 2 are left: the wait is 500ms, not %+v", err)
	}
	l = New(Options{UserPublishes: Rate{10, 1}, Usage: &others{publishes: 800}})
	now = time.Now()
	l.Publish(&conn, "ann", "room", now)
	if err := l.Publish(&conn, "ann", "room", now); err == nil || err.RetryAfter != time.Second {
		t.Errorf("a tenth of the rate is always left: the wait is 1s, not %+v", err)
	}
}

func TestUserConnections(t *testing.T) {
	elsewhere := &others{connections: 1}
	l := New(Options{UserConnections: 3, Usage: elsewhere})
	for here := range 2 {
		if err := l.Connected("ann", here); err != nil {
			t.Errorf("%d here and 1 elsewhere leave room for one of 3, not %v", here, err)
		}
	}
	if err := l.Connected("ann", 2); err == nil || err.Code != 111 || err.RetryAfter == 0 {
		t.Errorf("2 here and 1 elsewhere leave no room for one of 3 for now, since the other node may be gone: not %v", err)
	}
	if err := l.Connected("ann", 3); err == nil || err.Code != 106 {
		t.Errorf("3 here leave no room for one of 3, which is final: not %v", err)
	}
	if elsewhere.here != 2 {
		t.Errorf("other nodes are told of 2 connections, not %d", elsewhere.here)
	}
	l.Disconnected("ann")
	if err := l.Connected("ann", 1); err != nil {
		t.Errorf("after one ended there is room again, not %v", err)
	}
	if err := l.Connected("", 200); err != nil {
		t.Errorf("anonymous clients are no user: %v", err)
	}
}

func TestConnectsAreCountedByNetwork(t *testing.T) {
	l := New(Options{AddressConnects: Rate{1, 2}})
	now := time.Now()
	for _, c := range []struct {
		address string
		allowed bool
	}{
		{"192.0.2.1", true},
		{"192.0.2.1", true},
		{"::ffff:192.0.2.1", false},
		{"192.0.2.2", true},
		{"2001:db8::1", true},
		{"2001:db8::2", true},
		{"2001:db8:0:0:ffff::3", false},
		{"2001:db8:0:1::3", true},
		{"127.0.0.1", true},
		{"127.0.0.1", true},
		{"127.0.0.1", true},
		{"::1", true},
		{"::1", true},
		{"::1", true},
	} {
		if wait := l.Connect(netip.MustParseAddr(c.address), now); (wait == 0) != c.allowed {
			t.Errorf("a connection from %s: allowed is %t, not a wait of %v", c.address, c.allowed, wait)
		}
	}
	if n := l.Stats().AddressConnects.Load(); n != 2 {
		t.Errorf("2 refusals are counted, not %d", n)
	}
}

func TestWhoGoesOnIsExhausted(t *testing.T) {
	l := New(Options{Commands: Rate{1, 1}})
	var conn Connection
	now := time.Now()
	if err := l.Command(&conn, now); err != nil {
		t.Fatal(err)
	}
	conn.Taken()
	for i := range Patience {
		if l.Exhausted(&conn) {
			t.Fatalf("after %d refusals nobody is exhausted", i)
		}
		if l.Command(&conn, now) == nil {
			t.Fatal("a second command at once must be refused")
		}
	}
	if !l.Exhausted(&conn) {
		t.Errorf("after %d refusals in a row a connection is exhausted", Patience)
	}
}

func TestNothingLimitsNothing(t *testing.T) {
	var l *Limiter
	if l.OfCommands("ann") || l.Connected("ann", 1<<30) != nil || l.Connect(netip.MustParseAddr("192.0.2.1"), time.Now()) != 0 || l.Stats().Closed.Load() != 0 {
		t.Error("a nil Limiter must limit nothing")
	}
}

func TestABurstIsNotGivenAgainWhenOthersAreHeardOf(t *testing.T) {
	elsewhere := &others{}
	l := New(Options{UserPublishes: Rate{10, 20}, Usage: elsewhere})
	now, taken := time.Now(), 0
	for l.Publish(&Connection{}, "ann", "room", now) == nil {
		taken++
	}
	if taken != 20 {
		t.Errorf("a user has a burst of 20 at once, not %d", taken)
	}
	elsewhere.publishes = 9
	if l.Publish(&Connection{}, "ann", "room", now) == nil {
		t.Error("who has used the burst has none left when others are heard of")
	}
	now = now.Add(2 * time.Second)
	for taken = 0; l.Publish(&Connection{}, "ann", "room", now) == nil; {
		taken++
	}
	if taken < 1 || taken > 3 {
		t.Errorf("a tenth of the rate, in two seconds, is about 2: not %d", taken)
	}
}
