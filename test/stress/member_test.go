package stress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"barrage/proto"
	"barrage/ws"
)

// Where a member begins, besides after an offset.
const (
	atHead   = -1
	anywhere = -2
)

// member is a guest on one connection that reads what it is sent and checks it.
type member struct {
	*guest
	conn  *net.TCPConn
	raw   bool
	start int64

	mute   bool // pings are not answered: another goroutine may be writing for as long as nobody reads
	asm    ws.Assembler
	events []ws.Event
	buf    []byte
	next   proto.Offset // that must come, 0 when any may
	reset  bool         // before the welcome
	acks   int
}

// enter does the handshake.
func (m *member) enter(br *bufio.Reader, path string) bool {
	_, _ = io.WriteString(m.conn, m.request(path))
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		m.demand(false, "a handshake is answered: %v", err)
		return false
	}
	resp.Body.Close()
	m.asm = ws.NewAssembler(&ws.Rules{MaxMessage: 4 << 20, FromServer: true})
	m.buf = make([]byte, 4<<10)
	m.demand(resp.StatusCode == http.StatusSwitchingProtocols, "a handshake succeeds: %s", resp.Status)
	return resp.StatusCode == http.StatusSwitchingProtocols
}

// event reads the next message. It answers pings. The error is errClosed after a close frame.
func (m *member) event(br *bufio.Reader) (ws.Event, error) {
	for {
		for len(m.events) > 0 {
			ev := m.events[0]
			m.events = m.events[1:]
			switch ev.Op {
			case ws.OpPing:
				if m.mute {
					continue
				}
				_, _ = m.conn.Write(m.frame(ws.OpPong, string(ev.Payload)))
			case ws.OpClose:
				m.tally.closed(ev.Code)
				return ev, fmt.Errorf("%w: %d %s", errClosed, ev.Code, ev.Payload)
			default:
				return ev, nil
			}
		}
		n, err := br.Read(m.buf)
		if err != nil {
			return ws.Event{}, err
		}
		err = m.asm.Feed(m.buf[:n], func(ev ws.Event) error {
			ev.Payload = bytes.Clone(ev.Payload)
			m.events = append(m.events, ev)
			return nil
		})
		if err != nil {
			m.t.Errorf("the node's frames are right: %v", err) // whether it is ending or not
			return ws.Event{}, err
		}
	}
}

// say publishes n times, reads a while, and on /ws demands an acknowledgement for each. It reports whether the connection
// is still there.
func (m *member) say(br *bufio.Reader, n int) bool {
	for i := range n {
		text := fmt.Sprintf("%d of %x", i, m.rnd.Uint64())
		if !m.raw {
			text = fmt.Sprintf(`{"publish":{"data":%q,"id":%q}}`, text, text)
		}
		_, _ = m.conn.Write(m.frame(ws.OpText, text)) // reading finds out
	}
	if m.raw && m.start == anywhere { // it may not be given its own
		n = 0
	}
	for m.acks < n {
		ev, err := m.event(br)
		if err != nil {
			// Who is behind by more than is kept is told so on /raw, and resumes.
			m.demand(errors.Is(err, errClosed), "a connection ends with a close frame: %v, after %d of %d acknowledgements", err, m.acks, n)
			return false
		}
		if m.raw {
			m.tally.messages.Add(1)
			m.acks++ // any text will do
			continue
		}
		for line := range proto.SplitLines(ev.Payload) {
			m.line(line)
		}
	}
	return true
}

// line checks a line of /ws.
func (m *member) line(line []byte) {
	r, err := proto.ParseReply(line)
	switch {
	case err != nil:
		m.t.Errorf("the node's lines are right: %q, %v", line, err)
	case r.Reset != nil:
		m.tally.resets.Add(1)
		m.reset = true
		m.next = r.Reset.Offset + 1
	case r.Welcome != nil:
		switch {
		case m.reset:
		case m.start == atHead:
			m.next = r.Welcome.Offset + 1
		case m.start >= 0:
			m.next = proto.Offset(m.start) + 1
		}
	case r.Message != nil:
		m.tally.messages.Add(1)
		if m.next != 0 && r.Message.Offset != m.next {
			m.t.Errorf("messages come in order without gaps: %d must come, not %d", m.next, r.Message.Offset)
		}
		if m.start != anywhere || m.reset { // echo=0 leaves out its own
			m.next = r.Message.Offset + 1
		}
	case r.Ack != nil:
		m.tally.acks.Add(1)
		m.acks++
	case r.Error != nil:
		m.demand(r.Error.Retry, "a publish fails only for a while: %s", line)
		m.acks++
	}
}

// leave does the closing handshake.
func (m *member) leave(br *bufio.Reader) {
	_, _ = m.conn.Write(m.frame(ws.OpClose, "\x03\xe8"))
	for {
		_, err := m.event(br)
		if err == nil {
			continue
		}
		m.demand(errors.Is(err, errClosed), "a close frame is answered: %v", err)
		return
	}
}
