package engine

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// LoopOptions are the settings of an engine that listens. Upgrader is needed.
type LoopOptions struct {
	Options
	Upgrader Upgrader
	// Loops is how many there are; 0 means one per processor.
	Loops int
	// Handshake is how long a request may take to arrive, give or take a fifth of Tick; 0 means 10 s.
	Handshake time.Duration
	// Waiting is how many connections may be open whose request has not arrived; one more ends the one that has waited
	// longest. 0 means 4096.
	Waiting int
	// TLS makes all connections TLS; nil means that none is. With it the listener need not be a *net.TCPListener.
	TLS *tls.Config
	// TLSStats, when set, counts handshakes of TLS.
	TLSStats *TLSStats
	Log      *slog.Logger
}

// Vigilant is a Socket that can find out that its peer has vanished. Sockets that run over nothing but TCP are, where the system
// can; others find out when the kernel gives up by itself, usually after a quarter of an hour.
type Vigilant interface {
	// CutUnacknowledged ends the connection when bytes that were sent have not been acknowledged for d.
	CutUnacknowledged(d time.Duration)
}

// Upgrader judges requests.
type Upgrader interface {
	// Handles says whether a request is for Upgrade; all others go to net/http.
	Handles(r *http.Request) bool
	// Upgrade judges a request, which is valid only during the call. open makes the connection's handler, which answers the handshake through its socket; when
	// it is nil the request is refused, and the connection ends with the answer refusal.
	Upgrade(r *http.Request) (refusal []byte, open func(Socket) Handler)
}
