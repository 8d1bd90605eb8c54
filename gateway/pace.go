package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"barrage/ws"
)

// pace refuses those who connect too often.
func (g *Gateway) pace(addr netip.Addr) error {
	wait := g.Limits.Connect(addr, time.Now())
	if wait == 0 {
		return nil
	}
	seconds := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	return &ws.HandshakeError{
		Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {seconds}},
		Message: fmt.Sprintf("your address %s connects too often; wait, or raise limits.address_connects", addr),
	}
}
