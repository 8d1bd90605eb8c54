package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"barrage/config"
	"barrage/gateway"
	"barrage/httpapi/serverapi"
)

func TestServeAnswersToNamesAsTheSettingsSay(t *testing.T) {
	t.Parallel()
	secret := []string{"--auth-secret", "a-secret-of-tests"}
	for _, tt := range []struct {
		name string
		args []string
		want map[string]int // by host, of /
	}{
		{"without settings", nil, map[string]int{"localhost": 200, "127.0.0.1:8000": 200, "chat.example": 421}},
		{"with an origin", []string{"--origins", "https://chat.example"}, map[string]int{"chat.example": 200, "other.example": 421}},
		{"with all origins", []string{"--origins", "*"}, map[string]int{"chat.example": 200}},
		{"with a secret", secret, map[string]int{"chat.example": 200}},
		{"that is open", []string{"--open"}, map[string]int{"chat.example": 200}},
	} {
		s := serve(t, append([]string{"--journal", "memory:"}, tt.args...)...)
		for host, want := range tt.want {
			for path, status := range map[string]int{"/": want, "/healthz": 200, "/readyz": 200} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = host
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != status {
					t.Errorf("a node %s answers a request for %s of %s with %d, not %s", tt.name, path, host, status, resp.Status)
				}
			}
		}
		s.stop()
	}
}

// The server API may have an address of its own, where its keys are what counts if other machines reach it.
func TestNamesOfTheServerAPIsOwnAddress(t *testing.T) {
	cfg := config.Default()
	for _, tt := range []struct {
		listen, host string
		want         int
	}{
		{"127.0.0.1:9000", "evil.example:9000", http.StatusMisdirectedRequest},
		{"127.0.0.1:9000", "localhost:9000", http.StatusOK},
		{"10.0.0.1:9000", "node.internal:9000", http.StatusOK},
	} {
		cfg.API.Listen = tt.listen
		s := &server{cfg: cfg}
		s.gateway = gateway.New(gateway.Options{Hosts: s.hosts()})
		r := httptest.NewRequest(http.MethodGet, "/api/openapi.json", nil)
		r.Host = tt.host
		answer := httptest.NewRecorder()
		s.apiHandler(serverapi.New(serverapi.Options{})).ServeHTTP(answer, r)
		if answer.Code != tt.want {
			t.Errorf("on %s a request for %s is answered with %d, not %d", tt.listen, tt.host, tt.want, answer.Code)
		}
		s.gateway.Shutdown(t.Context())
	}
}
