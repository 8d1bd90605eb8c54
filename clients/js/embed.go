// Package js holds the JavaScript client of /ws, which is published as the npm package barrage-client, for those who serve it
// to browsers: the live room imports the very file that is published.
//
// The client is one ES module without dependencies and without a build step; its types are generated from its comments by
// `npm run types`. It is tested by `node --test test/*.test.mjs` in this folder and, with a real node, by the Go tests with the
// tag "system".
package js

import _ "embed"

//go:embed barrage.js
var module string

// Module returns the text of the ES module barrage.js.
func Module() string { return module }
