// Package presence tests who is in a channel with nodes that are processes of their own, on a real Redis.
package presence
