package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"barrage/broker/brokertest"
)

func TestANodeThatStoodStillTakesNobodyForGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := brokertest.NewHub(1, brokertest.Faults{})
		a, b := boot(hub, "a"), boot(hub, "b")
		time.Sleep(100 * time.Millisecond)
		hub.SetFaults(brokertest.Faults{Lose: 1}) // nothing is read meanwhile
		stood := make(chan struct{})
		a.post(func() { time.Sleep(20 * time.Second); close(stood) })
		<-stood
		hub.SetFaults(brokertest.Faults{})
		synctest.Wait()
		if got := names(a); got != "a b" {
			t.Errorf("who stood still for longer than the lease gives the others another one, but knows %s", got)
		}
		time.Sleep(3 * time.Second)
		if got := names(a) + "|" + names(b); got != "a b|a b" {
			t.Errorf("then all know each other again, but they know %s", got)
		}
		hub.Crash("id-b")
		time.Sleep(9 * time.Second)
		if got := names(a); got != "a" {
			t.Errorf("the lease of who is silent ends all the same, but the nodes are %s", got)
		}
		a.Close()
		b.Close()
		hub.Close()
	})
}
