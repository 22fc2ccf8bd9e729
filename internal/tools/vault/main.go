// Command vault is HashiCorp Vault 1.14.1 (the last line under the Mozilla
// Public License 2.0), cut down to what the tests of seal/vault need: the
// engines transit and pki, the sign-in method approle, and tokens.
//
// It is a fixture and no more: old code with known weaknesses, for one test
// on this machine's loopback. It is a module of its own so that nothing of it
// can reach the product.
//
//	vault [-listen 127.0.0.1:0] [-dir DIR] [-sealed]
//
// It initializes itself with one unseal key, unseals, and then prints one line
// of JSON: {"address", "token", "unseal_key"}. With -dir everything, that line
// included, is kept in DIR, and a second start goes on from there; without, it
// is in memory. SIGTERM stops it, and so does the end of standard input where
// that is a pipe, so that no test leaves a server behind.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address; only loopback is taken")
	dir := flag.String("dir", "", "keep everything in this folder instead of in memory")
	sealed := flag.Bool("sealed", false, "stay sealed")
	verbose := flag.Bool("v", false, "log to standard error")
	flag.Parse()
	if err := run(*listen, *dir, *sealed, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

// greeting is the printed line.
type greeting struct {
	Address   string `json:"address"`
	Token     string `json:"token"`
	UnsealKey string `json:"unseal_key"`
}

func run(listen, dir string, sealed, verbose bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if st, err := os.Stdin.Stat(); err == nil && st.Mode()&os.ModeNamedPipe != 0 {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", host)
	}
	log := hclog.NewNullLogger()
	if verbose {
		log = hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Info})
	}

	// The port is taken before the core starts and answers only when it is
	// ready: who connects early waits.
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	core, err := newCore(log, dir, "http://"+l.Addr().String())
	if err != nil {
		return err
	}
	defer core.Shutdown()
	hello, err := start(ctx, core, dir, sealed)
	if err != nil {
		return err
	}
	hello.Address = "http://" + l.Addr().String()

	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Type: "tcp", MaxRequestSize: 32 << 20, MaxRequestDuration: 30 * time.Second},
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := json.NewEncoder(os.Stdout).Encode(hello); err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newCore(log hclog.Logger, dir, address string) (*vault.Core, error) {
	var storage physical.Backend
	var err error
	if dir == "" {
		storage, err = inmem.NewInmem(nil, log)
	} else {
		storage, err = file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "data")}, log)
	}
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             log,
		DisableMlock:       true, // a fixture's secrets are no secrets
		RedirectAddr:       address,
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory, "pki": pki.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
		BuiltinRegistry:    registry{},
	})
}

// start initializes and unseals, or goes on from dir.
func start(ctx context.Context, core *vault.Core, dir string, sealed bool) (greeting, error) {
	var hello greeting
	kept := filepath.Join(dir, "init.json")
	b, err := os.ReadFile(kept)
	switch {
	case dir != "" && err == nil:
		if err := json.Unmarshal(b, &hello); err != nil {
			return hello, err
		}
	case dir != "" && !errors.Is(err, fs.ErrNotExist):
		return hello, err
	default:
		made, err := core.Initialize(ctx, &vault.InitParams{
			BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
			RecoveryConfig: &vault.SealConfig{},
		})
		if err != nil {
			return hello, err
		}
		hello.Token, hello.UnsealKey = made.RootToken, base64.StdEncoding.EncodeToString(made.SecretShares[0])
		if dir != "" {
			if b, err = json.Marshal(hello); err != nil {
				return hello, err
			}
			if err := os.WriteFile(kept, b, 0o600); err != nil {
				return hello, err
			}
		}
	}
	if sealed {
		return hello, nil
	}
	key, err := base64.StdEncoding.DecodeString(hello.UnsealKey)
	if err != nil {
		return hello, err
	}
	open, err := core.Unseal(key)
	if err == nil && !open {
		err = errors.New("one unseal key was not enough")
	}
	return hello, err
}

// registry answers Vault's question about what is built in. The core does not
// do without one.
type registry struct{}

var builtin = map[consts.PluginType][]string{
	consts.PluginTypeSecrets:    {"transit", "pki"},
	consts.PluginTypeCredential: {"approle"},
}

func (registry) Contains(name string, kind consts.PluginType) bool {
	for _, n := range builtin[kind] {
		if n == name {
			return true
		}
	}
	return false
}

func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	if !r.Contains(name, kind) {
		return nil, false
	}
	return func() (any, error) { return nil, errors.New("a built-in engine runs in this process") }, true
}

func (registry) Keys(kind consts.PluginType) []string { return builtin[kind] }

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
