package local

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"barrage/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalConnectsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard, other := brokertest.NewRecorder(), brokertest.NewRecorder()
		a, b := Open(heard), Open(other)
		a.Subscribe("room")
		b.Subscribe("room")
		synctest.Wait()
		if a.Shared() {
			t.Error("a local broker connects no nodes")
		}
		if !a.State().Up || !heard.State().Up {
			t.Error("a local broker is up and says so")
		}
		if heard.Confirmed("room") != 1 {
			t.Error("a subscription is confirmed once")
		}
		if err := a.Publish("room", []byte("x")); err != nil {
			t.Errorf("publishing succeeds; it gave %v", err)
		}
		a.Unsubscribe("room")
		for range 2 {
			if err := a.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
		a.Subscribe("late")
		synctest.Wait()
		if heard.Confirmed("late") != 0 || heard.Channels()+other.Channels() != 0 {
			t.Error("nothing is delivered, and nothing is heard after Close")
		}
		b.Close(context.Background())
	})
}
