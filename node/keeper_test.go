package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport"
)

func TestKeeperAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"https://vault.example:8200": true, "http://127.0.0.1:8200": true, "http://localhost:8200": true,
		"http://vault.example:8200": false, "vault.example": false, "": false, "https://user:pass@vault.example": false, "ftp://127.0.0.1": false,
	} {
		if _, err := (&Keeper{Address: addr}).client(); (err == nil) != ok {
			t.Errorf("%q: %v", addr, err)
		}
	}
	if _, err := (&Keeper{Address: "https://vault.example", CA: "absent.pem"}).client(); err == nil {
		t.Error("an absent CA was taken")
	}
}

// A token goes to the keeper and nowhere else, and no answer but a key is one.
func TestTrade(t *testing.T) {
	answer, status := "", 200
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/sys/wrapping/unwrap" || r.Header.Get("X-Vault-Token") != "hvs.once" || r.Header.Get("X-Vault-Namespace") != "lab" {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		if status == 307 {
			w.Header().Set("Location", other.URL)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	k := &Keeper{Address: s.URL, Namespace: "lab"}
	for _, tt := range []struct {
		name   string
		status int
		answer string
		kind   sallyport.Kind // "" is a key
	}{
		{"key", 200, `{"data":{"plaintext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`, ""},
		{"used", 400, `{"errors":["wrapping token is not valid or does not exist"]}`, sallyport.Denied},
		{"forbidden", 403, `{}`, sallyport.Denied},
		{"sealed", 503, `{"errors":["Vault is sealed"]}`, sallyport.Unavailable},
		{"redirect", 307, ``, sallyport.Unavailable},
		{"short", 200, `{"data":{"plaintext":"AAAA"}}`, sallyport.Damaged},
		{"no key", 200, `{"data":{}}`, sallyport.Damaged},
		{"not JSON", 200, `<html>`, sallyport.Damaged},
	} {
		answer, status = tt.answer, tt.status
		key, err := k.trade(t.Context(), "hvs.once")
		if tt.kind == "" {
			if err != nil || !strings.HasPrefix(key.Recipient(), "age1pq1") {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if sallyport.KindOf(err) != tt.kind || strings.Contains(err.Error(), "hvs.once") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if elsewhere != 0 {
		t.Error("a token was shown to another server")
	}
}
