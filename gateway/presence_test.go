package gateway

import (
	"strings"
	"testing"
)

func TestWhoIsListedWithoutAuthentication(t *testing.T) {
	w := start(t, Options{})
	plain, cf := w.dial("/ws/room"), w.dial("/connection/websocket")
	plain.welcome()
	cf.send(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"room"}}`)
	client := cf.centrifuge().Connect.Client
	cf.line()
	plain.send(`{"presence":{}}`)
	p := plain.reply().Presence
	if p == nil || len(p.Members) != 1 || p.Members[0].Client != client || p.Members[0].User != "" || p.Clients != 1 {
		t.Errorf("the client of the Centrifuge protocol is listed, and no other: %+v", p)
	}
	cf.send(`{"id":3,"presence":{"channel":"room"}}`)
	if r := cf.centrifuge().Presence; r == nil || len(r.Presence) != 1 || r.Presence[client] == nil {
		t.Errorf("and so it is for those of its kind: %+v", r)
	}
	plain.send(`{"info":{}}`)
	if got := plain.line(); !strings.Contains(got, `"members":2`) {
		t.Errorf("all are counted: %s", got)
	}
}
