package gateway

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"barrage/auth"
	"barrage/proto"
)

// badges are tokens that a test made up: NAME.good, NAME.old or anything else.
type badges struct {
	mu    sync.Mutex
	asked []string
	// more changes the identity of a token before it is given out.
	more func(id *auth.Identity)
}

func (b *badges) Connection(token string) (*auth.Identity, *proto.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, token)
	name, quality, _ := strings.Cut(token, ".")
	switch quality {
	case "good":
		id := &auth.Identity{User: name, Info: []byte(`{"name":"` + strings.ToUpper(name) + `"}`)}
		if b.more != nil {
			b.more(id)
		}
		return id, nil
	case "old":
		return nil, proto.ErrTokenExpired
	}
	return nil, proto.ErrUnauthorized
}

func (b *badges) Subscription(string, string, string, string) (auth.Subscription, *proto.Error) {
	return auth.Subscription{}, proto.ErrUnauthorized
}

func TestIdentify(t *testing.T) {
	huge := strings.Repeat("s", proto.MaxTokenBytes+1)
	const proxy, stranger = "10.0.0.1:1000", "192.0.2.1:1000"
	for _, c := range []struct {
		name      string
		peer      string
		header    []string
		query     string
		offered   []string
		may       where
		without   bool // authentication
		anonymous bool
		user      string // or
		code      int
		asked     string // tokens that were given to the verifier
	}{
		{name: "nothing, without authentication", without: true},
		{name: "a token, without authentication", without: true, header: []string{"Authorization", "Bearer ann.good"}},
		{name: "nothing", code: 101},
		{name: "nothing, where anonymous clients are let in", anonymous: true},
		{name: "a bearer token", header: []string{"Authorization", "Bearer ann.good"}, user: "ann", asked: "ann.good"},
		{name: "a bearer token in another case", header: []string{"Authorization", "bEARER  ann.good "}, user: "ann", asked: "ann.good"},
		{name: "another scheme", header: []string{"Authorization", "Basic YTpi"}, code: 101},
		{name: "a bad token", header: []string{"Authorization", "Bearer forged"}, code: 101, asked: "forged"},
		{name: "a bad token where anonymous clients are let in", anonymous: true, header: []string{"Authorization", "Bearer forged"}, code: 101, asked: "forged"},
		{name: "an expired token", header: []string{"Authorization", "Bearer ann.old"}, code: 109, asked: "ann.old"},
		{name: "an empty token", anonymous: true, header: []string{"Authorization", "Bearer "}, code: 101},
		{name: "two fields", header: []string{"Authorization", "Bearer ann.good", "Authorization", "Bearer bob.good"}, code: 101},
		{name: "an oversized token", header: []string{"Authorization", "Bearer " + huge}, code: 101},
		{name: "a subprotocol", offered: []string{"barrage", "barrage.bearer.ann.good"}, may: inSubprotocol, user: "ann", asked: "ann.good"},
		{name: "a subprotocol where none may be", offered: []string{"barrage", "barrage.bearer.ann.good"}, may: inQuery, code: 101},
		{name: "two tokens in subprotocols", offered: []string{"barrage.bearer.ann.good", "barrage", "barrage.bearer.bob.good"}, may: inSubprotocol, code: 101},
		{name: "an empty one in a subprotocol", anonymous: true, offered: []string{"barrage", "barrage.bearer."}, may: inSubprotocol, code: 101},
		{name: "a field and a subprotocol", header: []string{"Authorization", "Bearer ann.good"}, offered: []string{"barrage.bearer.ann.good"}, may: inSubprotocol, code: 101},
		{name: "a token in the query", query: "token=ann.good", may: inSubprotocol, code: 101},
		{name: "a token in the query of EventSource", query: "token=ann.good", may: inQuery, user: "ann", asked: "ann.good"},
		{name: "two tokens in the query", query: "token=ann.good&token=bob.good", may: inQuery, code: 101},
		{name: "a user named by a proxy", peer: proxy, header: []string{"X-User", "ann"}, user: "ann"},
		{name: "a user named by a proxy, and a token", peer: proxy, header: []string{"X-User", "ann", "Authorization", "Bearer bob.good"}, user: "ann"},
		{name: "a user named by a proxy without tokens", peer: proxy, without: true, header: []string{"X-User", "ann"}, user: "ann"},
		{name: "nobody named by a proxy", peer: proxy, header: []string{"X-User", ""}, code: 101},
		{name: "two users named by a proxy", peer: proxy, anonymous: true, header: []string{"X-User", "ann", "X-User", "root"}, code: 101},
		{name: "no user's id from a proxy", peer: proxy, anonymous: true, header: []string{"X-User", "a\nb"}, code: 101},
		{name: "a user named by a stranger", peer: stranger, header: []string{"X-User", "root"}, code: 101},
		{name: "a user named by a stranger who says that a proxy sent them", peer: stranger, header: []string{"X-User", "root", "X-Forwarded-For", "10.0.0.1"}, code: 101},
		{name: "a user named by a stranger where anonymous clients are let in", peer: stranger, anonymous: true, header: []string{"X-User", "root"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := &badges{}
			g := &Gateway{Options: Options{Anonymous: c.anonymous, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
			if !c.without {
				g.Tokens = tokens
			}
			r := httptest.NewRequest(http.MethodGet, "/ws/room?"+c.query, nil)
			r.Header = pairs(c.header)
			if r.RemoteAddr = stranger; c.peer != "" {
				g.UserHeader, r.RemoteAddr = "X-User", c.peer
			}
			id, err := g.identify(r, c.offered, c.may)
			user, code := "", 0
			if id != nil {
				user = id.User
			}
			if err != nil {
				code = err.Code
				for _, secret := range []string{"ann", "bob", "forged", "sss"} {
					if strings.Contains(err.Message, secret) {
						t.Errorf("an error must not hold a part of a token: %q", err.Message)
					}
				}
			}
			if user != c.user || code != c.code || (id == nil) != (code != 0 || c.without && c.user == "") {
				t.Errorf("the user must be %q and the error %d, not %+v, %v", c.user, c.code, id, err)
			}
			if asked := strings.Join(tokens.asked, " "); asked != c.asked {
				t.Errorf("%q must be verified, not %q", c.asked, asked)
			}
		})
	}
}

func TestAPageIsToldWhyItMayNotConnect(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	for _, c := range []struct {
		path, header, value string
		code                int
	}{
		{"/ws/room", "", "", 3500},
		{"/raw/room", "", "", 3500},
		{"/ws/room?token=ann.good", "", "", 3500},
		{"/ws/room", "Authorization", "Bearer forged", 3500},
		{"/ws/room", "Authorization", "Bearer ann.old", 3005},
		{"/raw/room", "Sec-WebSocket-Protocol", "barrage, barrage.bearer.forged", 3500},
		{"/ws/room", "Sec-WebSocket-Protocol", "barrage.bearer.ann.good, barrage, barrage.bearer.bob.good", 3500},
	} {
		var header []string
		if c.header != "" {
			header = []string{c.header, c.value}
		}
		conn := w.dial(c.path, header...)
		if got := conn.closed(); got.Code != c.code || got.Text == "" {
			t.Errorf("%s with %s %q must be opened and closed with %d and a sentence, not with %d %q", c.path, c.header, c.value, c.code, got.Code, got.Text)
		}
	}
	eventually(t, "each is counted", func() bool { return w.gateway.Stats().Denied.Load() == 7 })
	eventually(t, "nobody is left", func() bool { return w.gateway.Count() == 0 })
}

func TestATokenInASubprotocol(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	c := w.dial("/ws/room?name=other", "Sec-WebSocket-Protocol", "barrage, barrage.bearer.ann.good")
	if got := c.Subprotocol(); got != "barrage" {
		t.Errorf("barrage must be selected, not %q", got)
	}
	if got := c.welcome(); got.User != "ann" || got.Expires != 0 {
		t.Errorf("the welcome must name ann, not %+v", got)
	}
	c.send(`{"publish":{"data":1}}`)
	for m := (*proto.Message)(nil); m == nil; {
		if m = c.reply().Message; m != nil && m.User != "ann" {
			t.Errorf("the message is ann's, whatever the name, not %+v", m)
		}
	}
}

func TestWithoutATokenNoSubprotocolIsNeeded(t *testing.T) {
	w := start(t, Options{})
	if got := w.dial("/ws/room", "Sec-WebSocket-Protocol", "other, barrage").Subprotocol(); got != "barrage" {
		t.Errorf("barrage is selected whenever it is offered, not %q", got)
	}
	if got := w.dial("/ws/room", "Sec-WebSocket-Protocol", "other").Subprotocol(); got != "" {
		t.Errorf("what is not known is not selected: %q", got)
	}
}

func TestManySubprotocolsDoNoHarm(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	list := "barrage"
	for i := range 500 {
		list += ", barrage" + strings.Repeat("x", i%7+1) + "." + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
	}
	c := w.dial("/ws/room", "Authorization", "Bearer ann.good", "Sec-WebSocket-Protocol", list[:min(len(list), 8000)])
	if got := c.welcome(); got.User != "ann" {
		t.Errorf("500 subprotocols change nothing: %+v", got)
	}
}

func TestATokenInAFieldCannotAddFields(t *testing.T) {
	w := start(t, Options{Tokens: &badges{}})
	conn, err := w.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := strings.Replace(handshake(w.addr, "/ws/room"), "\r\n\r\n",
		"\r\nSec-WebSocket-Protocol: barrage, barrage.bearer.x\rX-Injected: 1\r\n\r\n", 1)
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(newWild(t, conn).br, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.Header.Get("X-Injected") != "" {
		t.Errorf("a line break inside a field must be refused, not answered with %v", resp)
	}
}

func TestTokensAreNotLogged(t *testing.T) {
	var log syncBuffer
	w := startLogged(t, Options{Tokens: &badges{}}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	const secret = "hushhush"
	for _, token := range []string{secret + ".good", secret + ".old", secret} {
		w.dial("/ws/room?token="+token, "Authorization", "Bearer "+token).Close()
		w.dial("/ws/room", "Sec-WebSocket-Protocol", "barrage, barrage.bearer."+token).Close()
	}
	c := w.dial("/ws/room", "Authorization", "Bearer ann.good")
	c.welcome()
	c.send(`{"refresh":{"token":"` + secret + `"}}`)
	if r := c.reply(); r.Error == nil || r.Error.Code != 101 || strings.Contains(r.Error.Message, secret) {
		t.Errorf("a bad token is error 101, and not repeated: %+v", r.Error)
	}
	c.Close()
	eventually(t, "all connections end", func() bool { return w.gateway.Count() == 0 && w.gateway.Stats().Closed.Load() == 7 })
	if text := log.String(); !strings.Contains(text, "disconnected") || strings.Contains(text, secret) {
		t.Errorf("the log must tell of connections and hold no token:\n%s", text)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
