// Package proto holds what a channel carries and how it is written: messages, positions, names,
// codes, and their encodings. Bytes in, values out: no I/O, no clock, no goroutine.
package proto
