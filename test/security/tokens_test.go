package security

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/prometheus/common/expfmt"

	"barrage/auth"
	"barrage/gateway"
	"barrage/metrics"
	"barrage/proto"
	"barrage/session"
)

// refusals tells how each protocol answers a token: a code of close, an error's, or a status.
func (w *world) refusals(token string) map[string]int {
	w.t.Helper()
	found := map[string]int{}
	for _, path := range []string{"/raw/room", "/ws/room"} {
		found[path] = w.dial(path, bearer(token)...).closed()
		found[path+" by subprotocol"] = w.dial(path, "Sec-WebSocket-Protocol", "barrage, barrage.bearer."+token).closed()
	}
	code := 0
	got := w.dial("/connection/websocket").call(connect(token))
	if n, _ := fmt.Sscanf(got, "closed %d", &code); n != 1 {
		_, rest, _ := strings.Cut(got, `"code":`)
		_, _ = fmt.Sscanf(rest, "%d", &code)
	}
	found["/connection/websocket"] = code
	resp, _ := w.stream("/sse/room", bearer(token)...)
	found["/sse"] = resp.StatusCode
	resp, _ = w.stream("/sse/room?token=" + token)
	found["/sse by query"] = resp.StatusCode
	return found
}

// expectRefused wants a token refused everywhere.
func (w *world) expectRefused(what, token string) {
	w.t.Helper()
	for path, code := range w.refusals(token) {
		if code != 3500 && code != 401 {
			w.t.Errorf("%s is refused on %s, not answered with %d", what, path, code)
		}
	}
}

func TestNobodyComesInWithoutAToken(t *testing.T) {
	w := start(t, gateway.Options{})
	for _, path := range []string{"/raw/room", "/ws/room"} {
		if code := w.dial(path).closed(); code != 3500 {
			t.Errorf("%s without a token is closed with 3500, not %d", path, code)
		}
	}
	if got := w.dial("/connection/websocket").call(`{"connect":{}}`); !strings.HasPrefix(got, "closed 3500") {
		t.Errorf("connect without a token is closed with 3500, not %s", got)
	}
	for _, command := range []string{`{"subscribe":{"channel":"room"}}`, `{"publish":{"channel":"room","data":1}}`, `{"history":{"channel":"room"}}`} {
		if got := w.dial("/connection/websocket").call(command); !strings.HasPrefix(got, "closed 3501") {
			t.Errorf("nothing is done before connect: 3501, not %s", got)
		}
	}
	if resp, _ := w.stream("/sse/room"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("/sse without a token is 401, not %s", resp.Status)
	}
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	w := start(t, gateway.Options{})
	want := map[int]bool{3005: true, 109: true, 401: true}
	for path, code := range w.refusals(sign(t, map[string]any{"sub": "alice", "exp": time.Now().Add(-time.Minute).Unix()})) {
		if !want[code] {
			t.Errorf("an expired token on %s is answered with 3005, 109 or 401, not %d", path, code)
		}
	}
}

// soon makes every token end soon, with the time of grace behind it.
type soon struct{ auth.Tokens }

func (s soon) Connection(token string) (*auth.Identity, *proto.Error) {
	id, err := s.Tokens.Connection(token)
	if err == nil {
		id.Expires = time.Now().Add(-session.Grace + 300*time.Millisecond)
	}
	return id, err
}

func TestAConnectionEndsWithItsToken(t *testing.T) {
	w := start(t, gateway.Options{Tokens: soon{verifier(t)}, Ping: 200 * time.Millisecond})
	token := tokenOf(t, "alice")
	resp, lines := w.stream("/sse/room", bearer(token)...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream is opened, not %s", resp.Status)
	}
	raw, ws, cf := w.dial("/raw/room", bearer(token)...), w.dial("/ws/room", bearer(token)...), w.centrifuge(token)
	for path, c := range map[string]*client{"/raw": raw, "/ws": ws, "/connection/websocket": cf} {
		if code := c.closed(); code != 3005 {
			t.Errorf("a connection on %s ends with its token: 3005, not %d", path, code)
		}
	}
	if got := event(lines, "bye"); !strings.Contains(got, "3005") {
		t.Errorf("a stream ends with its token, not with %q", got)
	}
}

func TestARefreshCannotChangeTheUser(t *testing.T) {
	w := start(t, gateway.Options{})
	c := w.dial("/ws/room", bearer(tokenOf(t, "alice"))...)
	if got := c.ask(`{"refresh":{"token":"` + tokenOf(t, "bob") + `"}}`); !strings.Contains(got, `"code":101`) {
		t.Errorf("another user's token is error 101, not %s", got)
	}
	if got := w.centrifuge(tokenOf(t, "alice")).call(`{"refresh":{"token":"` + tokenOf(t, "bob") + `"}}`); !strings.HasPrefix(got, "closed 3500") {
		t.Errorf("another user's token is 3500, not %s", got)
	}
}

func TestTokensInURLsAreNotLookedAt(t *testing.T) {
	w := start(t, gateway.Options{})
	token := tokenOf(t, "alice")
	for _, name := range []string{"token", "access_token", "auth", "jwt", "authorization", "Authorization", "bearer", "barrage.bearer"} {
		for _, path := range []string{"/raw/room", "/ws/room"} {
			if code := w.dial(path + "?" + name + "=" + token).closed(); code != 3500 {
				t.Errorf("a token in the query %s of %s is not looked at: 3500, not %d", name, path, code)
			}
		}
		if got := w.dial("/connection/websocket?" + name + "=" + token).call(`{"connect":{}}`); !strings.HasPrefix(got, "closed 3500") {
			t.Errorf("a token in the query %s of /connection/websocket is not looked at, not %s", name, got)
		}
		if resp, _ := w.stream("/sse/room?" + name + "=" + token); name != "token" && resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("only the query token of /sse is looked at, not %s: %s", name, resp.Status)
		}
	}
	s := w.api(nil)
	for _, name := range []string{"api_key", "key", "apikey", "token", "X-API-Key"} {
		if status, answer := w.command(s, "", "publish?"+name+"="+apiKeys["admin"], `{"channel":"room","data":1}`); status != http.StatusUnauthorized {
			t.Errorf("a key in the query %s is not looked at: 401, not %d %s", name, status, answer)
		}
	}
}

func TestSecretsAreNeverLoggedOrTold(t *testing.T) {
	var log record
	w := start(t, gateway.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	const mark = "hush"
	good := sign(t, map[string]any{"sub": "alice", "exp": time.Now().Add(time.Minute).Unix(), "meta": map[string]string{mark: mark}})
	_, signature, _ := strings.Cut(good, ".")
	told := ""
	for _, token := range []string{good, good + "x", mark, sign(t, map[string]any{"sub": "alice", "exp": 1})} {
		c := w.dial("/ws/room?token="+token, bearer(token)...)
		told += c.until("welcome")
		c.Close()
		c = w.dial("/connection/websocket?token=" + token)
		told += c.call(connect(token))
		c.Close()
		resp, lines := w.stream("/sse/room?token=" + token)
		told += fmt.Sprint(resp.Header)
		if resp.StatusCode == http.StatusOK {
			told += event(lines, "welcome")
		} else {
			b, _ := io.ReadAll(resp.Body)
			told += string(b)
		}
		resp.Body.Close()
	}
	api := w.api(nil)
	for _, key := range []string{mark + "-key-0123456789", apiKeys["read"]} {
		_, answer := w.command(api, key, "publish", `{"channel":"room"}`)
		told += answer
	}
	eventually(t, "all connections end", func() bool { return w.Gateway.Count() == 0 })
	if !strings.Contains(log.String(), "disconnected") {
		t.Fatal("the log must tell of connections")
	}
	for where, text := range map[string]string{"log": log.String(), "answers": told, "metrics": scrape(t, w)} {
		for what, part := range map[string]string{"a token": signature[:20], "a bad token": mark, "a key": apiKeys["read"]} {
			if strings.Contains(text, part) {
				t.Errorf("%s must not stand in %s:\n%s", what, where, text)
			}
		}
	}
}

// scrape is what /metrics says of a node.
func scrape(t *testing.T, w *world) string {
	t.Helper()
	families, err := metrics.New(w.Node, w.Gateway, metrics.NewJournal()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// forge makes a token by hand.
func forge(header, claims, signature string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims)) + "." + signature
}

func TestForgedTokensAreRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	path := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(path, public, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewVerifier(auth.Keys{Secrets: []string{secret}, Files: []string{path}}, auth.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, gateway.Options{Tokens: tokens})
	claims := fmt.Sprintf(`{"sub":"root","exp":%d}`, time.Now().Add(time.Hour).Unix())
	whole := sign(t, map[string]any{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
	parts := strings.Split(whole, ".")
	other := forge(`{"alg":"HS256","typ":"JWT"}`, claims, parts[2])
	confused := func(secret []byte) string {
		token, err := auth.Signer{Key: secret}.Sign(map[string]any{"sub": "root"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for what, token := range map[string]string{
		"a token without an algorithm":                         forge(`{"alg":"none"}`, claims, ""),
		"a token without an algorithm, but with a signature":   forge(`{"alg":"none"}`, claims, parts[2]),
		"a token of the algorithm None":                        forge(`{"alg":"None"}`, claims, ""),
		"a token that names no algorithm":                      forge(`{"typ":"JWT"}`, claims, parts[2]),
		"a token without a signature":                          parts[0] + "." + parts[1] + ".",
		"a token of two parts":                                 parts[0] + "." + parts[1],
		"claims under the signature of others":                 other,
		"an HMAC with the text of the public key":              confused(public),
		"an HMAC with the bytes of the public key":             confused(der),
		"an HMAC with another secret":                          confused([]byte("another-secret-0123456789")),
		"a key that the token brings along":                    forge(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}}`, claims, parts[2]),
		"a key that the token says where to fetch":             forge(`{"alg":"RS256","jku":"http://`+w.Addr+`/healthz","x5u":"http://`+w.Addr+`/healthz"}`, claims, parts[2]),
		"a key id that is a path":                              forge(`{"alg":"HS256","kid":"../../../dev/null"}`, claims, parts[2]),
		"a token that must be understood":                      forge(`{"alg":"HS256","crit":["b64"],"b64":false}`, claims, parts[2]),
		"a signed token for a subscription":                    sign(t, map[string]any{"sub": "alice", "channel": "room"}),
		"a signed token of tomorrow":                           sign(t, map[string]any{"sub": "alice", "nbf": time.Now().Add(24 * time.Hour).Unix()}),
		"a signed token whose times overflow":                  sign(t, map[string]any{"sub": "alice", "exp": 1e300}),
		"a signed token with a user of control characters":     sign(t, map[string]any{"sub": "a\x00b"}),
		"a signed token whose user is too long":                sign(t, map[string]any{"sub": strings.Repeat("a", 256)}),
		"a signed token that subscribes to a reserved channel": sign(t, map[string]any{"sub": "alice", "channels": []string{"\x01cluster"}}),
		"a token that is larger than any":                      strings.Repeat("a", 9000),
	} {
		if strings.Contains(what, "larger") {
			if code := w.dial("/ws/room", bearer(token)...).closed(); code != 3500 {
				t.Errorf("%s is refused, not answered with %d", what, code)
			}
			continue
		}
		w.expectRefused(what, token)
	}
}

// issuer serves a set of one key.
func issuer(t *testing.T, key *ecdsa.PrivateKey, id string) string {
	t.Helper()
	j, err := jwkset.NewJWKFromKey(&key.PublicKey, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"keys": []any{j.Marshal()}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }))
	t.Cleanup(s.Close)
	return s.URL
}

func TestKeysOfTwoIssuersDoNotCross(t *testing.T) {
	keys := map[string]*ecdsa.PrivateKey{}
	var sets []auth.KeySet
	for _, name := range []string{"https://a.example", "https://b.example"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
		sets = append(sets, auth.KeySet{Issuer: name, URL: issuer(t, key, "one")})
	}
	tokens, err := auth.NewVerifier(auth.Keys{Sets: sets}, auth.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Fetch(context.Background()); err != nil {
		t.Fatal(err)
	}
	w := start(t, gateway.Options{Tokens: tokens})
	for by, key := range keys {
		for iss := range keys {
			token, err := auth.Signer{Key: key, ID: "one"}.Sign(map[string]any{"sub": "alice", "iss": iss})
			if err != nil {
				t.Fatal(err)
			}
			got := w.dial("/ws/room", bearer(token)...).until("welcome")
			if good := strings.Contains(got, `"welcome"`); good != (by == iss) {
				t.Errorf("a token of %s that %s has signed under the same key id: %s", iss, by, got)
			}
		}
		token, err := auth.Signer{Key: key, ID: "one"}.Sign(map[string]any{"sub": "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.dial("/ws/room", bearer(token)...).until("welcome"); strings.Contains(got, `"welcome"`) {
			t.Errorf("a token that names no issuer is signed by none: %s", got)
		}
	}
}

func TestATokenForAChannelIsForNoOther(t *testing.T) {
	w := start(t, gateway.Options{Policy: &auth.Policy{Default: auth.Closed}})
	c := w.centrifuge(tokenOf(t, "alice"))
	for what, claims := range map[string]map[string]any{
		"another channel":           {"sub": "alice", "channel": "other"},
		"another user":              {"sub": "bob", "channel": "room"},
		"nobody":                    {"channel": "room"},
		"another connection":        {"sub": "alice", "channel": "room", "client": "somebody"},
		"a connection":              {"sub": "alice"},
		"an empty channel":          {"sub": "alice", "channel": ""},
		"a channel of another case": {"sub": "alice", "channel": "Room"},
	} {
		if got := c.call(`{"subscribe":{"channel":"room","token":"` + sign(t, claims) + `"}}`); !strings.Contains(got, `"code":103`) {
			t.Errorf("a token for %s does not let alice into the room: 103, not %s", what, got)
		}
	}
	if got := c.call(`{"subscribe":{"channel":"room","token":"` + sign(t, map[string]any{"sub": "alice", "channel": "room"}) + `"}}`); !strings.Contains(got, `"subscribe":`) {
		t.Errorf("her own token does, not %s", got)
	}
}
