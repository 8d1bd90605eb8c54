package gateway

import (
	"testing"
	"unsafe"
)

func TestAConnectionIsSmall(t *testing.T) {
	const limit = 320 // a size class of the allocator
	if n := unsafe.Sizeof(plainConn{}); n > limit {
		t.Errorf("a connection, with its session and its outlet, takes at most %d bytes, not %d", limit, n)
	}
	if n := unsafe.Sizeof(eventConn{}); n > limit {
		t.Errorf("an event stream, with its session and its outlet, takes at most %d bytes, not %d", limit, n)
	}
}
