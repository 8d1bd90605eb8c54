//go:build system

package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"barrage/internal/testserver"

	"github.com/centrifugal/centrifuge-go"
)

// What clients ask by rpc, and what they send, reaches the operator's service.
func TestCallsReachTheOperatorsService(t *testing.T) {
	sent := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), `"method":"price"`):
			fmt.Fprint(w, `{"result":{"data":{"price":7}}}`)
		case strings.Contains(string(body), `"method":"tea"`):
			fmt.Fprint(w, `{"error":{"code":404,"message":"no such tea"}}`)
		default:
			sent <- string(body)
		}
	}))
	defer service.Close()
	n := startNode(t, testserver.NodeOptions{Args: []string{"--rpc-url", service.URL}})
	ctx, cancel := context.WithTimeout(context.Background(), defaultWait)
	defer cancel()
	url := "ws" + strings.TrimPrefix(n.URL(), "http") + "/connection/websocket"
	for name, open := range map[string]func(string, centrifuge.Config) *centrifuge.Client{
		"JSON": centrifuge.NewJsonClient, "Protobuf": centrifuge.NewProtobufClient,
	} {
		c := open(url, centrifuge.Config{})
		defer c.Close()
		if err := c.Connect(); err != nil {
			t.Fatal(err)
		}
		if r, err := c.RPC(ctx, "price", []byte(`{"of":"tea"}`)); err != nil || string(r.Data) != `{"price":7}` {
			t.Errorf("a client of %s is given what the service answers: got %s, %v", name, r.Data, err)
		}
		if _, err := c.RPC(ctx, "tea", nil); err == nil || !strings.Contains(err.Error(), "no such tea") {
			t.Errorf("a client of %s is told the service's error: got %v", name, err)
		}
		if err := c.Send(ctx, []byte(`"`+name+`"`)); err != nil {
			t.Errorf("a client of %s sends: %v", name, err)
		}
		select {
		case got := <-sent:
			if !strings.Contains(got, `"data":"`+name+`"`) || strings.Contains(got, "method") {
				t.Errorf("the service is told what was sent: got %s", got)
			}
		case <-ctx.Done():
			t.Errorf("what a client of %s sends reaches the service", name)
		}
	}
}
