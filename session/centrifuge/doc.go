// Package centrifuge is one client of the Centrifuge client protocol, version 2, in JSON or Protobuf (PROTOCOL.md): what its commands
// ask for, and what it is answered, over WebSockets or in the body of an answer that has no end; or, for a client that only listens, what
// it connects with. One client is a member of any number of channels. It does no I/O: messages come in, calls to the
// backend and frames for the outlet go out.
//
// What it promises:
//
//   - The reply to a subscribe goes out before the first publication of the channel, and the reply to connect before those of the
//     channels that the server has subscribed the client to.
//   - Recovery has no limit but what the journal keeps: the publications after the client's position follow as pushes, in order, none
//     left out and none repeated. When they cannot, the client is told so and begins at the head.
//   - A publication is encoded once for each channel, encoding and framing, however many clients are given it.
//   - At most session.Limit commands are under way, none before the client is connected, and none is taken while half of what the
//     outlet may hold waits to be read; Full says so, and the caller keeps what it has until Connection.Resume. So answers do not end a
//     session, however slowly they are read.
//
// A client that only listens is not given Message but Connect, once. Message is called by one goroutine at a time; everything else may come from any. The backend is never called with a session
// locked, and what it calls back under a channel's lock calls nothing of it. Lock order: the channel, the session, the outlet.
package centrifuge
