package serverapi

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of failed authentications of one address, which for IPv6 is a network of 64 bits.
const (
	failBurst = 20
	failEvery = 3 * time.Second
	// maxAddresses is how many addresses are remembered; beyond it the ones that failed least are forgotten first.
	maxAddresses = 10_000
)

// guard limits failed authentications by address. Loopback addresses are exempt: behind a proxy on the same machine that is
// not in trusted_proxies they would be everyone.
type guard struct {
	mu   sync.Mutex
	seen map[netip.Prefix]*rate.Limiter // owner: mu
}

func newGuard() *guard { return &guard{seen: map[netip.Prefix]*rate.Limiter{}} }

// network is what an address is counted as; ok is false for one that is not.
func network(a netip.Addr) (p netip.Prefix, ok bool) {
	bits := 32
	if !a.IsValid() || a.IsLoopback() {
		return p, false
	}
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// wait is how long an address has to wait before its keys are looked at again; 0 for not at all.
func (g *guard) wait(a netip.Addr, now time.Time) time.Duration {
	p, ok := network(a)
	if !ok {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.seen[p]
	if l == nil {
		return 0
	}
	tokens := l.TokensAt(now)
	if tokens >= 1 {
		return 0
	}
	return time.Duration((1 - tokens) * float64(failEvery))
}

// failed counts a failure, and reports whether it was the one after which the address has to wait.
func (g *guard) failed(a netip.Addr, now time.Time) bool {
	p, ok := network(a)
	if !ok {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.seen[p]
	if l == nil {
		if len(g.seen) >= maxAddresses {
			g.forget(now)
		}
		l = rate.NewLimiter(rate.Every(failEvery), failBurst)
		g.seen[p] = l
	}
	return l.AllowN(now, 1) && l.TokensAt(now) < 1
}

// forget makes room: addresses that have not failed for long go first, and then those that have failed least.
func (g *guard) forget(now time.Time) {
	for _, kept := range []float64{failBurst, failBurst - 2, failBurst / 2, 0} {
		for p, l := range g.seen {
			if l.TokensAt(now) >= kept {
				delete(g.seen, p)
			}
		}
		if len(g.seen) < maxAddresses*9/10 {
			return
		}
	}
	clear(g.seen)
}
