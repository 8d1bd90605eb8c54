// Package callback hands what clients ask by rpc, and what they send, to a service of the operator, over HTTP.
//
// What it promises:
//
//   - One POST for each, with a JSON object as services that answer Centrifugo's RPC proxy expect it, at most once: nothing is repeated.
//   - Nobody waits here: a call is answered later from another goroutine, at the latest after the timeout. At most 256 calls are under
//     way, and of those of one user (of one connection, when nobody knows whose it is) so few that others find room; one more is
//     refused with error 111. After Close it is error 120.
//   - There are no more connections than calls may be under way, and what hangs while one is made ends too.
//   - An answer to rpc is read up to 1 MiB; of what answers send, only the status counts.
//   - What a service answers wrong is error 100 for the client and counted, and a line in the log says so at most once a second: with the
//     beginning of the method, and without what was asked or answered besides.
package callback

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"barrage/internal/every"
	"barrage/proto"
	"barrage/session/centrifuge"
)

// Bounds of calls.
const (
	// DefaultTimeout is how long a service may take when Options say nothing.
	DefaultTimeout = 5 * time.Second
	maxAnswer      = 1 << 20 // bytes
	// warnEvery is the time between two lines of the log, which have at most maxMethod bytes of a method: clients choose it, and they
	// choose how many calls there are that fail.
	warnEvery = time.Second
	maxMethod = 64
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
	places places // one for each call under way
	warned every.Seldom
	stats  Stats

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

// Stats counts calls since the start.
type Stats struct {
	Calls   atomic.Int64 // handed to the service
	Refused atomic.Int64 // not handed over: too many were under way, or the service was closed
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
		url: o.URL, log: o.Log,
		client: http.Client{Timeout: o.Timeout, Transport: &http.Transport{
			MaxConnsPerHost: maxCalls, MaxIdleConnsPerHost: maxCalls, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: o.Timeout,
			// A connection that is being made outlives the call that it was for, so that it needs limits of its own.
			DialContext: (&net.Dialer{Timeout: o.Timeout}).DialContext, TLSHandshakeTimeout: o.Timeout,
			ForceAttemptHTTP2: true, // which a dialer of one's own turns off
		}},
	}
	// An answer that sends elsewhere is no answer: what clients ask is for this service alone.
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Stats are the counters of the service.
func (s *Service) Stats() *Stats { return &s.stats }

// Close ends the calls under way, which are answered with an error, and waits for them. Nothing is handed over afterwards.
func (s *Service) Close() {
	s.places.close()
	s.cancel()
	s.places.wg.Wait()
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
	if len(c.Data) > 0 && !json.Valid(c.Data) {
		c.Done(nil, proto.ErrBadRequest.With("data must be JSON"))
		return
	}
	h := holderOf(&c)
	if err := s.places.take(h); err != nil {
		s.stats.Refused.Add(1)
		c.Done(nil, err)
		return
	}
	q := question{Client: c.Client, Method: c.Method, Data: c.Data}
	if c.Identity != nil {
		q.User, q.Meta = c.Identity.User, c.Identity.Meta
	}
	s.stats.Calls.Add(1)
	go func() {
		defer s.places.wg.Done()
		data, err := s.ask(&q, c.Sent)
		s.places.give(h) // first: who has the answer may call again
		c.Done(data, err)
	}()
}

// ask asks the service, and returns what the client is told.
func (s *Service) ask(q *question, sent bool) ([]byte, *proto.Error) {
	a, err := s.post(q, sent)
	if err != nil {
		s.stats.Failed.Add(1)
	}
	switch {
	case err != nil && s.ctx.Err() != nil:
		return nil, errEnding
	case err != nil:
		s.warn(q.Method, err)
		return nil, proto.ErrInternal
	case a.Error != nil:
		return nil, &proto.Error{Code: a.Error.Code, Message: a.Error.Message}
	case a.Result == nil || len(a.Result.Data) == 0:
		return []byte("null"), nil
	}
	return a.Result.Data, nil
}

// warn says that a call failed, and of how many others that was not said.
func (s *Service) warn(method string, err error) {
	unsaid, ok := s.warned.May(warnEvery)
	if !ok {
		return
	}
	method = strings.ToValidUTF8(method[:min(len(method), maxMethod)], "")
	s.log.Warn("the service of rpc.url did not answer as it must", "method", method, "error", err, "left_out", unsaid)
}

func (s *Service) post(q *question, sent bool) (a answer, err error) {
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
	if sent {
		return a, taken(res)
	}
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

// taken judges what answers something sent. It is read to its end, if that is near, for the connection to be used again.
func taken(res *http.Response) error {
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("it answered what was sent with status %d, not 200 to 299", res.StatusCode)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return nil
}
