//go:build system

package test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"barrage/client"

	"github.com/centrifugal/centrifuge-go"
)

// roster is who is in a channel, as somebody sees it.
type roster struct {
	Users         []string // of the members that are listed, sorted
	Clients, Many int      // connections and distinct users
	Missing       []string
}

func (r roster) String() string {
	return fmt.Sprintf("%d connections of %d users: %s, missing %v", r.Clients, r.Many, strings.Join(r.Users, " "), r.Missing)
}

// apiRoster asks the server API.
func apiRoster(t *testing.T, base, channel string) (r roster) {
	t.Helper()
	var who struct {
		Presence map[string]struct{ User string }
		Missing  []string
	}
	var stats struct {
		NumClients int `json:"num_clients"`
		NumUsers   int `json:"num_users"`
	}
	request := fmt.Sprintf(`{"channel":%q}`, channel)
	if code := call(t, base, "presence", request, &who); code != 0 {
		t.Fatalf("presence is answered: code %d", code)
	}
	if code := call(t, base, "presence_stats", request, &stats); code != 0 {
		t.Fatalf("presence_stats is answered: code %d", code)
	}
	for _, m := range who.Presence {
		r.Users = append(r.Users, m.User)
	}
	slices.Sort(r.Users)
	r.Clients, r.Many, r.Missing = stats.NumClients, stats.NumUsers, who.Missing
	return r
}

// sdkRoster asks by the SDK.
func sdkRoster(t *testing.T, d *device, channel string) (r roster) {
	t.Helper()
	who, err := d.Presence(within(t, defaultWait), channel)
	if err != nil {
		t.Fatalf("the SDK asks who is in %s: %v", channel, err)
	}
	stats, err := d.PresenceStats(within(t, defaultWait), channel)
	if err != nil {
		t.Fatalf("the SDK asks how many are in %s: %v", channel, err)
	}
	for _, m := range who.Clients {
		r.Users = append(r.Users, m.User)
	}
	slices.Sort(r.Users)
	r.Clients, r.Many = stats.NumClients, stats.NumUsers
	return r
}

// lineRoster asks by /ws.
func lineRoster(t *testing.T, c *Client) (r roster) {
	t.Helper()
	send(t, c, `{"presence":{}}`)
	for {
		l := next(t, c)
		if l.Presence == nil {
			continue
		}
		for _, m := range l.Presence.Members {
			r.Users = append(r.Users, m.User)
		}
		slices.Sort(r.Users)
		r.Clients, r.Many = l.Presence.Clients, l.Presence.Users
		return r
	}
}

// Who is in a channel is the same for everyone who asks, on whichever node: the SDK, /ws and the server API. The members of a killed node
// are in no answer, and it is forgotten when its lease ends.
func testPresence(t *testing.T, p *people) {
	const channel = "chat:presence"
	var sdks []*device
	var lines []*Client
	for i, n := range p.Nodes {
		d := startDevice(t, fmt.Sprint("sdk-", n.Name()), n.URL(), i == 1, centrifuge.Config{Token: tokenOf(t, fmt.Sprint("sdk-", n.Name()), time.Hour)})
		d.subscribe(t, channel, centrifuge.SubscriptionConfig{})
		d.expect(t, "subscribed "+channel)
		sdks = append(sdks, d)
		c, _ := enter(t, n.URL(), "ws-"+n.Name(), channel)
		lines = append(lines, c)
	}
	enter(t, p.Nodes[1].URL(), "ws-a", channel) // a second device, on another node
	want := roster{Users: []string{"sdk-a", "sdk-b", "sdk-c", "ws-a", "ws-a", "ws-b", "ws-c"}, Clients: 7, Many: 6}
	agree := func(limit time.Duration, nodes int, want roster) {
		t.Helper()
		var said []string
		for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
			said = said[:0]
			for i, n := range p.Nodes[:nodes] {
				for who, r := range map[string]roster{"the API on ": apiRoster(t, n.URL(), channel), "the SDK on ": sdkRoster(t, sdks[i], channel), "/ws on ": lineRoster(t, lines[i])} {
					if r.String() != want.String() {
						said = append(said, who+n.Name()+": "+r.String())
					}
				}
			}
			if len(said) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("within %s everyone sees %s: got\n%s", limit, want, strings.Join(said, "\n"))
			}
		}
	}
	agree(12*time.Second, 3, want) // a node that was killed before may be missing until its lease ends
	began := time.Now()
	if err := p.Nodes[2].Kill(); err != nil {
		t.Fatal(err)
	}
	left := roster{Users: []string{"sdk-a", "sdk-b", "ws-a", "ws-a", "ws-b"}, Clients: 5, Many: 4}
	eventually(t, 5*time.Second, "the members of a killed node are in no answer, which names it as missing", func() bool {
		r := apiRoster(t, p.Nodes[0].URL(), channel)
		return slices.Equal(r.Users, left.Users) && slices.Equal(r.Missing, []string{"c"})
	})
	t.Logf("the members of a killed node were gone after %s", time.Since(began).Round(time.Millisecond))
	agree(12*time.Second, 2, left)
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("a killed node is forgotten when its lease of 8 s ends: it took %s", took)
	}
	t.Logf("it was forgotten after %s", time.Since(began).Round(time.Millisecond))
	if err := p.Nodes[2].Restart(); err != nil {
		t.Fatal(err)
	}
	sdks[2].Close()
	lines[2], _ = enter(t, p.Nodes[2].URL(), "ws-c", channel)
	sdks[2] = startDevice(t, "sdk-c", p.Nodes[2].URL(), false, centrifuge.Config{Token: tokenOf(t, "sdk-c", time.Hour)})
	sdks[2].subscribe(t, channel, centrifuge.SubscriptionConfig{})
	sdks[2].expect(t, "subscribed "+channel)
	agree(10*time.Second, 3, want)
}

// Everyone in a small channel is told once of who joins and who leaves, on all nodes, by every protocol; neither of a second device, nor of
// one who comes back at once, to another node.
func testJoinsAndLeaves(t *testing.T, p *people) {
	const channel = "chat:moves"
	told := map[string]func(string) int{}
	for i, n := range p.Nodes {
		d := startDevice(t, "sdk on "+n.Name(), n.URL(), i == 0, centrifuge.Config{Token: tokenOf(t, fmt.Sprint("watcher-sdk-", i), time.Hour)})
		d.subscribe(t, channel, centrifuge.SubscriptionConfig{JoinLeave: true})
		d.expect(t, "subscribed "+channel)
		told[d.name] = d.told
		f := startFollower(t, client.Options{URLs: []string{n.URL()}, Channel: channel, Members: true, Token: always(tokenOf(t, fmt.Sprint("watcher-go-", i), time.Hour))})
		eventually(t, defaultWait, "the Go client is welcome", func() bool { return f.told("welcome") == 1 })
		told["Go client on "+n.Name()] = f.told
	}
	everyone := func(event string) {
		t.Helper()
		for who, n := range told {
			for deadline := time.Now().Add(defaultWait); n(event) < 1; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the %s is told %q", who, event)
				}
			}
		}
	}
	phone, _ := enter(t, p.Nodes[0].URL(), "dora", channel)
	everyone("join dora")
	laptop, _ := enter(t, p.Nodes[1].URL(), "dora", channel)
	quick, _ := enter(t, p.Nodes[2].URL(), "quinn", channel)
	everyone("join quinn")
	quick.Close()
	quick, _ = enter(t, p.Nodes[0].URL(), "quinn", channel) // back at once, elsewhere
	phone.Close()
	// What must not be told would be told after 3 s: the leave of somebody who goes now is told later than that.
	last, _ := enter(t, p.Nodes[1].URL(), "lars", channel)
	everyone("join lars")
	last.Close()
	everyone("leave lars")
	laptop.Close()
	everyone("leave dora")
	quick.Close()
	everyone("leave quinn")
	for who, n := range told {
		for _, event := range []string{"join dora", "leave dora", "join quinn", "leave quinn", "join lars", "leave lars"} {
			if n(event) != 1 {
				t.Errorf("the %s is told %q once: it was told %d times", who, event, n(event))
			}
		}
	}
}

// A room that is larger than the limit: members are a sample, connections are exact, and distinct users are estimated, because one node has
// more than 1,000 of them.
func testManyMembers(t *testing.T, p *people) {
	const channel = "open:crowd"
	const here, there, users = 1400, 200, 1500 // connections on the first node and the second; the last hundred are second devices
	var clients []*Client
	for i := range here + there {
		node := p.Nodes[0]
		if i >= here {
			node = p.Nodes[1]
		}
		c, err := Dial(node.URL(), Channel("ws", channel), bearer(tokenOf(t, fmt.Sprint("member-", i%users), time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.Close()
		}
	})
	asker := clients[len(clients)-1]
	next(t, asker)
	for _, n := range p.Nodes {
		var who struct {
			Presence map[string]json.RawMessage
			Sampled  bool
		}
		var stats struct {
			NumClients int `json:"num_clients"`
			NumUsers   int `json:"num_users"`
			Estimated  bool
		}
		eventually(t, 5*time.Second, "connections are exact on node "+n.Name(), func() bool {
			call(t, n.URL(), "presence_stats", `{"channel":"`+channel+`"}`, &stats)
			return stats.NumClients == here+there
		})
		call(t, n.URL(), "presence", `{"channel":"`+channel+`"}`, &who)
		if !who.Sampled || len(who.Presence) > 1000 || len(who.Presence) < 500 {
			t.Errorf("above the limit members are a sample of at most 1,000: got %d, sampled %v", len(who.Presence), who.Sampled)
		}
		if off := math.Abs(float64(stats.NumUsers)-users) / users; !stats.Estimated || off > 0.03 {
			t.Errorf("users are estimated within 3 %%: %d of %d, estimated %v", stats.NumUsers, users, stats.Estimated)
		}
		t.Logf("node %s: %d listed, %d connections, %d of %d users", n.Name(), len(who.Presence), stats.NumClients, stats.NumUsers, users)
	}
	l := ask(t, asker, `{"presence":{}}`)
	if r := l.Presence; r == nil || !r.Sampled || r.Exact || r.Clients != here+there {
		t.Errorf("/ws says that it is a sample: got %.300s", l.Text)
	}
}
