package policy

import (
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

// maxFile bounds one file of a bundle, in bytes: what compiles slowly is
// refused before it is read.
const maxFile = 64 << 20

// bundle is a folder of rules and data, parsed; rules are also compiled once
// compile has run.
type bundle struct {
	rules    map[string]*ast.Module // by path, without tests
	tests    map[string]*ast.Module
	data     map[string]any
	owned    map[string]string // data root → what defines it
	digest   sallyport.Digest
	compiler *ast.Compiler
}

func invalid(err error, hint string) error {
	return sallyport.E("load policy", sallyport.Invalid, err, hint)
}

// load reads every *.rego and data.json of fsys. Other files are ignored, as
// OPA ignores them in a bundle; data.yaml, which OPA would read, is an error.
// Tests count for the digest and are parsed only where they will run: a slip
// in a test does not close the gateway.
func load(fsys fs.FS, withTests bool) (*bundle, error) {
	if fsys == nil {
		return nil, invalid(errors.New("there is no bundle"), "Name the folder that holds the rules.")
	}
	b := &bundle{rules: map[string]*ast.Module{}, tests: map[string]*ast.Module{}, data: map[string]any{}, owned: map[string]string{}}
	var broken []error
	hash := sha256.New()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base := path.Base(name)
		switch {
		case base == "data.yaml" || base == "data.yml":
			return fmt.Errorf("%s: data are read from data.json only", name)
		case base != "data.json" && path.Ext(base) != ".rego":
			return nil
		}
		src, err := read(fsys, name)
		if err != nil {
			return err
		}
		if base == "data.json" {
			return b.addData(name, src)
		}
		// Lengths keep two bundles apart whose bytes only split differently.
		for _, part := range [][]byte{[]byte(name), src} {
			hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			hash.Write(part)
		}
		isTest := strings.HasSuffix(name, "_test.rego")
		if isTest && !withTests {
			return nil
		}
		m, err := ast.ParseModuleWithOpts(name, string(src), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		switch {
		case err != nil:
			broken = append(broken, describe(err))
		case m == nil:
			broken = append(broken, fmt.Errorf("%s:1: the file is empty", name))
		case isTest:
			b.tests[name] = m
		default:
			b.rules[name] = m
		}
		return nil
	})
	if err != nil {
		return nil, invalid(err, "Check the bundle's folder and its files.")
	}
	if len(broken) > 0 {
		return nil, invalid(errors.Join(broken...), "Correct the rule at that line.")
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
	b.digest = sallyport.DigestSum(hash.Sum(nil))
	return b, nil
}

func read(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(src) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return src, err
}

// addData puts the object in name (…/data.json) where its folder says.
func (b *bundle) addData(name string, src []byte) error {
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
func (b *bundle) compile(ctx context.Context, modules map[string]*ast.Module) error {
	schemas, err := inputSchemas()
	if err != nil {
		return invalid(err, "")
	}
	store := inmem.NewFromObjectWithOpts(b.data, inmem.OptRoundTripOnWrite(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return invalid(err, "")
	}
	defer store.Abort(ctx, txn)
	b.compiler = ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStrict(true).
		WithSchemas(schemas).
		WithPathConflictsCheck(storage.NonEmpty(ctx, store, txn))
	// The compiler rewrites what it is given.
	copies := make(map[string]*ast.Module, len(modules))
	for name, m := range modules {
		copies[name] = m.Copy()
	}
	b.compiler.Compile(copies)
	if b.compiler.Failed() {
		return invalid(describe(b.compiler.Errors),
			"Correct the rule at that line. Functions that read the network, the clock or a random source do not exist here: use input.time.")
	}
	return nil
}

// withOverlay returns the bundle's data and overlay's roots as fresh JSON values.
func (b *bundle) withOverlay(overlay map[string]any) (map[string]any, error) {
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
	raw, err := json.Marshal(all)
	if err != nil {
		return fail("encode: %w", err)
	}
	v, err := parseJSON(raw)
	if err != nil {
		return fail("decode: %w", err)
	}
	return v.(map[string]any), nil
}

// digestData hashes data as JSON with sorted keys and no white space.
func digestData(data map[string]any) (sallyport.Digest, error) {
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
		if e.Location != nil {
			at = fmt.Sprintf("%s:%d: ", e.Location.File, e.Location.Row)
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
