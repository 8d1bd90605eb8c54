package conformance

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"barrage/gateway"
	"barrage/internal/testnode"
	"barrage/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// urlVariable names an echo elsewhere that is tested instead. largeVariable, if it is set, adds the messages of up to 16 MiB:
// without it they have up to 256 KiB, and what is elsewhere is sent no more than 64 KiB.
const (
	urlVariable   = "BARRAGE_CONFORMANCE_URL"
	largeVariable = "BARRAGE_CONFORMANCE_LARGE"
)

// onEach runs a test on both engines, with compression on or off, or on the server that the environment names.
func onEach(t *testing.T, compression *session.Compression, test func(*testing.T, Target)) {
	if text := os.Getenv(urlVariable); text != "" {
		target, err := ParseTarget(text)
		if err != nil {
			t.Fatalf("%s: %v", urlVariable, err)
		}
		test(t, target)
		return
	}
	for _, engine := range slices.Sorted(maps.Keys(testnode.Engines)) {
		t.Run(engine, func(t *testing.T) {
			s, err := testnode.Start(testnode.Options{Portable: testnode.Engines[engine], Gateway: gateway.Options{Echo: true, MaxMessage: 16 << 20, Compression: compression}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, Target{Addr: s.Addr, Path: "/echo"})
			for deadline := time.Now().Add(patience); s.Gateway.Count() > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("no connection is left behind: %d", s.Gateway.Count())
				}
			}
		})
	}
}

// tooLarge says whether a case is left out.
func tooLarge(c *Case) bool {
	limit := 256 << 10
	if os.Getenv(urlVariable) != "" {
		limit = 64 << 10
	}
	return c.Message > limit && os.Getenv(largeVariable) == ""
}

func TestCases(t *testing.T) {
	onEach(t, nil, func(t *testing.T, target Target) {
		run := 0
		for _, c := range Cases() {
			if tooLarge(&c) {
				continue
			}
			run++
			if err := c.Run(t.Context(), target); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
		t.Logf("%d cases", run)
	})
}

// TestDeflate passes on a server elsewhere that negotiates no compression, if it does so in no case.
func TestDeflate(t *testing.T) {
	onEach(t, &session.Compression{}, func(t *testing.T, target Target) {
		all, refused := Deflate(), 0
		for _, c := range all {
			switch err := c.Run(t.Context(), target); {
			case errors.Is(err, ErrNotNegotiated):
				refused++
			case err != nil:
				t.Errorf("%s: %v", c.Name, err)
			}
		}
		if refused != 0 && refused != len(all) {
			t.Errorf("compression is negotiated always or never: %d times of %d it was not", refused, len(all))
		}
		if refused != 0 && os.Getenv(urlVariable) == "" {
			t.Error("compression is negotiated when it is on")
		}
		t.Logf("%d cases, %d of them without compression", len(all), refused)
	})
}

func TestNamesOfCasesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range append(Cases(), Deflate()...) {
		if name := fmt.Sprint(c.Name, c.Offer); seen[name] {
			t.Errorf("two cases have the name %q", c.Name)
		} else {
			seen[name] = true
		}
	}
}

func TestHandshakes(t *testing.T) {
	onEach(t, nil, func(t *testing.T, target Target) {
		for _, h := range Handshakes() {
			length := len(h.Text(target))
			if err := h.Run(t.Context(), target); err != nil {
				t.Errorf("%s: %v", h.Name, err)
			}
			if err := h.Run(t.Context(), target, length/3, length-3, length-1, length, length+1); err != nil {
				t.Errorf("%s, in pieces: %v", h.Name, err)
			}
		}
		t.Logf("%d handshakes", len(Handshakes()))
	})
}

func TestAHandshakeMayBeSplitAnywhere(t *testing.T) {
	onEach(t, nil, func(t *testing.T, target Target) {
		for _, h := range Handshakes() {
			switch h.Name {
			case "a good request", "lines that end with LF", "two keys", "a request after one for a page":
			default:
				continue
			}
			length := len(h.Text(target))
			every := make([]int, length)
			for cut := range length {
				every[cut] = cut
				if err := h.Run(t.Context(), target, cut); err != nil {
					t.Errorf("%s, split at byte %d: %v", h.Name, cut, err)
				}
			}
			if err := h.Run(t.Context(), target, every...); err != nil {
				t.Errorf("%s, byte by byte: %v", h.Name, err)
			}
		}
	})
}
