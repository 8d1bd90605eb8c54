// Package load is a load generator for WebSocket servers: many connections in rooms, messages published at a true schedule,
// and an account of every delivery.
//
// It works with every server that lets a text that one connection sends come out at the other connections of its room,
// wherever in a text frame: each message begins with a Marker, which says to which run and stream it belongs, which number in
// the stream it has, and when it was due. What is told is therefore exact: how many deliveries were expected, received,
// lost, repeated and out of order, and how long each took from the moment when it was due, whatever delayed it (the generator
// included).
//
// The work is done by worker processes, each with one epoll loop that reads all of its connections into one buffer; there
// is no goroutine and no buffer per connection. A coordinator (Run) starts the workers, tells them when to begin and end, reads
// the server's CPU time and memory at the same moments, and adds up. All processes of a machine share CLOCK_MONOTONIC, which
// is what makes times of different workers comparable. It needs Linux.
package load
