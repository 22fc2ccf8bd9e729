package vault

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport"
	"sallyport/internal/testkit"
	"sallyport/seal"
)

// server is a real Vault process.
type server struct {
	Address   string `json:"address"`
	Token     string `json:"token"`
	UnsealKey string `json:"unseal_key"`

	bin, dir string
	cmd      *exec.Cmd
	stdin    io.Closer
	root     *api.Client
}

func startServer(bin, dir, listen string) (*server, error) {
	args := []string{"-listen", listen}
	if dir != "" {
		args = append(args, "-dir", dir)
	}
	s := &server{bin: bin, dir: dir, cmd: exec.Command(bin, args...)}
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil { // its end ends the server, however the test ends
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.cmd.Wait())
	}
	s.root, err = clientOf(s.Address, s.Token)
	return s, err
}

// crash ends the process without a word.
func (s *server) crash(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait()
}

// again starts a new process on what the old one kept, at the same address.
func (s *server) again(t *testing.T) {
	t.Helper()
	n, err := startServer(s.bin, s.dir, strings.TrimPrefix(s.Address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.cmd.Process.Kill(); n.cmd.Wait() })
	*s = *n
}

func clientOf(address, token string) (*api.Client, error) {
	c, err := api.NewClient(&api.Config{Address: address, HttpClient: &http.Client{Transport: &http.Transport{}}})
	if err == nil {
		c.SetToken(token)
	}
	return c, err
}

var shared struct {
	sync.Once
	*server
	err error
}

// sharedServer is one Vault in memory for all tests that leave it as it is.
func sharedServer(t *testing.T) *server {
	t.Helper()
	bin := testkit.Tool(t, "vault")
	shared.Do(func() { shared.server, shared.err = startServer(bin, "", "127.0.0.1:0") })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// ownServer is a Vault of the test's own, which keeps what it has on disk.
func ownServer(t *testing.T) *server {
	t.Helper()
	bin := testkit.Tool(t, "vault")
	s, err := startServer(bin, t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	return s
}

func (s *server) write(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	answer, err := s.root.Logical().Write(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// releaseKeys lists the keys of releases that Vault has under this prefix.
func (s *server) releaseKeys(t *testing.T, prefix string) []string {
	t.Helper()
	answer, err := s.root.Logical().List("transit/keys")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	if answer != nil {
		for _, k := range answer.Data["keys"].([]any) {
			if id, ok := strings.CutPrefix(k.(string), prefix+"release-"); ok {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return out
}

var sites atomic.Int64

// site is a gateway's place in a Vault: what docs/vault.md has an operator set up.
type site struct {
	*server
	cfg  Config
	role string
	dir  string // for secrets and leases
}

func newSite(t *testing.T, s *server) *site {
	t.Helper()
	n := sites.Add(1)
	st := &site{server: s, role: fmt.Sprintf("gateway-%d", n), dir: t.TempDir()}
	st.cfg = Config{Address: s.Address, Prefix: fmt.Sprintf("site%d-", n), Timeout: time.Minute,
		Auth: Auth{AppRole: &AppRole{RoleIDFile: filepath.Join(st.dir, "role"), SecretIDFile: filepath.Join(st.dir, "secret")}}}
	mounts, err := s.root.Sys().ListMounts()
	if err != nil {
		t.Fatal(err)
	}
	if mounts["transit/"] == nil {
		if err := s.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}); err != nil {
			t.Fatal(err)
		}
		if err := s.root.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range Roles() {
		hcl, err := Policy(role, st.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.root.Sys().PutPolicy(st.policy(role), hcl); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "transit/keys/"+st.cfg.Prefix+"derive", map[string]any{"type": "aes256-gcm96"})
	s.write(t, "transit/keys/"+st.cfg.Prefix+"sign-checkpoint", map[string]any{"type": "ed25519"})
	s.write(t, "auth/approle/role/"+st.role, map[string]any{
		"token_policies": st.policy("gateway"), "token_no_default_policy": true, "token_ttl": "1h", "token_max_ttl": "24h",
	})
	id, err := s.root.Logical().Read("auth/approle/role/" + st.role + "/role-id")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, st.cfg.Auth.AppRole.RoleIDFile, id.Data["role_id"].(string))
	st.freshSecret(t)
	return st
}

func (st *site) policy(role string) string { return st.cfg.Prefix + role }

// freshSecret writes a new secret ID to its file and ends all others.
func (st *site) freshSecret(t *testing.T) {
	t.Helper()
	old, _ := os.ReadFile(st.cfg.Auth.AppRole.SecretIDFile)
	answer := st.write(t, "auth/approle/role/"+st.role+"/secret-id", nil)
	writeFile(t, st.cfg.Auth.AppRole.SecretIDFile, answer.Data["secret_id"].(string)+"\n")
	if len(old) > 0 {
		st.write(t, "auth/approle/role/"+st.role+"/secret-id/destroy", map[string]any{"secret_id": strings.TrimSpace(string(old))})
	}
}

// token makes a token of a role.
func (st *site) token(t *testing.T, role, ttl string) string {
	t.Helper()
	answer := st.write(t, "auth/token/create", map[string]any{"policies": []string{st.policy(role)}, "no_default_policy": true, "ttl": ttl})
	return answer.Auth.ClientToken
}

func (st *site) open(t *testing.T, now func() time.Time) *Issuer {
	t.Helper()
	i, err := Open(t.Context(), st.cfg, Parts{Now: now, StateDir: filepath.Join(st.dir, "state")})
	if err != nil {
		t.Fatalf("%v (%s)", err, sallyport.HintOf(err))
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func writeFile(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

// gate stands before a Vault and shows or changes what passes.
type gate struct {
	*httptest.Server
	proxy *httputil.ReverseProxy
	mu    sync.Mutex
	hook  func(w http.ResponseWriter, r *http.Request) (handled bool)
}

func newGate(t *testing.T, s *server, start func(*httptest.Server)) *gate {
	t.Helper()
	to, err := url.Parse(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{proxy: httputil.NewSingleHostReverseProxy(to)}
	g.proxy.ErrorLog = log.New(io.Discard, "", 0) // callers who gave up
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		hook := g.hook
		g.mu.Unlock()
		if hook == nil || !hook(w, r) {
			g.proxy.ServeHTTP(w, r)
		}
	}))
	g.Config.ErrorLog = g.proxy.ErrorLog // and those without a certificate
	start(g.Server)
	t.Cleanup(g.Close)
	return g
}

func (g *gate) set(hook func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	g.hook = hook
	g.mu.Unlock()
}

func wantKind(t *testing.T, err error, kind sallyport.Kind, words ...string) {
	t.Helper()
	if err == nil || sallyport.KindOf(err) != kind {
		t.Fatalf("error %v, want one of kind %q", err, kind)
	}
	said := err.Error() + " " + sallyport.HintOf(err)
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Fatalf("%q does not say %q", said, w)
		}
	}
}

func issue(t *testing.T, i seal.Issuer, release string) seal.Lease {
	t.Helper()
	l, err := i.Issue(t.Context(), release, time.Hour)
	if err != nil {
		t.Fatalf("%v (%s)", err, sallyport.HintOf(err))
	}
	return l
}

// childEnv makes this test binary a gateway that works until it is killed.
const childEnv = "SALLYPORT_TEST_VAULT_CHILD"

func TestMain(m *testing.M) {
	if conf := os.Getenv(childEnv); conf != "" {
		fmt.Fprintln(os.Stderr, child(conf))
		os.Exit(1)
	}
	code := m.Run()
	if shared.server != nil {
		shared.cmd.Process.Signal(syscall.SIGTERM)
		if err := shared.cmd.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "vault does not stop cleanly:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// childConfig is what a child is told.
type childConfig struct {
	Config Config
	State  string
	First  int
}

func child(conf string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return err
	}
	ctx := context.Background()
	i, err := Open(ctx, c.Config, Parts{StateDir: c.State})
	if err != nil {
		return err
	}
	for n := c.First; ; n++ {
		l, err := i.Issue(ctx, fmt.Sprintf("job-%d", n), time.Hour)
		if err != nil {
			return err
		}
		if _, err := i.Wrapped(ctx, l.ID, time.Minute); err != nil {
			return err
		}
		if n%2 == 0 {
			if err := i.Destroy(ctx, l.ID, "test"); err != nil {
				return err
			}
			fmt.Println(l.ID) // destroyed for certain
		}
	}
}
