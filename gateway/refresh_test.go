package gateway

import (
	"testing"
	"time"

	sdk "github.com/centrifugal/centrifuge-go"

	"barrage/auth"
)

func TestThePublicClientFollowsARefreshedToken(t *testing.T) {
	eachSDK(t, func(t *testing.T, kind string) {
		shown := 0
		w := start(t, Options{Tokens: &badges{more: func(id *auth.Identity) {
			id.Subs = map[string]auth.Subscription{"both": {}, "old": {}}
			if shown++; shown > 1 {
				id.Subs = map[string]auth.Subscription{"both": {}, "new": {}}
				return
			}
			id.Expires = time.Now().Add(time.Second)
		}}})
		u := w.sdkClient(kind, sdk.Config{
			Token: "ann.good", GetToken: func(sdk.ConnectionTokenEvent) (string, error) { return "ann.good", nil },
		})
		u.OnUnsubscribed(func(e sdk.ServerUnsubscribedEvent) { u.note("server unsubscribed %s", e.Channel) })
		u.connect()
		u.await("server subscribed both false", 1)
		u.await("server subscribed old false", 1)
		u.await("server unsubscribed old", 1)
		u.await("server subscribed new false", 1)
		for _, name := range []string{"old", "both", "new"} {
			w.publish(name, "1")
		}
		eventually(t, "publications of the channels that the new token names come", func() bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.published["both 1"] == 1 && u.published["new 1"] == 1
		})
		u.mu.Lock()
		defer u.mu.Unlock()
		if n := u.published["old 1"]; n != 0 {
			t.Error("of a channel that it does not name nothing comes any more")
		}
	})
}
