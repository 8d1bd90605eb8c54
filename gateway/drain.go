package gateway

import (
	"context"
	"slices"
	"time"

	"barrage/proto"
)

// Shutdown asks every client to go to another node, spread over a part of the time that ctx leaves so that they do not
// arrive there all at once, waits until they have gone, and closes the rest. New requests are refused from now on.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.mu.Lock()
	g.closing = true
	all := slices.Clone(g.conns)
	g.checkEmpty()
	g.mu.Unlock()
	g.drain(ctx, all)
	select {
	case <-g.empty:
	case <-ctx.Done():
		g.Log.Warn("connections are cut because they did not end in time", "connections", g.Count())
	}
	g.engine.Close()
	g.emulated.workers.Wait() // no connection is left that could start another
}

const (
	drainPace  = 50 * time.Millisecond
	drainBurst = 200 // connections that may be sent away per pace even if that is quicker than needed
)

func (g *Gateway) drain(ctx context.Context, all []*conn) {
	g.guests.end(proto.CloseShutdown)
	burst := drainBurst
	if deadline, ok := ctx.Deadline(); ok {
		steps := max(int(time.Until(deadline)/2/drainPace), 1)
		burst = max(burst, (len(all)+steps-1)/steps)
	}
	for i, c := range all {
		if i > 0 && i%burst == 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(drainPace):
			}
		}
		c.leave(proto.CloseShutdown.With("this node is shutting down; connect again"))
	}
}
