// Package auth says who a client is and what it may do: tokens become an Identity, and a Policy decides what an identity may do in
// a channel.
//
// What it promises:
//
//   - Nothing of a token is used before its signature has been verified: neither to find a key elsewhere, nor in a log.
//   - Deciding and verifying never block: keys are in memory, and are fetched and renewed beside.
//   - What no rule allows is refused.
package auth
