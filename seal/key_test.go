package seal_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"

	"sallyport"
	"sallyport/seal"
)

func newKey(t testing.TB) *seal.Key {
	t.Helper()
	k, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantKind(t testing.TB, err error, kind sallyport.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", kind)
	}
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || sallyport.KindOf(err) != kind {
		t.Fatalf("error %q is %s, want %s", err, sallyport.KindOf(err), kind)
	}
}

// secretOf gets the identity out by the only door there is.
func secretOf(t testing.TB, k *seal.Key) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no identity in the saved file")
	return ""
}

func TestKeyNeverPrints(t *testing.T) {
	k := newKey(t)
	secret := secretOf(t, k)
	id, err := age.ParseHybridIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	if id.Recipient().String() != k.Recipient() {
		t.Fatal("the saved identity is another one")
	}
	type hidden struct {
		name string
		key  *seal.Key
		val  seal.Key
	}
	type open struct {
		Name string
		Key  *seal.Key
		Val  seal.Key
		Any  any
		List []seal.Key
		Map  map[string]*seal.Key
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%z", "%20s"} {
		for _, v := range []any{k, *k} {
			if got := fmt.Sprintf(verb, v); got != "seal.Key(redacted)" {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
	values := []any{k, *k, &k, []*seal.Key{k}, hidden{"n", k, *k}, &hidden{"n", k, *k},
		open{"n", k, *k, k, []seal.Key{*k}, map[string]*seal.Key{"k": k}}, errors.Join(fmt.Errorf("with %v", k))}
	var out strings.Builder
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%t", "%U", "%c", "%e", "%T", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprint(&out, v)
		fmt.Fprintln(&out, v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		var g bytes.Buffer
		if err := gob.NewEncoder(&g).Encode(v); err == nil {
			out.Write(g.Bytes())
		}
	}
	lower := strings.ToLower(out.String())
	data := strings.TrimPrefix(strings.ToLower(secret), "age-secret-key-pq-1")
	for i := 0; i+12 <= len(data); i++ {
		if strings.Contains(lower, data[i:i+12]) {
			t.Fatal("a part of the identity was printed")
		}
	}
	if !strings.Contains(lower, "redacted") {
		t.Fatal("nothing was printed at all")
	}
	for _, v := range []any{k, *k, map[string]*seal.Key{"k": k}} {
		if _, err := json.Marshal(v); err == nil {
			t.Errorf("a %v was marshaled", reflect.TypeOf(v))
		}
	}
}

func TestWrapUnwrap(t *testing.T) {
	release, node, other := newKey(t), newKey(t), newKey(t)
	wrapped, err := release.Wrap(node.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if len(wrapped) > 4096 {
		t.Errorf("a hand-over takes %d bytes", len(wrapped))
	}
	got, err := node.Unwrap(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if got.Recipient() != release.Recipient() {
		t.Fatal("another identity came out")
	}
	_, err = other.Unwrap(wrapped)
	wantKind(t, err, sallyport.Denied)
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := node.Unwrap(bad); err == nil {
			t.Fatalf("byte %d of %d changed, and it still unwraps", i, len(wrapped))
		}
		if _, err := node.Unwrap(wrapped[:i]); err == nil {
			t.Fatalf("cut to %d of %d bytes, and it still unwraps", i, len(wrapped))
		}
	}
	_, err = node.Unwrap(append(bytes.Clone(wrapped), 0))
	wantKind(t, err, sallyport.Damaged)
	_, err = node.Unwrap(make([]byte, 1<<20))
	wantKind(t, err, sallyport.Damaged)
	for _, plain := range []string{"", "# only a comment\n", "hello", secretOf(t, release) + "\n" + secretOf(t, other)} {
		if _, err := node.Unwrap(sealed(t, []byte(plain), node.Recipient())); err == nil {
			t.Errorf("%.10q unwrapped as a key", plain)
		}
	}
}

func TestZeroKeyIsNoKey(t *testing.T) {
	for _, k := range []*seal.Key{nil, {}} {
		if k.Recipient() != "" {
			t.Error("a recipient of no key")
		}
		_, err := k.Wrap(newKey(t).Recipient())
		wantKind(t, err, sallyport.Invalid)
		_, err = seal.Reader(strings.NewReader(""), k)
		wantKind(t, err, sallyport.Invalid)
		wantKind(t, k.Save(filepath.Join(t.TempDir(), "k")), sallyport.Invalid)
	}
}

func TestSaveLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	k := newKey(t)
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", st.Mode())
	}
	got, err := seal.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Recipient() != k.Recipient() {
		t.Fatal("another identity came back")
	}
	wantKind(t, newKey(t).Save(path), sallyport.Conflict)
	if again, err := seal.Load(path); err != nil || again.Recipient() != k.Recipient() {
		t.Fatal("a refused Save changed the file", err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Fatalf("leftovers: %v", names)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o620, 0o610, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err = seal.Load(path)
		wantKind(t, err, sallyport.Denied)
	}
	_, err = seal.Load(filepath.Join(dir, "absent"))
	wantKind(t, err, sallyport.NotFound)
	_, err = seal.Load(dir)
	if err == nil {
		t.Fatal("a folder was loaded")
	}
	for name, text := range map[string]string{"empty": "", "torn": secretOf(t, k)[:40], "two": secretOf(t, k) + "\n" + secretOf(t, k)} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.Load(p)
		if err == nil {
			t.Errorf("%s: loaded", name)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[20:40]) {
			t.Errorf("%s: the error tells the secret", name)
		}
	}
	// An identity that age-keygen made is welcome too.
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "classic")
	if err := os.WriteFile(p, []byte("# created: today\n# public key: "+x.Recipient().String()+"\n"+x.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	classic, err := seal.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if classic.Recipient() != x.Recipient().String() {
		t.Fatal("another X25519 identity came back")
	}
}

func TestBadRecipients(t *testing.T) {
	k := newKey(t)
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret := secretOf(t, k)
	for name, list := range map[string][]string{
		"none": nil, "empty": {""}, "word": {"hello"}, "plugin": {"age1yubikey1qqqq"}, "ssh": {"ssh-ed25519 AAAA"},
		"cut": {k.Recipient()[:100]}, "typo": {x.Recipient().String() + "q"}, "secret": {secret},
		"secret lower": {strings.ToLower(secret)}, "mixed": {k.Recipient(), x.Recipient().String()},
	} {
		var out bytes.Buffer
		_, err := seal.Writer(&out, list...)
		wantKind(t, err, sallyport.Invalid)
		if out.Len() > 0 {
			t.Errorf("%s: bytes were written", name)
		}
		if strings.Contains(strings.ToUpper(err.Error()+sallyport.HintOf(err)), secret[30:50]) {
			t.Errorf("%s: the error tells the secret", name)
		}
	}
	if err := seal.ValidRecipient(k.Recipient()); err != nil {
		t.Error(err)
	}
	wantKind(t, seal.ValidRecipient("age1"), sallyport.Invalid)
}
