package gateway

import (
	"testing"
	"unsafe"

	"barrage/fanout"
	"barrage/session"
)

func TestSizes(t *testing.T) {
	t.Log(unsafe.Sizeof(conn{}), unsafe.Sizeof(fanout.Outlet{}), unsafe.Sizeof(session.Session{}), unsafe.Sizeof(fanout.Member{}))
}
