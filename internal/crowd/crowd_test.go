package crowd

import (
	"strings"
	"testing"

	"barrage/internal/load"
)

func TestVerdicts(t *testing.T) {
	r := Report{MergeMS: 500, Load: load.Result{
		Connections: 10, Servers: []load.Use{{Name: "nodes", BytesBefore: 100, BytesIdle: 600, BytesAfter: 1100}, {Name: "redis", BytesIdle: 1e9}},
		Traffic: &load.Traffic{Account: load.Account{Expected: 50, Received: 50}, Latency: load.Quantiles{P99: 1500}},
	}}
	r.fill()
	if !r.Reached() || r.IdleBytes != 50 || r.AfterBytes != 100 {
		t.Errorf("nothing is lost, p99 is the window and 1 s, and nodes need 50 and 100 bytes for each connection, got %+v", r)
	}
	r.Load.Traffic.Latency.P99 = 1501
	if r.fill(); r.Reached() || !r.Flawless() {
		t.Error("later than that is missed, but flawless")
	}
	r.Load.Traffic.Repeated = 1
	if r.fill(); r.Flawless() {
		t.Error("a repeated delivery is a flaw")
	}
	var out strings.Builder
	if err := r.Write(&out); err != nil || !strings.Contains(out.String(), "MISSED       every message") {
		t.Errorf("the report says so, got %v\n%s", err, out.String())
	}
}

func TestAProcessCannotOpenMoreFilesThanItMay(t *testing.T) {
	_, err := Run(t.Context(), Options{Connections: 1000, Nodes: 2, Files: 600})
	if err == nil || !strings.Contains(err.Error(), "start more nodes") {
		t.Errorf("500 connections and a node's own files are more than 600, got %v", err)
	}
}
