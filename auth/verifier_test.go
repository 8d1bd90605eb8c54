package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"barrage/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret      = "0123456789abcdef0123456789abcdef"
	otherSecret = "another secret, of the same length"
)

// pairs are keys of every kind; they are slow to make.
var pairs = sync.OnceValue(func() map[string]any {
	must := func(k any, err error) any {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]any{
		"rsa": must(rsa.GenerateKey(rand.Reader, 2048)), "ed": must(ed, err),
		"p256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "p384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"p521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
	}
})

// publicPEM is the public key of a private one.
func publicPEM(t testing.TB, private any) []byte {
	t.Helper()
	_, public := describeKey(private)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func verifier(t testing.TB, k Keys) *Verifier {
	t.Helper()
	v, err := NewVerifier(k, VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, s Signer, claims map[string]any) string {
	t.Helper()
	token, err := s.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func hs256(t testing.TB, claims map[string]any) string {
	t.Helper()
	return sign(t, Signer{Key: []byte(secret)}, claims)
}

func TestEveryAlgorithmIsVerified(t *testing.T) {
	dir := t.TempDir()
	keys := Keys{Secrets: []string{otherSecret, secret}}
	for name, k := range pairs() {
		keys.Files = append(keys.Files, writeFile(t, filepath.Join(dir, name), publicPEM(t, k)))
	}
	v := verifier(t, keys)
	p := pairs()
	for _, s := range []Signer{
		{Key: []byte(secret), Algorithm: "HS256"},
		{Key: []byte(secret), Algorithm: "HS384"},
		{Key: []byte(otherSecret), Algorithm: "HS512"},
		{Key: p["rsa"], Algorithm: "RS256"},
		{Key: p["rsa"], Algorithm: "RS384"},
		{Key: p["rsa"], Algorithm: "RS512"},
		{Key: p["rsa"], Algorithm: "PS256"},
		{Key: p["rsa"], Algorithm: "PS384"},
		{Key: p["rsa"], Algorithm: "PS512"},
		{Key: p["p256"], Algorithm: "ES256"},
		{Key: p["p384"], Algorithm: "ES384"},
		{Key: p["p521"], Algorithm: "ES512"},
		{Key: p["ed"], Algorithm: "EdDSA"},
	} {
		token := sign(t, s, map[string]any{"sub": "alice"})
		if id, err := v.Connection(token); err != nil || id.User != "alice" {
			t.Errorf("a token signed by %s is accepted: %v", s.Algorithm, err)
		}
		// Any other last byte of the signature, with the same number of bits.
		at := strings.LastIndexByte(token, '.') + 1
		other := byte('A')
		if token[at] == 'A' {
			other = 'B'
		}
		if _, err := v.Connection(token[:at] + string(other) + token[at+1:]); !errors.Is(err, proto.ErrUnauthorized) {
			t.Errorf("a token whose signature by %s is changed is refused: %v", s.Algorithm, err)
		}
	}
}

// raw is a token whose header and signature are as they are given.
func raw(header, claims string, signature []byte) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(header)) + "." + e([]byte(claims)) + "." + e(signature)
}

// The kind of a key decides what it is for, and not what a token says: RFC 8725, section 2.1.
func TestNoKeyServesAnotherAlgorithm(t *testing.T) {
	dir := t.TempDir()
	rsaPEM := publicPEM(t, pairs()["rsa"])
	der, _ := pem.Decode(rsaPEM)
	v := verifier(t, Keys{Files: []string{writeFile(t, filepath.Join(dir, "rsa"), rsaPEM)}})
	_, public := describeKey(pairs()["rsa"])
	for what, key := range map[string][]byte{
		"the file": rsaPEM, "the file without its last newline": bytes.TrimSpace(rsaPEM), "its DER": der.Bytes,
		"its modulus": public.(*rsa.PublicKey).N.Bytes(), "nothing": {},
	} {
		token := sign(t, Signer{Key: key}, map[string]any{"sub": "mallory"})
		if _, err := v.Connection(token); !errors.Is(err, proto.ErrUnauthorized) {
			t.Errorf("a public key's text is no secret: HS256 with %s must be refused, got %v", what, err)
		}
	}
	with := verifier(t, Keys{Secrets: []string{secret}, Files: []string{filepath.Join(dir, "rsa")}})
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None"}`, `{"alg":"NONE","typ":"JWT"}`, `{"alg":""}`, `{}`, `{"alg":null}`, `{"alg":["HS256"]}`,
		`{"alg":"HS1"}`, `{"alg":"RS256"}`, `{"alg":"ES256"}`, `{"alg":"EdDSA"}`, `{"alg":"hs256"}`, `[]`, `null`, ``,
	} {
		for _, signature := range []string{"", "x"} {
			if _, err := with.Connection(raw(header, `{"sub":"mallory"}`, []byte(signature))); !errors.Is(err, proto.ErrUnauthorized) {
				t.Errorf("the header %s must be refused, got %v", header, err)
			}
		}
	}
	other := sign(t, Signer{Key: pairs()["p384"]}, map[string]any{"sub": "alice"})
	if _, err := verifier(t, Keys{Files: []string{writeFile(t, filepath.Join(dir, "p256"), publicPEM(t, pairs()["p256"]))}}).Connection(other); err == nil {
		t.Error("a key of one curve is not used for the algorithm of another")
	}
	if _, err := verifier(t, Keys{}).Connection(hs256(t, map[string]any{"sub": "a"})); !errors.Is(err, proto.ErrUnauthorized) {
		t.Errorf("without keys every token is refused, got %v", err)
	}
}

func TestExtensionsThatMustBeUnderstoodAreRefused(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","crit":["x"],"x":1}`))
	if _, err := v.Connection(head + hs256(t, nil)[len("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"):]); err == nil || !strings.Contains(err.Message, "crit") {
		t.Errorf("an extension that is critical is refused, got %v", err)
	}
}

func TestClaimsOfAConnection(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	id, err := v.Connection(hs256(t, map[string]any{
		"sub": "42", "exp": exp.Unix(), "iat": time.Now().Unix(), "jti": "x", "aud": []string{"a", "b"}, "iss": "me",
		"info": map[string]any{"name": "Alice\n"}, "meta": []int{1, 2}, "channels": []string{"news", "a:b"},
		"subs": map[string]any{
			"news":    map[string]any{"info": 1, "data": json.RawMessage(" {\n\"a\" : 1 } "), "override": map[string]any{"presence": map[string]any{"value": true}}},
			"private": map[string]any{"b64info": base64.StdEncoding.EncodeToString([]byte(`"x"`)), "b64data": "e30="},
		},
		"something": "else",
	}))
	if err != nil {
		t.Fatal(err)
	}
	id.Expires = id.Expires.UTC()
	want := &Identity{
		User: "42", Info: json.RawMessage(`{"name":"Alice\n"}`), Meta: json.RawMessage(`[1,2]`), Expires: exp.UTC(),
		Subs: map[string]Subscription{
			"news": {Info: json.RawMessage(`1`), Data: json.RawMessage(`{"a":1}`)}, "a:b": {},
			"private": {Info: json.RawMessage(`"x"`), Data: json.RawMessage(`{}`)},
		},
	}
	if !reflect.DeepEqual(id, want) {
		t.Errorf("the claims mean\n%+v, not\n%+v", want, id)
	}
	id, err = v.Connection(hs256(t, map[string]any{"sub": "", "info": nil}))
	if err != nil || id.User != "" || id.Info != nil || !id.Expires.IsZero() || id.Subs != nil {
		t.Errorf("a token may be for an anonymous client that never expires, got %+v, %v", id, err)
	}
	id, err = v.Connection(hs256(t, map[string]any{"info": "plain", "b64info": base64.StdEncoding.EncodeToString([]byte("[ 1,\n2 ]"))}))
	if err != nil || string(id.Info) != "[1,2]" {
		t.Errorf("b64info wins, on one line, got %s, %v", id.Info, err)
	}
}

func TestTimes(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	now := time.Now().Unix()
	const ok, expired, refused = "accepted", "109: token expired", "101: "
	for what, tt := range map[string]struct {
		claims map[string]any
		want   string
		never  bool
	}{
		"exp in the future":                 {map[string]any{"exp": now + 60}, ok, false},
		"exp within the leeway":             {map[string]any{"exp": now - 2}, ok, false},
		"exp in the past":                   {map[string]any{"exp": now - 10}, expired, false},
		"exp as a text":                     {map[string]any{"exp": "1e12"}, refused, false},
		"exp with a fraction":               {map[string]any{"exp": float64(now) + 60.5}, ok, false},
		"exp that overflows":                {map[string]any{"exp": 1e300}, refused, false},
		"exp of another type":               {map[string]any{"exp": true}, refused, false},
		"no exp":                            {map[string]any{}, ok, true},
		"nbf in the past":                   {map[string]any{"nbf": now - 60}, ok, true},
		"nbf within the leeway":             {map[string]any{"nbf": now + 2}, ok, true},
		"nbf in the future":                 {map[string]any{"nbf": now + 60}, refused, false},
		"nbf that overflows":                {map[string]any{"nbf": 1e300}, refused, false},
		"expire_at of 0":                    {map[string]any{"exp": now + 60, "expire_at": 0}, ok, true},
		"expire_at later than exp":          {map[string]any{"exp": now + 60, "expire_at": now + 6000}, ok, false},
		"expire_at in the past":             {map[string]any{"exp": now + 60, "expire_at": now - 1}, expired, false},
		"expire_at does not save the token": {map[string]any{"exp": now - 60, "expire_at": 0}, expired, false},
	} {
		id, err := v.Connection(hs256(t, tt.claims))
		switch {
		case tt.want != ok:
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s: want %q, got %v", what, tt.want, err)
			}
		case err != nil:
			t.Errorf("%s: want it accepted, got %v", what, err)
		case id.Expires.IsZero() != tt.never, !tt.never && !id.Expires.After(time.Now()):
			t.Errorf("%s: the connection's end must be never (%v) or in the future, got %v", what, tt.never, id.Expires)
		}
	}
}

// Unix time 0 is in 1969 west of Greenwich.
func TestTimesDoNotDependOnTheZoneOfTheMachine(t *testing.T) {
	for _, hours := range []int{-12, -8, 0, 14} {
		zone := time.FixedZone("", hours*3600)
		last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		for _, at := range []time.Time{time.Unix(0, 0), last} {
			c := claims{ExpireAt: jwt.NewNumericDate(at.In(zone))}
			if err := c.dates(time.Now()); err != nil {
				t.Errorf("%s is a time in a zone of %d hours too, got %v", at.UTC(), hours, err)
			}
		}
		for _, at := range []time.Time{time.Unix(-1, 0), last.Add(time.Second)} {
			c := claims{ExpireAt: jwt.NewNumericDate(at.In(zone))}
			if c.dates(time.Now()) == nil {
				t.Errorf("%s is refused in a zone of %d hours too", at.UTC(), hours)
			}
		}
	}
}

// A service may let its users choose names of claims that mean nothing to it; they must mean nothing here either.
func TestNamesOfClaimsAreExact(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	signed := func(claims string) string {
		unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signature, err := jwt.SigningMethodHS256.Sign(unsigned, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return unsigned + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	for _, more := range []string{
		`"ſub":"admin"`, `"SUB":"admin"`, `"Subs":{"x":{}}`, `"ſubs":{"x":{}}`, `"Channel":"x"`, `"CHANNELS":["x"]`, `"Info":1`, `"B64Info":"MQ=="`,
		`"Expire_At":1`, `"EXP":1`, `"Meta":1`,
	} {
		for _, claims := range []string{`{"sub":"alice",` + more + `}`, `{` + more + `,"sub":"alice"}`} {
			id, err := v.Connection(signed(claims))
			if err != nil || !reflect.DeepEqual(id, &Identity{User: "alice"}) {
				t.Errorf("%s means alice and nothing else, got %+v, %v", claims, id, err)
			}
		}
	}
	id, err := v.Connection(signed(`{"subs":{"a":{"Info":1,"DATA":2},"A":{"info":3}}}`))
	want := map[string]Subscription{"a": {}, "A": {Info: json.RawMessage(`3`)}}
	if err != nil || !reflect.DeepEqual(id.Subs, want) {
		t.Errorf("names in subs are exact, too: want %+v, got %+v, %v", want, id, err)
	}
	for _, claims := range []string{
		`{"sub":"alice","sub":"admin"}`, `{"sub":"alice","\u0073ub":"admin"}`, `{"sub":"alice","x":1,"x":2}`, `{"subs":{"a":{},"a":{"info":1}}}`,
		`{"subs":{"a":{"info":1,"info":2}}}`,
	} {
		if _, err := v.Connection(signed(claims)); !errors.Is(err, proto.ErrUnauthorized) || !strings.Contains(err.Message, "stands twice") {
			t.Errorf("%s is refused, because a name stands twice, got %v", claims, err)
		}
	}
	for _, claims := range []string{`[]`, `7`, `"x"`, `{"subs":[]}`, `{"subs":{"a":7}}`} {
		if _, err := v.Connection(signed(claims)); !errors.Is(err, proto.ErrUnauthorized) {
			t.Errorf("%s is refused, because it is not an object, got %v", claims, err)
		}
	}
	for _, claims := range []string{`{"subs":null,"exp":null,"info":null,"channel":null}`, `{"subs":{}}`} {
		if id, err := v.Connection(signed(claims)); err != nil || !reflect.DeepEqual(id, &Identity{}) {
			t.Errorf("%s says nothing, got %+v, %v", claims, id, err)
		}
	}
}

func TestTokensOfASubscription(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	base := map[string]any{"sub": "alice", "channel": "room"}
	with := func(more map[string]any) map[string]any {
		all := map[string]any{}
		for _, m := range []map[string]any{base, more} {
			maps.Copy(all, m)
		}
		return all
	}
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	s, err := v.Subscription(hs256(t, with(map[string]any{"info": 1, "exp": exp.Unix(), "client": "c1"})), "room", "alice", "c1")
	if err != nil || string(s.Info) != "1" || !s.Expires.Equal(exp) {
		t.Errorf("a token for this channel, user and client is accepted, got %+v, %v", s, err)
	}
	for what, tt := range map[string]struct {
		claims map[string]any
		says   string
	}{
		"another channel":      {with(map[string]any{"channel": "other"}), "101: the token is for another channel"},
		"another user":         {with(map[string]any{"sub": "bob"}), "101: the token is for another user"},
		"no user":              {map[string]any{"channel": "room"}, "101: the token is for another user"},
		"another connection":   {with(map[string]any{"client": "c2"}), "101: the token is for another connection"},
		"a connection's token": {map[string]any{"sub": "alice"}, "101: the token is not for a subscription"},
		"its end is past":      {with(map[string]any{"exp": 1}), "109: token expired"},
		"info that is not":     {with(map[string]any{"b64info": "!"}), "101: the claim b64info is not base64"},
	} {
		if _, err := v.Subscription(hs256(t, tt.claims), "room", "alice", "c1"); err == nil || !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%s: want %q, got %v", what, tt.says, err)
		}
	}
	if _, err := v.Connection(hs256(t, base)); err == nil || !strings.Contains(err.Message, "for a subscription") {
		t.Errorf("a subscription's token opens no connection, got %v", err)
	}
}

func TestAudienceAndIssuer(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}, Audience: "chat", Issuer: "me"})
	for _, tt := range []struct {
		claims map[string]any
		says   string
	}{
		{map[string]any{"aud": "chat", "iss": "me"}, ""},
		{map[string]any{"aud": []string{"x", "chat"}, "iss": "me"}, ""},
		{map[string]any{"aud": "cha", "iss": "me"}, "audience"},
		{map[string]any{"iss": "me"}, "audience"},
		{map[string]any{"aud": "chat"}, "issuer"},
		{map[string]any{"aud": "chat", "iss": "Me"}, "issuer"},
		{map[string]any{"aud": "other", "iss": "me", "exp": 1}, "audience"}, // not "expired": it never was good here
	} {
		_, err := v.Connection(hs256(t, tt.claims))
		if tt.says == "" && err != nil || tt.says != "" && (!errors.Is(err, proto.ErrUnauthorized) || !strings.Contains(err.Message, tt.says)) {
			t.Errorf("%v: want %q, got %v", tt.claims, tt.says, err)
		}
	}
}

func TestClaimsThatCannotBeUsed(t *testing.T) {
	v := verifier(t, Keys{Secrets: []string{secret}})
	for _, claims := range []map[string]any{
		{"sub": 42},
		{"sub": "a\nb"},
		{"sub": strings.Repeat("x", 256)},
		{"channels": []string{""}},
		{"channels": []string{"a\x00"}},
		{"channels": "room"},
		{"subs": map[string]any{"a\x00": map[string]any{}}},
		{"subs": map[string]any{"a": 1}},
		{"b64info": base64.StdEncoding.EncodeToString([]byte("{"))},
		{"b64info": base64.StdEncoding.EncodeToString([]byte("\"\xff\""))},
		{"aud": 1},
		{"padding": strings.Repeat("x", MaxToken)},
	} {
		if _, err := v.Connection(hs256(t, claims)); !errors.Is(err, proto.ErrUnauthorized) {
			t.Errorf("%.60v must be refused, got %v", claims, err)
		}
	}
}

// Neither an error nor a log ever holds a token, or a part of one.
func TestTokensAreNeverTold(t *testing.T) {
	var logs bytes.Buffer
	v, err := NewVerifier(Keys{Secrets: []string{secret}, Audience: "here"},
		VerifierOptions{Log: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	const mark = "S3NTINEL"
	for _, token := range []string{
		mark, mark + "." + mark + "." + mark, "." + mark + ".", raw(`{"alg":"`+mark+`"}`, `{"sub":"`+mark+`"}`, []byte(mark)),
		raw(mark, mark, []byte(mark)), raw(`{"alg":"HS256"}`, `{"sub":`+mark, []byte(mark)),
		raw(`{"alg":"HS256","kid":"`+mark+`"}`, `{"sub":1,"iss":"`+mark+`"}`, []byte(mark)),
		hs256(t, map[string]any{"aud": mark}), hs256(t, map[string]any{"aud": "here", "sub": mark + "\n"}),
		hs256(t, map[string]any{"aud": "here", "b64info": mark + "!"}), hs256(t, map[string]any{"aud": "here", mark: 1, "channels": []string{mark + "\x00"}}),
		hs256(t, map[string]any{"aud": "here", "channel": mark}), hs256(t, map[string]any{"aud": "here", "exp": mark}),
	} {
		_, one := v.Connection(token)
		_, two := v.Subscription(token, "room", "alice", "c")
		for _, err := range []*proto.Error{one, two} {
			if err == nil {
				t.Fatalf("%q must be refused", token)
			}
			for _, part := range append(strings.Split(token, "."), mark) {
				if len(part) >= 6 && strings.Contains(err.Error(), part) {
					t.Errorf("the error tells of the token: %v", err)
				}
			}
		}
	}
	if logs.Len() > 0 {
		t.Errorf("nothing is logged of tokens, got %s", logs.String())
	}
	if v.Stats.Refused.Load() != 26 || v.Stats.Accepted.Load() != 0 {
		t.Errorf("26 refusals are counted, got %d, and %d accepted", v.Stats.Refused.Load(), v.Stats.Accepted.Load())
	}
}

func TestSignerRefusesWhatDoesNotFit(t *testing.T) {
	for _, s := range []Signer{
		{Key: []byte(secret), Algorithm: "RS256"},
		{Key: []byte(secret), Algorithm: "none"},
		{Key: pairs()["rsa"], Algorithm: "HS256"},
		{Key: pairs()["p256"], Algorithm: "ES384"},
		{Key: "text"},
	} {
		if _, err := s.Sign(nil); err == nil || !strings.Contains(err.Error(), "is no algorithm for this key") {
			t.Errorf("%T does not sign %s, got %v", s.Key, s.Algorithm, err)
		}
	}
}

// FuzzToken: whatever is sent, it is accepted only with a signature, and refused with one of the codes of Tokens.
func FuzzToken(f *testing.F) {
	v := verifier(f, Keys{Secrets: []string{secret}})
	f.Add(hs256(f, map[string]any{"sub": "a", "channels": []string{"b"}}), `{"sub":"a","subs":{"x":{"info":1}}}`)
	f.Add("a.b.c", `{"exp":1e300,"nbf":-1,"aud":["a"],"b64info":"e30="}`)
	f.Add(raw(`{"alg":"none"}`, `{}`, nil), `{"channel":null,"expire_at":0}`)
	f.Fuzz(func(t *testing.T, token, text string) {
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) == nil && len(text) < MaxToken/2 {
			signed := hs256(t, claims)
			id, err := v.Connection(signed)
			if err == nil && !json.Valid(append([]byte("["), append(orNull(id.Info), ']')...)) {
				t.Errorf("info is JSON, got %q", id.Info)
			}
			judge(t, err)
		}
		_, err := v.Connection(token)
		if err == nil && !strings.HasPrefix(token, "eyJ") {
			t.Errorf("%q has no signature and is accepted", token)
		}
		judge(t, err)
		_, err = v.Subscription(token, "room", "a", "c")
		judge(t, err)
	})
}

func orNull(b json.RawMessage) []byte {
	if b == nil {
		return []byte("null")
	}
	return bytes.Clone(b)
}

func judge(t *testing.T, err *proto.Error) {
	t.Helper()
	if err != nil && err.Code != 101 && err.Code != 109 {
		t.Errorf("a token is refused with 101 or 109, got %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	for _, name := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		k := Keys{}
		var private any = []byte(secret)
		if file := map[string]string{"RS256": "rsa", "ES256": "p256", "EdDSA": "ed"}[name]; file != "" {
			private = pairs()[file]
			k.Files = []string{writeFile(b, filepath.Join(dir, file), publicPEM(b, private))}
		} else {
			k.Secrets = []string{secret}
		}
		v := verifier(b, k)
		token := sign(b, Signer{Key: private}, map[string]any{
			"sub": "1234567", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "info": map[string]string{"name": "Alice"},
			"channels": []string{"news", "room:1"},
		})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Connection(token); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
