package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"barrage/internal/trace"
)

// ErrNeedsLinux is the answer on other systems.
var ErrNeedsLinux = errors.New("the load generator needs Linux: it reads its connections by epoll")

// ErrPlan is wrapped by errors of a plan that cannot be carried out.
var ErrPlan = errors.New("this cannot be measured")

// Plan is a whole run. URLs and Connections are needed.
type Plan struct {
	// URLs of the servers, ws://host:port/path; {room} in the path or query stands for the room. Members of each room are
	// spread over all of them.
	URLs []string
	// PublishURLs are where messages are published; empty means URLs. Every room has Publishers publishing connections (1),
	// spread over all of them.
	PublishURLs []string
	Publishers  int
	// Connections is the number of readers, Rooms that of rooms (0 means 1).
	Connections, Rooms int
	// Processes is the number of client processes for readers; 0 means one per 5,000 connections, at most one per
	// processor, and as many as open files need.
	Processes int
	// Rate of messages a second in all rooms together; 0 sends none. Size of a message in bytes (128).
	Rate float64
	Size int
	// Trace is played instead of a constant rate, Speed times as fast (1).
	Trace []trace.Entry
	Speed float64
	// Warmup is how long messages are sent before measuring begins, Duration how long is measured; 0 with a trace means to
	// its end.
	Warmup, Duration time.Duration
	// Idle is how long the connections are left alone before messages begin, to measure memory and CPU; at least Settle.
	Idle, Settle time.Duration
	// Drain is how long to wait for deliveries after the last message.
	Drain time.Duration
	// Opening is how many connections may be opening at once in each process (128), OpenFor how long opening all of them
	// may take (60 s).
	Opening int
	OpenFor time.Duration
	// ConnectRate bounds how many connections begin in a second, in all processes together; 0 means no limit.
	ConnectRate float64
	// Stall is the part of the readers that do not read, from 0 to 1.
	Stall float64
	// Servers are the processes whose CPU time and memory are told.
	Servers []Server
	// Room is what the names of rooms begin with ("bench-").
	Room string
	// Header fields of every handshake, Hello a text that readers send first and PublishHello one that publishers do, Wrap what
	// a published text is put into: see Job.
	Header                    []string
	Hello, PublishHello, Wrap string
}

// withDefaults fills in what is not set and checks the rest.
func (p Plan) withDefaults() (Plan, error) {
	p.Rooms, p.Size, p.Opening = or(p.Rooms, 1), or(p.Size, 128), or(p.Opening, 128)
	p.Publishers = or(p.Publishers, 1)
	p.OpenFor, p.Drain, p.Settle = or(p.OpenFor, time.Minute), or(p.Drain, 10*time.Second), or(p.Settle, time.Second)
	p.Room, p.Speed = or(p.Room, "bench-"), or(p.Speed, 1)
	if len(p.PublishURLs) == 0 {
		p.PublishURLs = p.URLs
	}
	if p.Trace != nil {
		length := time.Duration(float64(p.Trace[len(p.Trace)-1].At-p.Trace[0].At)/p.Speed) + time.Millisecond
		if p.Duration == 0 || p.Warmup+p.Duration > length {
			p.Duration = length - p.Warmup
		}
	}
	return p, p.check()
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (p *Plan) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(format, args...))
	}
	streams := p.Rooms * p.Publishers
	perStream := p.Rate / float64(max(streams, 1)) * (p.Warmup + p.Duration).Seconds()
	switch {
	case len(p.URLs) == 0:
		return bad("there is no URL")
	case p.Connections < 1 || p.Connections > 10_000_000:
		return bad("connections must be from 1 to 10000000")
	case p.Rooms < 1 || p.Publishers < 1 || p.Rooms > maxStream || p.Publishers > 1000 || streams > maxStream:
		return bad("rooms must be from 1 to %d, and their publishers from 1 to 1000, together no more than that", maxStream)
	case p.Rooms > p.Connections:
		return bad("%d connections cannot fill %d rooms", p.Connections, p.Rooms)
	case p.Rate < 0 || p.Rate > 10_000_000:
		return bad("the rate must be from 0 to 10000000 messages a second")
	case perStream > maxNumber:
		return bad("a publisher sends more than %d messages", maxNumber)
	case p.ConnectRate < 0:
		return bad("the rate of connecting must not be negative")
	case p.Size < MarkerSize || p.Size > trace.MaxBytes:
		return bad("the size must be from %d bytes, the length of a marker, to %d", MarkerSize, trace.MaxBytes)
	case p.sends() && p.Duration <= 0:
		return bad("there is no time to measure; make the duration longer or the warm-up shorter")
	case p.Stall < 0 || p.Stall > 1:
		return bad("the stalled part must be from 0 to 100 %%")
	case p.Speed < 0.001 || p.Speed > 1e6:
		return bad("the speed must be from 0.001 to 1000000")
	case p.Processes < 0 || p.Processes > 1000 || p.Opening < 1:
		return bad("processes must be from 1 to 1000, and connections opening at once at least 1")
	case p.Wrap != "" && !strings.Contains(p.Wrap, "{text}"):
		return bad("what wraps a message must contain {text}")
	}
	return nil
}

// sends says whether messages are sent at all.
func (p *Plan) sends() bool { return p.Rate > 0 || p.Trace != nil }

// schedule is what the publishers send.
func (p *Plan) schedule() *Schedule {
	s := &Schedule{Streams: p.Rooms * p.Publishers, Rate: p.Rate, Size: p.Size, Length: p.Warmup + p.Duration}
	if p.Trace != nil {
		s.Trace, s.Origin, s.Speed, s.Rate = p.Trace, p.Trace[0].At, p.Speed, 0
	}
	return s
}

// jobs divides the readers and the publishers among workers that may open files files each.
func (p *Plan) jobs(ctx context.Context, files, processors int) (readers, publishers []Job, err error) {
	targets, err := resolve(ctx, p.URLs)
	if err != nil {
		return nil, nil, err
	}
	publish, err := resolve(ctx, p.PublishURLs)
	if err != nil {
		return nil, nil, err
	}
	common := Job{
		Run: uint16(rand.N(maxRun + 1)), Rooms: p.Rooms, Publishers: p.Publishers, Room: p.Room, Header: p.Header,
		Hello: p.Hello, Opening: p.Opening, OpenFor: p.OpenFor,
	}
	need := (p.Connections + files - 1) / files
	n := max(need, p.Processes)
	if p.Processes == 0 {
		n = max(need, min(processors, (p.Connections+4999)/5000))
	}
	common.Targets, common.Stall = targets, p.Stall
	common.Rate = p.ConnectRate / float64(min(n, p.Connections))
	readers = divide(common, p.Connections, n)
	if p.sends() {
		common.Targets, common.Stall, common.Wrap, common.Publish = publish, 0, p.Wrap, p.schedule()
		common.Hello = p.PublishHello
		streams := p.Rooms * p.Publishers
		common.Rate = 0
		publishers = divide(common, streams, (streams+files-1)/files)
	}
	return readers, publishers, nil
}

// divide gives n workers their parts of all connections.
func divide(common Job, connections, n int) []Job {
	n = min(n, connections)
	out := make([]Job, n)
	for i := range out {
		from, to := connections*i/n, connections*(i+1)/n
		out[i] = common
		out[i].First, out[i].Count = from, to-from
	}
	return out
}

// resolve looks the servers' addresses up, once for all connections.
func resolve(ctx context.Context, urls []string) ([]Target, error) {
	var out []Target
	for _, text := range urls {
		// {room} is replaced in the text: a brace is not for url.Parse to escape.
		u, err := url.Parse(strings.ReplaceAll(text, "{room}", roomStand))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPlan, err)
		}
		if u.Scheme != "ws" || u.Hostname() == "" {
			return nil, fmt.Errorf("%w: %q is no address of the form ws://host:port/path (TLS would measure itself: connect to the server without it)", ErrPlan, text)
		}
		port := or(u.Port(), "80")
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
		if err != nil {
			return nil, err
		}
		n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPlan, err)
		}
		address := netip.AddrPortFrom(ips[0].Unmap(), uint16(n)).String()
		path := strings.ReplaceAll(or(u.RequestURI(), "/"), roomStand, "{room}")
		out = append(out, Target{Address: address, Host: u.Host, Path: path})
	}
	return out, nil
}

const roomStand = "ROOM-GOES-HERE"
