package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barrage/internal/testserver"
)

const testKey = "test-key-0123456789"

func postAPI(t *testing.T, addr, method, key, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/"+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Key", key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestTheServerAPIOfANode(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("admin "+testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--journal", "memory:", "--api-keys-file", keys)
	if status, body := postAPI(t, s.addr, "publish", testKey, `{"channel":"room","data":"hello"}`); status != http.StatusOK || !strings.HasPrefix(body, `{"result":{"offset":1,"epoch":"`) {
		t.Errorf("a publish is stored, not answered by %d %s", status, body)
	}
	if status, body := postAPI(t, s.addr, "publish", testKey, `{"channel":"room","data":"`+strings.Repeat("x", 1<<20)+`"}`); status != http.StatusOK || !strings.Contains(body, `"offset":2`) {
		t.Errorf("a large body arrives, but the answer is %d %s", status, body)
	}
	if _, body := s.get("/metrics"); !strings.Contains(body, `barrage_api_commands_total{method="publish",outcome="ok"} 2`) {
		t.Error("/metrics counts commands of the server API")
	}
	if status, _ := s.get("/api/docs"); status != http.StatusOK {
		t.Errorf("the page of the API is served, but got %d", status)
	}
	// Keys are withdrawn without a restart.
	const other = "other-key-0123456789"
	if err := os.WriteFile(keys, []byte("read "+other+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		old, _ := postAPI(t, s.addr, "history", testKey, `{"channel":"room"}`)
		now, _ := postAPI(t, s.addr, "history", other, `{"channel":"room"}`)
		if old == http.StatusUnauthorized && now == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a changed file of keys is in force within seconds, but the old key got %d and the new one %d", old, now)
		}
	}
	s.stop()
	if strings.Contains(s.stderr.String(), testKey) || strings.Contains(s.stderr.String(), other) {
		t.Error("keys are never logged")
	}
}

func TestTheServerAPIOnItsOwnAddress(t *testing.T) {
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s := serve(t, "--journal", "memory:", "--api-keys", "test:admin:"+testKey, "--api-listen", addr)
	if status, body := postAPI(t, addr, "publish", testKey, `{"channel":"room","data":1}`); status != http.StatusOK {
		t.Errorf("the API is served on its own address, not %d %s", status, body)
	}
	if status, _ := postAPI(t, s.addr, "publish", testKey, `{"channel":"room","data":1}`); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		t.Errorf("with an address of its own the API is not on the public one, but that answers %d", status)
	}
	if status, _ := s.get("/api/docs"); status != http.StatusNotFound {
		t.Errorf("nor is its page, but the public address answers %d", status)
	}
	s.stop()
}

func TestTheServerAPIIsClosedByDefault(t *testing.T) {
	s := serve(t, "--journal", "memory:")
	if status, body := postAPI(t, s.addr, "publish", "", `{"channel":"room","data":1}`); status != http.StatusForbidden || !strings.Contains(body, "set api.keys") {
		t.Errorf("without keys the API is closed and says which setting opens it, not %d %s", status, body)
	}
	s.stop()
}
