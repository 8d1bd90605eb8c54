package fanout

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// nowhere is a socket that takes everything.
type nowhere struct{}

func (nowhere) TryWrite(b []byte) (int, error) { return len(b), nil }
func (nowhere) ArmWrite()                      {}
func (nowhere) Finish()                        {}
func (nowhere) Abort(error)                    {}

// visit makes out a member of a feed of its own for a while, and returns the feed, to see whether it is kept, and the place.
func visit(w *Writers, out *Outlet, leave func(*Feed, *Member)) (weak.Pointer[Feed], *Member) {
	f := NewFeed(w, nil, 1)
	f.Append(Entry{Frame: make([]byte, 1000)})
	m := f.Join(out, 1, 0)
	f.Append(Entry{Frame: make([]byte, 1000)})
	leave(f, m)
	return weak.Make(f), m
}

func TestAConnectionDoesNotKeepTheFeedsThatItLeft(t *testing.T) {
	w := NewWriters(1)
	defer w.Close()
	for how, leave := range map[string]func(*Feed, *Member){
		"it left":              func(_ *Feed, m *Member) { m.Leave() },
		"it was told to leave": func(f *Feed, _ *Member) { f.Restart(1, Notice{Leave: true}) },
		"it ended":             func(_ *Feed, m *Member) { m.Outlet().Close() },
	} {
		out := NewOutlet(w, nowhere{}, 0)
		first, place := visit(w, out, leave)
		second, another := visit(w, out, leave) // and one after the end
		for deadline := time.Now().Add(10 * time.Second); first.Value() != nil || second.Value() != nil; {
			runtime.GC()
			if time.Now().After(deadline) {
				t.Fatalf("a feed is let go when %s, although the connection and its places in it are kept", how)
			}
		}
		if !place.Left() || !another.Left() {
			t.Errorf("when %s it is no member any more", how)
		}
		place.Leave() // again, which does nothing
		out.Close()
		runtime.KeepAlive(out)
	}
}
