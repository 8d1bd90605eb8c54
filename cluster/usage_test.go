package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
)

// bootUsage starts a node that tells the others what users use, until end is called.
func bootUsage(hub *brokertest.Hub, name string) (c *Cluster, u *Usage, end func()) {
	c = New(Options{ID: "id-" + name, Name: name})
	u = NewUsage(c)
	c.Start(hub.Join("id-"+name, handler{c}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { u.Run(ctx); close(done) }()
	return c, u, func() { cancel(); <-done; c.Close() }
}

func TestConnectionsOfANodeThatIsGoneDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		_, here, endHere := bootUsage(hub, "a")
		_, leaving, endLeaving := bootUsage(hub, "b")
		_, dying, endDying := bootUsage(hub, "c")
		for range 3 {
			leaving.Connected("ann")
			dying.Connected("ann")
		}
		time.Sleep(2 * time.Second)
		if n := here.Connections("ann"); n != 6 {
			t.Errorf("3 connections on each of two other nodes are 6, but got %d", n)
		}
		endLeaving()
		time.Sleep(100 * time.Millisecond)
		if n := here.Connections("ann"); n != 3 {
			t.Errorf("when a node said goodbye its 3 connections count no more at once, but got %d", n)
		}
		hub.Crash("id-c")
		time.Sleep(9 * time.Second)
		if n := here.Connections("ann"); n != 0 {
			t.Errorf("when a node is not heard of for a lease its connections count no more, but got %d", n)
		}
		endHere()
		endDying()
		hub.Close()
	})
}

// More users than fit into one report, or into all the reports until the word of a node counts no more if each were told of all.
func TestAllUsersAreToldAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		_, here, endHere := bootUsage(hub, "a")
		_, there, endThere := bootUsage(hub, "b")
		const users = 300
		long := strings.Repeat("u", 5000)
		for i := range users {
			for range 2 {
				there.Connected(fmt.Sprint(long, i))
			}
		}
		time.Sleep(10 * time.Second)
		for range 5 {
			time.Sleep(7 * time.Second)
			known := 0
			for i := range users {
				if here.Connections(fmt.Sprint(long, i)) == 2 {
					known++
				}
			}
			if known != users {
				t.Errorf("2 connections of each of %d users are known as long as they last, but those of %d are", users, known)
			}
		}
		endHere()
		endThere()
		hub.Close()
	})
}

func TestLookingAtAllUsersLetsOthersIn(t *testing.T) {
	u := NewUsage(New(Options{ID: "a", Name: "a"}))
	for i := range 4 * breath {
		u.Connected(fmt.Sprint(i))
	}
	turns := 0
	u.mu.Lock()
	for n := range 4 * breath {
		free := make(chan struct{})
		if n%breath == breath-1 {
			turns++
			go func() { u.Connections("ann"); close(free) }()
		} else {
			close(free)
		}
		u.pause(n)
		if n%breath != breath-1 {
			<-free
		}
	}
	u.mu.Unlock()
	if turns != 4 {
		t.Errorf("every %d users others get their turn, but of %d they got %d", breath, 4*breath, turns)
	}
	if r := u.report(time.Now()); len(r.Connections) != 0 {
		t.Errorf("users with 1 connection are not told of, but %d are", len(r.Connections))
	}
}

// Users come and go while the report lets others in.
func TestAUserWhoComesBackDuringAReportCounts(t *testing.T) {
	u := NewUsage(New(Options{ID: "a", Name: "a"}))
	const users = 4 * breath
	for i := range users {
		u.Connected(fmt.Sprint(i))
	}
	for round := range 300 {
		began, done := make(chan struct{}), make(chan struct{})
		go func() {
			close(began)
			for i := range users {
				u.Disconnected(fmt.Sprint(i))
				u.Connected(fmt.Sprint(i))
			}
			close(done)
		}()
		<-began
		u.report(time.Now())
		<-done
		if n := len(u.own); n != users {
			t.Fatalf("all %d users are followed as long as they are connected, but after %d reports %d are", users, round+1, n)
		}
	}
}

// What another node says of users changes while old words are forgotten.
func TestWhatIsHeardWhileOldWordsAreForgottenCounts(t *testing.T) {
	u := NewUsage(New(Options{ID: "a", Name: "a"}))
	const users = 2 * breath
	say := func(body []byte) {
		if _, err := u.hear(Request{From: "b", Payload: body}); err != nil {
			t.Error(err)
		}
	}
	old := usageReport{Used: map[string]int{}, Connections: map[string]int{}}
	var gone, back [users][]byte
	for i := range users {
		user := fmt.Sprint(i)
		old.Used[user], old.Connections[user] = 1, 2
		gone[i] = fmt.Appendf(nil, `{"used":{"%d":1000},"connections":{"%d":0}}`, i, i)
		back[i] = fmt.Appendf(nil, `{"used":{"%d":1000},"connections":{"%d":2}}`, i, i)
	}
	all, _ := json.Marshal(old)
	for range 20 {
		say(all)
		began, done := make(chan struct{}), make(chan struct{})
		go func() {
			close(began)
			for i := range users {
				say(gone[i])
				say(back[i])
			}
			close(done)
		}()
		<-began
		u.forget(time.Now().Add(5 * time.Second)) // what was used before is nothing by now, but 1,000 are not
		<-done
		for i := range users {
			if n := u.remote[fmt.Sprint(i)]["b"].connections; n != 2 {
				t.Fatalf("another node's last word of a user's connections is 2, but %d count", n)
			}
			if n := u.used[fmt.Sprint(i)].sum; n < 1000 {
				t.Fatalf("what a user has just used counts, but %v does", n)
			}
		}
		clear(u.used)
	}
}
