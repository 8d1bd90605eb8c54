package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"barrage/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inHub runs a story of two nodes, a and b, that both have "room" subscribed, in fake time.
func inHub(t *testing.T, f Faults, story func(t *testing.T, h *Hub, a, b *Node, heard *Recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(1, f)
		defer h.Close()
		heard := NewRecorder()
		a, b := h.Join("a", NewRecorder()), h.Join("b", heard)
		a.Subscribe("room")
		b.Subscribe("room")
		time.Sleep(time.Minute)
		synctest.Wait()
		story(t, h, a, b, heard)
	})
}

// publish publishes 0, 1, …, n-1 and returns them.
func publish(t *testing.T, b broker.Broker, n int) []string {
	t.Helper()
	var sent []string
	for i := range n {
		sent = append(sent, fmt.Sprint(i))
		if err := b.Publish("room", []byte(sent[i])); err != nil {
			t.Fatal(err)
		}
	}
	return sent
}

func TestHubKeepsOrderWithDelay(t *testing.T) {
	inHub(t, Faults{Delay: time.Second}, func(t *testing.T, _ *Hub, a, _ *Node, heard *Recorder) {
		sent := publish(t, a, 50)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := heard.Payloads("room"); !slices.Equal(got, sent) {
			t.Errorf("with delay alone the order is kept; sent %v, heard %v", sent, got)
		}
	})
}

func TestHubReorders(t *testing.T) {
	inHub(t, Faults{Delay: time.Second, Reorder: 0.5}, func(t *testing.T, _ *Hub, a, _ *Node, heard *Recorder) {
		sent := publish(t, a, 50)
		time.Sleep(time.Second)
		synctest.Wait()
		got := heard.Payloads("room")
		if slices.Equal(got, sent) {
			t.Error("half of the payloads may be overtaken, but the order is unchanged")
		}
		if slices.Sort(got); len(got) != len(sent) {
			t.Errorf("reordering loses nothing; heard %d of %d", len(got), len(sent))
		}
	})
}

func TestHubLosesAndRepeats(t *testing.T) {
	inHub(t, Faults{Lose: 1}, func(t *testing.T, h *Hub, a, _ *Node, heard *Recorder) {
		publish(t, a, 5)
		synctest.Wait()
		if got := heard.Payloads("room"); len(got) != 0 || h.Lost() != 5 {
			t.Errorf("everything is lost and counted; heard %v, counted %d", got, h.Lost())
		}
		h.SetFaults(Faults{Repeat: 1})
		publish(t, a, 5)
		synctest.Wait()
		if got := heard.Payloads("room"); len(got) != 10 {
			t.Errorf("everything arrives twice; heard %v", got)
		}
	})
}

func TestHubDownAndUp(t *testing.T) {
	inHub(t, Faults{}, func(t *testing.T, h *Hub, a, b *Node, heard *Recorder) {
		h.SetDown("b", true)
		publish(t, a, 1)
		if err := b.Publish("room", nil); !errors.Is(err, broker.ErrDown) {
			t.Errorf("publishing while down gives %v, want ErrDown", err)
		}
		b.Subscribe("other")
		synctest.Wait()
		if heard.State().Up || heard.Confirmed("room") != 1 || len(heard.Payloads("room")) != 0 {
			t.Errorf("a node that is cut off hears that and nothing else: %+v", heard.State())
		}
		h.SetDown("b", false)
		synctest.Wait()
		if !heard.State().Up || heard.Confirmed("room") != 2 || heard.Confirmed("other") != 1 {
			t.Error("a node that is back hears so, and all its subscriptions are confirmed again")
		}
		publish(t, a, 1)
		synctest.Wait()
		if got := heard.Payloads("room"); len(got) != 1 {
			t.Errorf("a node that is back hears payloads again: %v", got)
		}
	})
}

func TestHubCrash(t *testing.T) {
	inHub(t, Faults{Delay: time.Second}, func(t *testing.T, h *Hub, a, b *Node, heard *Recorder) {
		publish(t, a, 5)
		h.Crash("b")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := heard.Payloads("room"); len(got) != 0 {
			t.Errorf("a crashed node hears nothing; it heard %v", got)
		}
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		again := NewRecorder()
		h.Join("b", again).Subscribe("room")
		time.Sleep(time.Second)
		publish(t, a, 5)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := again.Payloads("room"); len(got) != 5 {
			t.Errorf("a node that joined again hears everything; it heard %v", got)
		}
	})
}
