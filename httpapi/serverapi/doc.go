// Package serverapi is the API through which an application's own servers publish, read history, look after users and see the
// cluster: POST /api/METHOD with one JSON object, or POST /api with commands on lines. Its names are those of Centrifugo's server
// API, so that existing SDKs work.
//
// What it promises:
//
//   - A publish is answered after the journal has committed it, with its offset. One with an idempotency key that the channel holds is
//     answered with the first one's offset and stored once, however often and through whichever node it is sent.
//   - Publishes of one request are stored in their order. Each command succeeds or fails for itself.
//   - Nothing is answered without an API key whose scope allows it, and without any key configured nothing at all. No answer
//     allows another origin to read it.
//   - Bodies, commands, channels, answers and requests under way are bounded. A request ends after a timeout, or when its
//     client is gone; commands under way then go on, and nobody hears of them.
//
// One table of methods routes, documents (OpenAPI), counts and tests the API: see methods.go.
package serverapi

//go:generate go run ../../cmd/barrage openapi --output ../../docs/openapi.json
