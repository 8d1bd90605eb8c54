package load

import (
	"strconv"
	"strings"
	"time"
)

// maxLine bounds a line between coordinator and worker, in bytes.
const maxLine = 64 << 20

// Job is what one worker does; it is the first line that a worker reads.
type Job struct {
	// Run marks this run's messages.
	Run uint16 `json:"run"`
	// First and Count choose this worker's connections among all readers, or among all publishers. Number n of either is in
	// room n modulo Rooms.
	First int `json:"first"`
	Count int `json:"count"`
	Rooms int `json:"rooms"`
	// Publishers is how many connections publish into each room; publisher number n sends stream n.
	Publishers int `json:"publishers"`
	// Targets are the servers that the connections are spread over.
	Targets []Target  `json:"targets"`
	Publish *Schedule `json:"publish,omitempty"`
	// Room is what the names of rooms begin with; their number follows.
	Room   string   `json:"room"`
	Header []string `json:"header,omitempty"`
	// Hello is a text to send once a connection is open; {room} stands for the room.
	Hello string `json:"hello,omitempty"`
	// Wrap is what a published message is put into: {text} stands for the message, {room} for the room.
	Wrap string `json:"wrap,omitempty"`
	// Opening is how many connections may be under way at once.
	Opening int `json:"opening"`
	// Rate is how many attempts to connect may begin in a second; 0 means no limit.
	Rate float64 `json:"rate,omitempty"`
	// OpenFor is how long all connections together may take to open.
	OpenFor time.Duration `json:"open_for"`
	// Stall is the part of the readers that do not read, from 0 to 1.
	Stall float64 `json:"stall,omitempty"`
}

// Target is a server.
type Target struct {
	// Address to connect to: an IP address and a port.
	Address string `json:"address"`
	// Host field of the request.
	Host string `json:"host"`
	// Path and query of the request; {room} stands for the room.
	Path string `json:"path"`
}

// order is what a worker is told after its job, one at a time.
type order struct {
	Connect bool    `json:"connect,omitempty"`
	Begin   *window `json:"begin,omitempty"`
	Finish  *finish `json:"finish,omitempty"`
}

// window holds times of CLOCK_MONOTONIC in nanoseconds: messages are sent from From to To, and measured from Measure on.
type window struct {
	From    int64 `json:"from"`
	Measure int64 `json:"measure"`
	To      int64 `json:"to"`
}

// finish says that everything was sent: how many messages by stream, and until when to wait for them.
type finish struct {
	Sent  []int32 `json:"sent"`
	Until int64   `json:"until"`
}

// event is what a worker tells.
type event struct {
	Ready     bool      `json:"ready,omitempty"`
	Progress  *progress `json:"progress,omitempty"`
	Connected *opened   `json:"connected,omitempty"`
	Sent      *sent     `json:"sent,omitempty"`
	Done      *outcome  `json:"done,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// progress is how far a worker is, for people.
type progress struct {
	Open     int   `json:"open"`
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
}

// opened is what connecting took: first and last in nanoseconds of CLOCK_MONOTONIC.
type opened struct {
	First int64     `json:"first"`
	Last  int64     `json:"last"`
	Retry int       `json:"retry"`
	Took  Histogram `json:"took"`
}

// sent is what a publisher sent.
type sent struct {
	First int `json:"first"`
	// Counts of messages by stream, from First on.
	Counts []int32 `json:"counts"`
	// Measured counts those that were due while measuring.
	Measured int64 `json:"measured"`
	// Unsent counts messages that were due while the server took none for so long that the generator's own buffer was full.
	Unsent int64     `json:"unsent"`
	Late   Histogram `json:"late"`
}

// outcome is what a worker counted.
type outcome struct {
	Account Account `json:"account"`
	// Measured counts deliveries that arrived while measuring; Latency holds those of messages that were due in that time.
	Measured int64     `json:"measured"`
	Latency  Histogram `json:"latency"`
	// Echoes counts deliveries to publishers, which count nowhere else, while measuring.
	Echoes int64 `json:"echoes"`
	// Closed counts connections that ended early, Stalled those that do not read.
	Closed  int    `json:"closed"`
	Reason  string `json:"reason,omitempty"`
	Stalled int    `json:"stalled"`
	// Dropped counts stalled connections that the server ended; of the others, which read at the end, CaughtUp those that
	// had missed nothing then, Skipped those that had, and Missed how many messages.
	Dropped  int   `json:"dropped"`
	CaughtUp int   `json:"caught_up"`
	Skipped  int   `json:"skipped"`
	Missed   int64 `json:"missed"`
	// CPU that this worker used while measuring.
	CPU time.Duration `json:"cpu"`
}

// room is the number of the room of connection i of this worker.
func (j *Job) room(i int) int { return (j.First + i) % j.Rooms }

// target is the server of connection i of this worker: readers and publishers of each room are spread over all servers.
func (j *Job) target(i int) int {
	n := (j.First + i) / j.Rooms
	if j.Publish != nil {
		n += j.room(i)
	}
	return n % len(j.Targets)
}

// stream tells whether connection i of this worker is to receive a stream, and which of its room's streams that is.
func (j *Job) stream(i int, stream int32) (place int, ok bool) {
	place = int(stream) / j.Rooms
	return place, int(stream)%j.Rooms == j.room(i) && place < j.Publishers
}

// stalled says whether connection i of this worker does not read; these are spread evenly.
func (j *Job) stalled(i int) bool {
	n := float64(j.First + i)
	return j.Publish == nil && int((n+1)*j.Stall) > int(n*j.Stall)
}

func (j *Job) roomName(i int) string { return j.Room + strconv.Itoa(j.room(i)) }

// fill replaces {room} in a template.
func (j *Job) fill(template string, i int) string {
	return strings.ReplaceAll(template, "{room}", j.roomName(i))
}

// request is the opening handshake of connection i.
func (j *Job) request(i int, key string) []byte {
	t := j.Targets[j.target(i)]
	b := []byte("GET " + j.fill(t.Path, i) + " HTTP/1.1\r\nHost: " + t.Host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n")
	for _, h := range j.Header {
		b = append(b, h...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// wrap gives what is published for a text. The text is in JSON's alphabet only where the template quotes it.
func (j *Job) wrap(text []byte, i int) []byte {
	if j.Wrap == "" {
		return text
	}
	before, after, _ := strings.Cut(j.fill(j.Wrap, i), "{text}")
	return append(append([]byte(before), text...), after...)
}
