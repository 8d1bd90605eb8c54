//go:build system

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"barrage/client"
	"barrage/proto"

	"github.com/centrifugal/centrifuge-go"
)

// follower is the project's Go client, and what it was given.
type follower struct {
	*client.Client
	mu     sync.Mutex
	data   []string
	events []string // "join alice", "leave alice", "welcome", "gap", "reset"
	end    error    // what Run ended with
}

// startFollower runs a client until the test ends.
func startFollower(t *testing.T, o client.Options) *follower {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{Client: c}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := c.Run(ctx, f.take)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.end = err
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

func (f *follower) take(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case e.Message != nil:
		f.data = append(f.data, string(e.Message.Data))
	case e.Join != nil:
		f.events = append(f.events, "join "+e.Join.User)
	case e.Leave != nil:
		f.events = append(f.events, "leave "+e.Leave.User)
	case e.Welcome != nil:
		f.events = append(f.events, "welcome")
	case e.Gap != nil:
		f.events = append(f.events, "gap")
	case e.Reset != nil:
		f.events = append(f.events, "reset")
	}
}

func (f *follower) messages() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.data)
}

func (f *follower) told(event string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e == event {
			n++
		}
	}
	return n
}

func (f *follower) ended() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end
}

// always gives the same token.
func always(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// asListed drains the messages of an event stream into a list, which the result gives.
func asListed(t *testing.T, s *sse) func() []string {
	t.Helper()
	var mu sync.Mutex
	var got []string
	done := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			case line := <-s.data:
				var m struct {
					Message struct{ Data json.RawMessage }
				}
				_ = json.Unmarshal([]byte(line), &m)
				mu.Lock()
				got = append(got, string(m.Message.Data))
				mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { close(done); reading.Wait() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// What is published to #alice by the server API reaches every device of alice on every node, and nobody else; what came while a device was
// away, because its node was killed, it is given when it comes back.
func testPersonalChannels(t *testing.T, p *people) {
	const channel = "#alice"
	token := tokenOf(t, "alice", time.Hour)
	escaped := url.PathEscape(channel)
	phone := startDevice(t, "the phone", p.Nodes[0].URL(), false, centrifuge.Config{Token: token})
	tablet := startDevice(t, "the tablet", p.Nodes[1].URL(), true, centrifuge.Config{Token: token})
	roaming := startDevice(t, "the device that roams", p.URL(), false, centrifuge.Config{Token: token})
	bob := startDevice(t, "bob", p.Nodes[2].URL(), false, centrifuge.Config{Token: tokenOf(t, "bob", time.Hour)})
	desktop := startFollower(t, client.Options{URLs: []string{p.Nodes[2].URL()}, Channel: channel, Token: always(token)})
	laptop := startFollower(t, client.Options{URLs: []string{p.Nodes[0].URL()}, Channel: channel, Token: always(token), BackoffMax: time.Second})
	page := asListed(t, follow(t, p.Nodes[1].URL()+"/sse/"+escaped+"?token="+token))
	devices := map[string]func() []string{
		"the desktop": desktop.messages, "the laptop": laptop.messages, "the page": page,
	}
	for _, d := range []*device{phone, tablet, roaming} {
		d.expect(t, "subscribed "+channel)
		devices[d.name] = func() []string { return d.messages(channel) }
	}
	bob.expect(t, "subscribed #bob")
	eventually(t, defaultWait, "the Go clients are welcome", func() bool { return desktop.told("welcome") == 1 && laptop.told("welcome") == 1 })

	notAlices(t, p, bob, channel)

	var want []string
	say := func(n int) {
		t.Helper()
		for range n {
			text := fmt.Sprintf(`{"n":%d}`, len(want)+1)
			want = append(want, text)
			r, err := p.api.Publish(within(t, 10*time.Second), channel, []byte(text))
			if err != nil || r.Offset != uint64(len(want)) || r.Epoch == "" {
				t.Fatalf("a publish to %s tells where it was stored: got %+v, %v", channel, r, err)
			}
		}
	}
	reach := func(when string, who ...string) {
		t.Helper()
		for _, name := range who {
			get := devices[name]
			for deadline := time.Now().Add(25 * time.Second); len(get()) < len(want) && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			if got := get(); !slices.Equal(got, want) {
				t.Errorf("%s, %s has everything once and in order: got %q, not %q", when, name, got, want)
			}
		}
	}
	everyone := []string{"the phone", "the tablet", "the device that roams", "the desktop", "the laptop", "the page"}
	say(5)
	reach("while all are there", everyone...)
	if err := p.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	say(5)
	reach("while a node is away", "the tablet", "the device that roams", "the desktop", "the page")
	if n := len(phone.messages(channel)); n != 5 {
		t.Errorf("the phone's node is away, so it has 5 messages, not %d", n)
	}
	if err := p.Nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	say(1)
	reach("when the node is back", everyone...)
	for _, d := range []*device{phone, tablet, roaming} {
		if d.told("unrecovered "+channel) > 0 || d.told("disconnected 3010") > 0 {
			t.Errorf("%s recovers what came while it was away: it was told %q", d.name, d.all())
		}
	}
	if got := bob.messages(channel); len(got) > 0 || len(bob.messages("#bob")) > 0 {
		t.Errorf("nothing of alice's reaches bob: got %q and %q", got, bob.messages("#bob"))
	}
}

// notAlices checks that bob cannot get at a channel of alice.
func notAlices(t *testing.T, p *people, bob *device, channel string) {
	t.Helper()
	refused := make(chan error, 1)
	sub, err := bob.NewSubscription(channel)
	if err != nil {
		t.Fatal(err)
	}
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { refused <- fmt.Errorf("code %d", e.Code) })
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if err.Error() != "code 103" {
			t.Errorf("bob may not subscribe to %s, error 103: got %v", channel, err)
		}
	case <-time.After(defaultWait):
		t.Errorf("bob may not subscribe to %s: nothing was said", channel)
	}
	_ = bob.RemoveSubscription(sub)
	ctx := within(t, defaultWait)
	var e *centrifuge.Error
	if _, err := bob.Publish(ctx, channel, []byte(`1`)); !errors.As(err, &e) || e.Code != 103 {
		t.Errorf("bob may not publish to %s: got %v", channel, err)
	}
	if _, err := bob.History(ctx, channel); !errors.As(err, &e) || e.Code != 103 {
		t.Errorf("bob may not read the history of %s: got %v", channel, err)
	}
	token := tokenOf(t, "bob", time.Hour)
	for _, kind := range []string{"ws", "raw"} {
		c, err := Dial(p.URL(), Channel(kind, channel), bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := c.Next(defaultWait); CloseCode(err) != int(proto.CloseDenied.Code) {
			t.Errorf("/%s closes with 3507 when bob asks for %s: got %s, %v", kind, channel, l.Text, err)
		}
		c.Close()
	}
	res, err := http.Get(p.URL() + Channel("sse", channel, "token="+token))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("/sse refuses bob with 403: got %s", res.Status)
	}
}
