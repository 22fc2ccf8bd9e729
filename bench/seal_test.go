package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport"
	"sallyport/bench"
	"sallyport/internal/testkit"
	"sallyport/seal/vault"
)

func TestSealOptionsAreChecked(t *testing.T) {
	for _, o := range []bench.SealOptions{{}, {Size: 1, Runs: 1, Reads: 1}, {Size: 1, Runs: -1, Reads: 1, Keys: 1}} {
		if _, err := bench.Seal(t.Context(), o); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestSealOnVault measures keys on a real Vault, and finds none of them there
// afterwards.
func TestSealOnVault(t *testing.T) {
	address, token := startVault(t)
	call := func(method, path string, body string) []byte {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, address+"/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	call(http.MethodPost, "sys/mounts/transit", `{"type":"transit"}`)
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	figures, err := bench.Seal(t.Context(), bench.SealOptions{Size: 1, Runs: 1, Reads: 1, Keys: 2, Dir: dir, Progress: &progress,
		Vault: &vault.Config{Address: address, Auth: vault.Auth{TokenFile: file}}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bench.Figure{}
	for _, f := range figures {
		got[f.Figure] = f
	}
	for _, step := range []string{"issue", "fetch", "wrap to a node", "destroy"} {
		if f := got["key "+step+", Vault"]; f.Value <= 0 || f.Peer != "key file issuer" || f.PeerValue <= 0 {
			t.Errorf("%s: %+v", step, f)
		}
	}
	if f := got["key hand over by token, Vault"]; f.Value <= 0 || f.Peer != "" {
		t.Errorf("hand over: %+v", f)
	}
	if strings.Contains(progress.String(), "no Vault") {
		t.Errorf("progress denies the Vault: %s", progress.String())
	}
	if keys := call("LIST", "transit/keys", ""); !bytes.Contains(keys, []byte(`"errors":[]`)) {
		t.Errorf("keys are left in Vault: %s", keys)
	}
}

func startVault(t *testing.T) (address, token string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Tool(t, "vault"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var hello struct{ Address, Token string }
	if err := json.Unmarshal(line, &hello); err != nil {
		t.Fatal(err)
	}
	return hello.Address, hello.Token
}
