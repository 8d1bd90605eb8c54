package engine

import (
	"sync"
	"sync/atomic"
)

// chunkSockets is how many descriptors one chunk of a table has room for.
const chunkSockets = 1024

type socketChunk [chunkSockets]atomic.Pointer[loopSocket]

// socketTable finds the sockets of all loops by descriptor. A descriptor is one socket's at a time; its place is written by
// that socket's loop alone.
type socketTable struct {
	chunks atomic.Pointer[[]*socketChunk]
	grow   sync.Mutex
}

// get returns the socket with descriptor fd, nil when there is none.
func (t *socketTable) get(fd int) *loopSocket {
	chunks := t.chunks.Load()
	if i := fd / chunkSockets; chunks != nil && i < len(*chunks) {
		return (*chunks)[i][fd%chunkSockets].Load()
	}
	return nil
}

// set enters s as the socket with descriptor fd; nil takes it out.
func (t *socketTable) set(fd int, s *loopSocket) {
	i := fd / chunkSockets
	chunks := t.chunks.Load()
	if chunks == nil || i >= len(*chunks) {
		chunks = t.extend(i)
	}
	(*chunks)[i][fd%chunkSockets].Store(s)
}

// extend makes room for chunk i.
func (t *socketTable) extend(i int) *[]*socketChunk {
	t.grow.Lock()
	defer t.grow.Unlock()
	var list []*socketChunk
	if old := t.chunks.Load(); old != nil {
		list = append(list, *old...)
	}
	for len(list) <= i {
		list = append(list, new(socketChunk))
	}
	t.chunks.Store(&list)
	return &list
}
