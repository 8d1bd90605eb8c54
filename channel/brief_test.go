package channel

import (
	"testing"
	"time"
)

func TestAChannelWithNothingInMemoryIsKeptBriefly(t *testing.T) {
	onStage(t, 0, func(t *testing.T, s *stage) {
		for _, name := range []string{"durable", "live:a"} {
			m := s.joinTo(name, Start{})
			rest(10 * time.Second)
			if n := s.hub.Channels(); n != 1 {
				t.Errorf("%s has a member and must be kept", name)
			}
			m.out.Close()
			rest(3 * time.Second)
			if n := s.hub.Channels(); n != 0 {
				t.Errorf("%s has no members and nothing in memory, and must be given up soon", name)
			}
		}
		m := s.joinTo("live:b", Start{})
		s.hub.HearLive("live:b", "other", 7, nil)
		m.out.Close()
		rest(10 * time.Second)
		if n := s.hub.Channels(); n != 1 {
			t.Error("what another node has sent must be known for Linger, so that it is not taken again")
		}
	})
}
