package centrifuge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"barrage/auth"
	"barrage/proto"
)

// listing are tokens that list the channels they name: "bob a b".
type listing struct{ tokens }

func (l listing) Connection(token string) (*auth.Identity, *proto.Error) {
	names := strings.Fields(token)
	who := &auth.Identity{User: names[0], Subs: map[string]auth.Subscription{}}
	for _, name := range names[1:] {
		who.Subs[name] = auth.Subscription{}
	}
	return who, nil
}

// passed collects what a server passes over.
func (c *client) passed() *[]string {
	list := &[]string{}
	c.shared.PassedOver = func(client, channel string, why *proto.Error) {
		*list = append(*list, fmt.Sprintf("%s %s %d", client, channel, why.Code))
	}
	return list
}

func openListed(t *testing.T) *client {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.Pattern = regexp.MustCompile(`^[a-z#]+$`)
	c := open(t, Server{Policy: policy, Channels: 4, Personal: true}, JSON)
	c.shared.Tokens = listing{}
	return c
}

func TestChannelsThatDoNotExistArePassedOverAndReported(t *testing.T) {
	c := openListed(t)
	passed := c.passed()
	c.Message([]byte(`{"id":1,"connect":{"token":"bob a A B"}}`))
	if got := c.take(1)[0]; strings.Contains(got, `"A"`) || !strings.Contains(got, `"a":{`) {
		t.Errorf("the reply tells the subscriptions that there are, not %s", got)
	}
	if want := []string{"c1 A 102", "c1 B 102"}; !slices.Equal(*passed, want) {
		t.Errorf("what is passed over is reported: %v, not %v", want, *passed)
	}
}

func TestWhatAClientThatOnlyListensMayNotHaveIsReported(t *testing.T) {
	c := open(t, Server{Policy: &auth.Policy{Default: auth.Closed}}, UniLines)
	passed := c.passed()
	r, err := ParseConnect([]byte(`{"subs":{"a":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Connect(r)
	if want := []string{"c1 a 103"}; !slices.Equal(*passed, want) {
		t.Errorf("what is passed over is reported: %v, not %v", want, *passed)
	}
}

func TestARefreshChangesTheSubscriptionsOfTheToken(t *testing.T) {
	c := openListed(t)
	passed := c.passed()
	c.Message([]byte(`{"id":1,"connect":{"token":"bob a b #bob"}}`))
	c.take(1)
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"mine"}}`))
	c.take(1)
	c.Message([]byte(`{"id":3,"refresh":{"token":"bob b c C"}}`))
	c.expect(`{"id":3,"refresh":{"client":"c1"}}`,
		`{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`,
		`{"push":{"channel":"c","subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}}`)
	for name, in := range map[string]bool{"a": false, "b": true, "c": true, "mine": true, "#bob": true} {
		if c.backend.isThere(name) != in {
			t.Errorf("who refreshes is subscribed to what the new token says, to what it subscribed to itself, and to its personal channel; in %s: %t", name, !in)
		}
	}
	c.Message([]byte(`{"id":4,"refresh":{"token":"bob b c mine more"}}`))
	c.expect(`{"id":4,"refresh":{"client":"c1"}}`)
	if want := []string{"c1 C 102", "c1 more 106"}; !slices.Equal(*passed, want) {
		t.Errorf("what finds no room, or does not exist, is passed over and reported: %v, not %v", want, *passed)
	}
	c.Message([]byte(`{"id":5,"refresh":{"token":"bob"}}`))
	c.expect(`{"id":5,"refresh":{"client":"c1"}}`,
		`{"push":{"channel":"b","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`,
		`{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	if !c.backend.isThere("mine") {
		t.Error("what a client has subscribed to itself is not the token's to take away")
	}
}
