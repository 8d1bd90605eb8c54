package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"barrage/auth"
	"barrage/broker"
	"barrage/broker/local"
	"barrage/gateway"
	"barrage/httpapi"
	"barrage/httpapi/callback"
	"barrage/httpapi/serverapi"
	"barrage/internal/keypair"
	"barrage/internal/testcert"
	"barrage/journal"
	"barrage/journal/memory"
	"barrage/metrics"
	"barrage/node"
	"barrage/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// away is a journal that can be away.
type away struct {
	journal.Journal
	gone atomic.Bool
}

func (j *away) Heads(ctx context.Context, names []string) (journal.Heads, error) {
	if j.gone.Load() {
		return journal.Heads{}, fmt.Errorf("%w: the database cannot be reached", journal.ErrUnavailable)
	}
	return j.Journal.Heads(ctx, names)
}

// fickle is a broker whose state a test sets.
type fickle struct {
	broker.Broker
	state atomic.Pointer[broker.State]
}

func (b *fickle) State() broker.State {
	if s := b.state.Load(); s != nil {
		return *s
	}
	return b.Broker.State()
}

// world is an API with everything behind it.
type world struct {
	t        *testing.T
	journal  *away
	broker   *fickle
	node     *node.Node
	gateway  *gateway.Gateway
	appends  *metrics.Journal
	registry *prometheus.Registry
	api      *httpapi.API
	mux      *http.ServeMux
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, journal: &away{Journal: memory.New()}, appends: metrics.NewJournal(), mux: http.NewServeMux()}
	var err error
	w.node, err = node.New(node.Options{
		Name: "a", Journal: w.journal, Codecs: session.Codecs(), Observe: w.appends.Observe,
		OpenBroker: func(_ string, h broker.Handler) (broker.Broker, error) {
			w.broker = &fickle{Broker: local.Open(h)}
			return w.broker, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = gateway.New(gateway.Options{Node: "a", Backend: w.node, Writers: w.node.Writers()})
	w.registry = metrics.New(w.node, w.gateway, w.appends)
	w.api = httpapi.New(w.node, w.registry)
	w.api.Register(w.mux)
	t.Cleanup(func() {
		w.gateway.Shutdown(context.Background())
		if err := errors.Join(w.node.Close(context.Background()), w.journal.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) get(path string) *http.Response {
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec.Result()
}

// answer is what /readyz says.
type answer struct {
	Ready   bool   `json:"ready"`
	Node    string `json:"node"`
	Mode    string `json:"mode"`
	Journal struct {
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	} `json:"journal"`
	Broker struct {
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	} `json:"broker"`
	Since string `json:"broker_since"`
}

func (w *world) ready() (status int, a answer) {
	w.t.Helper()
	resp := w.get("/readyz")
	if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("/readyz is JSON that is not kept, not %v", resp.Header)
	}
	d := json.NewDecoder(resp.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		w.t.Fatalf("/readyz is one JSON object: %v", err)
	}
	return resp.StatusCode, a
}

func (w *world) await(status int, mode string) answer {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, a := w.ready()
		if got == status && a.Mode == mode {
			return a
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("/readyz must say %d, %s, not %d, %+v", status, mode, got, a)
		}
	}
}

func TestHealthz(t *testing.T) {
	w := start(t)
	w.journal.gone.Store(true) // alive all the same
	w.api.Drain()
	resp := w.get("/healthz")
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("/healthz says ok as long as the process lives, not %d %q, %v", resp.StatusCode, body, err)
	}
}

func TestReadyz(t *testing.T) {
	w := start(t)
	if a := w.await(200, "normal"); !a.Ready || a.Node != "a" || !a.Journal.OK || !a.Broker.OK || a.Broker.Detail == "" || a.Journal.Detail == "" || a.Since == "" {
		t.Errorf("a node that can do all of its work is ready, and tells details, not %+v", a)
	}
	w.journal.gone.Store(true)
	if a := w.await(503, "journal away"); a.Ready || a.Journal.OK || a.Journal.Detail != "does not answer; the log of this node says why" || !a.Broker.OK {
		t.Errorf("without its journal a node is not ready, and says why, not %+v", a)
	}
	w.journal.gone.Store(false)
	w.await(200, "normal")
	w.broker.state.Store(&broker.State{Detail: "connection refused", Since: time.Unix(1_700_000_000, 0)})
	if a := w.await(200, "following the journal"); !a.Ready || a.Broker.OK || a.Broker.Detail != "does not work; the log of this node says why" || a.Since != "2023-11-14T22:13:20Z" {
		t.Errorf("without its broker a node is ready, follows the journal and says since when, not %+v", a)
	}
	w.api.Drain()
	if a := w.await(503, "draining"); a.Ready {
		t.Errorf("a node that drains is not ready, not %+v", a)
	}
}

// fill sets every counter of a struct to a number of its own and returns them by field.
func fill(t *testing.T, stats any, first int64) map[string]float64 {
	t.Helper()
	set := map[string]float64{}
	v := reflect.ValueOf(stats).Elem()
	for i := range v.NumField() {
		c, ok := reflect.TypeAssert[*atomic.Int64](v.Field(i).Addr())
		if !ok {
			t.Fatalf("%s.%s is a counter", v.Type(), v.Type().Field(i).Name)
		}
		n := first + int64(i)
		c.Store(n)
		set[v.Type().String()+"."+v.Type().Field(i).Name] = float64(n)
	}
	return set
}

func (w *world) families() map[string]*dto.MetricFamily {
	w.t.Helper()
	resp := w.get("/metrics")
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("/metrics must answer, not %d, %v", resp.StatusCode, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		w.t.Fatalf("/metrics is in Prometheus' text format: %v", err)
	}
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range problems {
		w.t.Errorf("%s follows the conventions of Prometheus: %s", p.Metric, p.Text)
	}
	return families
}

func TestMetricsShowEveryCounter(t *testing.T) {
	w := start(t)
	w.appends.Observe(3, time.Millisecond, nil)
	w.appends.Observe(1, time.Millisecond, errors.New("x"))
	all := map[string]float64{}
	for i, stats := range []any{w.node.Stats(), w.node.Hub().Stats(), &w.node.Writers().Stats, w.gateway.Stats(), w.gateway.TLSStats()} {
		maps.Copy(all, fill(t, stats, int64(i+1)*1_000_000))
	}
	shown := map[float64]string{}
	for name, f := range w.families() {
		if f.GetType() == dto.MetricType_COUNTER && strings.HasPrefix(name, "barrage_") {
			shown[f.GetMetric()[0].GetCounter().GetValue()] = name
			if !strings.HasSuffix(name, "_total") {
				t.Errorf("the counter %s ends in _total", name)
			}
		}
	}
	for field, n := range all {
		// Comparisons of heads and openings may go on while the test runs.
		if shown[n] == "" && shown[n+1] == "" {
			t.Errorf("/metrics shows the counter %s", field)
		}
	}
	families := w.families()
	if n := families["barrage_journal_append_failures_total"].GetMetric()[0].GetCounter().GetValue(); n != 1 {
		t.Errorf("an append that failed is counted, not %v", n)
	}
	if h := families["barrage_journal_batch_messages"].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 3 {
		t.Errorf("an append of 3 messages is observed as such, not as %v", h)
	}
}

func TestGauges(t *testing.T) {
	w := start(t)
	w.await(200, "normal")
	value := func(name string) float64 { return w.families()[name].GetMetric()[0].GetGauge().GetValue() }
	if value("barrage_journal_up") != 1 || value("barrage_broker_up") != 1 || value("barrage_connections") != 0 {
		t.Error("an idle node shows its journal and broker up and no connections")
	}
	w.journal.gone.Store(true)
	w.broker.state.Store(&broker.State{})
	w.await(503, "journal away")
	if value("barrage_journal_up") != 0 || value("barrage_broker_up") != 0 {
		t.Error("barrage_journal_up and barrage_broker_up are 0 when they are away")
	}
}

func certificate(t *testing.T) *keypair.Pair {
	t.Helper()
	cert, key, err := testcert.New(1).Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := keypair.Open(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The page that lists the metrics is checked against them: every one with its type and its help.
func TestThePageOfMetricsIsComplete(t *testing.T) {
	const page = "../docs/metrics.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	w := start(t)
	metrics.Certificate(w.registry, certificate(t))     // which a node without TLS does not have
	metrics.Tokens(w.registry, new(auth.VerifierStats)) // nor one without authentication
	calls := new(callback.Stats)                        // nor one without rpc.url
	metrics.Callback(w.registry, &calls.Calls, &calls.Refused, &calls.Failed)
	serverapi.New(serverapi.Options{Backend: serverapi.Backend{Messages: w.node}}).Collect(w.registry)
	for name, f := range w.families() {
		if strings.HasPrefix(name, "barrage_") {
			want = append(want, fmt.Sprintf("| `%s` | %s | %s |", name, strings.ToLower(f.GetType().String()), f.GetHelp()))
		}
	}
	sort.Strings(want)
	got := regexp.MustCompile("(?m)^\\| `barrage_.*$").FindAllString(string(b), -1)
	sort.Strings(got)
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("%s lists every metric with its type and meaning; its rows must be\n%s", page, w)
	}
}
