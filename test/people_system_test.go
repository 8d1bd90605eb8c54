//go:build system

package test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"barrage/internal/testserver"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/gocent/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	peopleSecret = "the secret of the whole-system tests"
	peopleKey    = "the-key-of-the-whole-system-tests"
	peopleIssuer = "https://login.example.com"
)

// peopleSettings are the settings of the nodes, with places for the PEM file and the address of the key set.
const peopleSettings = `
auth:
  secret: ["` + peopleSecret + `"]
  keys: [%q]
  jwks: ["` + peopleIssuer + `=%s"]
  anonymous: true
  personal: true
api:
  keys: ["tests:admin:` + peopleKey + `"]
history: {trim: 1s}
limits:
  user_publishes: 20
  user_connections: 10
namespaces:
  default:      {history: subscriber}
  chat:         {subscribe: user, publish: subscriber, history: subscriber, presence: subscriber, join_leave: true, pattern: "[a-z0-9-]{1,40}"}
  open:         {subscribe: anyone, publish: anyone, history: anyone, presence: anyone}
  n-nobody:     {subscribe: anyone, publish: nobody, history: nobody, presence: nobody}
  n-subscriber: {subscribe: anyone, publish: subscriber, history: subscriber, presence: subscriber}
  n-user:       {subscribe: anyone, publish: user, history: user, presence: user}
  n-anyone:     {subscribe: anyone, publish: anyone, history: anyone, presence: anyone}
  s-nobody:     {subscribe: nobody}
  s-subscriber: {subscribe: subscriber}
  s-user:       {subscribe: user}
  s-short:      {subscribe: anyone, history: anyone, count: 10}
  s-live:       {class: live, subscribe: anyone, publish: anyone}
`

// people is a cluster whose clients show who they are.
type people struct {
	*testserver.NodeCluster
	settings string // the settings file of the nodes
	private  *rsa.PrivateKey
	provider *provider
	api      *gocent.Client
}

// startPeople starts the cluster.
func startPeople(t *testing.T) *people {
	t.Helper()
	dir := t.TempDir()
	p := &people{settings: filepath.Join(dir, "barrage.yaml"), provider: newProvider(t, "first")}
	var err error
	if p.private, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&p.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "public.pem")
	if err := os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.settings, fmt.Appendf(nil, peopleSettings, keys, p.provider.url), 0o644); err != nil {
		t.Fatal(err)
	}
	p.NodeCluster = startCluster(t, testserver.ClusterOptions{Env: []string{"BARRAGE_CONFIG=" + p.settings}})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	p.api = gocent.New(gocent.Config{Addr: p.URL() + "/api", Key: peopleKey, HTTPClient: http.DefaultClient})
	return p
}

// provider is an identity provider that publishes its keys.
type provider struct {
	url     string
	mu      sync.Mutex
	keys    map[string]ed25519.PrivateKey // by key id
	fetches int
}

func newProvider(t *testing.T, id string) *provider {
	p := &provider{}
	p.rotate(t, id)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// rotate replaces all keys by a new one.
func (p *provider) rotate(t *testing.T, id string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = map[string]ed25519.PrivateKey{id: key}
}

func (p *provider) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetches++
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	for id, key := range p.keys {
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		set.Keys = append(set.Keys, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "use": "sig", "x": x})
	}
	_ = json.NewEncoder(w).Encode(set)
}

// token makes a token for a connection, signed with the key of this id.
func (p *provider) token(t *testing.T, id, user string) string {
	t.Helper()
	p.mu.Lock()
	key := p.keys[id]
	p.mu.Unlock()
	return signed(t, jwt.SigningMethodEdDSA, key, id, jwt.MapClaims{"iss": peopleIssuer, "sub": user, "exp": time.Now().Add(time.Hour).Unix()})
}

// signed makes a token.
func signed(t *testing.T, method jwt.SigningMethod, key any, id string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if id != "" {
		token.Header["kid"] = id
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// tokenOf makes a token for a connection of a user that is good for a time.
func tokenOf(t *testing.T, user string, lasts time.Duration) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(peopleSecret), "", jwt.MapClaims{"sub": user, "exp": time.Now().Add(lasts).Unix()})
}

// ticketOf makes a token that lets a user into a channel.
func ticketOf(t *testing.T, user, channel string) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(peopleSecret), "", jwt.MapClaims{"sub": user, "channel": channel, "exp": time.Now().Add(time.Hour).Unix()})
}

// bearer is the header with a token; without one when it is empty.
func bearer(token string) http.Header {
	if token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// enter connects a user to /ws and reads the welcome.
func enter(t *testing.T, base, user, channel string, query ...string) (*Client, Line) {
	t.Helper()
	c, err := Dial(base, Channel("ws", channel, query...), bearer(tokenOf(t, user, time.Hour)))
	if err != nil {
		t.Fatalf("%s opens %s: %v", user, channel, err)
	}
	t.Cleanup(c.Close)
	l := next(t, c)
	if l.Welcome == nil || l.Welcome.User != user {
		t.Fatalf("the welcome of %s names them: got %s", user, l.Text)
	}
	return c, l
}

// device is a client of the Go SDK, and what its channels brought.
type device struct {
	*centrifuge.Client
	name   string
	mu     sync.Mutex
	got    map[string][]string // data of publications by channel, in order
	at     map[string]uint64   // last offset by channel
	events []string            // what else it was told
}

// startDevice connects a client of the SDK at base. It publishes nothing by itself.
func startDevice(t *testing.T, name, base string, protobuf bool, config centrifuge.Config) *device {
	t.Helper()
	open := centrifuge.NewJsonClient
	if protobuf {
		open = centrifuge.NewProtobufClient
	}
	d := &device{name: name, got: map[string][]string{}, at: map[string]uint64{}}
	d.Client = open("ws"+strings.TrimPrefix(base, "http")+"/connection/websocket", config)
	d.OnPublication(func(e centrifuge.ServerPublicationEvent) { d.publication(e.Channel, e.Publication) })
	d.OnConnected(func(e centrifuge.ConnectedEvent) { d.tell("connected") })
	d.OnConnecting(func(e centrifuge.ConnectingEvent) { d.tell(fmt.Sprint("connecting ", e.Code)) })
	d.OnDisconnected(func(e centrifuge.DisconnectedEvent) { d.tell(fmt.Sprint("disconnected ", e.Code)) })
	d.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		d.tell("subscribed " + e.Channel)
		if e.WasRecovering && !e.Recovered {
			d.tell("unrecovered " + e.Channel)
		}
	})
	d.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) { d.tell("unsubscribed " + e.Channel) })
	t.Cleanup(d.Close)
	if err := d.Connect(); err != nil {
		t.Fatal(err)
	}
	return d
}

// subscribe subscribes by the client's own wish, and notes everything as well.
func (d *device) subscribe(t *testing.T, channel string, config centrifuge.SubscriptionConfig) *centrifuge.Subscription {
	t.Helper()
	sub, err := d.NewSubscription(channel, config)
	if err != nil {
		t.Fatal(err)
	}
	sub.OnPublication(func(e centrifuge.PublicationEvent) { d.publication(channel, e.Publication) })
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) { d.tell("subscribed " + channel) })
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { d.tell(fmt.Sprint("unsubscribed ", channel, " ", e.Code)) })
	sub.OnJoin(func(e centrifuge.JoinEvent) { d.tell("join " + e.User) })
	sub.OnLeave(func(e centrifuge.LeaveEvent) { d.tell("leave " + e.User) })
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	return sub
}

func (d *device) publication(channel string, p centrifuge.Publication) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.at[channel]; last > 0 && p.Offset != last+1 {
		d.events = append(d.events, fmt.Sprintf("gap in %s: %d after %d", channel, p.Offset, last))
	}
	d.at[channel] = p.Offset
	d.got[channel] = append(d.got[channel], string(p.Data))
}

func (d *device) tell(event string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, event)
}

// messages are what a channel brought.
func (d *device) messages(channel string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got[channel])
}

// told is how often it was told something.
func (d *device) told(event string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e == event {
			n++
		}
	}
	return n
}

// all is everything that it was told.
func (d *device) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

// expect waits until it was told something.
func (d *device) expect(t *testing.T, event string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); d.told(event) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is told %q within 20s: it was told %q", d.name, event, d.all())
		}
	}
}

// within bounds one call.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// call calls a method of the server API at base, decodes the result into result, and returns the error's code, 0 without.
func call(t *testing.T, base, method, request string, result any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, 20*time.Second), http.MethodPost, base+"/api/"+method, bytes.NewBufferString(request))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", peopleKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s is answered: %v", method, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered with 200: got %s, %s, %v", method, res.Status, text, err)
	}
	answer := struct {
		Result any
		Error  *struct{ Code int }
	}{Result: result}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("the answer to %s can be read: %v in %s", method, err, text)
	}
	if answer.Error != nil {
		return answer.Error.Code
	}
	return 0
}

// TestPeople is everything that needs to know who somebody is, in one cluster, because it takes seconds to start.
func TestPeople(t *testing.T) {
	p := startPeople(t)
	// A node that was killed is named as missing until its lease ends, also when it is back: what wants nobody missing comes before the
	// next kill, or well after it.
	for _, part := range []struct {
		name string
		run  func(*testing.T, *people)
	}{
		{"tokens", testTokens},
		{"presence", testPresence},
		{"joins and leaves", testJoinsAndLeaves},
		{"many members", testManyMembers},
		{"server API", testServerAPI},
		{"personal channels", testPersonalChannels},
		{"rules", testRules},
		{"limits", testLimits},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, p) })
	}
}
