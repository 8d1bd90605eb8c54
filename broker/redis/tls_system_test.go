//go:build system

package redis

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"barrage/broker/brokertest"
	"barrage/internal/testcert"
	"barrage/internal/testserver"
)

// startSecure starts a server that takes TLS alone, from clients with a certificate, a user's name and a password.
func startSecure(t *testing.T) *testserver.Redis {
	t.Helper()
	own, client := testcert.New(1), testcert.New(2)
	r, err := testserver.StartRedisWith(testserver.RedisOptions{
		TLS: &own, Client: &client, User: "nodes", Password: "right/w@rd", Rules: least,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestTLSWithUserAndCertificateComesBackAfterARestart(t *testing.T) {
	r := startSecure(t)
	heard := brokertest.NewRecorder()
	a, b := open(t, r.URL(), brokertest.NewRecorder()), open(t, r.URL(), heard)
	b.Subscribe("room")
	awaitTraffic(t, a, heard, "over TLS")
	must(t, r.Kill)
	await(t, "the broker says that Redis is away", func() bool { return !heard.State().Up })
	must(t, r.Start)
	awaitTraffic(t, a, heard, "over TLS after a restart")
	await(t, "the broker says that Redis is there", func() bool { return heard.State().Up })
	must(t, r.Pause)
	await(t, "a hung Redis is noticed behind TLS too", func() bool { return !heard.State().Up })
	must(t, r.Resume)
	awaitTraffic(t, a, heard, "over TLS after the silence")
}

// A server that accepts and says nothing must not hold up the handshake for ever.
func TestASilentServerIsNoticedBehindTLS(t *testing.T) {
	r := startSecure(t)
	must(t, r.Pause)
	heard := brokertest.NewRecorder()
	b := open(t, r.URL(), heard)
	b.Subscribe("room")
	await(t, "a handshake that nobody answers is announced", func() bool {
		return strings.Contains(heard.State().Detail, "no answer in TLS")
	})
	must(t, r.Resume)
	await(t, "the broker comes up when the server answers", func() bool { return heard.State().Up })
}

// cutOff is all that can be told when the server, which has not taken our certificate, ends the connection before it has read everything: its
// word on that may be lost.
const cutOff = "reset by peer|broken pipe|EOF"

func TestWhatIsWrongWithTLSIsTold(t *testing.T) {
	r, plain := startSecure(t), startRedis(t)
	other := testcert.New(3)
	otherFile, otherKey, err := other.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const who = "nodes:right%2Fw%40rd@"
	right := r.CA()
	cert, key := r.ClientFiles()
	show := "&tls_cert=" + cert + "&tls_key=" + key
	for url, want := range map[string]string{
		"rediss://" + who + r.Addr() + "?tls_ca=" + otherFile + show:                                          "by tls_ca",
		"rediss://" + who + r.Addr() + "?tls_ca=" + right + "&tls_server_name=redis.example" + show:           "by tls_server_name",
		"rediss://" + who + r.Addr() + "?tls_ca=" + right:                                                     "certificate|" + cutOff,
		"rediss://" + who + r.Addr() + "?tls_ca=" + right + "&tls_cert=" + otherFile + "&tls_key=" + otherKey: "authority|" + cutOff,
		"rediss://nodes:right-word@" + r.Addr() + "?tls_ca=" + right + show:                                   "WRONGPASS",
		"rediss://" + who + plain.Addr():                                                                      "name a port that speaks it",
	} {
		heard, log := brokertest.NewRecorder(), &logText{}
		o := quick(heard)
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		b, err := Open(url, o)
		if err != nil {
			t.Fatal(err)
		}
		await(t, "a connection that is refused is announced", func() bool { return len(heard.States()) > 0 })
		detail := heard.State().Detail
		if heard.State().Up || !regexp.MustCompile(want).MatchString(detail) {
			t.Errorf("what is wrong with %s is told by %s, got %s", url, want, detail)
		}
		closeWithin(t, b, 3*time.Second)
		for _, secret := range []string{"right/w@rd", "right%2Fw%40rd", "right-word"} {
			if strings.Contains(detail+log.String(), secret) {
				t.Errorf("no password is told: %s\n%s", detail, log)
			}
		}
	}
}
