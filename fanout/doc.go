// Package fanout sends byte logs to sockets.
//
// A Feed is a log of ready frames with members. A Member is a cursor into it: the number of the next entry its
// connection has not been given. An Outlet is the sending side of one connection. Writers walk the members of feeds that
// have grown and write everything between a cursor and the end with as few system calls as the socket allows.
//
// What it promises:
//
//   - Every member is given the entries from its cursor on, in order, each once, whole frames only, whatever the
//     socket accepts at a time. Where the bytes come from is decided by where the cursor is: the log; a Page, when the
//     log no longer holds that entry; nothing, when it is ahead of the log.
//   - Nothing here blocks on a socket. A socket that accepts no more keeps its cursor and is continued when it is
//     writable; it holds no memory of its own but the rest of one frame.
//   - Appending costs one copy of the frame and one mark per shard of 2,048 members, whatever the number of members.
//
// Lock order: Outlet.mu, Feed.mu, shard.mu; Outlet.mu, Log.mu; Writers.mu last. A Pager is called with Outlet.mu held and
// must only take note.
package fanout
