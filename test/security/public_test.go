package security

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"barrage/broker"
	"barrage/broker/local"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/node"
	"barrage/proto"
	"barrage/session"
	"barrage/web"
)

// leaky is a journal that fails with what a database says of itself.
type leaky struct{ journal.Journal }

var errLeaky = errors.New("cannot reach postgres://barrage:hush@db.internal:5432/prod: 10.1.2.3 refused user=barrage")

func (leaky) Heads(context.Context, []string) (journal.Heads, error) {
	return journal.Heads{}, errLeaky
}

func (leaky) Append(context.Context, []journal.Draft) (journal.Appended, error) {
	return journal.Appended{}, errLeaky
}

func (leaky) Read(context.Context, string, journal.Range) (journal.Page, error) {
	return journal.Page{}, errLeaky
}

// named is a broker that says where it is.
type named struct{ broker.Broker }

func (named) State() broker.State {
	return broker.State{Detail: "redis://:hush@redis.internal:6379 refused"}
}

func TestErrorsOfTheDatabaseAreNotTold(t *testing.T) {
	n, err := node.New(node.Options{
		Name: "a", Journal: leaky{memory.New()}, Codecs: session.Codecs(), Log: slog.New(slog.DiscardHandler), Trim: -1,
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) { return named{local.Open(h)}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close(context.Background()) }()
	mux := http.NewServeMux()
	httpapi.New(n, prometheus.NewRegistry()).Register(mux)
	body := ""
	eventually(t, "the journal is found to be away", func() bool {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		body = answer.Body.String()
		return !strings.Contains(body, "not asked yet")
	})
	told := make(chan string, 2)
	n.Publish(node.Publication{Channel: "room", Data: []byte("1")}, func(_ node.Published, err *proto.Error) { told <- err.Error() })
	n.History("room", node.HistoryQuery{Limit: 1}, func(_ proto.History, err *proto.Error) { told <- err.Error() })
	for where, text := range map[string]string{"/readyz": body, "an answer": <-told, "another": <-told} {
		for _, secret := range []string{"hush", "db.internal", "redis.internal", "10.1.2.3", "5432", "6379", "postgres", "redis", "user="} {
			if strings.Contains(text, secret) {
				t.Errorf("%s must not tell %q: %s", where, secret, text)
			}
		}
	}
}

func TestMetricsNameNobody(t *testing.T) {
	w := start(t, gateway.Options{})
	token := tokenOf(t, "alice-of-metrics")
	c := w.dial("/ws/room-of-metrics", bearer(token)...)
	c.until(`"welcome"`)
	c.ask(`{"publish":{"data":"text-of-metrics"}}`)
	cf := w.centrifuge(token)
	cf.call(`{"subscribe":{"channel":"#alice-of-metrics"}}`)
	text := scrape(t, w)
	if strings.Contains(text, "of-metrics") || !strings.Contains(text, "barrage_connections") {
		t.Error("metrics name neither users nor channels: whoever reads them learns how much there is, not who is there")
	}
	if n := strings.Count(text, "\n"); n > 2000 {
		t.Errorf("their number does not grow with what clients do: %d lines", n)
	}
}

func TestDebugEndpointsAreClosed(t *testing.T) {
	w := start(t, gateway.Options{})
	for _, path := range []string{"/echo", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars"} {
		resp, _ := w.stream(path)
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s is not there, not %s", path, resp.Status)
		}
	}
}

func TestPagesRunNothingForeign(t *testing.T) {
	w := start(t, gateway.Options{})
	pages := httptest.NewServer(web.Handler())
	defer pages.Close()
	inline := regexp.MustCompile(`(?i)<script>|<script [^>]*>[^<]|\son[a-z]+=|javascript:|<style`)
	for _, url := range []string{pages.URL + "/", pages.URL + "/nowhere", w.api(nil).URL + "/api/docs"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp := w.do(r)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src '", "frame-ancestors '", "base-uri 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s has %s in its policy, not %q", url, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s is locked down, not sent with %v", url, resp.Header)
		}
		if found := inline.Find(b); found != nil {
			t.Errorf("%s has nothing inline, not %q", url, found)
		}
	}
}
