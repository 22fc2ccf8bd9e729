package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"sallyport"
	"sallyport/policy"
)

var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func now() time.Time { return clock }

// pack makes a gzipped tar of files, in order of their names.
func pack(t testing.TB, files tree, more ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range more {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// signer signs as `opa sign` does.
type signer struct {
	key    *ecdsa.PrivateKey
	file   string // PEM of the public key
	claims map[string]any
	header map[string]any
	hash   string // the algorithm it writes; the digest is SHA-256 in any case
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/key.pem"
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return &signer{key: key, file: file, claims: map[string]any{}, header: map[string]any{"alg": "ES256"}, hash: "SHA-256"}
}

func (s *signer) verifier(t testing.TB) verifier {
	t.Helper()
	v := verifier{now: now}
	if err := v.load(HTTPConfig{Key: s.file, KeyID: "lab", Algorithm: "ES256"}); err != nil {
		t.Fatal(err)
	}
	return v
}

// sign returns files with their signature.
func (s *signer) sign(t testing.TB, files tree) tree {
	t.Helper()
	var list []any
	for _, name := range slices.Sorted(maps.Keys(files)) {
		alg := bundle.HashingAlgorithm(s.hash)
		h, err := bundle.NewSignatureHasher(alg)
		if err != nil {
			t.Fatal(err)
		}
		var v any = []byte(files[name])
		if bundle.IsStructuredDoc(name) && json.Valid([]byte(files[name])) {
			dec := json.NewDecoder(strings.NewReader(files[name]))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := h.HashFile(v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, map[string]any{"name": name, "hash": hex.EncodeToString(sum), "algorithm": s.hash})
	}
	return files.with(signaturesFile, s.signatures(t, list))
}

func (s *signer) signatures(t testing.TB, list []any) string {
	t.Helper()
	claims := maps.Clone(s.claims)
	claims["files"] = list
	text, err := json.Marshal(map[string]any{"signatures": []string{s.token(t, claims)}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *signer) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	body := part(s.header) + "." + part(claims)
	sum := sha256.Sum256([]byte(body))
	r, q, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(fixed(r), fixed(q)...)
	return body + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func fixed(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

// TestSignedBundle reads what is good, with everything that may be in it.
func TestSignedBundle(t *testing.T) {
	s := newSigner(t)
	s.claims = map[string]any{"iat": clock.Unix() - 60, "exp": clock.Unix() + 60, "nbf": clock.Unix() - 60}
	files := rules("one").with(manifestFile, `{"revision": "r7", "roots": ["sallyport", "mark"], "rego_version": 1}`).with("README.md", "hello")
	for name, prefix := range map[string]string{"plain": "", "as opa build": "/", "as tar": "./"} {
		t.Run(name, func(t *testing.T) {
			named := tree{}
			for name, text := range s.sign(t, files) {
				named[prefix+name] = text
			}
			raw := pack(t, named, tar.Header{Name: "./", Typeflag: tar.TypeDir}, tar.Header{Name: "sallyport/", Typeflag: tar.TypeDir})
			c, err := readBundle(bytes.NewReader(raw), s.verifier(t), "test")
			if err != nil {
				t.Fatal(err)
			}
			if c.Revision != "r7" || c.Signed != "lab" || !c.Issued.Equal(clock.Add(-time.Minute)) {
				t.Errorf("revision %q, signed %q, issued %v", c.Revision, c.Signed, c.Issued)
			}
			b, err := policy.Load(t.Context(), c.FS)
			if err != nil || b.Version() != c.Digest || len(got(t, c)) != len(rules("")) {
				t.Errorf("%v: %v", got(t, c), err)
			}
		})
	}
}

// TestBadSignatures: no bundle that somebody else could have made is taken.
func TestBadSignatures(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	files := rules("one").with(manifestFile, `{"revision": "r7"}`)
	signed := s.sign(t, files)
	with := func(change func(*signer)) tree {
		c := *s
		c.claims, c.header = map[string]any{}, maps.Clone(s.header)
		change(&c)
		return c.sign(t, files)
	}
	claim := func(name string, v any) tree { return with(func(s *signer) { s.claims[name] = v }) }
	without := func(name string) tree {
		f := maps.Clone(signed)
		delete(f, name)
		return f
	}
	var list bundle.SignaturesConfig
	if err := json.Unmarshal([]byte(signed[signaturesFile]), &list); err != nil {
		t.Fatal(err)
	}
	token := list.Signatures[0]
	tokens := func(list ...string) tree {
		b, err := json.Marshal(map[string]any{"signatures": list})
		if err != nil {
			t.Fatal(err)
		}
		return signed.with(signaturesFile, string(b))
	}
	parts := strings.Split(token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, c := range map[string]struct {
		files tree
		says  string
	}{
		"none":                      {without(signaturesFile), "not signed"},
		"under its old name":        {without(signaturesFile).with("signatures.json", signed[signaturesFile]), "not signed"},
		"below the top":             {without(signaturesFile).with("sallyport/"+signaturesFile, signed[signaturesFile]), "does not stand at the top"},
		"by another key":            {other.sign(t, files), "signature is not valid"},
		"no token":                  {tokens(), "signature is not valid"},
		"two tokens":                {tokens(token, token), "signature is not valid"},
		"no JSON":                   {signed.with(signaturesFile, "signatures: []"), "is not JSON"},
		"another JSON":              {signed.with(signaturesFile, `{"signatures": "x"}`), "does not hold signatures"},
		"a plugin":                  {signed.with(signaturesFile, `{"signatures": ["x"], "plugin": "mine"}`), "asks for the plugin"},
		"algorithm none":            {tokens(none + "." + parts[1] + "."), "signature is not valid"},
		"algorithm none, with dots": {tokens(none + "." + parts[1] + "." + parts[2]), "signature is not valid"},
		"a flipped bit":             {tokens(flip(token)), "signature is not valid"},
		"half a token":              {tokens(token[:len(token)/2]), "signature is not valid"},
		"another's claims":          {tokens(parts[0] + "." + strings.Split(other.token(t, map[string]any{"files": []any{}}), ".")[1] + "." + parts[2]), "signature is not valid"},
		"another scope":             {claim("scope", "other"), "scope"},
		"a changed rule":            {signed.with("sallyport/admit.rego", "package sallyport.admit\n\nverdict := {\"allow\": true}\n"), "not what was signed"},
		"changed data":              {signed.with("data.json", `{"mark": "two"}`), "not what was signed"},
		"a changed manifest":        {signed.with(manifestFile, `{"revision": "r8"}`), "not what was signed"},
		"a rule more":               {signed.with("more.rego", "package sallyport.more"), "not what was signed"},
		"data more":                 {signed.with("x/data.json", "{}"), "not what was signed"},
		"a note more":               {signed.with("NOTES", "x"), "not what was signed"},
		"a rule less":               {without("sallyport/some_test.rego"), "not what was signed"},
		"the manifest left out":     {without(manifestFile), "not what was signed"},
		"expired":                   {claim("exp", clock.Unix()), "expired at 2026-03-01T12:00:00Z"},
		"expired long ago":          {claim("exp", 0), "expired"},
		"expired at no time":        {claim("exp", -1), "expired"},
		"not yet valid":             {claim("nbf", clock.Unix()+1), "valid from"},
		"from the future":           {claim("iat", clock.Unix()+3600), "yet to come"},
		"times that are no numbers": {claim("exp", "tomorrow"), "claims cannot be read"},
		"by MD5":                    {with(func(s *signer) { s.hash = "MD5" }), "can be forged"},
		"by SHA-1":                  {with(func(s *signer) { s.hash = "SHA-1" }), "can be forged"},
		"a file listed twice":       {signed.with(signaturesFile, s.signatures(t, []any{map[string]any{"name": "data.json"}, map[string]any{"name": "data.json"}})), "twice"},
		"no hash":                   {signed.with(signaturesFile, s.signatures(t, []any{map[string]any{"name": ".manifest"}})), "not what was signed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readBundle(bytes.NewReader(pack(t, c.files)), s.verifier(t), "test")
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.says) || sallyport.HintOf(err) == "" {
				t.Errorf("%v (%s); want …%s…", err, sallyport.HintOf(err), c.says)
			}
			if kind := sallyport.KindOf(err); kind != sallyport.Damaged && kind != sallyport.Invalid {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
	// White space and the order of keys are no part of what OPA signs in JSON:
	// the same values, so the same data.
	c, err := readBundle(bytes.NewReader(pack(t, signed.with("data.json", "{ \"mark\" :\n\"one\" }"))), s.verifier(t), "test")
	if err != nil || c.Signed == "" {
		t.Errorf("other white space: %v", err)
	}
	// A key given twice has OPA's signature of the last, but policy refuses it.
	c, err = readBundle(bytes.NewReader(pack(t, signed.with("data.json", `{"mark": "two", "mark": "one"}`))), s.verifier(t), "test")
	if err == nil {
		if _, err = policy.Load(t.Context(), c.FS); err == nil {
			t.Error("a key given twice was taken")
		}
	}
}

func TestAgeOfSignatures(t *testing.T) {
	s := newSigner(t)
	read := func(v verifier) error {
		_, err := readBundle(bytes.NewReader(pack(t, s.sign(t, rules("one")))), v, "test")
		return err
	}
	v := s.verifier(t)
	v.maxAge = time.Hour
	if err := read(v); err == nil || !strings.Contains(err.Error(), "does not say when") {
		t.Errorf("without iat: %v", err)
	}
	s.claims["iat"] = clock.Unix() - 3601
	if err := read(v); err == nil || !strings.Contains(err.Error(), "longer than 1h0m0s ago") {
		t.Errorf("too old: %v", err)
	}
	s.claims["iat"] = clock.Unix() - 3599
	if err := read(v); err != nil {
		t.Error(err)
	}
}

func flip(token string) string {
	i := strings.LastIndex(token, ".") + 5
	c := byte('A')
	if token[i] == 'A' {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// TestBadBundles: the archive itself, and what must not be in it, whoever
// signed it.
func TestBadBundles(t *testing.T) {
	s := newSigner(t)
	good := pack(t, s.sign(t, rules("one")))
	signed := func(name, text string, more ...tar.Header) []byte {
		return pack(t, s.sign(t, rules("one").with(name, text)), more...)
	}
	many := tree{}
	for i := range MaxFiles + 1 {
		many["f"+strconv.Itoa(i)+".rego"] = "package f"
	}
	var headers []tar.Header
	for range 2*MaxBytes/(1<<20) + 1 {
		headers = append(headers, tar.Header{Name: "d/", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SALLYPORT.x": strings.Repeat("x", 1<<20-100)}})
	}
	twice := pack(t, s.sign(t, rules("one")), tar.Header{Name: "data.json", Typeflag: tar.TypeReg, Size: 3})
	for name, c := range map[string]struct {
		raw  []byte
		kind sallyport.Kind
		says string
	}{
		"nothing":               {nil, sallyport.Damaged, "truncated"},
		"a web page":            {[]byte("<html>log in</html>"), sallyport.Damaged, "no gzipped tar"},
		"a truncated gzip":      {good[:len(good)/2], sallyport.Damaged, "truncated"},
		"gzip without its end":  {good[:len(good)-1], sallyport.Damaged, "truncated"},
		"a wrong checksum":      {append(slices.Clone(good[:len(good)-8]), 0, 0, 0, 0, 0, 0, 0, 0), sallyport.Damaged, "no gzipped tar"},
		"gzip of no tar":        {zipped(t, []byte(strings.Repeat("x", 2000))), sallyport.Damaged, "no gzipped tar"},
		"a truncated tar":       {zipped(t, unzipped(t, good)[:700]), sallyport.Damaged, "truncated"},
		"an empty tar":          {pack(t, nil), sallyport.Damaged, "not signed"},
		"a gzip bomb":           {signed("zero.txt", "", tar.Header{Name: "bomb", Typeflag: tar.TypeReg, Size: MaxBytes + 1}), sallyport.Exhausted, "larger than 64 MiB"},
		"a bomb behind the tar": {zipped(t, append(unzipped(t, good), make([]byte, MaxBytes+1)...)), sallyport.Exhausted, "larger than 64 MiB"},
		"many parts of a bomb": {signed("zero.txt", "", tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: MaxBytes / 2},
			tar.Header{Name: "b", Typeflag: tar.TypeReg, Size: MaxBytes / 2}, tar.Header{Name: "c", Typeflag: tar.TypeReg, Size: 1}), sallyport.Exhausted, "larger than 64 MiB"},
		"too many files":        {pack(t, many), sallyport.Exhausted, "more than 10000 files"},
		"a way up":              {signed("../x.rego", "package x"), sallyport.Invalid, "no path within a bundle"},
		"a way up, hidden":      {signed("a/../../x.rego", "package x"), sallyport.Invalid, "no path within a bundle"},
		"an absolute path":      {signed("//etc/x.rego", "package x"), sallyport.Invalid, "no path within a bundle"},
		"a Windows path":        {signed(`..\x.rego`, "package x"), sallyport.Invalid, "no path within a bundle"},
		"a dot":                 {signed("./sallyport/./x.rego", "package x"), sallyport.Invalid, "no path within a bundle"},
		"a line feed":           {signed("a\nb.rego", "package x"), sallyport.Invalid, "no path within a bundle"},
		"a file twice":          {twice, sallyport.Invalid, "is there twice"},
		"twice, spelled apart":  {signed("./data.json", "{}"), sallyport.Invalid, "is there twice"},
		"a file and a folder":   {signed("data.json/x.rego", "package x"), sallyport.Invalid, "is a file and a folder"},
		"a folder and a file":   {signed("sallyport", "x"), sallyport.Invalid, "is a file and a folder"},
		"a folder, then a file": {signed("a", "x", tar.Header{Name: "sallyport", Typeflag: tar.TypeReg}), sallyport.Invalid, "is a file and a folder"},
		"a bomb of headers":     {signed("a", "x", headers...), sallyport.Exhausted, "larger than 64 MiB"},
		"a symbolic link":       {signed("a", "", tar.Header{Name: "x.rego", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), sallyport.Invalid, "link or a device"},
		"a hard link":           {signed("a", "", tar.Header{Name: "x.rego", Typeflag: tar.TypeLink, Linkname: "data.json"}), sallyport.Invalid, "link or a device"},
		"a device":              {signed("a", "", tar.Header{Name: "x.rego", Typeflag: tar.TypeChar}), sallyport.Invalid, "link or a device"},
		"one path, two data":    {signed("mark/data.json", `{"a": 1}`), sallyport.Invalid, ""},
		"data no object":        {signed("x/data.json", "{"), sallyport.Invalid, "is not JSON"},
		"data in YAML":          {signed("x/data.json", "a: 1"), sallyport.Invalid, "is not JSON"},
		"data.yaml":             {signed("data.yaml", "a: 1"), sallyport.Invalid, "data.json only"},
		"a delta":               {pack(t, tree{"patch.json": `{"data": [{"op": "upsert", "path": "/a", "value": 1}]}`}), sallyport.Unsupported, "delta bundle"},
		"a delta beside rules":  {signed("patch.json", `{"data": []}`), sallyport.Unsupported, "delta bundle"},
		"wasm":                  {signed("policy.wasm", "\x00asm"), sallyport.Unsupported, "compiled rules"},
		"a plan":                {signed("plan.json", "{}"), sallyport.Unsupported, "compiled rules"},
		"two manifests":         {signed("x/.manifest", "{}"), sallyport.Invalid, "does not stand at the top"},
		"a manifest's twin":     {signed("my.manifest", "{}"), sallyport.Invalid, "does not stand at the top"},
		"a manifest in YAML":    {signed(manifestFile, "revision: x"), sallyport.Invalid, "is not JSON"},
		"a wrong manifest":      {signed(manifestFile, `{"roots": "x"}`), sallyport.Invalid, "manifest"},
		"Rego v0":               {signed(manifestFile, `{"rego_version": 0}`), sallyport.Unsupported, "Rego v0"},
		"Rego v0 in one file":   {signed(manifestFile, `{"file_rego_versions": {"/sallyport/admit.rego": 0}}`), sallyport.Unsupported, "Rego v0"},
		"wasm in the manifest":  {signed(manifestFile, `{"wasm": [{"entrypoint": "a", "module": "/policy.wasm"}]}`), sallyport.Invalid, "wasm"},
		"other roots":           {pack(t, s.sign(t, tree{manifestFile: `{"roots": ["other"]}`, "x.rego": "package other.x"})), sallyport.Invalid, "do not cover sallyport/admit"},
		"half the roots":        {pack(t, s.sign(t, tree{manifestFile: `{"roots": ["sallyport/admit"]}`, "x.rego": "package sallyport.admit"})), sallyport.Invalid, "do not cover sallyport/release"},
		"rules out of roots":    {signed(manifestFile, `{"roots": ["sallyport/admit", "sallyport/release", "mark"]}`), sallyport.Invalid, "roots"},
		"data out of roots":     {signed(manifestFile, `{"roots": ["sallyport"]}`), sallyport.Invalid, "roots"},
		"a long revision":       {signed(manifestFile, `{"revision": "`+strings.Repeat("r", 300)+`"}`), sallyport.Invalid, "revision"},
		"a slip in a rule":      {signed("x.rego", "package x\n\nallow if {"), sallyport.Invalid, "x.rego:3"},
		"an old rule":           {signed("x.rego", "package x\n\nallow { true }"), sallyport.Invalid, "x.rego:3"},
		"an empty rule":         {signed("x.rego", ""), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readBundle(bytes.NewReader(c.raw), s.verifier(t), "test")
			if c.kind == "" {
				if err == nil {
					_, err = policy.Load(t.Context(), got.FS)
				}
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if sallyport.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1500 {
				t.Errorf("%s: %v; want %s: …%s…", sallyport.KindOf(err), err, c.kind, c.says)
			}
		})
	}
}

// TestMuchData: 50 MB of data are read and verified; the room that would have
// to hold them says no.
func TestMuchData(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	s := newSigner(t)
	var b strings.Builder
	b.WriteString(`{"mark": "one"`)
	for i := 0; b.Len() < 50_000_000; i++ {
		b.WriteString(`,"k` + strconv.Itoa(i) + `":"` + strings.Repeat("v", 1_000_000) + `"`)
	}
	b.WriteString("}")
	c, err := readBundle(bytes.NewReader(pack(t, s.sign(t, rules("one").with("data.json", b.String())))), s.verifier(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(t.Context(), c.FS); sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
}

func zipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func unzipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// FuzzBundle: whatever a server sends, it is refused or is a candidate whose
// every file was signed.
func FuzzBundle(f *testing.F) {
	s := newSigner(f)
	v := s.verifier(f)
	open := verifier{unsigned: true, now: now}
	good := unzipped(f, pack(f, s.sign(f, rules("one"))))
	f.Add(good)
	f.Add(good[:len(good)/3])
	f.Add(unzipped(f, pack(f, tree{"a.rego": "package a", manifestFile: "{}"})))
	f.Add(unzipped(f, pack(f, tree{"patch.json": "{}"}, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "y"})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The compression is Go's to test; within it inputs change in small steps.
		archive := zipped(t, raw)
		if c, err := readBundle(bytes.NewReader(archive), v, "fuzz"); err == nil {
			if want := (tree)(rules("one")); !maps.Equal(want, got(t, c)) || c.Signed != "lab" {
				// Only the white space of JSON may differ from what was signed.
				have := got(t, c)
				if strings.Join(strings.Fields(have["data.json"]), "") != strings.Join(strings.Fields(want["data.json"]), "") {
					t.Errorf("accepted: %v", have)
				}
			}
		} else if _, ok := err.(*sallyport.Error); !ok {
			t.Errorf("%T: %v", err, err)
		}
		c, err := readBundle(bytes.NewReader(archive), open, "fuzz")
		if err != nil {
			return
		}
		if c.Signed != "" || !c.Issued.IsZero() {
			t.Error("nobody signed this")
		}
		got(t, c)
	})
}
