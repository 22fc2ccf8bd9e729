package policy

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"sallyport"
)

// maxBundle bounds the files of a bundle together, in bytes: what would take
// the gateway's memory is refused before it is parsed. Data that grow belong
// into the catalog, the site and the register, which are no part of a bundle.
const maxBundle = 32 << 20

// Bundle is a folder of rules, their tests and their data, parsed and compiled.
// It never changes, and what its methods return must not be changed.
type Bundle struct {
	files    map[string][]byte      // what counts, by path
	rules    map[string]*ast.Module // by path, without tests
	tests    map[string]*ast.Module
	badTests error // why the tests do not parse
	data     map[string]any
	owned    map[string]string // data root → what defines it
	digest   sallyport.Digest  // of rules and tests
	version  sallyport.Digest
	compiler *ast.Compiler
}

func invalid(err error, hint string) error {
	return sallyport.E("load policy", sallyport.Invalid, err, hint)
}

// Load reads and compiles the bundle in fsys: every *.rego, data.json and
// schema/….json. Other files are ignored, as OPA ignores them in a bundle;
// data.yaml, which OPA would read, is an error. Rules are compiled strictly,
// against the schemas of input and data, without functions that are not
// repeatable, and must have a verdict for both doors. A slip in a test closes
// nothing: it is reported by [Test]. Errors are [sallyport.Invalid] and name
// file and line.
func Load(ctx context.Context, fsys fs.FS) (*Bundle, error) {
	b, err := load(fsys)
	if err != nil {
		return nil, err
	}
	if b.compiler, err = b.compile(ctx, b.rules); err != nil {
		return nil, err
	}
	for _, q := range []string{admitQuery, releaseQuery} {
		if len(b.compiler.GetRulesExact(ast.MustParseRef(q))) == 0 {
			return nil, sallyport.Errorf("load policy", sallyport.Invalid,
				"Both doors need a rule named verdict: packages sallyport.admit and sallyport.release.",
				"the bundle has no rule %s", q)
		}
	}
	return b, nil
}

// Version names the bundle: a digest over path and content of every file that
// counts.
func (b *Bundle) Version() sallyport.Digest { return b.version }

// Rules is the digest over path and content of the *.rego files: what
// [Verdict.Policy] names.
func (b *Bundle) Rules() sallyport.Digest { return b.digest }

// Files returns the paths of the files that count, sorted.
func (b *Bundle) Files() []string { return slices.Sorted(maps.Keys(b.files)) }

// File returns the bytes of one file that counts.
func (b *Bundle) File(name string) ([]byte, bool) {
	src, ok := b.files[name]
	return src, ok
}

// FS returns the files that count, as a folder in memory.
func (b *Bundle) FS() fs.FS {
	var buf bytes.Buffer
	if err := b.WriteZip(&buf); err != nil {
		return badFS{err}
	}
	r, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		return badFS{err}
	}
	return r
}

type badFS struct{ err error }

func (b badFS) Open(string) (fs.File, error) { return nil, b.err }

// WriteZip writes the files that count as a zip archive, always the same bytes.
func (b *Bundle) WriteZip(w io.Writer) error {
	z := zip.NewWriter(w)
	for _, name := range b.Files() {
		f, err := z.Create(name)
		if err != nil {
			return err
		}
		if _, err := f.Write(b.files[name]); err != nil {
			return err
		}
	}
	return z.Close()
}

// Digests reads the bundle in fsys and returns what [Bundle.Version] and
// [Bundle.Rules] would, without compiling it.
func Digests(fsys fs.FS) (version, rules sallyport.Digest, err error) {
	b, err := load(fsys)
	if err != nil {
		return "", "", err
	}
	return b.version, b.digest, nil
}

// Modules returns rules and tests as parsed, with their annotations, by path.
func (b *Bundle) Modules() map[string]*ast.Module {
	all := maps.Clone(b.rules)
	maps.Copy(all, b.tests)
	return all
}

// Compiler holds the compiled rules, without tests.
func (b *Bundle) Compiler() *ast.Compiler { return b.compiler }

// Data are the bundle's own data, by root.
func (b *Bundle) Data() map[string]any { return b.data }

// Owns reports whether a data root is the bundle's own, by its data or a package.
func (b *Bundle) Owns(root string) bool { return b.owned[root] != "" }

// Counts reports whether a file of a bundle's folder is part of the bundle.
func Counts(name string) bool {
	switch base := path.Base(name); {
	case path.Ext(base) == ".rego", base == "data.json", base == "data.yaml", base == "data.yml":
		return true
	default:
		return path.Ext(base) == ".json" && slices.Contains(strings.Split(path.Dir(name), "/"), "schema")
	}
}

// load reads and parses, without compiling.
func load(fsys fs.FS) (*Bundle, error) {
	if fsys == nil {
		return nil, invalid(errors.New("there is no bundle"), "Name the folder that holds the rules.")
	}
	b := &Bundle{files: map[string][]byte{}, rules: map[string]*ast.Module{}, tests: map[string]*ast.Module{},
		data: map[string]any{}, owned: map[string]string{}}
	size := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !Counts(name) {
			return err
		}
		if base := path.Base(name); base == "data.yaml" || base == "data.yml" {
			return fmt.Errorf("%s: data are read from data.json only", name)
		}
		src, err := read(fsys, name, maxBundle-size)
		if err != nil {
			return err
		}
		size += len(src)
		b.files[name] = src
		if path.Base(name) == "data.json" {
			return b.addData(name, src)
		}
		return nil
	})
	if err != nil {
		return nil, invalid(err, "Check the bundle's folder and its files.")
	}
	if err := b.parse(); err != nil {
		return nil, invalid(err, "Correct the rule at that line.")
	}
	if len(b.rules) == 0 {
		return nil, invalid(errors.New("the bundle holds no .rego file"), "Name the folder that holds the rules.")
	}
	for root := range b.data {
		b.owned[root] = "the bundle's data"
	}
	for _, modules := range []map[string]*ast.Module{b.rules, b.tests} {
		for name, m := range modules {
			if root, ok := m.Package.Path[1].Value.(ast.String); ok && b.owned[string(root)] == "" {
				b.owned[string(root)] = "the package in " + name
			}
		}
	}
	b.digest = b.sum(func(name string) bool { return path.Ext(name) == ".rego" })
	b.version = b.sum(func(string) bool { return true })
	return b, nil
}

// parse parses rules and tests. Faults of tests are kept for who runs them.
func (b *Bundle) parse() error {
	var broken, brokenTests []error
	for _, name := range b.Files() {
		if path.Ext(name) != ".rego" {
			continue
		}
		m, err := ast.ParseModuleWithOpts(name, string(b.files[name]), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		into, faults := b.rules, &broken
		if strings.HasSuffix(name, "_test.rego") {
			into, faults = b.tests, &brokenTests
		}
		switch {
		case err != nil:
			*faults = append(*faults, describe(err))
		case m == nil:
			*faults = append(*faults, fmt.Errorf("%s:1: the file is empty", name))
		default:
			into[name] = m
		}
	}
	b.badTests = errors.Join(brokenTests...)
	return errors.Join(broken...)
}

// sum hashes path and content of some files. Lengths keep two bundles apart
// whose bytes only split differently.
func (b *Bundle) sum(of func(name string) bool) sallyport.Digest {
	hash := sha256.New()
	for _, name := range b.Files() {
		if !of(name) {
			continue
		}
		for _, part := range [][]byte{[]byte(name), b.files[name]} {
			hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			hash.Write(part)
		}
	}
	return sallyport.DigestSum(hash.Sum(nil))
}

func read(fsys fs.FS, name string, most int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(src) > most {
		err = fmt.Errorf("%s makes the bundle larger than %d MiB; large data belong into the catalog, the site or the register", name, maxBundle>>20)
	}
	return src, err
}

// addData puts the object in name (…/data.json) where its folder says.
func (b *Bundle) addData(name string, src []byte) error {
	v, err := parseJSON(src)
	if err != nil {
		var at *jsonError
		if errors.As(err, &at) {
			return fmt.Errorf("%s:%d: %w", name, 1+bytes.Count(src[:min(at.offset, int64(len(src)))], []byte("\n")), err)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	add, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s:1: data are one JSON object, not %s", name, typeName(v))
	}
	if dir := path.Dir(name); dir != "." {
		parts := strings.Split(dir, "/")
		for _, part := range slices.Backward(parts) {
			add = map[string]any{part: add}
		}
	}
	return merge(b.data, add, name, "data")
}

// merge adds src to dst; two values for one path are an error.
func merge(dst, src map[string]any, name, at string) error {
	for _, k := range slices.Sorted(maps.Keys(src)) {
		have, ok := dst[k]
		if !ok {
			dst[k] = src[k]
			continue
		}
		a, aok := have.(map[string]any)
		b, bok := src[k].(map[string]any)
		if !aok || !bok {
			return fmt.Errorf("%s: %s.%s is defined a second time", name, at, k)
		}
		if err := merge(a, b, name, at+"."+k); err != nil {
			return err
		}
	}
	return nil
}

// compile compiles modules, which may only use what capabilities leaves.
func (b *Bundle) compile(ctx context.Context, modules map[string]*ast.Module) (*ast.Compiler, error) {
	schemas, err := inputSchemas()
	if err != nil {
		return nil, invalid(err, "")
	}
	store := inmem.NewFromObjectWithOpts(b.data, inmem.OptRoundTripOnWrite(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, invalid(err, "")
	}
	defer store.Abort(ctx, txn)
	compiler := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStrict(true).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithPathConflictsCheck(storage.NonEmpty(ctx, store, txn))
	// The compiler rewrites what it is given.
	copies := make(map[string]*ast.Module, len(modules))
	for name, m := range modules {
		copies[name] = m.Copy()
	}
	compiler.Compile(copies)
	if compiler.Failed() {
		return nil, invalid(describe(compiler.Errors),
			"Correct the rule at that line. Functions that read the network, the clock or a random source do not exist here: use input.time.")
	}
	if err := checkFields(compiler.Modules); err != nil {
		return nil, invalid(describe(err), "Correct the name: the schemas say what there is.")
	}
	return compiler, nil
}

// withOverlay returns the bundle's data and overlay's roots as fresh JSON values.
func (b *Bundle) withOverlay(overlay map[string]any) (map[string]any, error) {
	fail := func(format string, args ...any) (map[string]any, error) {
		return nil, sallyport.Errorf("load policy data", sallyport.Invalid, "The former data stay in force.", format, args...)
	}
	all := maps.Clone(b.data)
	for _, root := range slices.Sorted(maps.Keys(overlay)) {
		if who, ok := b.owned[root]; ok {
			return fail("data root %q belongs to %s and cannot be overlaid", root, who)
		}
		if root == "" || strings.Contains(root, "/") {
			return fail("data root %q is not a name", root)
		}
		all[root] = overlay[root]
	}
	data, err := plainJSON(all)
	if err != nil {
		return fail("%w", err)
	}
	return data, nil
}

// plainJSON returns data as fresh JSON values, numbers as written.
func plainJSON(data map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	v, err := parseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return v.(map[string]any), nil
}

// DataDigest hashes data as JSON with sorted keys and no white space: what
// [Verdict.Data] names.
func DataDigest(data map[string]any) (sallyport.Digest, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil {
		return "", sallyport.E("load policy data", sallyport.Invalid, err, "")
	}
	return sallyport.DigestSum(h.Sum(nil)), nil
}

// describe turns OPA's errors into at most ten lines that start with file:line.
func describe(err error) error {
	var list ast.Errors
	if !errors.As(err, &list) {
		return err
	}
	var out []error
	for i, e := range list {
		if i == 10 {
			out = append(out, fmt.Errorf("and %d more", len(list)-i))
			break
		}
		at := ""
		if l := location(e); l != nil {
			at = fmt.Sprintf("%s:%d: ", l.File, l.Row)
		}
		out = append(out, errors.New(at+e.Message))
	}
	return errors.Join(out...)
}

// jsonError is a fault in JSON at a byte offset.
type jsonError struct {
	offset int64
	text   string
}

func (e *jsonError) Error() string { return e.text }

// parseJSON decodes one JSON value, keeping numbers as written. Unlike
// encoding/json it refuses a key given twice: whoever reads the file may have
// seen the first and the rules would have used the last.
func parseJSON(src []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			return nil, &jsonError{dec.InputOffset(), "there is more after the value"}
		}
		return v, nil
	}
	var at *jsonError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &at):
		return nil, err
	case errors.As(err, &syntax):
		return nil, &jsonError{syntax.Offset, syntax.Error()}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &jsonError{int64(len(src)), "the file ends within a value"}
	}
	return nil, err
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > 1000 {
		return nil, &jsonError{dec.InputOffset(), "values are nested too deep"}
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key := k.(string) // the decoder takes only strings here
			if _, ok := object[key]; ok {
				return nil, &jsonError{dec.InputOffset(), fmt.Sprintf("key %q is given twice", key)}
			}
			if object[key], err = parseValue(dec, depth+1); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	}
	return t, nil
}
