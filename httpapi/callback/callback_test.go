package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"barrage/auth"
	"barrage/proto"
	"barrage/session/centrifuge"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outcome is how a call ended.
type outcome struct {
	data string
	err  *proto.Error
}

// service starts a service and hands it calls.
func service(t *testing.T, o Options, answer http.HandlerFunc) (s *Service, call func(centrifuge.Call) outcome) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	o.URL = strings.Replace(server.URL, "http://", "http://ann:hidden@", 1)
	s = New(o)
	t.Cleanup(s.Close)
	return s, func(c centrifuge.Call) outcome {
		done := make(chan outcome, 1)
		c.Done = func(data []byte, err *proto.Error) { done <- outcome{string(data), err} }
		s.Call(c)
		return <-done
	}
}

func TestAServiceIsAskedAndAnswers(t *testing.T) {
	var asked string
	_, call := service(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		asked = fmt.Sprintf("%s %s %s:%s %s", r.Method, r.Header.Get("Content-Type"), user, password, body)
		fmt.Fprint(w, `{"result":{"data":{"price":7}}}`)
	})
	got := call(centrifuge.Call{
		Client: "c1", Identity: &auth.Identity{User: "ann", Meta: json.RawMessage(`{"shop":1}`)}, Method: "price", Data: []byte(`{"of":"tea"}`),
	})
	if got.data != `{"price":7}` || got.err != nil {
		t.Errorf("the client is given the service's data: got %+v", got)
	}
	if want := `POST application/json ann:hidden {"client":"c1","user":"ann","method":"price","data":{"of":"tea"},"meta":{"shop":1}}`; asked != want {
		t.Errorf("the service is asked\n%s\nand not\n%s", want, asked)
	}
}

func TestAnswersOfAService(t *testing.T) {
	for answer, want := range map[string]string{
		`{"result":{}}`: "null", `{}`: "null",
		`{"error":{"code":404,"message":"no such tea"}}`: "404: no such tea",
		`{"error":{"code":3000,"message":"x"}}`:          "100: internal error",
		`[]`:                                             "100: internal error", `<html>`: "100: internal error", "status": "100: internal error",
		`{"result":{"data":"` + strings.Repeat("x", maxAnswer) + `"}}`: "100: internal error",
	} {
		var log bytes.Buffer
		s, call := service(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(w http.ResponseWriter, _ *http.Request) {
			if answer == "status" {
				w.WriteHeader(http.StatusFound)
				return
			}
			fmt.Fprint(w, answer)
		})
		got := call(centrifuge.Call{Method: "m", Data: []byte(`"asked"`)})
		text := got.data
		if got.err != nil {
			text = got.err.Error()
		}
		if text != want {
			t.Errorf("%.60s is %s for the client, not %s", answer, want, text)
		}
		failed := strings.HasPrefix(want, "100")
		if (s.Stats().Failed.Load() == 1) != failed || (log.Len() > 0) != failed {
			t.Errorf("%.60s is counted and logged: %d, %q", answer, s.Stats().Failed.Load(), log.String())
		}
		if strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), "asked") {
			t.Errorf("neither the password nor what was asked is in the log: %q", log.String())
		}
	}
}

func TestCallsAreBounded(t *testing.T) {
	goOn := make(chan struct{})
	s, call := service(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { <-goOn; fmt.Fprint(w, "{}") })
	answers := make(chan *proto.Error, maxCalls)
	for i := range maxCalls {
		s.Call(centrifuge.Call{Client: fmt.Sprint(i), Done: func(_ []byte, err *proto.Error) { answers <- err }})
	}
	if got := call(centrifuge.Call{}); got.err == nil || got.err.Code != proto.ErrTooMany.Code || got.err.RetryAfter == 0 {
		t.Errorf("one call too many is refused with the time to wait: got %+v", got)
	}
	close(goOn)
	for range maxCalls {
		if err := <-answers; err != nil {
			t.Errorf("those that were under way are answered: %v", err)
		}
	}
	if got := call(centrifuge.Call{Data: []byte("\xff")}); got.err == nil || got.err.Code != proto.ErrBadRequest.Code {
		t.Errorf("what is not JSON is refused: got %+v", got)
	}
}

func TestWhatAnswersSendIsNotLookedAt(t *testing.T) {
	for status, good := range map[int]bool{200: true, 202: true, 204: true, 299: true, 302: false, 404: false, 500: false} {
		var log bytes.Buffer
		s, call := service(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if status == 202 {
				fmt.Fprint(w, `no JSON`)
			}
		})
		got := call(centrifuge.Call{Sent: true, Data: []byte(`1`)})
		if (got.err == nil) != good || (s.Stats().Failed.Load() == 0) != good || (log.Len() == 0) != good {
			t.Errorf("status %d is an answer to send: %v; got %+v, %d failed, and the log says %q", status, good, got, s.Stats().Failed.Load(), log.String())
		}
	}
}

func TestTheLogIsNotFlooded(t *testing.T) {
	var log bytes.Buffer
	s := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	method := strings.Repeat("x", maxMethod-1) + "弹" + strings.Repeat("y", 64<<10)
	synctest.Test(t, func(*testing.T) {
		for range 100 {
			s.warn(method, io.EOF)
		}
		time.Sleep(warnEvery)
		s.warn("弹\xff", io.EOF)
	})
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], " method="+strings.Repeat("x", maxMethod-1)+" ") || !strings.Contains(lines[0], "left_out=0") {
		t.Fatalf("of 100 failures at once one line tells, with the beginning of the method; the log is %d lines: %.500s", len(lines), log.String())
	}
	if !strings.Contains(lines[1], " method=弹 ") || !strings.Contains(lines[1], "left_out=99") {
		t.Errorf("a second later one line tells, and of the 99 between: %s", lines[1])
	}
}

func TestAServiceThatHangsWhileConnectionsAreMadeLeavesNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted, open atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			open.Add(1)
			all.Go(func() { // it says nothing
				_, _ = io.Copy(io.Discard, c)
				c.Close()
				open.Add(-1)
			})
		}
	})
	s := New(Options{URL: "https://" + listener.Addr().String(), Timeout: 50 * time.Millisecond})
	var calls sync.WaitGroup
	for i := range 40 {
		calls.Add(1)
		s.Call(centrifuge.Call{Client: fmt.Sprint(i), Done: func([]byte, *proto.Error) { calls.Done() }})
	}
	calls.Wait()
	for deadline := time.Now().Add(10 * time.Second); (accepted.Load() == 0 || open.Load() > 0) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if accepted.Load() == 0 || open.Load() > 0 {
		t.Errorf("connections whose TLS handshake hangs are given up after the timeout: of %d %d are open", accepted.Load(), open.Load())
	}
	s.Close()
	listener.Close()
	all.Wait()
}

func TestCallsMeetClose(t *testing.T) {
	s, call := service(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	var callers, answers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for range 200 {
				answers.Add(1)
				s.Call(centrifuge.Call{Client: fmt.Sprint(i), Done: func([]byte, *proto.Error) { answers.Done() }})
			}
		})
	}
	s.Close()
	callers.Wait()
	answers.Wait() // each call is answered, whether it came before or after
	handed := s.Stats().Calls.Load()
	if got := call(centrifuge.Call{}); got.err == nil || got.err.Code != proto.ErrUnavailable.Code || s.Stats().Calls.Load() != handed {
		t.Errorf("after the end a call is refused as unavailable: got %+v", got)
	}
}

func TestAServiceThatIsSilentIsNotWaitedFor(t *testing.T) {
	goOn := make(chan struct{})
	s, call := service(t, Options{Timeout: 50 * time.Millisecond}, func(http.ResponseWriter, *http.Request) { <-goOn })
	if got := call(centrifuge.Call{}); got.err == nil || got.err.Code != proto.ErrInternal.Code {
		t.Errorf("after the timeout the client is told to try again: got %+v", got)
	}
	done := make(chan *proto.Error, 1)
	s.Call(centrifuge.Call{Done: func(_ []byte, err *proto.Error) { done <- err }})
	s.Close()
	if err := <-done; err == nil || err.Code != proto.ErrUnavailable.Code {
		t.Errorf("closing answers what is under way: the node is not available any more; got %v", err)
	}
	close(goOn)
}
