// Package stress holds the test that treats a node as badly as clients can, at random and all at once, and then demands that
// nothing is left of them: no connection, member, channel, goroutine or descriptor, and no memory.
//
// BARRAGE_STRESS is how long it goes on, such as 3m; BARRAGE_STRESS_SEED repeats the choices of an earlier run, though not
// their timing. make stress runs it for minutes under the race detector.
package stress
