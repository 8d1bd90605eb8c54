package centrifuge

import (
	"strings"
	"testing"
	"time"

	"barrage/auth"
	"barrage/limit"
)

// TestAPublishThatIsNotAllowedTakesNobodysPlace publishes where one may not, and under a name that no channel has.
func TestAPublishThatIsNotAllowedTakesNobodysPlace(t *testing.T) {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.Rules[auth.Publish] = auth.Nobody
	limits := limit.New(limit.Options{ChannelPublishes: limit.Rate{PerSecond: 0.001, Burst: 1}})
	c := open(t, Server{Policy: policy, Limits: limits}, JSON).connect()
	c.now = time.Now()
	long := strings.Repeat("x", 300)
	c.Message([]byte(strings.Repeat(`{"id":2,"publish":{"channel":"a","data":1}}`+"\n", 3) + strings.Repeat(`{"id":2,"publish":{"channel":"`+long+`","data":1}}`+"\n", 3)))
	for i, f := range c.take(6) {
		if want := []string{`"code":103`, `"code":107`}[i/3]; !strings.Contains(f, want) {
			t.Errorf("answer %d must have %s, whatever the limits: %s", i, want, f)
		}
	}
	policy.Default.Rules[auth.Publish] = auth.Anyone
	c.Message([]byte(`{"id":3,"publish":{"channel":"a","data":1}}` + "\n" + `{"id":4,"publish":{"channel":"a","data":1}}`))
	c.expect(`{"id":3,"publish":{}}`,
		`{"id":4,"error":{"code":111,"message":"too much is published into this channel; at most 0.001 messages a second are allowed; try again after 1000000 ms","temporary":true}}`)
}
