package main

import (
	"encoding/base64"
	"testing"
)

func TestClaimsArePeekedAtByTheirExactNames(t *testing.T) {
	claims := `{"sub":"alice","SUB":"x","ſub":"x","channel":"room","Channel":"x","client":"c","CLIENT":"x"}`
	p, err := peek("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".")
	if err != nil {
		t.Fatal(err)
	}
	if p.user != "alice" || p.channel == nil || *p.channel != "room" || p.client != "c" {
		t.Errorf("a token is verified for what the claims sub, channel and client say, got %+v", p)
	}
	p, err = peek("e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"Channel":"x","sub":7}`)) + ".")
	if err != nil || p.channel != nil || p.user != "" {
		t.Errorf("claims that are not there are left out, got %+v, %v", p, err)
	}
}
