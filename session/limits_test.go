package session

import (
	"strings"
	"testing"

	"barrage/auth"
	"barrage/limit"
)

func TestAPublishThatIsNotAllowedTakesNobodysPlace(t *testing.T) {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.Rules[auth.Publish] = auth.Nobody
	c := openAs(t, JSON, "", nil, policy).join()
	c.server.Limits = limit.New(limit.Options{ChannelPublishes: limit.Rate{PerSecond: 0.001, Burst: 1}})
	c.next(1)
	for range 3 {
		c.says(`{"publish":{"data":1}}`)
		if got := c.next(1)[0]; !strings.Contains(got, `"code":103`) {
			t.Errorf("a publish that is not allowed is refused for that, whatever the limits: %s", got)
		}
	}
	policy.Default.Rules[auth.Publish] = auth.Anyone
	c.says(`{"publish":{"data":1}}` + "\n" + `{"publish":{"data":1}}`)
	if got := c.next(1)[0]; !strings.Contains(got, `"code":111`) || c.backend.publishes() != 1 {
		t.Errorf("what was refused has cost nothing, so one is published, and the next refused: %d, %s", c.backend.publishes(), got)
	}
}
