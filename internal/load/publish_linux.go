package load

import (
	"time"

	"golang.org/x/sys/unix"

	"barrage/ws"
)

// publisher is the state of sending a schedule.
type publisher struct {
	next  int // the next message of the schedule
	total int64
	sent
	text, frame []byte // reused
}

// publish sends what is due and sets the timer for what comes next; it is true at the end of the schedule.
func (l *loop) publish() (done bool) {
	p, s := &l.pub, l.job.Publish
	if p.Counts == nil {
		p.First, p.Counts = l.job.First, make([]int32, l.job.Count)
	}
	for {
		m, ok := s.message(p.next)
		if !ok {
			l.alarm(0)
			return true
		}
		i := int(m.stream) - l.job.First
		if i < 0 || i >= l.job.Count {
			p.next++
			continue
		}
		due := l.window.From + int64(m.at)
		now := l.clock.now()
		if due > now {
			l.alarm(due)
			return false
		}
		p.next++
		l.send(int32(i), due, m.size)
		p.Late.Add(time.Duration(now - due))
	}
}

// alarm wakes the loop at a moment; 0 is never.
func (l *loop) alarm(at int64) {
	_ = unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(at)}, nil)
}

// send publishes a message of size bytes as publisher i.
func (l *loop) send(i int32, due int64, size int) {
	p := &l.pub
	if l.conns[i].state != open {
		p.Unsent++
		return
	}
	m := Marker{Run: l.job.Run, Stream: int32(l.job.First) + i, Number: p.Counts[i], Due: due / 1000}
	p.text = messageText(p.text[:0], m, size)
	p.frame = ws.AppendMaskedFrame(p.frame[:0], ws.OpText, mask, l.job.wrap(p.text, int(i)))
	if !l.write(i, p.frame) {
		p.Unsent++
		return
	}
	p.Counts[i]++
	p.total++
	if due >= l.window.Measure {
		p.Measured++
	}
}
