package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport/internal/strict"
)

// TestDocs sets a Vault up by the lines of docs/vault.md, reads the
// configuration that stands there, and works with both.
func TestDocs(t *testing.T) {
	const repository = "../.."
	s := ownServer(t)
	b, err := os.ReadFile(filepath.Join(repository, "docs", "vault.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, rest, _ := strings.Cut(string(b), "```bash\n")
	commands, rest, _ := strings.Cut(rest, "```")
	ran := 0
	for line := range strings.Lines(commands) {
		if args, ok := strings.CutPrefix(line, "vault "); ok {
			vaultCommand(t, s, repository, dir, strings.Fields(args))
			ran++
		}
	}
	if ran < 9 {
		t.Fatalf("%d commands in docs/vault.md", ran)
	}
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	conf, _, _ := strings.Cut(rest, "```")
	doc, err := strict.Parse("docs/vault.md", []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	var cfg Config
	if err := doc.Section("$.issuer", "kind")(&cfg); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.Resolve(func(p string) string {
		if p == "" {
			return p
		}
		return filepath.Join(dir, p)
	})
	cfg.Address = s.Address
	i, err := Open(t.Context(), cfg, Parts{StateDir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	l := issue(t, i, "job-1")
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Derive(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Sign(t.Context(), "checkpoint", []byte("m")); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Wrapped(t.Context(), l.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := i.Destroy(t.Context(), l.ID, "over"); err != nil {
		t.Fatal(err)
	}
}

// vaultCommand does what Vault's own program does for the few forms of command
// that the document uses.
func vaultCommand(t *testing.T, s *server, repository, dir string, args []string) {
	t.Helper()
	var out, field string
	var plain []string
	data := map[string]any{}
	for n := 0; n < len(args); n++ {
		a := args[n]
		name, value, isData := strings.Cut(a, "=")
		switch {
		case a == "-f":
		case strings.HasPrefix(a, "-field="):
			field = value
		case a == ">":
			n++
			out = args[n]
		case isData:
			data[name] = value
		default:
			plain = append(plain, a)
		}
	}
	var answer *api.Secret
	var err error
	switch {
	case len(plain) == 3 && plain[0] == "secrets" && plain[1] == "enable":
		err = s.root.Sys().Mount(plain[2], &api.MountInput{Type: plain[2]})
	case len(plain) == 3 && plain[0] == "auth" && plain[1] == "enable":
		err = s.root.Sys().EnableAuthWithOptions(plain[2], &api.EnableAuthOptions{Type: plain[2]})
	case len(plain) == 4 && plain[0] == "policy" && plain[1] == "write":
		var hcl []byte
		if hcl, err = os.ReadFile(filepath.Join(repository, plain[3])); err == nil {
			err = s.root.Sys().PutPolicy(plain[2], string(hcl))
		}
	case len(plain) == 2 && plain[0] == "write":
		answer, err = s.root.Logical().Write(plain[1], data)
	case len(plain) == 2 && plain[0] == "read":
		answer, err = s.root.Logical().Read(plain[1])
	default:
		t.Fatalf("a form of command not known here: vault %s", strings.Join(args, " "))
	}
	if err != nil {
		t.Fatalf("vault %s: %v", strings.Join(args, " "), err)
	}
	if out != "" {
		writeFile(t, filepath.Join(dir, out), text(answer, field)+"\n")
	}
}
