package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"barrage/proto"
)

// jwk is a key as a key set holds it.
func jwk(t testing.TB, key any, id string, edit func(m *jwkset.JWKMarshal)) json.RawMessage {
	t.Helper()
	_, public := describeKey(key)
	j, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{
		Marshal: jwkset.JWKMarshalOptions{Private: true}, Metadata: jwkset.JWKMetadataOptions{KID: id},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := j.Marshal()
	if edit != nil {
		edit(&m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keySet(keys ...json.RawMessage) string {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// web answers requests for key sets by their URL.
type web struct {
	mu      sync.Mutex
	answers map[string]string // owner: mu; "" is a failure
	asked   map[string]int    // owner: mu
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[r.URL.String()]++
	body := w.answers[r.URL.String()]
	if body == "" {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (w *web) answer(url, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[url] = body
}

func (w *web) count(url string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[url]
}

// all is how often each URL was asked for.
func (w *web) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.asked)
}

const urlA, urlB = "https://a.example/keys?token=hidden", "https://b.example/keys"

// world is a verifier of two issuers with a web of its own, in a fake clock.
type world struct {
	t    *testing.T
	web  *web
	v    *Verifier
	logs bytes.Buffer // owner: the verifier; a test reads it after synctest.Wait
}

func newWorld(t *testing.T, k Keys) *world {
	w := &world{t: t, web: &web{answers: map[string]string{}, asked: map[string]int{}}}
	var err error
	w.v, err = NewVerifier(k, VerifierOptions{Client: &http.Client{Transport: w.web}, Log: slog.New(slog.NewTextHandler(&w.logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// run starts the verifier, and ends it with the test.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		w.v.Run(ctx)
		close(done)
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

func (w *world) expect(when, token string, want *proto.Error) {
	w.t.Helper()
	_, err := w.v.Connection(token)
	switch {
	case want == nil && err != nil:
		w.t.Errorf("%s the token is accepted, got %v", when, err)
	case want != nil && (!errors.Is(err, want) || err.Retry != want.Retry):
		w.t.Errorf("%s the token is refused with %v, got %v", when, want, err)
	}
}

func two() Keys { return Keys{Sets: []KeySet{{Issuer: "a", URL: urlA}, {Issuer: "b", URL: urlB}}} }

func TestFetchedKeysBelongToTheirIssuer(t *testing.T) {
	p := pairs()
	synctest.Test(t, func(t *testing.T) {
		k := two()
		k.Secrets = []string{secret}
		w := newWorld(t, k)
		w.web.answer(urlA, keySet(jwk(t, p["p256"], "1", nil)))
		w.web.answer(urlB, keySet(jwk(t, p["ed"], "1", nil)))
		ofA := sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"sub": "x", "iss": "a"})
		w.expect("before keys have been fetched", ofA, proto.ErrInternal)
		w.run()
		w.expect("with the issuer's key", ofA, nil)
		w.expect("without a key id", sign(t, Signer{Key: p["p256"]}, map[string]any{"sub": "x", "iss": "a"}), nil)
		w.expect("with the other's", sign(t, Signer{Key: p["ed"], ID: "1"}, map[string]any{"sub": "x", "iss": "b"}), nil)
		// The same key id means another key for another issuer.
		w.expect("with b's key in a's name", sign(t, Signer{Key: p["ed"], ID: "1"}, map[string]any{"sub": "x", "iss": "a"}), proto.ErrUnauthorized)
		w.expect("with a's key in b's name", sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"sub": "x", "iss": "b"}), proto.ErrUnauthorized)
		w.expect("with a's key in nobody's name", sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"sub": "x"}), proto.ErrUnauthorized)
		w.expect("with a's key in a name that is not known", sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"iss": "https://evil.example"}), proto.ErrUnauthorized)
		w.expect("with the secret in a's name", hs256(t, map[string]any{"iss": "a"}), proto.ErrUnauthorized)
		// What a token offers to verify itself with is not looked at: neither a key nor an address (CVE-2018-0114).
		own := jwt.NewWithClaims(jwt.SigningMethodES384, jwt.MapClaims{"sub": "x", "iss": "a"})
		own.Header["jwk"], own.Header["jku"] = jwk(t, p["p384"], "", nil), "https://evil.example/keys"
		own.Header["x5u"], own.Header["kid"] = "https://evil.example/c.pem", "../1"
		token, err := own.SignedString(p["p384"])
		if err != nil {
			t.Fatal(err)
		}
		w.expect("with a key of its own, and an id that may have come since,", token, proto.ErrInternal)
		w.expect("with the secret in nobody's name", hs256(t, map[string]any{"sub": "x"}), nil)
		synctest.Wait()
		if a, b := w.web.count(urlA), w.web.count(urlB); a != 1 || b != 1 || len(w.web.all()) != 2 {
			t.Errorf("no token makes anything else be fetched: %v", w.web.all())
		}
		time.Sleep(renewLeast)
		synctest.Wait()
		w.expect("with a key of its own", token, proto.ErrUnauthorized)
		if len(w.web.all()) != 2 {
			t.Errorf("no token makes anything else be fetched: %v", w.web.all())
		}
	})
}

func TestAURLWithoutAnIssuerIsForEverybodyElse(t *testing.T) {
	p := pairs()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Keys{Secrets: []string{secret}, Sets: []KeySet{{URL: urlA}, {Issuer: "b", URL: urlB}}, Issuer: "c"})
		w.web.answer(urlA, keySet(jwk(t, p["p256"], "1", nil)))
		w.web.answer(urlB, keySet(jwk(t, p["ed"], "1", nil)))
		byKey := func(iss string) string { return sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"iss": iss}) }
		w.expect("with a secret, before keys have been fetched", hs256(t, map[string]any{"iss": "c"}), nil)
		w.expect("with a key, before keys have been fetched", byKey("c"), proto.ErrInternal)
		w.run()
		w.expect("with a key", byKey("c"), nil)
		w.expect("of another issuer than auth.issuer", byKey("d"), proto.ErrUnauthorized)
		w.expect("of an issuer with keys of its own", byKey("b"), proto.ErrUnauthorized)
		w.expect("of an issuer with keys of its own, by those", sign(t, Signer{Key: p["ed"]}, map[string]any{"iss": "b"}), nil)
	})
}

func TestKeysAreRenewed(t *testing.T) {
	p := pairs()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, two())
		w.web.answer(urlA, keySet(jwk(t, p["p256"], "old", nil)))
		w.web.answer(urlB, keySet(jwk(t, p["p256"], "old", nil)))
		older := sign(t, Signer{Key: p["p256"], ID: "old"}, map[string]any{"iss": "a"})
		newer := sign(t, Signer{Key: p["ed"], ID: "new"}, map[string]any{"iss": "a"})
		w.run()
		w.expect("with a key that may have come since a fetch just now", newer, proto.ErrInternal)
		time.Sleep(renewLeast)
		synctest.Wait()
		w.expect("with a key that nobody has, just after a fetch that looked for it,", newer, proto.ErrUnauthorized)
		time.Sleep(time.Minute)
		w.web.answer(urlA, keySet(jwk(t, p["p256"], "old", nil), jwk(t, p["ed"], "new", nil)))
		w.expect("with a key that may have come since", newer, proto.ErrInternal)
		synctest.Wait()
		w.expect("when that has been looked at", newer, nil)
		w.expect("with the key from before", older, nil)
		if a, b := w.web.count(urlA), w.web.count(urlB); a != 3 || b != 1 {
			t.Errorf("only the issuer of the token is asked again: %d and %d times", a, b)
		}
		for range 1000 {
			_, _ = w.v.Connection(sign(t, Signer{Key: p["ed"], ID: "junk"}, map[string]any{"iss": "a"}))
			time.Sleep(30 * time.Millisecond)
			synctest.Wait()
		}
		if a := w.web.count(urlA); a > 3+4 {
			t.Errorf("in 30 s of tokens with unknown keys there are at most 4 fetches, got %d", a-3)
		}
		forged := older[:len(older)-8] + "AAAAAAAA"
		time.Sleep(time.Minute)
		before := w.web.count(urlA)
		w.expect("with a wrong signature by a known key", forged, proto.ErrUnauthorized)
		synctest.Wait()
		if a := w.web.count(urlA); a != before {
			t.Error("a wrong signature by a known key is no reason to fetch keys")
		}
		w.web.answer(urlA, keySet(jwk(t, p["ed"], "new", nil)))
		time.Sleep(11 * time.Minute)
		w.expect("with a key that is gone", older, proto.ErrInternal)
		synctest.Wait()
		w.expect("with a key that is gone for sure", older, proto.ErrUnauthorized)
	})
}

func TestAFailureKeepsTheKeys(t *testing.T) {
	p := pairs()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, two())
		token := sign(t, Signer{Key: p["p256"], ID: "1"}, map[string]any{"iss": "a"})
		w.run()
		w.expect("while the issuer cannot be reached", token, proto.ErrInternal)
		time.Sleep(10 * time.Second)
		good := keySet(jwk(t, p["p256"], "1", nil))
		w.web.answer(urlA, good)
		time.Sleep(time.Minute)
		w.expect("when it can", token, nil)
		for _, bad := range []string{"", "<html>", "{}", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"1"}]}`, good + strings.Repeat(" ", maxSet)} {
			w.web.answer(urlA, bad)
			before := w.web.count(urlA)
			time.Sleep(11 * time.Minute)
			if w.web.count(urlA) == before {
				t.Errorf("keys are fetched again after a failure")
			}
			w.expect("after a failure", token, nil)
		}
		synctest.Wait() // the other issuer's attempt of this moment is logged before the log is read
		if !strings.Contains(w.logs.String(), "keys could not be fetched") || strings.Contains(w.logs.String(), "hidden") {
			t.Errorf("failures are logged, without what is secret in a URL:\n%s", w.logs.String())
		}
		if n := w.web.count(urlB); n < 60 || n > 80 {
			t.Errorf("an issuer that cannot be reached is asked about once a minute, got %d times in %d minutes", n, 67)
		}
	})
}

func TestKeysThatAreFetchedInTheOpenAreWarnedOf(t *testing.T) {
	const open, safe = "HTTP://user:hidden@a.example/keys?token=hidden", "https://b.example/keys"
	var logs bytes.Buffer
	_, err := NewVerifier(Keys{Sets: []KeySet{{Issuer: "a", URL: open}, {Issuer: "b", URL: safe}}}, VerifierOptions{Log: slog.New(slog.NewTextHandler(&logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	text := logs.String()
	if n := strings.Count(text, "without TLS"); n != 1 || !strings.Contains(text, "url=http://a.example/keys") || strings.Contains(text, "hidden") {
		t.Errorf("one warning names the URL that is not safe, without what is secret in it, got %q", text)
	}
}

func TestKeysThatAreForSomethingElseAreSkipped(t *testing.T) {
	p := pairs()
	skipped := map[string]json.RawMessage{
		"encryption":   jwk(t, p["p256"], "1", func(m *jwkset.JWKMarshal) { m.USE = jwkset.UseEnc }),
		"signing only": jwk(t, p["p256"], "1", func(m *jwkset.JWKMarshal) { m.KEYOPS = []jwkset.KEYOPS{jwkset.KeyOpsSign} }),
		"a secret":     json.RawMessage(`{"kty":"oct","kid":"1","k":"` + secret + `"}`),
		"half a key":   json.RawMessage(`{"kty":"EC","kid":"1","crv":"P-256","x":"AA"}`),
		"no point":     jwk(t, p["p256"], "1", func(m *jwkset.JWKMarshal) { m.X = m.Y }),
		"no object":    json.RawMessage(`7`),
		"a small key":  json.RawMessage(`{"kty":"RSA","kid":"1","e":"AQAB","n":"` + strings.Repeat("x", 171) + `"}`),
		"a kind to be": json.RawMessage(`{"kty":"AKP","kid":"1"}`),
	}
	for what, text := range skipped {
		if f, n, err := parseSet([]byte(keySet(text, jwk(t, p["ed"], "2", nil)))); err != nil || n != 1 || len(f.keys) != 1 || f.byID["1"] != nil {
			t.Errorf("a key that is %s is skipped, and the others are taken, got %+v, %v", what, f, err)
		}
		if _, _, err := parseSet([]byte(keySet(text))); err == nil {
			t.Errorf("a set with nothing but %s is refused", what)
		}
	}
	f, _, err := parseSet([]byte(keySet(
		jwk(t, p["rsa"], "1", func(m *jwkset.JWKMarshal) { m.ALG, m.USE = "RS256", jwkset.UseSig }),
		jwk(t, p["ed"], "2", func(m *jwkset.JWKMarshal) { m.X5U = "https://127.0.0.1:1/never" }),
	)))
	if err != nil || len(f.keys) != 2 {
		t.Fatalf("both keys are taken, and no certificate is fetched: %+v, %v", f, err)
	}
	if k := f.byID["1"][0]; !k.fits("RS256") || k.fits("RS512") || k.fits("PS256") {
		t.Error("a key with an algorithm is for that alone")
	}
	var many []json.RawMessage
	for range maxSetKeys + 20 {
		many = append(many, jwk(t, p["ed"], "1", nil))
	}
	if f, n, err := parseSet([]byte(keySet(many...))); err != nil || len(f.keys) != maxSetKeys || n != 20 || len(f.byID["1"]) != maxTried {
		t.Errorf("of very many keys the first are taken, got %d, %d, %v", len(f.keys), n, err)
	}
}

func FuzzParseSet(f *testing.F) {
	for _, k := range pairs() {
		f.Add([]byte(keySet(jwk(f, k, "1", nil))))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""},{"kty":"OKP","crv":"Ed25519","x":"AA"},null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, _, err := parseSet(body)
		if err != nil {
			return
		}
		for i := range set.keys {
			if set.keys[i].fits("HS256") {
				t.Errorf("a key set holds no secret: %s", body)
			}
		}
	})
}

// Over a real connection: redirects, answers that are too large, and other statuses.
func TestFetch(t *testing.T) {
	p := pairs()
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, keySet(jwk(t, p["ed"], "1", nil)))
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxSet+1)) })
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, says := range map[string]string{
		"/keys": "", "/moved": "", "/round": "too many redirects", "/large": "larger than 1MiB", "/none": "it answered 404 Not Found",
	} {
		v := verifier(t, Keys{Sets: []KeySet{{Issuer: "a", URL: server.URL + path}}})
		err := v.Fetch(t.Context())
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: want %q, got %v", path, says, err)
		}
	}
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(nil)
	defer plain.Close()
	secure.Config.Handler = http.RedirectHandler(plain.URL+"/keys", http.StatusFound)
	secure.StartTLS()
	defer secure.Close()
	client := secure.Client()
	client.CheckRedirect = newClient().CheckRedirect
	v, err := NewVerifier(Keys{Sets: []KeySet{{URL: secure.URL}}}, VerifierOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "a redirect from https to http is not followed") {
		t.Errorf("keys are not fetched in the open when https was asked for, got %v", err)
	}
}
