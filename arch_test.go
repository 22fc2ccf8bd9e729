package sallyport_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room says what a package may import of ours, and why. The first row whose
// pattern matches wins; a package without a row fails the test.
type room struct {
	pattern string // a package path; "x/..." also covers everything below x
	may     []string
	because string
}

// stages are strangers to each other: a word two of them share goes to the root.
var stages = []string{"policy", "anonymize", "seal", "store", "routing", "audit"}

// parts of a stage are used by the stage or its tools, and not chosen by name.
var parts = []string{"anonymize/model", "anonymize/risk", "anonymize/identify", "anonymize/codec", "anonymize/planning", "anonymize/report"}

var rooms = []room{
	{".", nil, "the glossary is vocabulary: it knows nobody"},
	{"internal/...", []string{"internal/..."}, "helpers know nothing of the product"},
	{"policies", nil, "the default bundle is data"},
	{"examples/...", nil, "example modules run elsewhere, without us"},
	{"catalog", []string{".", "internal/..."}, "a noun of its own, beside the stages"},
	{"routing/network/wire", []string{".", "routing"}, "the words that gateway and node say to each other"},
	{"node/...", []string{".", "seal", "routing", "routing/network/wire", "internal/..."}, "the far end: no policy, no gateway, no other stage"},
	{"policy", []string{"."}, "stages are strangers"},
	{"policy/...", []string{".", "policy/...", "internal/..."}, "tools of one stage know that stage only"},
	{"register", []string{".", "internal/..."}, "a noun of its own, beside the stages"},
	{"anonymize", []string{".", "anonymize/identify", "anonymize/risk"}, "stages are strangers; the pass looks for identifiers and counts classes with parts of its own"},
	{"seal", []string{"."}, "stages are strangers"},
	{"store", []string{"."}, "stages are strangers"},
	{"routing", []string{"."}, "stages are strangers"},
	{"audit", []string{"."}, "stages are strangers"},
	{"anonymize/...", []string{".", "anonymize/...", "internal/..."}, "an adapter knows its own stage only"},
	{"seal/...", []string{".", "seal/...", "internal/..."}, "an adapter knows its own stage only"},
	{"store/...", []string{".", "store/...", "internal/..."}, "an adapter knows its own stage only"},
	{"routing/...", []string{".", "routing/...", "internal/..."}, "an adapter knows its own stage only"},
	{"audit/...", []string{".", "audit/...", "internal/..."}, "an adapter knows its own stage only"},
	{"gateway", append([]string{".", "catalog", "register"}, stages...), "the passage uses stages, never an adapter or a door"},
	{"gateway/identity", []string{".", "internal/..."}, "below the doors"},
	{"gateway/rulebook", []string{".", "policy", "policy/...", "audit", "internal/..."}, "how a bundle comes into force; the passage only asks the engine"},
	{"gateway/control", []string{".", "gateway", "gateway/identity", "gateway/rulebook", "policy/...", "register", "audit", "internal/..."}, "the operator's door, to the gateway and to its rule book"},
	{"gateway/...", []string{".", "gateway", "gateway/identity", "internal/..."}, "a door may only ask the gateway"},
	{"cmd/sallyport-node", []string{".", "node", "internal/..."}, "the owner's binary is small: no OPA, no console"},
	{"cmd/...", []string{"..."}, "cmd wires"},
	{"bench/...", []string{"..."}, "a bench wires too"},
}

// owners says which of our packages may import a third-party module. cmd and
// tests are exempt: what a test needs is no weight of the product's.
var owners = []struct {
	module  string
	may     []string
	because string
}{
	{"github.com/open-policy-agent/opa", []string{"policy", "policy/..."}, "one room speaks Rego"},
	{"filippo.io/age", []string{"seal/..."}, "one stage speaks age"},
	{"go.etcd.io/bbolt", []string{"audit/...", "gateway", "routing"}, "log, journal, ledger"},
	{"github.com/nats-io", []string{"routing/network", "node"}, "the two ends of the outside network"},
	{"github.com/tetratelabs/wazero", []string{"internal/sandbox"}, "one place runs foreign code"},
	{"github.com/hashicorp/vault/api", []string{"seal/vault"}, "one adapter speaks to Vault"},
	{"github.com/minio/minio-go", []string{"store/s3"}, "one adapter speaks S3 to others"},
	{"github.com/coreos/go-oidc", []string{"gateway/identity"}, "tokens are never verified by hand"},
	{"github.com/go-jose/go-jose", []string{"gateway/identity"}, "nor are their signatures"},
	{"github.com/goccy/go-yaml", []string{"internal/strict"}, "what people write is decoded strictly in one place"},
	{"github.com/alecthomas/kong", []string{"node"}, "the node's commands are shared by both binaries"},
	{"github.com/klauspost/compress", []string{"anonymize/codec", "anonymize/parquet"}, "what files are compressed with"},
	{"github.com/pierrec/lz4", []string{"anonymize/parquet"}, "what Parquet pages are compressed with"},
	{"github.com/andybalholm/brotli", []string{"anonymize/parquet"}, "what Parquet pages are compressed with"},
	{"golang.org/x/text", []string{"anonymize/csv"}, "the encodings of old files"},
	{"golang.org/x/mod", []string{"audit/..."}, "Merkle tree and checkpoints"},
	{"golang.org/x/sync", []string{"..."}, "errgroup is as good as standard"},
	{"golang.org/x/sys", []string{"..."}, "the kernel"},
	{"golang.org/x/term", nil, "only commands draw on terminals"},
	{"pgregory.net/rapid", []string{"...test"}, "conformance suites may generate; the product may not"},
	{"github.com/google/go-cmp", []string{"...test"}, "conformance suites may compare; the product may not"},
	{"golang.org/x/crypto", []string{"seal/..."}, "primitives belong to the seal"},
}

func TestWhoMayImportWhom(t *testing.T) {
	imports := packageImports(t)
	for pkg, list := range imports {
		row, ok := find(pkg)
		if !ok {
			t.Errorf("package %s has no row in arch_test.go: say what it may import, and why", pkg)
			continue
		}
		for imp, file := range list {
			switch {
			case imp == "sallyport" || strings.HasPrefix(imp, "sallyport/"):
				rel := strings.TrimPrefix(strings.TrimPrefix(imp, "sallyport"), "/")
				if rel == "" {
					rel = "."
				}
				if rel != pkg && !matchAny(row.may, rel) {
					t.Errorf("%s: %s imports %s, but may not: %s", file, pkg, rel, row.because)
				}
			case strings.Contains(strings.Split(imp, "/")[0], "."):
				if !strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "bench") {
					checkOwner(t, file, pkg, imp)
				}
			}
		}
	}
}

func checkOwner(t *testing.T, file, pkg, imp string) {
	t.Helper()
	for _, o := range owners {
		if imp == o.module || strings.HasPrefix(imp, o.module+"/") {
			if !matchAny(o.may, pkg) {
				t.Errorf("%s: %s imports %s, which belongs to %v: %s", file, pkg, imp, o.may, o.because)
			}
			return
		}
	}
	t.Errorf("%s: %s imports %s, which has no owner in arch_test.go", file, pkg, imp)
}

// TestBuiltinNamesEveryAdapter fails when an adapter's folder is not wired: a
// thing that exists but cannot be chosen is dead weight.
func TestBuiltinNamesEveryAdapter(t *testing.T) {
	src, err := os.ReadFile("cmd/sallyport/builtin.go")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range packageImports(t) {
		for _, s := range stages {
			rest, ok := strings.CutPrefix(pkg, s+"/")
			if !ok || s == "policy" || s == "audit" || slices.Contains(parts, pkg) || // their folders are tools, and are not chosen
				strings.Contains(rest, "/") || strings.HasSuffix(rest, "test") {
				continue
			}
			if !strings.Contains(string(src), `"sallyport/`+pkg+`"`) {
				t.Errorf("adapter %s is not in cmd/sallyport/builtin.go", pkg)
			}
		}
	}
}

// TestFilesStaySmall keeps one file one noun.
func TestFilesStaySmall(t *testing.T) {
	walkGo(t, func(file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 700 {
			t.Errorf("%s has %d lines: split it by noun", file, n)
		}
	})
}

func find(pkg string) (room, bool) {
	for _, r := range rooms {
		if match(r.pattern, pkg) {
			return r, true
		}
	}
	return room{}, false
}

func matchAny(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if match(p, pkg) {
			return true
		}
	}
	return false
}

func match(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if pattern == "...test" { // conformance suites
		return strings.HasSuffix(pkg, "test")
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pattern == pkg
}

// packageImports parses every non-test file's imports in-process, so that Go's
// test cache sees the files and never serves a stale verdict.
func packageImports(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	walkGo(t, func(file string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		pkg := path.Dir(filepath.ToSlash(file))
		if out[pkg] == nil {
			out[pkg] = map[string]string{}
		}
		for _, s := range f.Imports {
			imp, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			out[pkg][imp] = file
		}
	})
	return out
}

func walkGo(t *testing.T, visit func(file string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// internal/tools holds modules of their own for test servers.
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") || filepath.ToSlash(p) == "internal/tools" {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(p, ".go") {
			visit(p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
