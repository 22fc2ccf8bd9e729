package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/internal/testkit"
	"sallyport/seal/vault"
)

// vaultServer is a real Vault, set up as docs/vault.md says.
type vaultServer struct {
	Address   string `json:"address"`
	Token     string `json:"token"`
	UnsealKey string `json:"unseal_key"`

	root *api.Client
}

func startVault(t *testing.T, dir string) *vaultServer {
	t.Helper()
	c := exec.Command(testkit.Tool(t, "vault"), "-listen", "127.0.0.1:0")
	in, err := c.StdinPipe() // its end ends the server
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = c.Wait() })
	s := &vaultServer{}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.root, err = api.NewClient(&api.Config{Address: s.Address}); err != nil {
		t.Fatal(err)
	}
	s.root.SetToken(s.Token)
	policy, err := vault.Policy("gateway", vault.Config{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, data map[string]any) map[string]any {
		t.Helper()
		res, err := s.root.Logical().Write(path, data)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if res == nil {
			return nil
		}
		return res.Data
	}
	if m, err := s.root.Sys().ListMounts(); err == nil && m["transit/"] == nil {
		write("sys/mounts/transit", map[string]any{"type": "transit"})
	}
	if m, err := s.root.Sys().ListAuth(); err == nil && m["approle/"] == nil {
		write("sys/auth/approle", map[string]any{"type": "approle"})
	}
	write("transit/keys/sallyport-derive", map[string]any{"type": "aes256-gcm96"})
	write("transit/keys/sallyport-sign-checkpoint", map[string]any{"type": "ed25519"})
	write("transit/keys/sallyport-sign-policy", map[string]any{"type": "ed25519"})
	write("transit/keys/sallyport-sign-review", map[string]any{"type": "ed25519"})
	if err := s.root.Sys().PutPolicy("sallyport-gateway", policy); err != nil {
		t.Fatal(err)
	}
	write("auth/approle/role/sallyport", map[string]any{"token_policies": "sallyport-gateway", "token_no_default_policy": true, "token_ttl": "20m"})
	role, err := s.root.Logical().Read("auth/approle/role/sallyport/role-id")
	if err != nil {
		t.Fatal(err)
	}
	secret := write("auth/approle/role/sallyport/secret-id", nil)
	for name, v := range map[string]any{"vault-role-id": role.Data["role_id"], "vault-secret-id": secret["secret_id"]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v.(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *vaultServer) releaseKeys(t *testing.T) int {
	t.Helper()
	list, err := s.root.Logical().List("transit/keys")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range list.Data["keys"].([]any) {
		if strings.HasPrefix(k.(string), "sallyport-release-") {
			n++
		}
	}
	return n
}

// startS3 is a real S3 server over a folder, with one bucket.
func startS3(t *testing.T, dir, bucket string) (endpoint string) {
	t.Helper()
	bin := testkit.Tool(t, "versitygw")
	root := filepath.Join(dir, "s3server")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	endpoint = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c := exec.Command(bin, "--port", endpoint, "--access", "AKTEST", "--secret", "SKTESTSKTEST", "--region", "us-east-1", "--keep-alive", "--quiet", "posix", root)
	dieWithParent(c)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	l := &lab{t: t}
	l.await("the S3 server", func() bool {
		conn, err := net.DialTimeout("tcp", endpoint, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	m, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4("AKTEST", "SKTESTSKTEST", ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"patients.csv", "genotypes.csv"} {
		if _, err := m.FPutObject(t.Context(), bucket, f, filepath.Join(dir, "data", f), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return endpoint
}

// TestOnRealVaultAndS3 takes a job through both doors with its keys in a real
// Vault and its data in a real S3 server; then Vault is sealed and opened again.
func TestOnRealVaultAndS3(t *testing.T) {
	l := newLab(t)
	v := startVault(t, l.dir)
	endpoint := startS3(t, l.dir, "lab-data")
	if err := os.WriteFile(filepath.Join(l.dir, "s3-credentials.yaml"), []byte("access_key: AKTEST\nsecret_key: SKTESTSKTEST\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.dir, "sallyport.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for old, new := range map[string]string{
		"  data:\n    kind: dir\n    path: data\n": "  data:\n    kind: s3\n    endpoint: " + endpoint + "\n    bucket: lab-data\n    secure: false\n    credentials_file: s3-credentials.yaml\n",
		"issuer:\n  kind: keyfile\n  dir: keys\n":  "issuer:\n  kind: vault\n  address: " + v.Address + "\n  auth:\n    approle:\n      role_id_file: vault-role-id\n      secret_id_file: vault-secret-id\n",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the configuration has no %q", old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if l.cfg, err = loadConfig(file); err != nil {
		t.Fatal(err)
	}
	c := l.start("")
	l.submit(c, "inside", "genotypes", "")
	var job gateway.Job
	ended := func(id string) func() bool {
		return func() bool {
			job, err = c.Job(t.Context(), sallyport.JobID(id))
			return err == nil && job.State.Final()
		}
	}
	l.await("the job", ended("inside"))
	if job.State != gateway.Done {
		t.Fatalf("%s: %v %s", job.State, job.Reasons, job.Hint)
	}
	if n := v.releaseKeys(t); n != 0 {
		t.Errorf("%d release keys are left in Vault", n)
	}

	// Outside, nodes that reach Vault are handed a token, good once, and no key.
	l.nodes(c, "--vault", v.Address)
	l.submit(c, "burst", "patients", sallyport.Outside)
	l.await("the job outside", ended("burst"))
	handed := ""
	for _, s := range job.Steps {
		if s.Name == "hand over" {
			handed = s.Say
		}
	}
	if job.State != gateway.Done || len(job.Nodes) != 2 || !strings.HasPrefix(handed, "token for the key wrapped to") {
		t.Errorf("%s %v %v, handed over: %s", job.State, job.Nodes, job.Reasons, handed)
	}

	// Sealed: the log's key does not sign, so nothing is done. Unsealed: it goes on.
	if err := v.root.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	l.submit(c, "waits", "genotypes", "")
	for e, err := range c.Events(t.Context(), "waits") {
		if err != nil || e.Step == "end" {
			t.Fatalf("with Vault sealed the job came to %+v, %v", e, err)
		}
		if strings.HasPrefix(e.Text, "waits: ") {
			break
		}
	}
	if job, err = c.Job(t.Context(), "waits"); err != nil || job.State.Final() {
		t.Errorf("with Vault sealed the job is %s %v, %v", job.State, job.Reasons, err)
	}
	if _, err := v.root.Sys().Unseal(v.UnsealKey); err != nil {
		t.Fatal(err)
	}
	l.await("the job that waited", ended("waits"))
	if job.State != gateway.Done {
		t.Errorf("%s: %v %s", job.State, job.Reasons, job.Hint)
	}
	l.stop()
	l.noPlaintextOutside("s3server")
	if got, err := audit.Verify(l.cfg.path(l.cfg.Audit), audit.VerifyOptions{}); err != nil || !got.Whole {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "keys")); err == nil {
		t.Error("there is a folder of keys beside Vault")
	}
}
