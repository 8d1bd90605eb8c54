package serverapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"barrage/httpapi/serverapi"
	"barrage/node"
	"barrage/proto"
)

func TestPublish(t *testing.T) {
	w := start(t)
	w.expect("publish", `{"channel":"room","data":{"a": [1, "<弹幕>"]}}`, `{"result":{"offset":1,"epoch":"EPOCH"}}`)
	w.expect("publish", `{"channel":"room","b64data":"`+base64.StdEncoding.EncodeToString([]byte(` [2] `))+`","tags":{"k":"v"},"idempotency_key":"x"}`, `{"result":{"offset":2,"epoch":"EPOCH"}}`)
	w.expect("publish", `{"channel":"room","data":3,"idempotency_key":"x"}`, `{"result":{"offset":2,"epoch":"EPOCH","repeated":true}}`)
	w.expect("publish", `{"channel":"live:a","data":4,"skip_history":true}`, `{"result":{}}`)
	w.expect("publish", `{"channel":"room","data":null,"delta":true,"unknown":1}`, `{"result":{"offset":3,"epoch":"EPOCH"}}`)
	w.expect("history", `{"channel":"room","limit":-1}`,
		`{"result":{"publications":[{"data":{"a":[1,"<弹幕>"]},"offset":1},{"data":[2],"offset":2,"tags":{"k":"v"}},{"data":null,"offset":3}],"epoch":"EPOCH","offset":3}}`)
}

func TestPublishesThatAreRefused(t *testing.T) {
	w := start(t)
	for _, tc := range []struct {
		body     string
		code     int
		sentence string
	}{
		{`{"data":1}`, 107, "channel: bad channel name: it is empty"},
		{`{"channel":"a\u0000","data":1}`, 107, "control character"},
		{`{"channel":"a"}`, 107, "there is no data; give any JSON value"},
		{``, 107, "there is no data"},
		{`{"channel":"a","data":1,"b64data":"MQ=="}`, 107, "data and b64data are both given"},
		{`{"channel":"a","b64data":"!"}`, 107, "b64data is not base64"},
		{`{"channel":"a","b64data":"aGVsbG8="}`, 107, "b64data must hold a JSON value"},
		{`{"channel":"a","data":1,"skip_history":true}`, 107, "skip_history is for live channels only"},
		{`{"channel":"a","data":1,"version":3}`, 108, "version is not available"},
		{`{"channel":"a","data":1,"idempotency_key":"` + strings.Repeat("k", 129) + `"}`, 107, "idempotency_key: "},
		{`{"channel":"a","data":1,"tags":{"a":"` + strings.Repeat("k", 9000) + `"}}`, 107, "tags: "},
		{`{"channel":"a","data":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, 107, "nest less deeply"},
	} {
		w.fails("publish", tc.body, tc.code, tc.sentence)
	}
	w.fails("broadcast", `{"channels":[],"data":1}`, 106, "there are 0 channels; give 1 to 1000")
	w.fails("broadcast", `{"channels":["a"]}`, 107, "there is no data")
}

func TestABroadcastIsBoundedAndStoredTogether(t *testing.T) {
	w := start(t)
	names := make([]string, serverapi.MaxChannels)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	body, commits := w.postHeld("broadcast", `{"channels":`+string(list)+`,"data":1}`, len(names))
	if n := strings.Count(body, `"offset":1`); n != len(names) {
		t.Errorf("%d channels get the message, not %d", len(names), n)
	}
	if commits > 4 {
		t.Errorf("a broadcast is stored by few commits, not %d", commits)
	}
	w.fails("broadcast", `{"channels":`+strings.Replace(string(list), "[", `["one more",`, 1)+`,"data":1}`, 106, "there are 1001 channels; give 1 to 1000")
}

func TestTheMessagesOfARequestAreBoundedTogether(t *testing.T) {
	channels := strings.TrimSuffix(strings.Repeat(`"live:a",`, serverapi.MaxChannels), ",")
	one := `{"broadcast":{"channels":[` + channels + `],"data":1}}`
	fit := serverapi.MaxPublishes / serverapi.MaxChannels
	for _, parallel := range []string{"false", "true"} {
		w := start(t)
		_, body := w.post("batch", `{"parallel":`+parallel+`,"commands":[`+strings.Repeat(one+",", fit+3)+`{"publish":{"channel":"live:a","data":1}}]}`)
		if n := strings.Count(body, `{"result":{}}`); n != serverapi.MaxPublishes {
			t.Errorf("a request publishes %d messages at most, not %d", serverapi.MaxPublishes, n)
		}
		if n := strings.Count(body, `{"error":{"code":106,"message":"this request publishes more than 10000 messages together; send the rest in another one"}}`); n != 4 {
			t.Errorf("the 4 commands after those are refused, not %d: %.300s", n, body)
		}
	}
}

func TestABatchIsInOrderAndStoredTogether(t *testing.T) {
	w := start(t)
	var commands []string
	for i := range serverapi.MaxCommands - 1 {
		commands = append(commands, fmt.Sprintf(`{"publish":{"channel":"room","data":%d}}`, i))
	}
	commands = append(commands, `{"history":{"channel":"room","limit":-1}}`)
	body, commits := w.postHeld("batch", `{"commands":[`+strings.Join(commands, ",")+`]}`, serverapi.MaxCommands-1)
	var got struct {
		Result struct {
			Replies []struct {
				Publish *serverapi.PublishResult
				History *serverapi.HistoryResult
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Result.Replies) != serverapi.MaxCommands {
		t.Fatalf("each command has a reply, not %d, %v", len(got.Result.Replies), err)
	}
	h := got.Result.Replies[serverapi.MaxCommands-1].History
	if h == nil || len(h.Publications) != serverapi.MaxCommands-1 || h.More {
		t.Fatalf("history after publishes of the same batch has them all, not %+v", h)
	}
	for i, p := range h.Publications {
		if string(p.Data) != fmt.Sprint(i) || got.Result.Replies[i].Publish.Offset != uint64(i+1) {
			t.Fatalf("publishes of one batch are stored in their order; at %d there is %s, and the reply is %+v", i+1, p.Data, got.Result.Replies[i].Publish)
		}
	}
	if commits > 4 {
		t.Errorf("a batch is stored by few commits, not %d", commits)
	}
	w.fails("batch", `{"commands":[`+strings.Join(append(commands, commands[0]), ",")+`]}`, 106, "there are 1001 commands; give 1 to 1000")
	w.fails("batch", `{"commands":[]}`, 106, "there are 0 commands")
}

func TestEachCommandOfABatchFailsForItself(t *testing.T) {
	w := start(t)
	body := `{"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":""}},{"nothing":{}},{"batch":{"commands":[]}},{"publish":{"channel":5}},{},{"presence_stats":{"channel":"a"}}]%s}`
	want := `{"result":{"replies":[{"publish":{"offset":%d,"epoch":"EPOCH"}},{"error":{"code":107,"message":"there is no data; give any JSON value"}},` +
		`{"error":{"code":104,"message":"there is no method \"nothing\""}},{"error":{"code":107,"message":"a batch cannot hold another one"}},` +
		`{"error":{"code":107,"message":"the request cannot be read: channel must not be a JSON number"}},` +
		`{"error":{"code":107,"message":"a command is an object with one key, the name of a method; this one has 0"}},` +
		`{"presence_stats":{"num_clients":200000,"num_users":99000,"estimated":true,"missing":["away"]}}]}}`
	w.expect("batch", fmt.Sprintf(body, ""), fmt.Sprintf(want, 1))
	w.expect("batch", fmt.Sprintf(body, `,"parallel":true`), fmt.Sprintf(want, 2))
	w.key = publishKey
	w.expect("batch", `{"commands":[{"publish":{"channel":"b","data":1}},{"info":{}}]}`,
		`{"result":{"replies":[{"publish":{"offset":1,"epoch":"EPOCH"}},{"error":{"code":103,"message":"the API key is not allowed to do this: its scope is too small"}}]}}`)
}

func TestCommandsOnLines(t *testing.T) {
	w := start(t)
	w.expect("", `{"method":"publish","params":{"channel":"a","data":1}}`+"\n"+`{"method":"nothing"} {"method":"presence_stats","params":{"channel":"a"}}`+"\n",
		`{"result":{"offset":1,"epoch":"EPOCH"}}`+"\n"+`{"error":{"code":104,"message":"there is no method \"nothing\""}}`+"\n"+
			`{"result":{"num_clients":200000,"num_users":99000,"estimated":true,"missing":["away"]}}`)
	for body, sentence := range map[string]string{
		"":    "there is no command",
		"x":   "the request cannot be read",
		"{}}": "the request cannot be read",
		strings.Repeat(`{"method":"info"}`, 1001): "there are more than 1000 commands",
	} {
		if status, got := w.post("", body); status != http.StatusBadRequest || !strings.Contains(got, sentence) {
			t.Errorf("the lines %.20q are refused with 400 and %q, not %d %s", body, sentence, status, got)
		}
	}
}

func TestHistory(t *testing.T) {
	w := start(t)
	const n = 2500 // more than a page of the journal
	for i := range n {
		w.publish(node.Publication{Channel: "room", Data: fmt.Appendf(nil, "%d", i+1)})
	}
	offsets := func(body string) (list []uint64, r serverapi.HistoryResult) {
		t.Helper()
		status, got := w.post("history", body)
		var reply struct{ Result serverapi.HistoryResult }
		if err := json.Unmarshal([]byte(got), &reply); err != nil || status != http.StatusOK || strings.Contains(got, `"error"`) {
			t.Fatalf("history %s is answered, not by %d %s", body, status, got)
		}
		for _, p := range reply.Result.Publications {
			if string(p.Data) != fmt.Sprint(p.Offset) {
				t.Fatalf("the message %s is at %d", p.Data, p.Offset)
			}
			list = append(list, p.Offset)
		}
		return list, reply.Result
	}
	span := func(from, to int) (list []uint64) {
		for i := from; i != to; {
			list = append(list, uint64(i))
			if from < to {
				i++
			} else {
				i--
			}
		}
		return list
	}
	for _, tc := range []struct {
		body string
		want []uint64
		more bool
	}{
		{`{"channel":"room"}`, nil, true},
		{`{"channel":"room","limit":3}`, span(1, 4), true},
		{`{"channel":"room","limit":-1}`, span(1, n+1), false},
		{`{"channel":"room","limit":1500,"since":{"offset":900}}`, span(901, 2401), true},
		{`{"channel":"room","limit":5,"since":{"offset":2498}}`, span(2499, 2501), false},
		{`{"channel":"room","limit":5,"since":{"offset":9999}}`, nil, false},
		{`{"channel":"room","limit":2,"reverse":true}`, span(n, n-2), true},
		{`{"channel":"room","limit":-1,"reverse":true}`, span(n, 0), false},
		{`{"channel":"room","limit":1200,"since":{"offset":2001},"reverse":true}`, span(2000, 800), true},
		{`{"channel":"room","limit":5,"since":{"offset":1},"reverse":true}`, nil, false},
	} {
		got, r := offsets(tc.body)
		if !slices.Equal(got, tc.want) || r.Offset != n || r.Epoch != w.epoch() || len(tc.want) > 0 && r.More != tc.more {
			t.Errorf("history %s has %v, more %v, not %v, %+v", tc.body, clipped(tc.want), tc.more, clipped(got), r.More)
		}
	}
	w.fails("history", `{"channel":"room","limit":1,"since":{"offset":1,"epoch":"gone"}}`, 112, `belongs to the epoch "gone"`)
	w.fails("history", `{"channel":"live:a","limit":1}`, 108, "the channel is live")
	w.fails("history", `{"limit":1}`, 107, "channel: ")
	w.expect("history", `{"channel":"none","limit":1}`, `{"result":{"publications":[],"epoch":"EPOCH","offset":0}}`)
}

func clipped(list []uint64) string {
	if len(list) <= 4 {
		return fmt.Sprint(list)
	}
	return fmt.Sprintf("%d: %v … %v", len(list), list[:2], list[len(list)-2:])
}

func TestAnswersOfABatchAreBoundedTogether(t *testing.T) {
	w := start(t)
	for range 5 {
		w.publish(node.Publication{Channel: "big", Data: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)})
	}
	commands := strings.TrimSuffix(strings.Repeat(`{"history":{"channel":"big","limit":-1}},`, 20), ",")
	for _, parallel := range []string{"false", "true"} {
		_, body := w.post("batch", `{"parallel":`+parallel+`,"commands":[`+commands+`]}`)
		if len(body) > 40<<20 || !strings.Contains(body, "the answers to this request are larger than 32 MiB together") || !strings.Contains(body, `"offset":5`) {
			t.Errorf("the answers to one request have 32 MiB at most, not %d bytes", len(body))
		}
	}
}

func TestUsers(t *testing.T) {
	w := start(t)
	const reached = `{"result":{"affected":2,"missing":["away"]}}`
	w.expect("subscribe", `{"user":"u","channel":"c","b64info":"WzFd","expire_at":77}`, reached)
	if c := w.people.last(); string(c.Info) != "[1]" || c.Expires != 77 || c.Since != nil {
		t.Errorf("subscribe passes on what it was given, not %+v", c)
	}
	w.expect("unsubscribe", `{"user":"u"}`, reached)
	if c := w.people.last(); c.Channel != "" || c.Kind != proto.ControlUnsubscribe {
		t.Errorf("unsubscribe without a channel is from all, not %+v", c)
	}
	w.expect("disconnect", `{"user":"u","client":"c1","whitelist":["x"]}`, reached)
	if c := w.people.last(); c.Client != "c1" || c.Code != 0 || !slices.Equal(c.Except, []string{"x"}) {
		t.Errorf("disconnect passes on what it was given, not %+v", c)
	}
	w.expect("refresh", `{"user":"u","expired":true,"expire_at":99}`, reached)
	if c := w.people.last(); c.Kind != proto.ControlRefresh || !c.Expired || c.Expires != 99 {
		t.Errorf("refresh passes on what it was given, not %+v", c)
	}
	w.expect("connections", `{"user":"u"}`, `{"result":{"connections":{"c1":{"user":"u","protocol":"ws","node":"a","info":{"n":1},"state":{"channels":{"room":{}}}}}}}`)
	w.expect("nodes", ``, `{"result":{"nodes":[{"uid":"u1","name":"a","version":"1.2","num_clients":3,"num_users":2,"num_channels":1,"uptime":60}]}}`)

	w.fails("disconnect", `{}`, 107, "there is no user")
	for _, method := range []string{"subscribe", "unsubscribe", "disconnect", "refresh"} {
		w.fails(method, `{"client":"c1","channel":"c"}`, 107, "there is no user; give the id of one, also with client")
	}
	w.fails("disconnect", `{"user":"u","session":"s"}`, 108, "session is not available")
	w.fails("disconnect", `{"user":"u","disconnect":{"code":1000}}`, 107, "the code 1000 is out of bounds; give 3000 to 4999")
	w.fails("disconnect", `{"user":"u","disconnect":{"code":4000,"reason":"`+strings.Repeat("x", 124)+`"}}`, 107, "the reason has 124 bytes")
	w.fails("disconnect", `{"user":"u","whitelist":[`+strings.Repeat(`"a",`, 1000)+`"a"]}`, 106, "whitelist has 1001 connections")
	w.fails("subscribe", `{"user":"u"}`, 107, "channel: ")
	w.fails("subscribe", `{"user":"u","channel":"c","expire_at":-1}`, 107, "expire_at: -1 is negative")
	w.fails("refresh", `{"user":"`+strings.Repeat("u", 256)+`"}`, 107, "user: ")
	w.fails("connections", `{}`, 107, "user: ")
}

func TestWhatTheNodeCannotDoIsSaid(t *testing.T) {
	w := start(t, func(o *serverapi.Options) { o.Backend = serverapi.Backend{Messages: o.Backend.Messages} })
	for method, body := range map[string]string{
		"history_remove": `{"channel":"a"}`, "presence": `{"channel":"a"}`, "presence_stats": `{"channel":"a"}`, "channels": `{}`, "info": `{}`,
		"nodes": `{}`, "connections": `{"user":"u"}`, "subscribe": `{"user":"u","channel":"a"}`, "unsubscribe": `{"user":"u"}`, "disconnect": `{"user":"u"}`, "refresh": `{"user":"u"}`,
	} {
		w.fails(method, body, 108, "is not available on this node")
	}
}

func TestStatuses(t *testing.T) {
	w := start(t, func(o *serverapi.Options) { o.Body = 100 })
	for _, tc := range []struct {
		method, path, body, key string
		want                    int
	}{
		{"GET", "/api/publish", "", adminKey, 405},
		{"OPTIONS", "/api/publish", "", adminKey, 405},
		{"POST", "/api/nothing", "{}", adminKey, 404},
		{"POST", "/api/info", "{}", "", 401},
		{"POST", "/api/info", "{}", adminKey + "x", 401},
		{"POST", "/api/info", "{}", publishKey, 403},
		{"POST", "/api/publish", `{"channel":"a","data":1}`, readKey, 403},
		{"POST", "/api/disconnect", `{"user":"a"}`, readKey, 403},
		{"POST", "/api/info", "{}", readKey, 200},
		{"POST", "/api/publish", `{"channel":"a","data":1}`, publishKey, 200},
		{"POST", "/api/publish", `{"channel":"a","data":"` + strings.Repeat("x", 100) + `"}`, adminKey, 413},
		{"POST", "/api/publish", `{"channel":"a",`, adminKey, 400},
		{"POST", "/api/publish", `{"channel":"a","data":1} {}`, adminKey, 400},
		{"POST", "/api/docs", ``, adminKey, 405},
	} {
		resp := w.ask(tc.method, tc.path, tc.body, "X-API-Key", tc.key)
		if resp.StatusCode != tc.want {
			t.Errorf("%s %s with the key %q is answered by %d, not %d", tc.method, tc.path, tc.key, tc.want, resp.StatusCode)
		}
		if tc.want == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s %s says which methods are allowed", tc.method, tc.path)
		}
	}
	for _, headers := range [][]string{{"Authorization", "apikey " + readKey}, {"Authorization", "APIKey  " + readKey}, {"X-API-Key", readKey, "Content-Type", "application/x-www-form-urlencoded"}} {
		if resp := w.ask("POST", "/api/info", "", headers...); resp.StatusCode != http.StatusOK {
			t.Errorf("a request with %v is answered, not refused by %d", headers, resp.StatusCode)
		}
	}
	if resp := w.ask("POST", "/api/info?api_key="+readKey, ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a key in the address is not looked at, because addresses are logged; the status is %d", resp.StatusCode)
	}
}

func TestWithoutKeysTheAPIIsClosed(t *testing.T) {
	w := start(t, func(o *serverapi.Options) { o.Keys = ring(t) })
	status, body := w.post("info", "{}")
	if status != http.StatusForbidden || !strings.Contains(body, "the server API is closed: no key is configured; set api.keys or api.keys_file") {
		t.Errorf("without keys the API is closed, also to this machine, and says which setting opens it, not %d %s", status, body)
	}
}

// Pages of other origins cannot read answers, and cannot send the key at all without asking first, which is refused.
func TestNoOtherOriginIsAllowed(t *testing.T) {
	w := start(t)
	for _, method := range []string{"OPTIONS", "POST", "GET"} {
		for _, path := range []string{"/api/publish", "/api", "/api/docs", "/api/openapi.json"} {
			resp := w.ask(method, path, `{}`, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-api-key", "X-API-Key", adminKey)
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s says nothing that allows another origin, not %s", method, path, name)
				}
			}
			if method == "OPTIONS" && resp.StatusCode/100 == 2 {
				t.Errorf("a browser that asks for another origin is refused, not answered by %d", resp.StatusCode)
			}
		}
	}
}

func TestFailedKeysAreLimitedByAddress(t *testing.T) {
	from := netip.MustParseAddr("203.0.113.7")
	r := ring(t, "admin:admin:"+adminKey)
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		serverapi.New(serverapi.Options{Keys: r, Address: func(*http.Request) netip.Addr { return from }}).Register(mux)
		ask := func(key string) (int, string) {
			req := httptest.NewRequest(http.MethodPost, "/api/info", nil)
			req.Header.Set("X-API-Key", key)
			rec := httptest.NewRecorder()
			mux.ServeHTTP(rec, req)
			return rec.Code, rec.Header().Get("Retry-After")
		}
		for i := range 20 {
			if status, _ := ask("wrong"); status != http.StatusUnauthorized {
				t.Fatalf("the wrong key number %d is refused with 401, not %d", i+1, status)
			}
		}
		if status, retry := ask(adminKey); status != http.StatusTooManyRequests || retry == "" {
			t.Errorf("after 20 failures the keys of an address are not looked at; the status is 429 and says when to come back, not %d, %q", status, retry)
		}
		from = netip.MustParseAddr("203.0.113.8")
		if status, _ := ask(adminKey); status != http.StatusOK {
			t.Errorf("other addresses are not concerned, but got %d", status)
		}
		from = netip.MustParseAddr("203.0.113.7")
		time.Sleep(4 * time.Second)
		if status, _ := ask(adminKey); status != http.StatusOK {
			t.Errorf("after some seconds the address may try again, but got %d", status)
		}
		from = netip.MustParseAddr("2001:db8::1")
		for i := range 20 {
			from = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))
			ask("wrong")
		}
		if status, _ := ask(adminKey); status != http.StatusTooManyRequests {
			t.Errorf("a network of IPv6 counts as one address, but got %d", status)
		}
		from = netip.MustParseAddr("127.0.0.1")
		for range 30 {
			ask("wrong")
		}
		if status, _ := ask(adminKey); status != http.StatusOK {
			t.Errorf("loopback addresses are exempt, but got %d", status)
		}
	})
}

func TestARequestEndsAfterItsTime(t *testing.T) {
	w := start(t, func(o *serverapi.Options) { o.Timeout = 20 * time.Millisecond })
	w.people.silent = true
	w.fails("disconnect", `{"user":"u"}`, 120, "whether the command was carried out is not known")
	_, body := w.post("batch", `{"commands":[{"disconnect":{"user":"u"}},{"publish":{"channel":"a","data":1}}]}`)
	if !strings.Contains(body, "there was no answer in time") || !strings.Contains(body, "the request ended before the command could begin") {
		t.Errorf("what could not begin in time is not begun, and told apart from what is not known: %s", body)
	}
}

func TestAClientThatIsGoneHoldsNothing(t *testing.T) {
	w := start(t)
	w.people.silent = true
	ctx, cancel := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/disconnect", strings.NewReader(`{"user":"u"}`))
	r.Header.Set("X-API-Key", adminKey)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.mux.ServeHTTP(httptest.NewRecorder(), r)
	}()
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("a request whose client is gone ends at once")
	}
}

func TestRequestsUnderWayAreBounded(t *testing.T) {
	w := start(t, func(o *serverapi.Options) { o.Requests = 1 })
	body, hold := io.Pipe()
	r := httptest.NewRequest(http.MethodPost, "/api/info", body)
	r.Header.Set("X-API-Key", adminKey)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.mux.ServeHTTP(httptest.NewRecorder(), r)
	}()
	if _, err := hold.Write([]byte(" ")); err != nil { // it is being read
		t.Fatal(err)
	}
	resp := w.ask("POST", "/api/info", "{}", "X-API-Key", adminKey)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a request beyond the limit is answered by 503 and told to come back, not by %d", resp.StatusCode)
	}
	hold.Close()
	<-ended
	if resp := w.ask("POST", "/api/info", "{}", "X-API-Key", adminKey); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards there is room again, but got %d", resp.StatusCode)
	}
}

func TestCommandsAreCounted(t *testing.T) {
	w := start(t)
	r := prometheus.NewPedanticRegistry()
	w.api.Collect(r)
	w.post("publish", `{"channel":"a","data":1}`)
	w.post("batch", `{"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":""}}]}`)
	w.ask("POST", "/api/info", "{}")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"barrage_api_commands_total publish ok": 2, "barrage_api_commands_total publish error": 1, "barrage_api_commands_total batch ok": 1,
		"barrage_api_command_seconds publish": 3, "barrage_api_unauthorized_total": 1, "barrage_api_commands_total info ok": 0,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, not %v", key, want, got[key])
		}
	}
}

// Whatever is sent, the API answers with JSON and does not fall over.
func FuzzRequests(f *testing.F) {
	f.Add("publish", `{"channel":"a","data":{"x":1}}`)
	f.Add("batch", `{"commands":[{"publish":{"channel":"a","data":1}},{"history":{"channel":"a","limit":-1}}],"parallel":true}`)
	f.Add("", `{"method":"publish","params":{"channel":"a","data":1}}`)
	f.Add("disconnect", `{"user":"u","disconnect":{"code":70000},"ClientWhitelist":null}`)
	f.Add("history", `{"channel":"a","limit":-5,"since":{"offset":18446744073709551615},"reverse":true}`)
	f.Add("subscribe", `{"user":"u","channel":"c","info":null,"recover_since":{}}`)
	w := start(f)
	f.Fuzz(func(t *testing.T, method, body string) {
		if strings.Trim(method, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return // no path
		}
		resp := w.ask(http.MethodPost, "/api/"+method, body, "X-API-Key", adminKey)
		if resp.Header.Get("Content-Type") != "application/json" {
			return // the page
		}
		for d := json.NewDecoder(resp.Body); ; {
			var r map[string]json.RawMessage
			if err := d.Decode(&r); err == io.EOF {
				break
			} else if err != nil || (r["result"] == nil) == (r["error"] == nil) {
				t.Fatalf("%s %q is answered by result or error, not %v, %v", method, body, r, err)
			}
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	w := start(b)
	body := `{"channel":"room","data":{"text":"hello everyone"}}`
	ten := strings.TrimSuffix(strings.Repeat(`{"publish":`+body+`},`, 100), ",")
	run := func(method, body string, messages int) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if resp := w.ask(http.MethodPost, "/api/"+method, body, "X-API-Key", adminKey); resp.StatusCode != http.StatusOK {
						b.Error(resp.Status)
					}
				}
			})
			b.ReportMetric(float64(b.N*messages)/b.Elapsed().Seconds(), "publishes/s")
		}
	}
	b.Run("one", run("publish", body, 1))
	b.Run("batch of 100", run("batch", `{"commands":[`+ten+`]}`, 100))
}
