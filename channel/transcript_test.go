package channel

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"barrage/journal"
	"barrage/proto"
)

var update = flag.Bool("update", false, "write what happens into testdata")

// TestTranscripts plays the stories in testdata: each line is a command, the indented lines after it are what the nodes did.
//
//	open NODE…          the nodes read where the journal stands, or stood when they say NODE@OFFSET
//	publish N [SIZE]    the journal stores N messages, which set off to all nodes
//	drop NODE RANGE     these never arrive
//	hear NODE [RANGE]   these arrive, in this order; without a range all that are under way
//	stale NODE OFFSET   a message of another epoch arrives
//	head NODE [OFFSET]  a head is told; without an offset the journal's
//	tick DURATION       time passes; nodes are woken when they asked to be
//	read NODE           the page that the node asked for is read, but does not arrive yet
//	answer NODE         the page arrives; it is read now if it was not before
//	fail NODE           the fetch fails
//	trim OFFSET         the journal removes the messages up to this one
//	back OFFSET         the journal loses the messages after this one
//	replace N           another journal with N messages takes its place
//
// A range is 3..5, or 3; several are separated by blanks.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(b))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(b) {
				t.Errorf("%s tells another story than the code, which is:\n%s", file, got)
			}
		})
	}
}

// script is a journal and the nodes that follow it.
type script struct {
	t       *testing.T
	out     strings.Builder
	now     time.Time
	epoch   int
	oldest  proto.Offset
	journal []proto.Message
	nodes   map[string]*actor
	names   []string
}

// actor is one node.
type actor struct {
	seq  Sequencer
	way  []proto.Message // to it
	from proto.Offset    // of the fetch under way; 0 without one
	page *journal.Page   // that was read for it
	wake time.Time
}

func play(t *testing.T, text string) string {
	s := &script{t: t, now: noon, oldest: 1, epoch: 1, nodes: map[string]*actor{}}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		s.out.WriteString(line)
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(line, "#") {
			s.command(words[0], words[1:])
		}
	}
	return s.out.String()
}

func (s *script) lifeName() proto.Epoch { return proto.Epoch(fmt.Sprintf("e%d", s.epoch)) }

func (s *script) head() proto.Offset { return proto.Offset(len(s.journal)) }

func (s *script) command(what string, args []string) {
	switch what {
	case "publish":
		s.publish(args)
	case "trim":
		s.oldest = s.number(args[0]) + 1
	case "back":
		s.journal = s.journal[:s.number(args[0])]
	case "replace":
		s.epoch, s.oldest, s.journal = s.epoch+1, 1, messages(run(1, s.number(args[0]))...)
	case "tick":
		s.tick(args[0])
	case "open":
		for _, arg := range args {
			name, at, old := strings.Cut(arg, "@")
			p := proto.Position{Epoch: s.lifeName(), Offset: s.head()}
			if old {
				p.Offset = s.number(at)
			}
			s.tell(name, s.node(name).seq.Open(s.now, p))
		}
	default:
		s.one(what, args[0], s.node(args[0]), args[1:])
	}
}

// one is a command for one node.
func (s *script) one(what, name string, n *actor, args []string) {
	switch what {
	case "drop":
		s.take(n, args)
	case "hear":
		s.tell(name, n.seq.Entries(s.now, s.lifeName(), s.take(n, args)))
	case "stale":
		s.tell(name, n.seq.Entries(s.now, "stale", messages(s.number(args[0]))))
	case "head":
		at := s.head()
		if len(args) > 0 {
			at = s.number(args[0])
		}
		s.tell(name, n.seq.Head(s.now, proto.Position{Epoch: s.lifeName(), Offset: at}))
	case "read":
		n.page = s.read(name, n)
	case "answer":
		page := n.page
		if page == nil {
			page = s.read(name, n)
		}
		n.from, n.page = 0, nil
		s.tell(name, n.seq.Fetched(s.now, *page))
	case "fail":
		n.from, n.page = 0, nil
		s.tell(name, n.seq.FetchFailed(s.now))
	default:
		s.t.Fatalf("a transcript has the unknown command %q", what)
	}
}

func (s *script) node(name string) *actor {
	n := s.nodes[name]
	if n == nil {
		n = &actor{}
		s.nodes[name] = n
		s.names = append(s.names, name)
	}
	return n
}

func (s *script) number(word string) proto.Offset {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		s.t.Fatalf("a transcript has %q where a number belongs", word)
	}
	return proto.Offset(n)
}

func (s *script) publish(args []string) {
	size := 1
	if len(args) > 1 {
		size = int(s.number(args[1]))
	}
	first := s.head() + 1
	for o := first; o < first+s.number(args[0]); o++ {
		s.journal = append(s.journal, proto.Message{Offset: o, Data: make([]byte, size)})
	}
	for _, n := range s.nodes {
		n.way = append(n.way, s.journal[first-1:]...)
	}
}

// take returns the messages of these ranges, or all, and takes them from the node's way. What had arrived before arrives again.
func (s *script) take(n *actor, args []string) (taken []proto.Message) {
	if len(args) == 0 {
		taken, n.way = n.way, nil
		return taken
	}
	for _, arg := range args {
		a, b, several := strings.Cut(arg, "..")
		if !several {
			b = a
		}
		taken = append(taken, s.journal[s.number(a)-1:s.number(b)]...)
	}
	n.way = slices.DeleteFunc(n.way, func(m proto.Message) bool {
		return slices.ContainsFunc(taken, func(o proto.Message) bool { return o.Offset == m.Offset })
	})
	return taken
}

func (s *script) read(name string, n *actor) *journal.Page {
	if n.from == 0 {
		s.t.Fatalf("a transcript answers %s, which has asked for nothing", name)
	}
	p := &journal.Page{Epoch: s.lifeName(), Head: s.head()}
	size := 0
	for o := max(n.from, s.oldest); o <= p.Head && len(p.Messages) < journal.MaxPage && size < journal.DefaultMaxSize; o++ {
		p.Messages = append(p.Messages, s.journal[o-1])
		size += s.journal[o-1].Size()
	}
	return p
}

// tick lets time pass and wakes the nodes that want it, in order of time.
func (s *script) tick(word string) {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	for end := s.now.Add(d); ; {
		next := ""
		for _, name := range s.names {
			if w := s.nodes[name].wake; !w.IsZero() && !w.After(end) && (next == "" || w.Before(s.nodes[next].wake)) {
				next = name
			}
		}
		if next == "" {
			s.now = end
			return
		}
		n := s.nodes[next]
		s.now, n.wake = n.wake, time.Time{}
		s.tell(next, n.seq.Tick(s.now))
	}
}

// tell writes down what a node does.
func (s *script) tell(name string, v Verdict) {
	n := s.nodes[name]
	line := v.String()
	if !v.Wake.IsZero() {
		if n.wake = v.Wake; line != "" {
			line += "; "
		}
		line += fmt.Sprintf("wake in %v", v.Wake.Sub(s.now))
	}
	if v.Fetch {
		if n.from != 0 {
			s.t.Fatalf("%s asks for a second page while one is under way", name)
		}
		n.from = v.From
	}
	if line != "" {
		fmt.Fprintf(&s.out, "  %s: %s\n", name, line)
	}
}
