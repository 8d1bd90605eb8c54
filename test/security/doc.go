// Package security attacks a node, from outside and with what its clients have. Each test is named after one attack, and
// docs/security.md lists them all; a test here holds the two together.
package security
