// Package conformance checks a WebSocket server against RFC 6455, from the outside: it sends bytes over TCP to an address that
// echoes messages, and compares what comes back. Its cases cover what the fuzzing client of the Autobahn test suite checks, and
// carry the same numbers where they check the same thing; Handshakes are opening requests, good and bad.
//
// It shares no code with the server: it has a writer and a reader of frames of its own. A case is satisfied by nothing but
// the answer that it names: the echoes in order, the close code, and then the end of the connection.
package conformance
