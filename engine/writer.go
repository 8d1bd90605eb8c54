package engine

import (
	"net"
	"sync"
)

// maxQueued is how many bytes a queueWriter takes before it says that the socket is full.
const maxQueued = 64 << 10

// queueWriter writes to a connection that can only block (TLS, pipes, systems without non-blocking writes): a goroutine
// that exists while there is something to write.
type queueWriter struct {
	c *Conn

	mu      sync.Mutex
	changed sync.Cond
	queue   []byte // owner: mu; taken and not yet written
	busy    bool   // owner: mu; the goroutine exists
	ending  bool   // owner: mu; close when the queue is empty
	err     error  // owner: mu
}

func newQueueWriter(c *Conn) *queueWriter {
	w := &queueWriter{c: c}
	w.changed.L = &w.mu
	return w
}

func (w *queueWriter) tryWrite(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	n := min(len(b), maxQueued-len(w.queue))
	w.queue = append(w.queue, b[:n]...)
	w.start()
	return n, nil
}

func (w *queueWriter) start() {
	if !w.busy && (len(w.queue) > 0 || w.ending) {
		w.busy = true
		w.c.engine.start(w.run)
	}
}

func (w *queueWriter) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 && w.err == nil {
		b := w.queue
		w.queue = nil
		w.mu.Unlock()
		_, err := w.c.conn.Write(b)
		w.mu.Lock()
		w.err = err
		w.changed.Broadcast()
	}
	w.busy = false
	if w.ending {
		closeWrite(w.c.conn)
	}
}

func (w *queueWriter) awaitWritable() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) >= maxQueued && w.err == nil {
		w.changed.Wait()
	}
}

func (w *queueWriter) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
	w.start()
}

// closeWrite ends the sending direction, or the connection where that is not possible.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		// The peer may have gone already; reading finds out.
		_ = half.CloseWrite()
		return
	}
	c.Close()
}
