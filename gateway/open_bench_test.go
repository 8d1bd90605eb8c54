package gateway

import (
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"testing"

	"barrage/engine"
	"barrage/session"
)

// deafSocket takes everything.
type deafSocket struct{}

func (deafSocket) TryWrite(b []byte) (int, error) { return len(b), nil }
func (deafSocket) ArmWrite()                      {}
func (deafSocket) Finish()                        {}
func (deafSocket) Abort(error)                    {}
func (deafSocket) Resume()                        {}

// upgradeRequest is a request that may be upgraded.
func upgradeRequest(path string) *http.Request {
	return &http.Request{
		Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Host: "h", URL: &url.URL{Path: path}, RemoteAddr: "127.0.0.1:1",
		Header: http.Header{
			"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		},
	}
}

// BenchmarkOpen admits a connection into one room, from the request to the member, and tells how much memory it holds.
func BenchmarkOpen(b *testing.B) {
	for name, path := range map[string]string{"raw": "/raw/lobby", "ws": "/ws/lobby", "sse": "/sse/lobby"} {
		b.Run(name, func(b *testing.B) {
			n, j := newNode(b, session.Codecs())
			defer j.Close()
			defer n.Close(b.Context())
			g := New(Options{Node: "a", Backend: n, Writers: n.Writers(), Log: slog.New(slog.DiscardHandler)})
			defer g.engine.Close()
			r := upgradeRequest(path)
			handlers := make([]engine.Handler, b.N)
			before := heap()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range handlers {
				refusal, open := g.Upgrade(r)
				if refusal != nil {
					b.Fatalf("the request must be accepted, not refused with %s", refusal)
				}
				handlers[i] = open(deafSocket{})
			}
			b.StopTimer()
			for n.Info("lobby").Members < b.N {
				runtime.Gosched()
			}
			b.ReportMetric((float64(heap())-float64(before))/float64(b.N), "B-held/op")
			for _, h := range handlers {
				h.Closed(nil)
			}
		})
	}
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	for last := collected(); ; {
		now := collected()
		if now >= last { // what earlier tests left behind is gone
			return now
		}
		last = now
	}
}

// collected is what is in use after a collection, and what pools let go with the next one.
func collected() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
