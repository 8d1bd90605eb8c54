//go:build system

package test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

// pushes opens a stream of pushes for a client that only listens, and returns a function that reads the next one.
func pushes(ctx context.Context, t *testing.T, base, transport, request string) (next func() (string, error)) {
	t.Helper()
	method, address, body := http.MethodPost, base+"/connection/"+transport, request
	if transport == "uni_sse" {
		method, address, body = http.MethodGet, address+"?cf_connect="+url.QueryEscape(request), ""
	}
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s is opened through nginx: %v, %v", transport, resp, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	return func() (string, error) {
		for {
			line, err := lines.ReadString('\n')
			line = strings.TrimSpace(strings.TrimPrefix(line, "data: "))
			if err != nil || strings.HasPrefix(line, "{") && line != "{}" {
				return line, err
			}
		}
	}
}

// Clients that only listen, through nginx: every push at once; and when their node is killed they recover on another from the last
// offset that they have.
func TestClientsThatOnlyListenLoseTheirNode(t *testing.T) {
	for _, transport := range []string{"uni_sse", "uni_http_stream"} {
		t.Run(transport, func(t *testing.T) {
			c := startCluster(t, testserver.ClusterOptions{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			offset, published := 0, 0
			for round := range 3 {
				next := pushes(ctx, t, c.URL(), transport, fmt.Sprintf(`{"subs":{"room":{"recover":true,"offset":%d}}}`, offset))
				if first, err := next(); err != nil || !strings.Contains(first, `"recovered":true`) {
					t.Fatalf("the stream begins with what it recovers, not with %s, %v", first, err)
				}
				publisher, _ := join(t, c.URL(), "room", "echo=0")
				for range 20 {
					published++
					publish(t, publisher, fmt.Sprint(published))
				}
				publisher.Close()
				for offset < published {
					push, err := next()
					if want := fmt.Sprintf(`"offset":%d`, offset+1); err != nil || !strings.Contains(push, want) {
						t.Fatalf("the push with %s comes next, not %s, %v", want, push, err)
					}
					offset++
				}
				if round == 2 {
					return
				}
				for _, n := range c.Nodes[:2] {
					if err := n.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				publisher, _ = join(t, c.Nodes[2].URL(), "room", "echo=0")
				for range 20 { // while the client is away, or about to be
					published++
					publish(t, publisher, fmt.Sprint(published))
				}
				publisher.Close()
				for _, n := range c.Nodes[:2] {
					if err := n.Restart(); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
