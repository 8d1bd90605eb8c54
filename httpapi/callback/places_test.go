package callback

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"barrage/auth"
	"barrage/proto"
	"barrage/session"
	"barrage/session/centrifuge"
)

func TestAFewDoNotTakeAllPlaces(t *testing.T) {
	s, call := service(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "ask") {
			fmt.Fprint(w, "{}")
			return
		}
		<-r.Context().Done()
	})
	greedy := func(who *auth.Identity, clients ...string) (taken int) {
		for i := range 2 * maxCalls {
			refused := false
			s.Call(centrifuge.Call{Client: clients[i%len(clients)], Identity: who, Sent: true, Done: func(_ []byte, err *proto.Error) {
				refused = err == nil || err.Code == proto.ErrTooMany.Code
			}})
			if refused {
				return taken
			}
			taken++
		}
		return taken
	}
	ask := func() outcome {
		return call(centrifuge.Call{Client: "other", Identity: &auth.Identity{User: "other"}, Method: "ask"})
	}
	if n := greedy(nil, "c1"); n != min(maxCalls/4, session.Limit) {
		t.Errorf("one connection alone gets a quarter of the places, as many as it may have commands under way, not %d", n)
	}
	if n := greedy(&auth.Identity{User: "ann"}, "c2", "c3", "c4"); n == 0 || n >= maxCalls/4 {
		t.Errorf("a user's connections together get less, as others have some, not %d", n)
	}
	for i := range 4 {
		greedy(&auth.Identity{}, fmt.Sprint("d", i))
	}
	if got := ask(); got.err != nil {
		t.Errorf("others are answered whatever a few do: got %+v", got)
	}
}

func TestWhoIsAnsweredMayCallAgain(t *testing.T) {
	s, call := service(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "ask") {
			fmt.Fprint(w, "{}")
			return
		}
		<-r.Context().Done()
	})
	for range maxCalls/4 - 1 {
		s.Call(centrifuge.Call{Client: "c", Done: func([]byte, *proto.Error) {}})
	}
	for range 50 {
		if got := call(centrifuge.Call{Client: "c", Method: "ask"}); got.err != nil {
			t.Fatalf("the place of a call is free when it is answered: got %+v", got)
		}
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	var p places
	ann, bob := holder{user: "ann"}, holder{client: "bob"}
	for range 3 {
		for p.take(ann) == nil {
		}
		if err := p.take(bob); err != nil {
			t.Errorf("who has none gets a place: got %v", err)
		}
		p.give(bob)
		for p.held[ann] > 0 {
			p.give(ann)
		}
		if p.taken != 0 || len(p.held) != 0 {
			t.Fatalf("nothing is left of places that were given back, not %d and %v", p.taken, p.held)
		}
	}
	for i := range maxCalls {
		if err := p.take(holder{client: fmt.Sprint(i)}); err != nil {
			t.Fatalf("place %d of %d is there: got %v", i, maxCalls, err)
		}
	}
	if p.take(bob) == nil {
		t.Error("there are no more places than there are")
	}
}
