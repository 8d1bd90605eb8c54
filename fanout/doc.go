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
//   - In a feed whose entries are kept nowhere else, a member that is behind the log skips ahead to the newest entry, and is told
//     how many it will not be given.
//   - What a connection has to be given at a moment goes in one system call, of however many feeds it is a member, and a feed that
//     has much does not keep the others waiting. A frame that was begun is finished before any other.
//   - With a merge window entries of a busy feed wait for one another, no longer than that; in a quiet feed none waits.
//   - Nothing here blocks on a socket. A socket that accepts no more keeps its cursor and is continued when it is
//     writable; it holds no memory of its own but the rest of one frame.
//   - Appending costs one copy of the frame and one mark per shard of 2,048 members, whatever the number of members.
//
// Lock order: Outlet.mu, Feed.mu, shard.mu; Outlet.mu, Log.mu; merging.mu; Writers.mu last. A Pager and a Skipper are called with
// Outlet.mu held and must only take note.
package fanout
