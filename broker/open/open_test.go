package open

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"barrage/broker"
	"barrage/broker/brokertest"
)

func TestMain(m *testing.M) {
	// After the end of a client for a cluster, this one sleeps for up to a second and finds that there is nothing to do.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

func TestBrokerByScheme(t *testing.T) {
	for url, shared := range map[string]bool{
		"":                                    false,
		"local:":                              false,
		"redis://127.0.0.1:1":                 true,
		"redis-sentinel://127.0.0.1:1/master": true,
		"redis-cluster://127.0.0.1:1":         true,
	} {
		b, err := Broker(url, Options{Handler: brokertest.NewRecorder()})
		if err != nil {
			t.Errorf("%q opens without a server: %v", url, err)
			continue
		}
		if b.Shared() != shared {
			t.Errorf("%q: Shared is %t, want %t", url, b.Shared(), shared)
		}
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestBadURLNamesTheKnownSchemes(t *testing.T) {
	for url, want := range map[string]string{
		"nats://h": "known are local:", "redis": "no scheme", "local://x": "nothing may follow", "redisx://h": "redis-sentinel://",
	} {
		b, err := Broker(url, Options{})
		if b != nil || !errors.Is(err, broker.ErrURL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, %v; want ErrURL saying %q", url, b, err, want)
		}
	}
}
