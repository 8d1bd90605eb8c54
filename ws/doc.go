// Package ws is the WebSocket protocol (RFC 6455) over bytes: the handshake, frames, and messages put together from
// input that is cut anywhere. Bytes in, values out: no I/O, no clock, no goroutine.
//
// An Assembler enforces everything that the RFC asks of a receiver, and promises bounds: it holds nothing while no
// frame or message is incomplete, never more than the bytes that have arrived, and at most one message of the largest
// size allowed; neither a declared length nor any number of fragments makes it hold more. Messages come out in the
// order in which their last frames came in, control frames between them and between their fragments where they stood.
//
// Violations are errors of type proto.Close: the close code and a sentence to end the connection with.
//
// permessage-deflate (RFC 7692) is the one extension: AcceptDeflate negotiates it, Rules.Deflate makes an Assembler inflate,
// DeflateFrame deflates. Messages never refer to earlier ones, so that no window is kept. Inflating is bounded by the largest
// message as it goes on, whatever the payload says.
package ws
