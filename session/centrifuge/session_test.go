package centrifuge

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"barrage/auth"
	"barrage/limit"
	"barrage/proto"
)

const welcome = `{"id":1,"connect":{"client":"c1","ping":25,"pong":true}}`

// TestTranscripts is what a client says, and what it is answered.
func TestTranscripts(t *testing.T) {
	rpc := func(c Call) { c.Done([]byte(`{"method":"`+c.Method+`"}`), nil) }
	subscribed := `{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`
	for name, c := range map[string]struct {
		server Server
		in     string // lines; the first connects unless it does itself
		out    []string
	}{
		"anything before connect":       {in: `!{"id":2,"publish":{"channel":"a","data":1}}`, out: []string{"close 3501 the first command must be connect"}},
		"a frame of nothing":            {in: `!`, out: []string{"close 3501 bad request"}},
		"no JSON":                       {in: `!{"id":1,`, out: []string{"close 3501 bad request"}},
		"no object":                     {in: `![1]`, out: []string{"close 3501 bad request"}},
		"a second connect":              {in: `{"id":2,"connect":{}}`, out: []string{"close 3501 connect is sent once"}},
		"a command without id":          {in: `{"publish":{"channel":"a","data":1}}`, out: []string{"close 3501 a command has no id"}},
		"a pong that answers no ping":   {in: `{}`, out: []string{"close 3501 a pong that answers no ping"}},
		"an id alone":                   {in: `{"id":2}`, out: []string{`{"id":2,"error":{"code":104,"message":"method not found"}}`}},
		"ping":                          {in: `{"id":2,"ping":{}}`, out: []string{`{"id":2,"ping":{}}`}},
		"subscribe":                     {in: `{"id":2,"subscribe":{"channel":"a"}}`, out: []string{subscribed}},
		"subscribe to a live channel":   {in: `{"id":2,"subscribe":{"channel":"live:a"}}`, out: []string{`{"id":2,"subscribe":{}}`}},
		"recover":                       {in: `{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"e","offset":5}}`, out: []string{`{"id":2,"subscribe":{"recoverable":true,"epoch":"e","recovered":true,"offset":5,"positioned":true,"was_recovering":true}}`, `{"push":{"channel":"a","pub":{"data":6,"offset":6}}}`, `{"push":{"channel":"a","pub":{"data":7,"offset":7}}}`}},
		"recover another epoch":         {in: `{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"f","offset":5}}`, out: []string{`{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"was_recovering":true}}`}},
		"recover a live channel":        {in: `{"id":2,"subscribe":{"channel":"live:a","recover":true,"epoch":"f","offset":5}}`, out: []string{`{"id":2,"subscribe":{"was_recovering":true}}`}},
		"recover or fail":               {in: `{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"f","offset":5,"flag":2}}`, out: []string{`{"id":2,"error":{"code":112,"message":"unrecoverable position"}}`}},
		"fail and subscribe again":      {in: `{"id":3,"subscribe":{"channel":"a","recover":true,"epoch":"f","flag":2}}` + "\n" + `{"id":2,"subscribe":{"channel":"a"}}`, out: []string{`{"id":3,"error":{"code":112,"message":"unrecoverable position"}}`, subscribed}},
		"subscribe twice":               {in: `{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"a"}}`, out: []string{subscribed, `{"id":3,"error":{"code":105,"message":"already subscribed"}}`}},
		"subscribe, leave and return":   {in: `{"id":3,"subscribe":{"channel":"live:a"}}` + "\n" + `{"id":4,"unsubscribe":{"channel":"live:a"}}` + "\n" + `{"id":5,"subscribe":{"channel":"live:a"}}`, out: []string{`{"id":3,"subscribe":{}}`, `{"id":4,"unsubscribe":{}}`, `{"id":5,"subscribe":{}}`}},
		"unsubscribe without":           {in: `{"id":2,"unsubscribe":{"channel":"a"}}`, out: []string{`{"id":2,"unsubscribe":{}}`}},
		"too many channels":             {server: Server{Channels: 1}, in: `{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"b"}}`, out: []string{subscribed, `{"id":3,"error":{"code":106,"message":"a client may be subscribed to 1 channels"}}`}},
		"a name that cannot be":         {in: `{"id":2,"subscribe":{"channel":""}}`, out: []string{`{"id":2,"error":{"code":107,"message":"bad channel name: it is empty; give 1 to 255 bytes of UTF-8"}}`}},
		"the events of a channel":       {in: `{"id":2,"subscribe":{"channel":"a\u0000"}}`, out: []string{`{"id":2,"error":{"code":107,"message":"bad channel name: byte 1 is the control character U+0000; remove it"}}`}},
		"a map":                         {in: `{"id":2,"subscribe":{"channel":"a","type":1}}`, out: []string{`{"id":2,"error":{"code":108,"message":"there are no maps and no shared polls: subscribe with type 0"}}`}},
		"a filter":                      {in: `{"id":2,"subscribe":{"channel":"a","tf":{"key":"k"}}}`, out: []string{`{"id":2,"error":{"code":108,"message":"there are no filters by tags: subscribe without tf"}}`}},
		"deltas and numbers":            {in: `{"id":2,"subscribe":{"channel":"a","delta":"fossil","flag":1}}`, out: []string{subscribed}},
		"publish":                       {in: `{"id":2,"publish":{"channel":"a","data":{"x": 1}}}`, out: []string{`{"id":2,"publish":{}}`}},
		"publish nothing":               {in: `{"id":2,"publish":{"channel":"a"}}`, out: []string{`{"id":2,"error":{"code":107,"message":"data must be JSON: invalid JSON at byte 1: expected a value, but the line ends"}}`}},
		"publish into a map":            {in: `{"id":2,"publish":{"channel":"a","data":1,"type":1,"key":"k"}}`, out: []string{`{"id":2,"error":{"code":108,"message":"there are no maps: publish without type, key and removed"}}`}},
		"presence":                      {in: `{"id":2,"presence":{"channel":"a"}}`, out: []string{`{"id":2,"presence":{"presence":{"c2":{"user":"u","client":"c2","conn_info":{"a":1}}}}}`}},
		"presence stats":                {in: `{"id":2,"presence_stats":{"channel":"a"}}`, out: []string{`{"id":2,"presence_stats":{"num_clients":3,"num_users":2}}`}},
		"rpc without a hook":            {in: `{"id":2,"rpc":{"method":"m"}}`, out: []string{`{"id":2,"error":{"code":108,"message":"not available"}}`}},
		"send without a hook":           {in: `{"send":{"data":1}}`, out: []string{"close 3508 not available"}},
		"rpc":                           {server: Server{RPC: rpc}, in: `{"id":2,"rpc":{"method":"m","data":1}}`, out: []string{`{"id":2,"rpc":{"data":{"method":"m"}}}`}},
		"send":                          {server: Server{RPC: rpc}, in: `{"send":{"data":1}}` + "\n" + `{"id":2,"ping":{}}`, out: []string{`{"id":2,"ping":{}}`}},
		"rpc that answers with no JSON": {server: Server{RPC: func(c Call) { c.Done([]byte("\xff"), nil) }}, in: `{"id":2,"rpc":{}}`, out: []string{"close 3506 inappropriate protocol"}},
		"refresh without tokens":        {in: `{"id":2,"refresh":{"token":"t"}}`, out: []string{`{"id":2,"error":{"code":108,"message":"there are no tokens here"}}`}},
		"several commands and spaces":   {in: "{\"id\":2,\"ping\":{}}\n\n \r\n{\"id\":3,\"ping\":{}}\n", out: []string{`{"id":2,"ping":{}}`, `{"id":3,"ping":{}}`}},
		"connect and subscribe at once": {in: `!{"id":1,"connect":{"name":"js","data":{"a":1},"headers":{"x":"y"},"flag":1}}` + "\n" + `{"id":2,"subscribe":{"channel":"a"}}`, out: []string{welcome, subscribed}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, c.server, JSON)
			if in, raw := strings.CutPrefix(c.in, "!"); raw {
				s.Message([]byte(in))
			} else {
				s.connect()
				s.Message([]byte(in))
			}
			s.expect(c.out...)
		})
	}
}

func TestHistoryAsksForWhatTheClientMeans(t *testing.T) {
	at := func(o *proto.Offset) int {
		if o == nil {
			return -1
		}
		return int(*o)
	}
	h := proto.History{Epoch: "e", Offset: 7, Messages: []proto.Message{{Offset: 3, Data: []byte("3")}, {Offset: 4, Data: []byte("4"), User: "u", Client: "c", Attributes: []byte(`{"info":{"n":1},"tags":{"k":"v"}}`)}}}
	third, fourth := `{"data":3,"offset":3}`, `{"data":4,"info":{"user":"u","client":"c","conn_info":{"n":1}},"offset":4,"tags":{"k":"v"}}`
	for in, c := range map[string]struct {
		since, before, limit int
		out                  string
	}{
		`"limit":2`:                                     {0, -1, 2, `"history":{"publications":[` + third + `,` + fourth + `],"epoch":"e","offset":7}`},
		`"limit":2,"reverse":true`:                      {-1, -1, 2, `"history":{"publications":[` + fourth + `,` + third + `],"epoch":"e","offset":7}`},
		`"limit":-1,"since":{"offset":2}`:               {2, -1, maxPage, `"history":{"publications":[` + third + `,` + fourth + `],"epoch":"e","offset":7}`},
		`"limit":2,"since":{"offset":5},"reverse":true`: {-1, 5, 2, `"history":{"publications":[` + fourth + `,` + third + `],"epoch":"e","offset":7}`},
		`"limit":0`:                                     {0, -1, 0, `"history":{"publications":[],"epoch":"e","offset":7}`},
		`"limit":2,"since":{"offset":2,"epoch":"f"}`:    {2, -1, 2, `"error":{"code":112,"message":"unrecoverable position"}`},
		`"since":{"offset":0},"reverse":true`:           {-1, -1, 0, `"error":{"code":107,"message":"nothing is before offset 0"}`},
	} {
		s := open(t, Server{}, JSON).connect()
		s.backend.history = h
		s.Message([]byte(`{"id":2,"history":{"channel":"a",` + in + `}}`))
		s.expect(`{"id":2,` + c.out + `}`)
		if q := s.backend.asked; strings.Contains(c.out, "error\":{\"code\":107") {
			continue
		} else if at(q.Since) != c.since || at(q.Before) != c.before || q.Limit != c.limit {
			t.Errorf("%s asks for since %d, before %d, limit %d, not for %d, %d, %d", in, c.since, c.before, c.limit, at(q.Since), at(q.Before), q.Limit)
		}
	}
}

// tokens are good for a minute.
type tokens struct{ now func() time.Time }

func (k tokens) Connection(token string) (*auth.Identity, *proto.Error) {
	switch token {
	case "bad":
		return nil, proto.ErrUnauthorized
	case "old":
		return nil, proto.ErrTokenExpired
	case "later":
		return nil, proto.ErrInternal
	}
	return &auth.Identity{
		User: token, Info: json.RawMessage(`{"n":1}`), Expires: k.now().Add(time.Minute),
		Subs: map[string]auth.Subscription{"given": {Data: json.RawMessage(`"hello"`)}, "live:given": {}},
	}, nil
}

func (k tokens) Subscription(token, channel, _, _ string) (auth.Subscription, *proto.Error) {
	switch token {
	case channel:
		return auth.Subscription{Info: json.RawMessage(`2`), Expires: k.now().Add(30 * time.Second)}, nil
	case "old":
		return auth.Subscription{}, proto.ErrTokenExpired
	}
	return auth.Subscription{}, proto.ErrUnauthorized
}

// closed is a session of a server with authentication.
func closed(t *testing.T, change func(*Server)) *client {
	s := open(t, Server{Policy: &auth.Policy{Default: auth.Closed}}, JSON)
	s.shared.Tokens = tokens{s.shared.Now}
	if change != nil {
		change(s.shared)
	}
	return s
}

func TestConnectShowsAToken(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                "close 3500 invalid token: a connection token is needed",
		`{"token":"bad"}`:   "close 3500 invalid token: unauthorized",
		`{"token":"old"}`:   `{"id":1,"error":{"code":109,"message":"token expired"}}`,
		`{"token":"later"}`: `{"id":1,"error":{"code":100,"message":"internal error","temporary":true}}`,
	} {
		s := closed(t, nil)
		s.Message([]byte(`{"id":1,"connect":` + in + `}`))
		s.expect(want)
		if strings.HasPrefix(want, "{") {
			s.Message([]byte(`{"id":2,"ping":{}}`))
			s.expect("close 3501 connect is sent once")
		}
	}
	s := closed(t, func(s *Server) { s.Anonymous = true })
	s.connect()
}

const given = `"given":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"data":"hello"}`

func TestTheServerSubscribesFirst(t *testing.T) {
	s := closed(t, func(s *Server) { s.Personal = true })
	s.backend.held = true
	s.Message([]byte(`{"id":1,"connect":{"token":"bob","subs":{"#bob":{"recover":true,"epoch":"e","offset":5},"other":{"recover":true}}}}`))
	if !s.Full() {
		t.Error("until the reply to connect the session is full")
	}
	s.expect()
	s.backend.release()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); got == "" && time.Now().Before(deadline); {
		got = strings.Join(s.frames(), "\n")
	}
	for _, part := range []string{`{"id":1,"connect":{"client":"c1","expires":true,"ttl":60,"subs":{`, given, `"live:given":{}`, `"#bob":{"recoverable":true,"epoch":"e","recovered":true,"offset":5,"positioned":true,"was_recovering":true}`, `"ping":25,"pong":true}}`} {
		if !strings.Contains(strings.SplitN(got, "\n", 2)[0], part) {
			t.Errorf("the reply to connect comes first, with %s: %s", part, got)
		}
	}
	if strings.Contains(got, "other") {
		t.Errorf("nobody is subscribed to what they name: %s", got)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(got, `"offset":7}}}`) && time.Now().Before(deadline); {
		got += "\n" + strings.Join(s.frames(), "\n")
	}
	if want := `{"push":{"channel":"#bob","pub":{"data":6,"offset":6}}}`; !strings.Contains(got, "\n"+want) {
		t.Errorf("what was missed follows: %s", got)
	}
}

func TestTheServerSubscribesToNothingThatDoesNotExist(t *testing.T) {
	s := closed(t, func(s *Server) {
		s.Personal = true
		s.Policy.Default.Pattern = regexp.MustCompile(`^given$`)
	})
	s.Message([]byte(`{"id":1,"connect":{"token":"bob"}}`))
	s.expect(`{"id":1,"connect":{"client":"c1","expires":true,"ttl":60,"subs":{` + given + `},"ping":25,"pong":true}}`)
	s.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "other"})
	s.expect()
	if i := s.Info(); !slices.Equal(i.Channels, []string{"given"}) {
		t.Errorf("neither a token nor the server API makes up channels whose names the pattern refuses: %v", i.Channels)
	}
	if n := s.backend.presentIn("other") + s.backend.presentIn("#bob") + s.backend.presentIn("live:given"); n != 0 {
		t.Errorf("nobody is present where they cannot be: %d", n)
	}
}

func TestTokensForChannels(t *testing.T) {
	s := closed(t, nil)
	s.Message([]byte(`{"id":1,"connect":{"token":"bob"}}`))
	s.frames()
	next := func(want string) {
		t.Helper()
		for {
			for _, f := range s.frames() {
				if strings.Contains(f, `"id":1,`) {
					continue
				}
				if f != want {
					t.Errorf("the session must answer\n%s\nand not\n%s", want, f)
				}
				return
			}
		}
	}
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	next(`{"id":2,"error":{"code":103,"message":"the namespace default allows subscribe to those with a subscription token only"}}`)
	s.Message([]byte(`{"id":3,"subscribe":{"channel":"a","token":"b"}}`))
	next(`{"id":3,"error":{"code":103,"message":"the subscription token is not good: unauthorized"}}`)
	s.Message([]byte(`{"id":4,"subscribe":{"channel":"a","token":"old"}}`))
	next(`{"id":4,"error":{"code":109,"message":"token expired"}}`)
	s.Message([]byte(`{"id":5,"subscribe":{"channel":"a","token":"a"}}`))
	next(`{"id":5,"subscribe":{"expires":true,"ttl":30,"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`)
	s.shared.Policy.Default.Rules[auth.Publish] = auth.Subscriber
	s.Message([]byte(`{"id":6,"publish":{"channel":"a","data":1}}`))
	next(`{"id":6,"publish":{}}`)
	if p := s.backend.published[0]; p.User != "bob" || p.Client != "c1" || string(p.Attributes) != `{"info":{"n":1},"chan_info":2}` {
		t.Errorf("a publication tells who published it: %+v %s", p, p.Attributes)
	}
	s.Message([]byte(`{"id":7,"sub_refresh":{"channel":"b","token":"b"}}`))
	next(`{"id":7,"error":{"code":103,"message":"you are not subscribed to this channel"}}`)
	s.now = s.now.Add(20 * time.Second)
	s.Message([]byte(`{"id":8,"sub_refresh":{"channel":"a","token":"a"}}`))
	next(`{"id":8,"sub_refresh":{"expires":true,"ttl":30}}`)
	s.Message([]byte(`{"id":9,"refresh":{"token":"bob"}}`))
	next(`{"id":9,"refresh":{"client":"c1","expires":true,"ttl":60}}`)
	s.now = s.now.Add(54 * time.Second)
	s.Tick(s.now)
	s.now = s.now.Add(2 * time.Second) // 56 s after the token for the channel was shown, which was good for 30 s
	s.Tick(s.now)
	next(`{"push":{"channel":"a","unsubscribe":{"code":2501,"reason":"expired"}}}`)
	if n := s.backend.presentIn("a"); n != 0 {
		t.Errorf("who is unsubscribed is not present any more: %d", n)
	}
	s.now = s.now.Add(30 * time.Second)
	s.Tick(s.now)
	next("close 3005 expired")
}

func TestRefreshRefuses(t *testing.T) {
	for token, want := range map[string]string{
		"bad":   "close 3500 invalid token: unauthorized",
		"old":   "close 3005 expired",
		"alice": "close 3500 the token is of another user",
		"later": `{"id":2,"error":{"code":100,"message":"internal error","temporary":true}}`,
	} {
		s := closed(t, nil)
		s.Message([]byte(`{"id":1,"connect":{"token":"bob"}}`))
		s.Message([]byte(`{"id":2,"refresh":{"token":"` + token + `"}}`))
		for got := ""; got != want; {
			for _, f := range s.frames() {
				if got = f; strings.Contains(f, `"id":1,`) {
					continue
				}
				if got != want {
					t.Fatalf("a refresh with %s is answered with %s, not %s", token, want, got)
				}
			}
		}
	}
}

func TestWhoDoesNotConnectIsStale(t *testing.T) {
	s := open(t, Server{}, JSON)
	if after := s.Tick(s.now.Add(time.Second)); after <= 0 || after > 10*time.Second {
		t.Errorf("the session wants to be looked at when the time for connect is over, not after %s", after)
	}
	s.expect()
	s.Tick(s.now.Add(connectWait))
	s.expect("close 3502 stale")
	s = open(t, Server{}, JSON).connect()
	s.Tick(s.now.Add(time.Hour))
	s.expect()
}

func TestPings(t *testing.T) {
	for format, want := range map[Format]string{JSON: "{}", Protobuf: "\x00"} {
		s := open(t, Server{}, format)
		if got := string(s.Ping()[2:]); got != want {
			t.Errorf("a ping is an empty reply, not %q", got)
		}
		s.Ping()
		s.Message([]byte(want))
		s.Message([]byte(want))
		s.expect()
		s.Message([]byte(want))
		s.expect("close 3501 a pong that answers no ping")
	}
}

func TestUnsubscribeWhileTheChannelIsOpened(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.backend.held = true
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	s.Message([]byte(`{"id":3,"unsubscribe":{"channel":"a"}}`))
	s.expect(`{"id":3,"unsubscribe":{}}`)
	s.backend.release()
	s.expect(`{"id":2,"error":{"code":108,"message":"unsubscribed before it was subscribed"}}`)
	if n := s.backend.presentIn("a"); n != 0 {
		t.Errorf("nobody is present: %d", n)
	}
	s.Message([]byte(`{"id":4,"subscribe":{"channel":"live:a"}}`))
	s.expect(`{"id":4,"subscribe":{}}`)
}

func TestAJournalThatIsAwayIsATemporaryError(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.backend.down = true
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	s.expect(`{"id":2,"error":{"code":100,"message":"storage is unavailable; try again later","temporary":true}}`)
	s.Tick(s.now)
	if n := s.backend.presentIn("a"); n != 0 {
		t.Errorf("who could not be subscribed is not present: %d", n)
	}
}

func TestAResetUnsubscribesTheClientWhichSubscribesAgain(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	s.expect(`{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}`)
	notice := Codecs(nil)[JSON].Reset("a", proto.Position{}, "")
	s.backend.feed("a", 0).Restart(1, notice)
	s.expect(`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
	s.Message([]byte(`{"id":3,"subscribe":{"channel":"a","recover":true,"epoch":"d","offset":3}}`))
	s.expect(`{"id":3,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"was_recovering":true}}`)
	if n := s.backend.presentIn("a"); n != 1 {
		t.Errorf("the client is present once: %d", n)
	}
}

func TestAResetOfWhatTheServerSubscribedEndsTheConnection(t *testing.T) {
	s := closed(t, nil)
	s.Message([]byte(`{"id":1,"connect":{"token":"bob"}}`))
	for len(s.frames()) == 0 {
	}
	s.backend.feed("given", 0).Restart(1, Codecs(nil)[JSON].Reset("given", proto.Position{}, ""))
	s.expect(`{"push":{"channel":"given","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
	s.Tick(s.now)
	s.expect("close 3010 insufficient state")
}

func TestControl(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a", Data: json.RawMessage(`1`)})
	s.expect(`{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"data":1}}}`)
	if !s.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a"}) || s.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "other"}) {
		t.Error("the connection says whether it is concerned: by a channel that it has, and not by another")
	}
	s.expect()
	since := proto.Offset(6)
	s.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "b", Since: &since, Epoch: "e"})
	s.expect(`{"push":{"channel":"b","subscribe":{"recoverable":true,"epoch":"e","offset":6,"positioned":true}}}`, `{"push":{"channel":"b","pub":{"data":7,"offset":7}}}`)
	if i := s.Info(); i.Client != "c1" || i.Protocol != "centrifuge-json" || len(i.Channels) != 2 {
		t.Errorf("the connection tells of itself: %+v", i)
	}
	s.Control(proto.Control{Kind: proto.ControlUnsubscribe, Channel: "b"})
	s.expect(`{"push":{"channel":"b","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	s.Control(proto.Control{Kind: proto.ControlUnsubscribe, Code: 2502, Reason: "why"})
	s.expect(`{"push":{"channel":"a","unsubscribe":{"code":2502,"reason":"why"}}}`)
	s.Control(proto.Control{Kind: proto.ControlRefresh, Expires: s.now.Add(time.Minute).Unix()})
	s.expect(`{"push":{"refresh":{"expires":true,"ttl":60}}}`)
	s.Control(proto.Control{Kind: proto.ControlDisconnect, Code: 4001, Reason: "go"})
	s.expect("close 4001 go")
	s = open(t, Server{}, JSON).connect()
	s.Control(proto.Control{Kind: proto.ControlRefresh, Expired: true})
	s.expect("close 3005 expired")
	s = open(t, Server{}, JSON).connect()
	s.Control(proto.Control{Kind: proto.ControlDisconnect})
	s.expect("close 3503 force disconnect")
}

func TestJoinAndLeave(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"live:a","join_leave":true}}`))
	s.expect(`{"id":2,"subscribe":{}}`)
	if s.backend.announced["live:a"] {
		t.Error("a client that wants to hear of others does not decide that members are announced: the namespace does")
	}
	events := proto.EventsOf("live:a")
	feed := s.backend.feed(events, 0)
	for deadline := time.Now().Add(10 * time.Second); feed.Members() == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	data, _ := json.Marshal(proto.MemberEvent{Join: &proto.MemberInfo{User: "u", Client: "c2", ChanInfo: json.RawMessage(`1`)}})
	feed.Append(entry(events, data))
	s.expect(`{"push":{"channel":"live:a","join":{"info":{"user":"u","client":"c2","chan_info":1}}}}`)
	s.Message([]byte(`{"id":3,"unsubscribe":{"channel":"live:a"}}`))
	for deadline := time.Now().Add(10 * time.Second); feed.Members() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("who unsubscribes hears no events any more")
		}
	}
}

func TestCommandsUnderWayAreBounded(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.backend.held = true
	var frame strings.Builder
	for range 100 {
		frame.WriteString(`{"id":2,"publish":{"channel":"a","data":1}}` + "\n")
	}
	rest := s.Message([]byte(frame.String()))
	if n := len(s.backend.published); n != 64 {
		t.Errorf("at most 64 commands are under way, not %d", n)
	}
	if want := 36 * (len(frame.String()) / 100); len(rest) != want {
		t.Errorf("the rest is returned: %d bytes, not %d", want, len(rest))
	}
	if !s.Full() {
		t.Error("the session is full")
	}
	s.backend.release()
	if s.resumes == 0 || s.Full() {
		t.Error("and goes on when there is room again")
	}
}

func TestWhatIsSentIsUnderWayUntilItHasArrived(t *testing.T) {
	var done []func([]byte, *proto.Error)
	s := open(t, Server{RPC: func(c Call) {
		if !c.Sent || c.Method != "" || string(c.Data) != "1" {
			t.Errorf("what is sent is said to be, got %+v", c)
		}
		done = append(done, c.Done)
	}}, JSON).connect()
	const line = `{"send":{"data":1}}` + "\n"
	rest := s.Message([]byte(strings.Repeat(line, 100)))
	if len(done) != 64 || len(rest) != 36*len(line) {
		t.Errorf("64 commands are under way and 36 are left, not %d and %d bytes", len(done), len(rest))
	}
	if !s.Full() {
		t.Error("the session is full")
	}
	for _, f := range done {
		f([]byte("null"), proto.ErrInternal)
	}
	if s.resumes != 1 || s.Full() {
		t.Error("and goes on when there is room again")
	}
	s.expect()
}

func TestGoneLeavesEverything(t *testing.T) {
	s := open(t, Server{}, JSON).connect()
	s.Message([]byte(`{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"b"}}`))
	s.backend.held = true
	s.Message([]byte(`{"id":4,"subscribe":{"channel":"c"}}`))
	s.out.Close()
	s.Gone()
	s.backend.release()
	for _, name := range []string{"a", "b", "c"} {
		if n := s.backend.presentIn(name); n != 0 {
			t.Errorf("who is gone is not present in %s: %d", name, n)
		}
	}
}

func TestASessionIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Session{}); n > 128 {
		t.Errorf("a session takes at most 128 bytes, not %d", n)
	}
	if n := unsafe.Sizeof(subscription{}); n > 48 {
		t.Errorf("a subscription takes at most 48 bytes, not %d", n)
	}
}

func TestAControlBeforeConnectLetsNobodyIn(t *testing.T) {
	s := closed(t, nil)
	s.Control(proto.Control{Kind: proto.ControlRefresh, Expires: s.now.Add(time.Hour).Unix()})
	s.Control(proto.Control{Kind: proto.ControlSubscribe, Channel: "a"})
	s.Message([]byte(`{"id":1,"connect":{}}`))
	s.expect("close 3500 invalid token: a connection token is needed")
}

func TestACommandThatIsTooMuchIsRefused(t *testing.T) {
	limits := limit.New(limit.Options{Commands: limit.Rate{PerSecond: 1, Burst: 2}})
	c := open(t, Server{Limits: limits}, JSON).connect()
	c.now = time.Now()
	c.Message([]byte(`{"id":2,"ping":{}}` + "\n" + `{"id":3,"ping":{}}` + "\n" + `{"id":4,"ping":{}}`))
	c.expect(`{"id":2,"ping":{}}`, `{"id":3,"ping":{}}`,
		`{"id":4,"error":{"code":111,"message":"this connection sends too many commands; at most 1 a second are allowed; try again after 1000 ms","temporary":true}}`)
	c.now = c.now.Add(time.Second)
	c.Message([]byte(`{"id":5,"ping":{}}`))
	c.expect(`{"id":5,"ping":{}}`)
}

func TestAClientThatIsOneTooManyIsClosed(t *testing.T) {
	c := open(t, Server{}, JSON)
	c.full = proto.ErrLimit.With("this user has reached the limit")
	c.Message([]byte(`{"id":1,"connect":{}}`))
	c.expect("close 3504 this user has reached the limit")
	if user := c.User(); user != "" {
		t.Errorf("a client that was not let in is nobody's: got %q", user)
	}
}
