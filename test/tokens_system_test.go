//go:build system

package test

import (
	"bufio"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"barrage/client"
	"barrage/internal/testserver"
	"barrage/proto"

	"github.com/centrifugal/centrifuge-go"
	"github.com/golang-jwt/jwt/v5"
)

// Who makes a token does not matter, as long as the nodes know the key: the program itself, or a library with a secret, a private key
// whose public half is in a file, or a key of an identity provider.
func testTokens(t *testing.T, p *people) {
	t.Run("of every maker", func(t *testing.T) { testMakers(t, p) })
	t.Run("in the query", func(t *testing.T) { testTokenInTheQuery(t, p) })
	t.Run("refreshed by the SDK", func(t *testing.T) { testRefresh(t, p) })
	t.Run("of a user who is sent away", func(t *testing.T) { testSentAway(t, p) })
	t.Run("of the project's clients", func(t *testing.T) { testOwnClients(t, p) })
	t.Run("with new keys of the provider", func(t *testing.T) { testRotation(t, p) })
}

func testMakers(t *testing.T, p *people) {
	later := time.Now().Add(time.Hour).Unix()
	tokens := map[string]string{
		"barrage token create": p.created(t, "--user", "ann", "--expires", "1h"),
		"HS256":                signed(t, jwt.SigningMethodHS256, []byte(peopleSecret), "", jwt.MapClaims{"sub": "ann", "exp": later}),
		"RS256":                signed(t, jwt.SigningMethodRS256, p.private, "", jwt.MapClaims{"sub": "ann", "exp": later}),
		"a key set":            p.provider.token(t, "first", "ann"),
	}
	i := 0
	for maker, token := range tokens {
		node := p.Nodes[i%len(p.Nodes)]
		i++
		c, err := Dial(node.URL(), "/ws/chat:room", bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := c.Next(defaultWait); err != nil || l.Welcome == nil || l.Welcome.User != "ann" {
			t.Errorf("a token of %s opens /ws on node %s: got %s, %v", maker, node.Name(), l.Text, err)
		}
		c.Close()
		d := startDevice(t, maker, p.URL(), false, centrifuge.Config{Token: token})
		d.expect(t, "subscribed #ann")
		d.Close()
	}
	for what, token := range map[string]string{
		"another secret":          signed(t, jwt.SigningMethodHS256, []byte("not the secret of these tests"), "", jwt.MapClaims{"sub": "ann", "exp": later}),
		"the issuer of a key set": signed(t, jwt.SigningMethodHS256, []byte(peopleSecret), "", jwt.MapClaims{"iss": peopleIssuer, "sub": "ann", "exp": later}),
		"a public key as secret":  signed(t, jwt.SigningMethodHS256, publicAsSecret(t, p.private), "", jwt.MapClaims{"sub": "ann", "exp": later}),
	} {
		c, err := Dial(p.URL(), "/ws/open:room", bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := c.Next(defaultWait); CloseCode(err) != int(proto.CloseBadToken.Code) {
			t.Errorf("a token of %s is closed with 3500, though anonymous clients may come in: got %s, %v", what, l.Text, err)
		}
		c.Close()
		d := startDevice(t, what, p.URL(), true, centrifuge.Config{Token: token})
		d.expect(t, "disconnected 3500")
		d.Close()
	}
	made := p.created(t, "--user", "ann", "--channel", "chat:private")
	d := startDevice(t, "ann", p.URL(), false, centrifuge.Config{Token: tokenOf(t, "ann", time.Hour)})
	d.subscribe(t, "chat:private", centrifuge.SubscriptionConfig{Token: made})
	d.expect(t, "subscribed chat:private")
	d.Close()
}

func publicAsSecret(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	return key.N.Bytes()
}

// created is a token that the program made.
func (p *people) created(t *testing.T, flags ...string) string {
	t.Helper()
	bin, err := testserver.Binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, append([]string{"token", "create", "--config", p.settings}, flags...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("barrage token create makes a token: %v, %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func testTokenInTheQuery(t *testing.T, p *people) {
	token := tokenOf(t, "ann", time.Hour)
	c, l := join(t, p.URL(), "open:room", "token="+token)
	defer c.Close()
	if l.Welcome.User != "" {
		t.Errorf("a token in the query of /ws is not looked at, so the client is anonymous: got %s", l.Text)
	}
	denied := dial(t, p.URL(), Channel("ws", "chat:room", "token="+token))
	if l, err := denied.Next(defaultWait); CloseCode(err) != int(proto.CloseDenied.Code) {
		t.Errorf("and may not join what needs a user: got %s, %v", l.Text, err)
	}
	for _, n := range p.Nodes {
		if strings.Contains(n.Logs(), token) || strings.Contains(n.Logs(), peopleSecret) {
			t.Errorf("node %s never logs tokens and secrets", n.Name())
		}
	}
	if strings.Contains(p.Nginx.Logs(), token) {
		t.Error("nginx does not log tokens")
	}
}

// The provider replaces its key while clients are connected: they go on, and new tokens are good as soon as the nodes have fetched the
// new key, which clients need not know about.
func testRotation(t *testing.T, p *people) {
	old := p.provider.token(t, "first", "olga")
	stays, _ := Dial(p.Nodes[0].URL(), "/ws/chat:rotation", bearer(old))
	defer stays.Close()
	if l := next(t, stays); l.Welcome == nil || l.Welcome.User != "olga" {
		t.Fatalf("a token of the first key is good: got %s", l.Text)
	}
	sdk := startDevice(t, "olga", p.Nodes[1].URL(), false, centrifuge.Config{Token: old})
	sdk.expect(t, "subscribed #olga")
	p.provider.rotate(t, "second")
	fresh := p.provider.token(t, "second", "nina")
	began := time.Now()
	for _, n := range p.Nodes {
		eventually(t, 20*time.Second, "a token of the provider's new key is good on node "+n.Name(), func() bool {
			c, err := Dial(n.URL(), "/ws/chat:rotation", bearer(fresh))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l, err := c.Next(defaultWait)
			if code := CloseCode(err); err != nil && code != int(proto.CloseInternal.Code) {
				t.Fatalf("until the new key is there, a client is told to come back, 3004: got %v", err)
			}
			return l.Welcome != nil && l.Welcome.User == "nina"
		})
	}
	t.Logf("the new key was good everywhere after %s, %d fetches", time.Since(began).Round(time.Millisecond), p.provider.count())
	if limit := 3 * 5; p.provider.count() > limit {
		t.Errorf("unknown keys do not make nodes ask all the time: %d fetches", p.provider.count())
	}
	late, err := Dial(p.Nodes[0].URL(), "/ws/chat:rotation", bearer(old))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if l, err := late.Next(defaultWait); err == nil {
		t.Errorf("a token of a key that was withdrawn is not good: got %s", l.Text)
	}
	if offset := publish(t, stays, `"still here"`); offset == 0 {
		t.Error("a connection that there is goes on")
	}
	if sdk.told("connected") != 1 || sdk.told("connecting 0") != 1 {
		t.Errorf("a connection of the SDK goes on: it was told %q", sdk.all())
	}
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// Tokens of two seconds: the SDK brings another before the connection ends, again and again, for the connection and a subscription.
func testRefresh(t *testing.T, p *people) {
	var conn, sub atomic.Int32
	const lasts = 2 * time.Second
	d := startDevice(t, "ruth", p.URL(), false, centrifuge.Config{GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
		conn.Add(1)
		return tokenOf(t, "ruth", lasts), nil
	}})
	d.subscribe(t, "n-subscriber:private#ruth", centrifuge.SubscriptionConfig{GetToken: func(e centrifuge.SubscriptionTokenEvent) (string, error) {
		sub.Add(1)
		return signed(t, jwt.SigningMethodHS256, []byte(peopleSecret), "", jwt.MapClaims{"sub": "ruth", "channel": e.Channel, "exp": time.Now().Add(lasts).Unix()}), nil
	}})
	d.expect(t, "subscribed n-subscriber:private#ruth")
	eventually(t, 15*time.Second, "tokens that expire are replaced twice", func() bool { return conn.Load() >= 3 && sub.Load() >= 3 })
	if _, err := d.Publish(within(t, defaultWait), "n-subscriber:private#ruth", []byte(`1`)); err != nil {
		t.Errorf("with a fresh token everything goes on: %v", err)
	}
	if d.told("connected") != 1 || d.told("subscribed n-subscriber:private#ruth") != 1 {
		t.Errorf("a token is refreshed without a new connection or subscription: it was told %q", d.all())
	}
}

// A token cannot be taken back; the user can be sent away.
func testSentAway(t *testing.T, p *people) {
	token := tokenOf(t, "mallory", time.Hour)
	var devices []*device
	for i, n := range p.Nodes {
		devices = append(devices, startDevice(t, "mallory on "+n.Name(), n.URL(), i == 1, centrifuge.Config{Token: token}))
	}
	for _, d := range devices {
		d.expect(t, "subscribed #mallory")
	}
	f := startFollower(t, client.Options{URLs: []string{p.URL()}, Channel: "chat:room", Token: always(token)})
	eventually(t, defaultWait, "the Go client is welcome", func() bool { return f.told("welcome") == 1 })
	var who struct {
		Connections map[string]struct{ Node, Protocol string }
	}
	call(t, p.URL(), "connections", `{"user":"mallory"}`, &who)
	var affected struct {
		Affected int
		Missing  []string
	}
	if code := call(t, p.URL(), "disconnect", `{"user":"mallory"}`, &affected); code != 0 || affected.Affected != 4 {
		t.Errorf("all four connections of the user are reached: got code %d, %+v, of %+v", code, affected, who)
	}
	for _, d := range devices {
		d.expect(t, "disconnected 3503")
	}
	eventually(t, defaultWait, "the Go client ends with 3503", func() bool {
		var c proto.Close
		return errors.As(f.ended(), &c) && c.Code == proto.CloseForced.Code
	})
}

// The project's own clients, in JavaScript and in Go, with tokens of three seconds, on different nodes: both refresh, see each other in
// presence and are told of each other, and publish.
func testOwnClients(t *testing.T, p *people) {
	const channel = "chat:own"
	var asked atomic.Int32
	gopher := startFollower(t, client.Options{
		URLs: []string{p.Nodes[0].URL()}, Channel: channel, Members: true,
		Token: func(context.Context) (string, error) { asked.Add(1); return tokenOf(t, "gopher", 3*time.Second), nil },
	})
	eventually(t, defaultWait, "the Go client is welcome", func() bool { return gopher.told("welcome") == 1 })
	j := startPerson(t, p.Nodes[2].URL(), channel, func() string { return tokenOf(t, "jay", 3*time.Second) })
	j.expect(t, "welcome jay")
	eventually(t, defaultWait, "the client on another node is told of the join", func() bool { return gopher.told("join jay") == 1 })
	if offset, err := gopher.Publish(within(t, defaultWait), []byte(`"from go"`), ""); err != nil || offset != 1 {
		t.Errorf("the Go client publishes: got %d, %v", offset, err)
	}
	j.do(`{"do":"publish","data":"from js"}`)
	j.expect(t, "published 2")
	j.expect(t, `message "from go"`)
	eventually(t, defaultWait, "both see both messages", func() bool {
		return slices.Equal(gopher.messages(), []string{`"from go"`, `"from js"`}) && j.told(`message "from js"`) == 1
	})
	j.do(`{"do":"presence"}`)
	j.expect(t, "presence gopher jay")
	roster, err := gopher.Presence(within(t, defaultWait))
	if err != nil || len(roster.Members) != 2 || roster.Clients != 2 || roster.Users != 2 {
		t.Errorf("the Go client sees both: got %+v, %v", roster, err)
	}
	eventually(t, 15*time.Second, "both clients bring new tokens before theirs expire", func() bool { return asked.Load() >= 3 && j.told("token") >= 3 })
	if j.told("welcome jay") != 1 || gopher.told("welcome") != 1 {
		t.Errorf("tokens are refreshed on the same connection: %d and %d welcomes", j.told("welcome jay"), gopher.told("welcome"))
	}
	j.stop(t)
	eventually(t, defaultWait, "the client on another node is told of the leave", func() bool { return gopher.told("leave jay") == 1 })
}

// person is a process with the project's JavaScript client.
type person struct {
	device // for what it is told
	cmd    *exec.Cmd
	do     func(line string)
	stop   func(t *testing.T)
}

// startPerson starts one, which is given tokens when it asks.
func startPerson(t *testing.T, url, channel string, token func() string) *person {
	t.Helper()
	cmd := testserver.Command("node", filepath.Join(sdkFolder(t), "person.mjs"), url, channel)
	j := &person{device: device{name: "the JavaScript client"}, cmd: cmd}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	j.do = func(line string) { fmt.Fprintln(stdin, line) }
	ended := j.read(t, func(line []string) {
		j.tell(strings.TrimSpace(strings.Join(line, " ")))
		if line[0] == "token" {
			j.do(`{"token":"` + token() + `"}`)
		}
	})
	j.stop = func(t *testing.T) {
		t.Helper()
		stdin.Close()
		limit := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer limit.Stop()
		if err := ended(); err != nil {
			t.Errorf("the process of the client ends when its input does: %v", err)
		}
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Process.Kill(); _ = ended() })
	return j
}

// read starts the process and gives each of its lines to take; the result waits for its end, once.
func (j *person) read(t *testing.T, take func([]string)) (ended func() error) {
	t.Helper()
	j.cmd.Stderr = os.Stderr
	stdout, err := j.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var line []string
			if json.Unmarshal(lines.Bytes(), &line) == nil && len(line) > 0 {
				take(line)
			}
		}
	}()
	return sync.OnceValue(func() error { <-done; return j.cmd.Wait() })
}
