// Package limit says when something is too much: token buckets, tables of them that cannot grow without bound, and the limits of
// connections, users, addresses and channels that are made of them.
//
// What it promises:
//
//   - Over any time t no more than Burst + Rate·t are let through, and who keeps to Rate is never refused.
//   - A refusal says how long to wait, and who waits that long is let through, unless others were faster. It costs the one who is
//     refused nothing, except that a publish that is refused was a command.
//   - Memory is bounded: a table holds a fixed number of buckets, whoever sends from however many addresses. What it forgets when
//     it is full is the state of a bucket: that is an error in favour of a client.
//   - Nothing here blocks or has a timer; the moment is given by the caller.
package limit
