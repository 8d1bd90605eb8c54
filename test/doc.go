// Package test holds the whole-system tests: real processes, as a user runs them, with Redis, PostgreSQL, nginx and a
// real browser, and faults. They carry the build tag system and run with make test.
//
// Its other files are the instruments: a WebSocket client that is independent of package client, publishers and
// subscribers that go on through faults, and an account that says precisely what was lost, repeated or out of order.
package test
