package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"barrage/internal/every"
	"barrage/proto"
)

const (
	// MaxToken bounds a token, in bytes.
	MaxToken = 8 << 10
	// Leeway is how much the clocks of who mints tokens and of this node may differ: a token is accepted so long after its exp,
	// and before its nbf.
	Leeway = 5 * time.Second
	// filesInterval is how often the files with keys are looked at.
	filesInterval = 2 * time.Second
)

// Keys says which keys a Verifier accepts, and what tokens must say besides. Several keys may be in use at once, so that they can
// be replaced one after another.
type Keys struct {
	// Secrets are for HS256, HS384 and HS512.
	Secrets []string
	// Files are PEM files with public keys or certificates; they are read again when they change.
	Files []string
	// Sets are JSON Web Key Sets, which are fetched over HTTP and renewed.
	Sets []KeySet
	// Audience must be among a token's aud; empty for any.
	Audience string
	// Issuer must be the iss of tokens other than those of a KeySet with an issuer; empty for any.
	Issuer string
}

// VerifierOptions are what a Verifier works with; the zero value is good.
type VerifierOptions struct {
	// Client fetches key sets; nil means one of its own with limits on time and redirects.
	Client *http.Client
	// Renew is how often key sets are fetched again; 0 means every 10 minutes.
	Renew time.Duration
	Log   *slog.Logger
}

// VerifierStats counts what a Verifier does.
type VerifierStats struct {
	// Accepted, Refused and Unready count verifications: good tokens, others (expired ones too), and those whose keys had not been
	// fetched.
	Accepted, Refused, Unready atomic.Int64
	// Fetches counts key sets that were fetched, Failures attempts that failed and changes of files that could not be used.
	Fetches, Failures atomic.Int64
}

// Verifier implements Tokens for JSON Web Tokens (RFC 7519). Run must be running for keys to be fetched and renewed.
type Verifier struct {
	// Stats counts what the verifier did since it was made.
	Stats VerifierStats

	keys    Keys
	parser  *jwt.Parser
	log     *slog.Logger
	client  *http.Client
	files   []*keyFile            // owner: Run
	fixed   atomic.Pointer[[]key] // of secrets and files
	issuers map[string]*keySource // by issuer; "" is the one for every other
}

var _ Tokens = (*Verifier)(nil)

// NewVerifier reads the files. The error begins with the setting that it is about and says what to do. Without any key every
// token is refused.
func NewVerifier(k Keys, o VerifierOptions) (*Verifier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = newClient()
	}
	v := &Verifier{
		keys: k, log: o.Log, client: o.Client, issuers: map[string]*keySource{},
		// The times, issuer and audience are judged here, so that an expired token of somebody else is not called expired.
		parser: jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithoutClaimsValidation()),
	}
	for _, path := range k.Files {
		f, err := openKeyFile(path)
		if err != nil {
			return nil, fmt.Errorf("auth.keys: %w", err)
		}
		v.files = append(v.files, f)
	}
	for _, set := range k.Sets {
		if _, twice := v.issuers[set.Issuer]; twice {
			return nil, fmt.Errorf("auth.jwks: the issuer %q is given twice; keep one", set.Issuer)
		}
		v.issuers[set.Issuer] = newKeySource(set, o, &v.Stats)
	}
	v.collect()
	return v, nil
}

// collect puts the keys that are not fetched together.
func (v *Verifier) collect() {
	var all []key
	for _, s := range v.keys.Secrets {
		all = append(all, key{material: []byte(s)})
	}
	for _, f := range v.files {
		all = append(all, f.keys...)
	}
	v.fixed.Store(&all)
}

// Run fetches key sets, renews them, and looks at files, until ctx ends. It is called at most once.
func (v *Verifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range v.issuers {
		all.Go(func() { s.run(ctx) })
	}
	if len(v.files) > 0 {
		every.Interval(ctx, filesInterval, v.look)
	}
	all.Wait()
	v.client.CloseIdleConnections()
}

// Fetch fetches every key set once, for programs that verify one token. It must not run beside Run.
func (v *Verifier) Fetch(ctx context.Context) error {
	var errs []error
	for _, s := range v.issuers {
		errs = append(errs, s.fetch(ctx))
	}
	v.client.CloseIdleConnections()
	return errors.Join(errs...)
}

func (v *Verifier) look() {
	changed := false
	for _, f := range v.files {
		changed = f.look(v.log, &v.Stats) || changed
	}
	if changed {
		v.collect()
	}
}

// Connection implements Tokens.
func (v *Verifier) Connection(token string) (*Identity, *proto.Error) {
	var id *Identity
	err := v.verify(token, func(c *claims, now time.Time) (err error) {
		id, err = c.identity(now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return id, nil
}

// Subscription implements Tokens.
func (v *Verifier) Subscription(token, channel, user, client string) (Subscription, *proto.Error) {
	var s Subscription
	err := v.verify(token, func(c *claims, now time.Time) (err error) {
		switch {
		case c.Channel == nil:
			return claimError("the token is not for a subscription: it has no claim channel")
		case *c.Channel != channel:
			return claimError("the token is for another channel")
		case c.Subject != user:
			return claimError("the token is for another user")
		case c.Client != "" && c.Client != client:
			return claimError("the token is for another connection")
		}
		if s, err = c.subscription(); err == nil {
			s.Expires, err = c.expires(now)
		}
		return err
	})
	if err != nil {
		return Subscription{}, err
	}
	return s, nil
}

// verify calls use with the claims of a good token, and counts.
func (v *Verifier) verify(token string, use func(*claims, time.Time) error) *proto.Error {
	now := time.Now()
	c, err := v.parse(token, now)
	if err == nil {
		err = use(c, now)
	}
	switch {
	case err == nil:
		v.Stats.Accepted.Add(1)
		return nil
	case errors.Is(err, errUnready):
		v.Stats.Unready.Add(1)
		return proto.ErrInternal.With("the keys to verify the token have not arrived yet; try again")
	}
	v.Stats.Refused.Add(1)
	if errors.Is(err, errExpired) {
		return proto.ErrTokenExpired
	}
	if e, ok := errors.AsType[claimError](err); ok {
		return proto.ErrUnauthorized.With("%s", string(e))
	}
	return proto.ErrUnauthorized
}

// parse verifies the signature first and then what does not depend on the kind of token.
func (v *Verifier) parse(token string, now time.Time) (*claims, error) {
	if len(token) > MaxToken {
		return nil, claimError("the token is longer than 8 KiB")
	}
	c, found := new(claims), lookup{}
	_, err := v.parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		var err error
		found, err = v.lookup(t, c.Issuer, now)
		return jwt.VerificationKeySet{Keys: found.keys}, err
	})
	if err != nil {
		return nil, found.explain(err, now)
	}
	return c, c.check(&v.keys, found.issuer, now)
}

// check judges what a token must say whatever it is for. The error of expiry comes last.
func (c *claims) check(k *Keys, issuer string, now time.Time) error {
	switch {
	case issuer == "" && k.Issuer != "" && c.Issuer != k.Issuer:
		return claimError("the token is of another issuer: see its claim iss, and the setting auth.issuer")
	case k.Audience != "" && !slices.Contains(c.Audience, k.Audience):
		return claimError("the token is for another audience: see its claim aud, and the setting auth.audience")
	}
	return c.dates(now)
}

// lookup is which keys a token may be signed with.
type lookup struct {
	keys []jwt.VerificationKey
	// issuer is the one of the key set that alone may sign the token; empty when every key without an issuer may.
	issuer string
	// source may have the key after it has been fetched anew; nil when that would not help.
	source *keySource
	// id is the token's key id; empty without one.
	id string
}

// errUnready is a key set that must be fetched before the token can be judged.
var errUnready = errors.New("keys have not been fetched")

// lookup finds keys by what the token says of itself. That is not verified yet: it only selects among the keys that there are.
func (v *Verifier) lookup(t *jwt.Token, issuer string, now time.Time) (l lookup, err error) {
	if _, critical := t.Header["crit"]; critical {
		return l, claimError("the token has extensions (crit) that are not known here") // RFC 7515, section 4.1.11
	}
	l.id, _ = t.Header["kid"].(string)
	alg := t.Method.Alg()
	add := func(keys []key) {
		for i := range keys {
			if keys[i].fits(alg) {
				l.keys = append(l.keys, keys[i].material)
			}
		}
	}
	if source, named := v.issuers[issuer]; named && issuer != "" {
		l.issuer, l.source = issuer, source
	} else {
		l.source = v.issuers[""]
		add(*v.fixed.Load())
	}
	if l.source != nil {
		known := l.source.find(l.id)
		add(known)
		if l.id != "" && len(known) > 0 {
			l.source = nil // fetching again would give the same key
		}
	}
	if len(l.keys) == 0 {
		return l, claimError("no key for the token's algorithm and key id (kid) is known here")
	}
	return l, nil
}

// explain says why a token was refused, from the parser's error, which must not be shown.
func (l *lookup) explain(err error, now time.Time) error {
	claim, isClaim := errors.AsType[claimError](err)
	unsigned := errors.Is(err, jwt.ErrTokenSignatureInvalid)
	if l.source != nil && (unsigned || isClaim) && l.source.renew(l.id, now) {
		return errUnready
	}
	switch {
	case isClaim:
		return claim
	case unsigned:
		return claimError("the token's signature is wrong, or made with a key or algorithm that is not accepted here")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return claimError("the token's algorithm is not accepted here")
	}
	return claimError("the token is not a JSON Web Token, or a claim of it is of another type than it must be")
}
