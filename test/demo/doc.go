// Command demo plays a recorded chat at true speed into a real cluster while thousands of subscribers listen through
// nginx, kills one node half-way, and accounts for every delivery:
//
//	go run ./test/demo --trace testdata/traces/small.csv
//
// It starts PostgreSQL, Redis, the nodes and nginx on free ports, and subscribers in processes of their own. Each
// subscriber checks by offset that it has every message once and in order, over its reconnects. The program ends with
// a table, or with one JSON object, and with exit code 1 when one delivery was lost, repeated or out of order.
package main
