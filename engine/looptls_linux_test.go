package engine

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"barrage/fanout"
	"barrage/internal/testcert"
)

// wireTap is a client's connection whose writes can be kept back.
type wireTap struct {
	net.Conn
	keep bool
	kept []byte
}

func (w *wireTap) Write(b []byte) (int, error) {
	if w.keep {
		w.kept = append(w.kept, b...)
		return len(b), nil
	}
	return w.Conn.Write(b)
}

// versions are those that are served.
var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// greet connects with a version of TLS.
func (h *house) greet(version uint16, keys io.Writer) (*tls.Conn, *wireTap) {
	h.t.Helper()
	tap := &wireTap{Conn: h.call("")}
	c := tls.Client(tap, &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost", MaxVersion: version, KeyLogWriter: keys})
	if err := c.Handshake(); err != nil {
		h.t.Fatalf("a handshake of TLS succeeds: %v", err)
	}
	return c, tap
}

// enterTLS is enter over TLS.
func (h *house) enterTLS(frames string) (*tls.Conn, *peer) {
	h.t.Helper()
	c, _ := h.greet(0, nil)
	say(h.t, c, knocking+frames)
	if h.fresh == nil {
		hear(h.t, c, greeting)
	}
	p := h.peer()
	if s, ok := p.socket.(*loopSocket); !ok || s.wire == nil {
		h.t.Fatalf("a connection of TLS is served by a loop, not by %T", p.socket)
	}
	return c, p
}

// refused is barrier over TLS: it returns when an engine of one loop has seen everything that was sent before.
func (h *house) refused() {
	h.t.Helper()
	c, _ := h.greet(0, nil)
	say(h.t, c, strings.Replace(knocking, "/up", "/up/no", 1))
	hear(h.t, c, refusal)
	c.Close()
}

// Records may arrive in any parts: a request and the frames after it, cut at every byte.
func TestRecordsMayArriveInTwoParts(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			o := secureOptions()
			o.Loops = 1
			h := build(t, o, nil)
			for at, length := 1, 2; at < length; at++ {
				c, tap := h.greet(version, nil)
				tap.keep = true
				say(t, c, knocking+"fr")
				say(t, c, "ames")
				length = len(tap.kept)
				if _, err := tap.Conn.Write(tap.kept[:at]); err != nil {
					t.Fatal(err)
				}
				if at%7 == 0 { // otherwise they may arrive together
					h.refused()
				}
				if _, err := tap.Conn.Write(tap.kept[at:]); err != nil {
					t.Fatal(err)
				}
				tap.keep = false
				hear(t, c, greeting)
				if got := h.peer().awaitBytes(t, 6); string(got) != "frames" {
					t.Fatalf("records that are cut at byte %d are put together, not to %q", at, got)
				}
				c.Close()
			}
		})
	}
}

func TestRecordsMayArriveByteByByte(t *testing.T) {
	o := secureOptions()
	o.Loops = 1
	h := build(t, o, nil)
	c, tap := h.greet(0, nil)
	tap.keep = true
	say(t, c, knocking+"frames")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = tap.SetDeadline(time.Now().Add(patience)) // crypto/tls has ended the time for writing
	for i := range tap.kept {
		if _, err := tap.Conn.Write(tap.kept[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			h.refused()
		}
	}
	p := h.peer()
	if err := p.awaitClosed(t); err != nil || string(p.bytes()) != "frames" {
		t.Errorf("what comes byte by byte is %q, and ends without an error, not %q, %v", "frames", p.bytes(), err)
	}
}

// sealer encrypts records of TLS 1.3 as a client does, so that tests can send what crypto/tls does not.
type sealer struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// sealerOf takes the client's secret out of a key log. seq is the number of records that it has sent since its handshake.
func sealerOf(t *testing.T, c *tls.Conn, keys string, seq uint64) *sealer {
	t.Helper()
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("this test knows one cipher suite, not %s", tls.CipherSuiteName(suite))
	}
	_, rest, _ := strings.Cut(keys, "CLIENT_TRAFFIC_SECRET_0 ")
	secret, err := hex.DecodeString(strings.Fields(rest)[1])
	if err != nil {
		t.Fatal(err)
	}
	s := &sealer{t: t, secret: secret}
	s.derive()
	s.seq = seq
	return s
}

// expand is HKDF-Expand-Label: RFC 8446, section 7.1.
func (s *sealer) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	b, err := hkdf.Expand(sha256.New, s.secret, string(append(info, 0)), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sealer) derive() {
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.iv, s.seq = s.expand("iv", 12), 0
}

const (
	kindHandshake   = 22
	kindApplication = 23
)

// record is one of a kind: RFC 8446, section 5.2.
func (s *sealer) record(kind byte, content []byte) []byte {
	plain := append(bytes.Clone(content), kind)
	head := []byte{kindApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+16))
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	return s.aead.Seal(head, nonce, plain, head)
}

// update is a KeyUpdate, in one record or several, after which the keys are others: RFC 8446, section 4.6.3.
func (s *sealer) update(answer bool, parts ...int) (b []byte) {
	message := []byte{24, 0, 0, 1, 0}
	if answer {
		message[4] = 1
	}
	for _, n := range parts {
		b = append(b, s.record(kindHandshake, message[:n])...)
		message = message[n:]
	}
	b = append(b, s.record(kindHandshake, message)...)
	s.secret = s.expand("traffic upd", 32)
	s.derive()
	return b
}

func TestKeysAreUpdated(t *testing.T) {
	o := secureOptions()
	o.Loops = 1
	h := build(t, o, nil)
	var keys strings.Builder
	c, tap := h.greet(tls.VersionTLS13, &keys)
	say(t, c, knocking)
	hear(t, c, greeting)
	p := h.peer()
	s := sealerOf(t, c, keys.String(), 1)
	want := ""
	for i := range 20 {
		want += fmt.Sprint("<", i, ">")
		var b []byte
		switch i % 3 {
		case 0:
			b = s.update(true)
		case 1:
			b = s.update(false)
		case 2:
			b = s.update(true, 1, 2) // in parts
		}
		b = append(b, s.record(kindApplication, []byte(fmt.Sprint("<", i, ">")))...)
		for len(b) > 0 {
			n := min(1+rand.IntN(40), len(b))
			if _, err := tap.Conn.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if got := p.awaitBytes(t, len(want)); string(got) != want {
			t.Fatalf("what comes under updated keys is read, %q, not %q", want, got)
		}
		if n, err := p.socket.TryWrite([]byte(want)); n != len(want) || err != nil {
			t.Fatalf("after an update of keys writing goes on: %d, %v", n, err)
		}
		hear(t, c, want) // crypto/tls checks that the answer came before the keys changed
	}
}

// A peer that asks for new keys again and again without reading the answers is cut.
func TestAnswersOfTLSAreBounded(t *testing.T) {
	o := secureOptions()
	o.Options = Options{SendBuffer: 4 << 10}
	h := build(t, o, nil)
	var keys strings.Builder
	c, tap := h.greet(tls.VersionTLS13, &keys)
	say(t, c, knocking)
	hear(t, c, greeting)
	p := h.peer()
	s := sealerOf(t, c, keys.String(), 1)
	wire := p.socket.(*loopSocket).wire
	most := 0
	ended := func() bool { return len(p.closed) > 0 }
	for deadline := time.Now().Add(patience); !ended(); {
		if time.Now().After(deadline) {
			t.Fatal("a peer that lets answers of TLS pile up is cut")
		}
		var b []byte
		for range 100 {
			b = append(b, s.update(true)...)
			b = append(b, s.record(kindApplication, []byte("x"))...)
		}
		if _, err := tap.Conn.Write(b); err != nil {
			break
		}
		wire.mu.Lock()
		most = max(most, len(wire.queue))
		wire.mu.Unlock()
	}
	if err := p.awaitClosed(t); !errors.Is(err, errUnread) {
		t.Errorf("it is cut because of that, not of %v", err)
	}
	if most == 0 || most > maxQueuedTLS {
		t.Errorf("answers that wait are bounded by %d bytes, not %d", maxQueuedTLS, most)
	}
}

func TestRenegotiationIsRefused(t *testing.T) {
	h := build(t, secureOptions(), nil)
	tap := &wireTap{Conn: h.call("")}
	c := tls.Client(tap, &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost", MaxVersion: tls.VersionTLS12, Renegotiation: tls.RenegotiateFreelyAsClient})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	say(t, c, knocking)
	hear(t, c, greeting)
	p := h.peer()
	// A handshake record in the clear is what an attacker could put in; it cannot be decrypted.
	if _, err := tap.Conn.Write([]byte{kindHandshake, 3, 3, 0, 4, 1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitClosed(t); err == nil {
		t.Error("a handshake within a connection ends it with an error")
	}
}

func TestALoopPausesAndGoesOnOverTLS(t *testing.T) {
	o := secureOptions()
	o.Loops = 1
	h := build(t, o, nil)
	for _, first := range []int{1, 100, 20_000, 40_000} { // into the same record, and more than one read of the socket
		h.room.Store(1)
		c, tap := h.greet(0, nil)
		tap.keep = true
		sent := random(t, 100_000)
		say(t, c, knocking+string(sent[:first]))
		go func() { _, _ = tap.Conn.Write(tap.kept); tap.keep = false; _, _ = c.Write(sent[first:]) }()
		p := h.peer()
		before := len(p.awaitBytes(t, 1))
		h.refused()
		if n := len(p.bytes()); n != before || n > loopBuffer/2 {
			t.Errorf("a connection that is paused is not read: it had %d bytes and has %d", before, n)
		}
		for range 3 {
			p.socket.Resume()
			h.refused()
		}
		if n := len(p.bytes()); n != before {
			t.Errorf("a handler that has no room is given nothing, not %d bytes", n-before)
		}
		p.room.Store(1 << 40)
		p.socket.Resume()
		if got := p.awaitBytes(t, len(sent)); !bytes.Equal(got, sent) {
			t.Error("what waited while reading was paused comes once and in order")
		}
		c.Close()
		if err := p.awaitClosed(t); err != nil {
			t.Error(err)
		}
	}
}

// Each Read pauses, so that every record is read after a resume.
func TestAHandlerThatPausesAlwaysIsGivenEverything(t *testing.T) {
	o := secureOptions()
	h := build(t, o, nil)
	h.room.Store(0)
	c, p := h.enterTLS("")
	sent := random(t, 300_000)
	go func() { _, _ = c.Write(sent); c.Close() }()
	for len(p.bytes()) < len(sent) {
		before := len(p.awaitBytes(t, 1))
		p.room.Store(1)
		p.socket.Resume()
		eventually(t, func() bool { return len(p.bytes()) > before || before == len(sent) }, "after Resume the next bytes come")
	}
	if !bytes.Equal(p.bytes(), sent) {
		t.Error("everything comes once and in order")
	}
	p.room.Store(1 << 40)
	p.socket.Resume()
	if err := p.awaitClosed(t); err != nil {
		t.Error(err)
	}
}

func TestASlowReaderOfALoopOverTLS(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			writers := fanout.NewWriters(2)
			defer writers.Close()
			o := secureOptions()
			o.Options = Options{SendBuffer: 8 << 10}
			h := build(t, o, func(p *peer) { p.out = fanout.NewOutlet(writers, p.socket, 4<<20) })
			sent := random(t, 2<<20)
			c, tap := h.greet(version, nil)
			say(t, c, knocking)
			p := h.peer()
			readSlowly(t, c, p.out, sent, writers)
			if n, err := tap.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("after the end of TLS the stream ends too, not %d, %v", n, err)
			}
		})
	}
}

// What waits for a stalled client is one record, and the outlet's cursor stays where it is.
func TestAStalledClientOverTLSHoldsOneRecord(t *testing.T) {
	o := secureOptions()
	o.Options = Options{SendBuffer: 8 << 10}
	h := build(t, o, nil)
	c, p := h.enterTLS("")
	wire := p.socket.(*loopSocket).wire
	block := random(t, 1<<20)
	taken := 0
	eventually(t, func() bool {
		n, err := p.socket.TryWrite(block[taken%len(block):])
		if err != nil {
			t.Fatal(err)
		}
		taken += n
		wire.mu.Lock()
		defer wire.mu.Unlock()
		if len(wire.queue) > maxRecord+300 {
			t.Fatalf("at most one record is kept, not %d bytes", len(wire.queue))
		}
		return n == 0
	}, "a peer that does not read fills the socket")
	p.socket.ArmWrite()
	got := make([]byte, taken)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("what was taken arrives, although nobody writes any more: %v", err)
	}
	for i := 0; i < taken; i += len(block) {
		if n := min(len(block), taken-i); !bytes.Equal(got[i:i+n], block[:n]) {
			t.Fatal("what was taken arrives once and in order")
		}
	}
	select {
	case <-p.writable:
	case <-time.After(patience):
		t.Error("Writable is called once the socket accepts bytes again")
	}
	if n := len(p.writable); n > 0 {
		t.Errorf("Writable is called once for each ArmWrite, not %d times more", n)
	}
}

func TestHowPeersOfALoopEndOverTLS(t *testing.T) {
	h := build(t, secureOptions(), nil)
	c, p := h.enterTLS("")
	say(t, c, "last")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitClosed(t); err != nil || string(p.bytes()) != "last" {
		t.Errorf("a peer that ends its side of TLS ends the connection without an error, after its last bytes, not %v, %q", err, p.bytes())
	}
	c, p = h.enterTLS("")
	say(t, c, "last")
	_ = c.NetConn().(*wireTap).Conn.(*net.TCPConn).CloseWrite()
	if err := p.awaitClosed(t); err != nil || string(p.bytes()) != "last" {
		t.Errorf("so does one that ends the stream between records, not %v, %q", err, p.bytes())
	}
	c, p = h.enterTLS("")
	tap := c.NetConn().(*wireTap)
	tap.keep = true
	say(t, c, "cut")
	_, _ = tap.Conn.Write(tap.kept[:len(tap.kept)-1])
	_ = tap.Conn.(*net.TCPConn).CloseWrite()
	if err := p.awaitClosed(t); !errors.Is(err, io.ErrUnexpectedEOF) || len(p.bytes()) > 0 {
		t.Errorf("one that ends within a record ends it with an error, and the record is not read: %v, %q", err, p.bytes())
	}
	c, p = h.enterTLS("")
	_ = c.NetConn().(*wireTap).Conn.(*net.TCPConn).SetLinger(0)
	c.NetConn().Close()
	if err := p.awaitClosed(t); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a connection that its peer reset is closed with the error, not %v", err)
	}
	c, p = h.enterTLS("")
	_, _ = c.NetConn().Write([]byte("this is no record of TLS"))
	if err := p.awaitClosed(t); err == nil {
		t.Error("what is no record of TLS ends the connection with an error")
	}
}

func TestFinishOverTLSWaitsForThePeer(t *testing.T) {
	o := secureOptions()
	o.Options = Options{Linger: patience}
	h := build(t, o, nil)
	c, p := h.enterTLS("")
	_, _ = p.socket.TryWrite([]byte("bye"))
	p.socket.Finish()
	if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
		t.Errorf("the peer sees what was written and then the end of TLS, not %q, %v", got, err)
	}
	say(t, c, "still here")
	p.awaitBytes(t, 10)
	c.Close()
	if err := p.awaitClosed(t); err != nil {
		t.Errorf("a connection whose peer ends it after Finish ends without an error, not %v", err)
	}
}

func TestALoopEndsPausedConnectionsOverTLS(t *testing.T) {
	reason := errors.New("the reason")
	for name, end := range map[string]struct {
		do   func(h *house, p *peer)
		want error
	}{
		"Abort":  {func(_ *house, p *peer) { p.socket.Abort(reason) }, reason},
		"Close":  {func(h *house, _ *peer) { h.loops.Close() }, net.ErrClosed},
		"Finish": {func(_ *house, p *peer) { p.socket.Finish() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := secureOptions()
			o.Options = Options{Linger: 30 * time.Millisecond, Tick: 50 * time.Millisecond}
			h := build(t, o, nil)
			h.room.Store(0)
			_, p := h.enterTLS(strings.Repeat("x", 50_000))
			p.awaitBytes(t, 1)
			end.do(h, p)
			if err := p.awaitClosed(t); !errors.Is(err, end.want) {
				t.Errorf("%s ends a connection that is paused, with %v, not %v", name, end.want, err)
			}
		})
	}
}

func TestConnectionsOfTLSThatNetHTTPKeepsUpgradeLater(t *testing.T) {
	h := build(t, secureOptions(), nil)
	long := strings.Repeat("f", 40_000)
	for _, first := range []string{fetching, fetching + fetching + knocking + long} {
		c, _ := h.greet(0, nil)
		br := bufio.NewReader(c)
		say(t, c, first)
		page(t, br)
		if first == fetching {
			fetch(t, c, br)
			say(t, c, knocking+long)
		} else {
			page(t, br)
		}
		hear(t, br, greeting)
		p := h.peer()
		if s, ok := p.socket.(*loopSocket); !ok || s.wire == nil {
			t.Errorf("a connection that net/http upgraded is served by a loop, not by %T", p.socket)
		}
		say(t, c, "end")
		if got := p.awaitBytes(t, len(long)+3); string(got) != long+"end" {
			t.Error("what follows pipelined requests comes once and in order")
		}
		_, _ = p.socket.TryWrite([]byte("answer"))
		hear(t, br, "answer")
		c.Close()
		p.awaitClosed(t)
	}
}

// A session that is taken up again needs no second proof of who the server is, and works like any other.
func TestSessionsAreResumed(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			h := build(t, secureOptions(), nil)
			config := &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			for i := range 3 {
				c := tls.Client(h.call(""), config)
				say(t, c, knocking)
				hear(t, c, greeting)
				if c.ConnectionState().DidResume != (i > 0) {
					t.Errorf("handshake %d resumes the session before it: %t", i, c.ConnectionState().DidResume)
				}
				h.peer()
				c.Close()
			}
		})
	}
}

func TestAHandshakeAndThenNoRequest(t *testing.T) {
	o := secureOptions()
	o.Handshake = 200 * time.Millisecond
	o.Options = Options{Tick: 100 * time.Millisecond}
	h := build(t, o, nil)
	c, _ := h.greet(0, nil)
	say(t, c, knocking[:10])
	ends(t, c, "a request that does not follow its handshake in time is cut")
}

// Connections of TLS are opened, written to, and ended from all sides, and nothing remains.
func TestLoopsUnderStressOverTLS(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	before := openFiles(t)
	writers := fanout.NewWriters(2)
	var opened, closed atomic.Int64
	t.Run("guests", func(t *testing.T) {
		o := secureOptions()
		o.Waiting, o.Options = 64, Options{SendBuffer: 4 << 10, Linger: 20 * time.Millisecond, Tick: 50 * time.Millisecond}
		h := build(t, o, func(p *peer) {
			opened.Add(1)
			p.out = fanout.NewOutlet(writers, p.socket, 1<<20)
			p.out.Send([]byte(greeting))
		})
		until := time.Now().Add(700 * time.Millisecond)
		done := make(chan struct{}, 8)
		for i := range 8 {
			go func() {
				h.secureGuest(rand.New(rand.NewPCG(seed, uint64(i))), until)
				done <- struct{}{}
			}()
		}
		hosts := make(chan struct{})
		go func() { h.host(rand.New(rand.NewPCG(seed, 100)), &closed); close(hosts) }()
		time.Sleep(time.Until(until) - 50*time.Millisecond)
		h.loops.Close() // while everything goes on
		for range 8 {
			<-done
		}
		close(h.peers)
		<-hosts
	})
	writers.Close()
	if opened.Load() == 0 || opened.Load() != closed.Load() {
		t.Errorf("every handler that was opened is closed once: %d and %d", opened.Load(), closed.Load())
	}
	t.Logf("%d connections", opened.Load())
	eventually(t, func() bool { return openFiles(t) <= before }, "an engine that was closed leaves no descriptor behind")
}

// secureGuest is guest over TLS.
func (h *house) secureGuest(rnd *rand.Rand, until time.Time) {
	config := &tls.Config{RootCAs: testcert.Pool(authority), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for time.Now().Before(until) {
		under, err := net.Dial("tcp", h.addr)
		if err != nil {
			continue // the engine may have been closed
		}
		_ = under.SetDeadline(time.Now().Add(time.Second))
		c := tls.Client(under, config)
		text := knocking + "hello"
		if rnd.IntN(8) == 0 {
			text = fetching + text
		}
		if rnd.IntN(8) == 0 {
			text = text[:rnd.IntN(len(text))]
		}
		_, _ = io.WriteString(c, text)
		buf := make([]byte, 4096)
		for range rnd.IntN(5) {
			if k, err := c.Read(buf); err != nil || bytes.IndexByte(buf[:k], '!') >= 0 {
				if err == nil {
					h.t.Error("a connection is not sent what was meant for another")
				} else if strings.Contains(err.Error(), "bad record MAC") {
					h.t.Error("records arrive as they were sent")
				}
				break
			}
		}
		switch rnd.IntN(3) {
		case 0:
			_ = under.(*net.TCPConn).SetLinger(0)
			under.Close()
		case 1:
			under.Close()
		default:
			c.Close()
		}
	}
}
