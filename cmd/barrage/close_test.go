package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"barrage/auth"
	"barrage/config"
	"barrage/httpapi/apikey"
	"barrage/proto"
	"barrage/session/centrifuge"
)

// TestCallsAreTakenUntilRequestsHaveEnded ends a node while a request is under way that goes on to call the operator's service: commands
// come in requests of their own too.
func TestCallsAreTakenUntilRequestsHaveEnded(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer service.Close()
	cfg, err := config.Load("", []string{"BARRAGE_JOURNAL=memory:", "BARRAGE_RPC_URL=" + service.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: cfg, log: slog.New(slog.DiscardHandler), policy: &auth.Policy{Default: auth.Open}}
	if s.apiKeys, err = apikey.Open(nil, "", s.log); err != nil {
		t.Fatal(err)
	}
	if err := s.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rest, err := s.gateway.Listen(listener, time.Second, true)
	if err != nil {
		t.Fatal(err)
	}
	began, ending := make(chan struct{}), make(chan struct{})
	answers := make(chan *proto.Error, 1)
	call := func() *proto.Error {
		done := make(chan *proto.Error, 1)
		s.callback.Call(centrifuge.Call{Client: "c", Done: func(_ []byte, err *proto.Error) { done <- err }})
		return <-done
	}
	s.http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(began)
		<-ending
		answers <- call()
	})
	s.http.RegisterOnShutdown(func() { close(ending) })
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = s.http.Serve(rest) })
	all.Go(func() {
		if res, err := http.Get("http://" + listener.Addr().String() + "/"); err == nil {
			res.Body.Close()
		}
	})
	<-began
	if err := s.close(); err != nil {
		t.Errorf("the node ends in order, not with %v", err)
	}
	if err := <-answers; err != nil {
		t.Errorf("a call of a request that is under way reaches the service, got %v", err)
	}
	if err := call(); err == nil || err.Code != proto.ErrUnavailable.Code {
		t.Errorf("a call after the end is refused as unavailable, got %v", err)
	}
}
