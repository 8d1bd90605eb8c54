// Package callback hands what clients ask by rpc, and what they send, to a service of the operator, over HTTP.
//
// What it promises:
//
//   - One POST for each, with a JSON object as services that answer Centrifugo's RPC proxy expect it, at most once: nothing is repeated.
//   - Nobody waits here: a call is answered later from another goroutine, at the latest after the timeout. So many calls may be under
//     way; one more is refused with error 111.
//   - An answer is read up to 1 MiB. What a service answers wrong is error 100 for the client and a line in the log, without what was
//     asked or answered.
package callback

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"barrage/proto"
	"barrage/session/centrifuge"
)

// Bounds of calls.
const (
	// DefaultTimeout is how long a service may take when Options say nothing.
	DefaultTimeout = 5 * time.Second
	maxCalls       = 256     // under way
	maxAnswer      = 1 << 20 // bytes
)

// Codes that a service may give an error of its own.
const (
	MinCode = 400
	MaxCode = 1999
)

// Options of a Service. URL is needed.
type Options struct {
	// URL of the operator's service. A name and a password in it are sent as Basic authentication.
	URL string
	// Timeout of a call; 0 means DefaultTimeout.
	Timeout time.Duration
	Log     *slog.Logger
}

// Service is the operator's service. Its methods may be called from any goroutine.
type Service struct {
	url    string
	log    *slog.Logger
	client http.Client
	places chan struct{} // one for each call under way
	stats  Stats

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Stats counts calls since the start.
type Stats struct {
	Calls   atomic.Int64 // handed to the service
	Refused atomic.Int64 // not handed over: too many were under way
	Failed  atomic.Int64 // without an answer that could be used
}

// New makes a Service. Nothing is connected yet.
func New(o Options) *Service {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		url: o.URL, log: o.Log, places: make(chan struct{}, maxCalls),
		client: http.Client{Timeout: o.Timeout, Transport: &http.Transport{
			MaxIdleConnsPerHost: maxCalls, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: o.Timeout,
		}},
	}
	// An answer that sends elsewhere is no answer: what clients ask is for this service alone.
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Stats are the counters of the service.
func (s *Service) Stats() *Stats { return &s.stats }

// Close ends the calls under way, which are answered with an error, and waits for them. Call must not be called any more.
func (s *Service) Close() {
	s.cancel()
	s.wg.Wait()
	s.client.CloseIdleConnections()
}

// question is what a service is asked.
type question struct {
	Client string          `json:"client"`
	User   string          `json:"user"`
	Method string          `json:"method,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Meta   json.RawMessage `json:"meta,omitempty"`
}

// answer is what it says.
type answer struct {
	Result *struct {
		Data json.RawMessage `json:"data"`
	} `json:"result"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// Call hands over a call. It is a centrifuge.Server's RPC.
func (s *Service) Call(c centrifuge.Call) {
	done := c.Done
	if done == nil { // sent, without waiting for an answer
		done = func([]byte, *proto.Error) {}
	}
	if len(c.Data) > 0 && !json.Valid(c.Data) {
		done(nil, proto.ErrBadRequest.With("data must be JSON"))
		return
	}
	select {
	case s.places <- struct{}{}:
	default:
		s.stats.Refused.Add(1)
		done(nil, proto.ErrTooMany.After(time.Second))
		return
	}
	q := question{Client: c.Client, Method: c.Method, Data: c.Data}
	if c.Identity != nil {
		q.User, q.Meta = c.Identity.User, c.Identity.Meta
	}
	s.stats.Calls.Add(1)
	s.wg.Go(func() {
		defer func() { <-s.places }()
		done(s.ask(&q))
	})
}

// ask asks the service, and returns what the client is told.
func (s *Service) ask(q *question) ([]byte, *proto.Error) {
	a, err := s.post(q)
	switch {
	case err != nil:
		s.stats.Failed.Add(1)
		s.log.Warn("the service of rpc.url did not answer as it must", "method", q.Method, "error", err)
		return nil, proto.ErrInternal
	case a.Error != nil:
		return nil, &proto.Error{Code: a.Error.Code, Message: a.Error.Message}
	case a.Result == nil || len(a.Result.Data) == 0:
		return []byte("null"), nil
	}
	return a.Result.Data, nil
}

func (s *Service) post(q *question) (a answer, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return a, withoutURL(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return a, fmt.Errorf("it answered with status %d, not 200", res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return a, withoutURL(err)
	case len(text) > maxAnswer:
		return a, fmt.Errorf("its answer is larger than %d bytes", maxAnswer)
	case json.Unmarshal(text, &a) != nil:
		return a, fmt.Errorf("its answer is not a JSON object with result or error")
	case a.Error != nil && (a.Error.Code < MinCode || a.Error.Code > MaxCode):
		return a, fmt.Errorf("its error has the code %d; codes of your own are %d to %d", a.Error.Code, MinCode, MaxCode)
	}
	return a, nil
}
