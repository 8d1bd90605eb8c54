package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	// renewEvery is how often a key set is fetched.
	renewEvery = 10 * time.Minute
	// renewLeast is the shortest time between two fetches of a key set for tokens with a key that it does not have.
	renewLeast = 10 * time.Second
	// retryFirst and retryMost are the times between attempts after a failure; each is twice the one before.
	retryFirst, retryMost = time.Second, time.Minute
	// fetchTime bounds a fetch, maxSet what is read of the answer in bytes, maxSetKeys the keys that are taken from it.
	fetchTime  = 10 * time.Second
	maxSet     = 1 << 20
	maxSetKeys = 100
	// maxTried bounds how many keys a token without a key id is tried with.
	maxTried = 16
	// maxAsked bounds the key ids that a source remembers having been asked for, maxID each of them in bytes.
	maxAsked = 256
	maxID    = 128
	// maxRedirects bounds how often a fetch is sent elsewhere.
	maxRedirects = 3
)

// KeySet is where the keys of an issuer are.
type KeySet struct {
	// Issuer is the iss of the tokens that the keys are for, and for no others; empty for tokens of whoever has no set of their own.
	Issuer string
	// URL is that of a JSON Web Key Set (RFC 7517, section 5).
	URL string
}

// keySource holds the keys of one KeySet, and fetches them.
type keySource struct {
	set     KeySet
	every   time.Duration
	client  *http.Client
	log     *slog.Logger
	stats   *VerifierStats
	current atomic.Pointer[fetched] // nil before the first fetch that worked
	wake    chan struct{}           // asks for a fetch; holds one

	mu    sync.Mutex
	asked map[string]time.Time // owner: mu; when key ids that are not known were first asked for; at most maxAsked
}

// fetched is what a fetch gave. It is immutable.
type fetched struct {
	keys []key
	byID map[string][]key
	at   time.Time
}

func newKeySource(set KeySet, o VerifierOptions, stats *VerifierStats) *keySource {
	every := o.Renew
	if every == 0 {
		every = renewEvery
	}
	s := &keySource{
		set: set, every: every, client: o.Client, stats: stats, wake: make(chan struct{}, 1), asked: map[string]time.Time{},
		log: o.Log.With("issuer", set.Issuer, "url", shown(set.URL)),
	}
	if u, err := url.Parse(set.URL); err == nil && u.Scheme == "http" {
		s.log.Warn("keys of auth.jwks are fetched without TLS: whoever can change the answer on its way can make tokens for any user; use https")
	}
	return s
}

// shown is a URL without what may be secret in it.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// newClient makes the client that fetches key sets.
func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: transport, Timeout: fetchTime, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		case via[0].URL.Scheme == "https" && r.URL.Scheme != "https":
			return errors.New("a redirect from https to http is not followed")
		}
		return nil
	}}
}

// find returns the keys with an id, or those that a token without one may be signed with.
func (s *keySource) find(id string) []key {
	f := s.current.Load()
	switch {
	case f == nil:
		return nil
	case id == "":
		return f.keys[:min(len(f.keys), maxTried)]
	}
	return f.byID[id]
}

// renew says whether fetching again may help a token with a key id that is not known, and asks for it: not when the keys have been
// fetched just now, and after somebody asked for that id. Until the next fetch, which waits until renewLeast after the last one,
// nobody knows whether it has come since.
func (s *keySource) renew(id string, now time.Time) bool {
	f := s.current.Load()
	if f == nil { // run is trying anyway
		return true
	}
	if late := s.after(id, f.at, now); !late && now.Sub(f.at) < renewLeast {
		return false
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// after says whether a key id was first asked for after a fetch, and remembers it. Of a token without one nothing is remembered.
func (s *keySource) after(id string, fetch, now time.Time) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first, known := s.asked[id]
	if known {
		return first.After(fetch)
	}
	if len(s.asked) >= maxAsked {
		clear(s.asked) // some are told to come back once more
	}
	s.asked[id] = now
	return true
}

// run fetches the keys now, at intervals, and when asked to, until ctx ends.
func (s *keySource) run(ctx context.Context) {
	retry := retryFirst
	for {
		began := time.Now()
		wait := s.every - rand.N(s.every/10) // nodes that start together do not ask together for ever
		if err := s.fetch(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.stats.Failures.Add(1)
			s.log.Warn("keys could not be fetched; those from before stay in use", "error", err, "again", retry)
			wait, retry = retry, min(retry*2, retryMost)
		} else {
			retry = retryFirst
		}
		if !s.pause(ctx, began, wait) {
			return
		}
	}
}

// pause waits, or until a fetch is asked for and one may be made again; false means that ctx ended.
func (s *keySource) pause(ctx context.Context, began time.Time, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-s.wake:
			if wait > renewLeast {
				t.Reset(max(renewLeast-time.Since(began), 0))
			}
		}
	}
}

// fetch fetches the keys and takes them into use. The error is without the URL, which may hold secrets.
func (s *keySource) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	body, err := s.get(ctx)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", shown(s.set.URL), err)
	}
	f, skipped, err := parseSet(body)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", shown(s.set.URL), err)
	}
	f.at = time.Now()
	s.current.Store(f)
	s.stats.Fetches.Add(1)
	s.log.Debug("keys were fetched", "keys", len(f.keys), "skipped", skipped)
	return nil
}

func (s *keySource) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.set.URL, http.NoBody)
	if err != nil {
		return nil, errors.New("its URL is not one")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	if err == nil && len(body) > maxSet {
		err = errors.New("its answer is larger than 1MiB")
	}
	return body, err
}

// parseSet reads a key set. Keys that are for something else or of a kind that is not known are skipped; a set without any that can
// be used is an error.
func parseSet(body []byte) (f *fetched, skipped int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil {
		return nil, 0, errors.New("its answer is not a JSON Web Key Set")
	}
	f = &fetched{byID: map[string][]key{}}
	for _, text := range set.Keys {
		k, ok := parseJWK(text)
		if !ok || len(f.keys) == maxSetKeys {
			skipped++
			continue
		}
		f.keys = append(f.keys, k)
		if k.id != "" && len(f.byID[k.id]) < maxTried {
			f.byID[k.id] = append(f.byID[k.id], k)
		}
	}
	if len(f.keys) == 0 {
		return nil, skipped, errors.New("its answer holds no key that tokens could be verified with")
	}
	return f, skipped, nil
}

// parseJWK reads one key of a set. Symmetric keys are none: what everybody can fetch is no secret.
func parseJWK(text json.RawMessage) (key, bool) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(text, &m) != nil {
		return key{}, false
	}
	// Certificates say nothing that is not in the key, and a URL of one would have to be fetched.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	if m.KTY == jwkset.KtyOct || m.USE != "" && m.USE != jwkset.UseSig ||
		len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, false
	}
	j, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, false
	}
	k, err := publicKey(j.Key())
	if err != nil {
		return key{}, false
	}
	k.id, k.alg = m.KID, string(m.ALG)
	return k, true
}
