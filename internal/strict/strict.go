// Package strict decodes what people write, YAML, and refuses what it does not
// know: an unknown or repeated key is an error that shows the line.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize bounds a document: people do not write more, and a parser that is
// given a dataset by mistake must not swallow it.
const maxSize = 4 << 20

// Document is a parsed file that can say where in it something stands.
type Document struct {
	name string
	src  []byte
	file *ast.File
}

// Parse reads one YAML document. name is used in errors.
func Parse(name string, src []byte) (d *Document, err error) {
	defer refuse(name, &err)
	if len(src) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no configuration is", name, maxSize>>20)
	}
	f, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, prefix(name, err)
	}
	if len(f.Docs) > 1 {
		return nil, fmt.Errorf("%s: holds %d YAML documents: one is expected", name, len(f.Docs))
	}
	return &Document{name: name, src: src, file: f}, nil
}

// Decode fills into, a pointer to a struct. Unknown keys are errors.
func (d *Document) Decode(into any) (err error) {
	defer refuse(d.name, &err)
	err = yaml.NewDecoder(bytes.NewReader(d.src), yaml.Strict()).Decode(into)
	if errors.Is(err, io.EOF) { // an empty document leaves the zero value
		return nil
	}
	if err != nil {
		return prefix(d.name, err)
	}
	return nil
}

// Section returns a function that decodes the part of the document at path
// (for example "$.issuer"), or nothing if there is none. The keys in without
// are left out: they were for somebody else.
func (d *Document) Section(path string, without ...string) func(into any) error {
	return func(into any) (err error) {
		defer refuse(d.name, &err)
		p, err := yaml.PathString(path)
		if err != nil {
			return err
		}
		node, err := p.FilterFile(d.file)
		if yaml.IsNotFoundNodeError(err) {
			return nil
		}
		if err != nil {
			return prefix(d.name, err)
		}
		if m, ok := node.(*ast.MappingNode); ok && len(without) > 0 {
			rest := *m
			rest.Values = slices.DeleteFunc(slices.Clone(m.Values), func(v *ast.MappingValueNode) bool {
				return slices.Contains(without, v.Key.String())
			})
			node = &rest
		}
		if err := yaml.NodeToValue(node, into, yaml.Strict()); err != nil {
			return prefix(d.name, err)
		}
		return nil
	}
}

// Has reports whether the document has something at path.
func (d *Document) Has(path string) bool { return d.line(path) > 0 }

// Errorf returns an error that points at the line of path, or only at the file
// where the path does not exist.
func (d *Document) Errorf(path, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	for path != "" && path != "$" {
		if line := d.line(path); line > 0 {
			return fmt.Errorf("%s:%d: %s", d.name, line, msg)
		}
		// The key itself is missing: point at its parent.
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return fmt.Errorf("%s: %s", d.name, msg)
}

// line returns the line that path stands on, 0 where it does not exist.
func (d *Document) line(path string) (line int) {
	defer func() {
		if recover() != nil {
			line = 0
		}
	}()
	p, err := yaml.PathString(path)
	if err != nil {
		return 0
	}
	node, err := p.FilterFile(d.file)
	if err != nil || node.GetToken() == nil {
		return 0
	}
	return node.GetToken().Position.Line
}

// refuse turns a panic of the YAML library into an error: fuzzing found
// documents that make it dereference nil (a tag before a scalar where a list is
// wanted), and a typing mistake must not take the gateway down.
func refuse(name string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: not readable as YAML of the expected shape", name)
	}
}

func prefix(name string, err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) && ye.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", name, ye.GetToken().Position.Line, ye.GetMessage())
	}
	return fmt.Errorf("%s: %s", name, err)
}

// Marshal writes v as YAML.
func Marshal(v any) ([]byte, error) {
	return yaml.MarshalWithOptions(v, yaml.IndentSequence(true))
}
