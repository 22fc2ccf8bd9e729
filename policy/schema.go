package policy

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// SchemaFS holds the JSON Schemas (draft 7) of all that rules see and answer,
// one file a document: schema/v1/admission.json and releasing.json for the
// inputs of the doors, verdict_admit.json and verdict_release.json for what
// they must answer, catalog.json, site.json, register.json and rules.json for
// the data, and parts of these for what rules look up. A rule names one as
// schema.v1.<file> in a METADATA annotation. The default bundle carries the
// same files for its editors; these here count.
//
//go:embed schema/v1/*.json
var SchemaFS embed.FS

// roots are the documents that every rule is checked against, wherever it is.
func roots() map[string]string {
	return map[string]string{"input": "releasing", "data.catalog": "catalog", "data.site": "site", "data.register": "register", "data.rules": "rules"}
}

// schemaDocs reads the schemas by name.
func schemaDocs() (map[string]map[string]any, error) {
	files, err := SchemaFS.ReadDir("schema/v1")
	if err != nil {
		return nil, err
	}
	docs := map[string]map[string]any{}
	for _, f := range files {
		src, err := SchemaFS.ReadFile("schema/v1/" + f.Name())
		if err != nil {
			return nil, err
		}
		var doc map[string]any
		if err := json.Unmarshal(src, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		docs[strings.TrimSuffix(f.Name(), path.Ext(f.Name()))] = doc
	}
	return docs, nil
}

// inputSchemas are the schemas as OPA's type checker takes them. A package
// without an annotation is checked against the larger of the two inputs.
func inputSchemas() (*ast.SchemaSet, error) {
	docs, err := schemaDocs()
	if err != nil {
		return nil, err
	}
	set := ast.NewSchemaSet()
	for name, doc := range docs {
		set.Put(ast.MustParseRef("schema.v1."+name), doc)
	}
	set.Put(ast.SchemaRootRef, docs[roots()["input"]])
	return set, nil
}

// checkFields reports references to fields that no schema has, where OPA's type
// checker does not look: behind the key of a map (data.catalog.datasets[x].ownr),
// in a package without annotations, through a local variable, and in the second
// argument of object.get, which would give its default for ever. What it cannot
// follow it leaves alone.
func checkFields(modules map[string]*ast.Module) error {
	docs, err := schemaDocs()
	if err != nil {
		return err
	}
	known := map[string]*node{}
	for ref, name := range roots() {
		known[ref] = &node{docs[name], docs[name]}
	}
	// What lib looks up has a schema of its own, said in an annotation.
	for _, m := range modules {
		for _, a := range m.Annotations {
			for _, s := range a.Schemas {
				doc := docs[strings.TrimPrefix(s.Schema.String(), "schema.v1.")]
				if ref := s.Path.String(); doc != nil && known[ref] == nil {
					known[ref] = &node{doc, doc}
				}
			}
		}
	}
	var found ast.Errors
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		c := fieldChecker{known: known, vars: map[ast.Var]*node{}}
		// Local variables have names of their own in a compiled module. What one
		// is bound to may be bound through another that comes later.
		for range 3 {
			ast.WalkExprs(modules[name], c.bind)
		}
		ast.WalkRefs(modules[name], c.ref)
		ast.WalkExprs(modules[name], c.get)
		found = append(found, c.errs...)
	}
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b *ast.Error) int { return a.Location.Compare(b.Location) })
	return found
}

// node is a place in a schema: nil is one that is not described.
type node struct {
	schema, doc map[string]any // doc resolves $ref
}

// at is the place of a field, and whether there can be one.
func (n *node) at(key ast.Value) (next *node, ok bool) {
	s := n.schema
	for s["$ref"] != nil {
		name := strings.TrimPrefix(s["$ref"].(string), "#/definitions/")
		s, _ = n.doc["definitions"].(map[string]any)[name].(map[string]any)
	}
	in := func(v any) *node {
		if m, ok := v.(map[string]any); ok {
			return &node{m, n.doc}
		}
		return nil
	}
	if s["items"] != nil {
		return in(s["items"]), true
	}
	props, closed := s["properties"].(map[string]any)
	name, literal := key.(ast.String)
	switch {
	case !closed:
		return in(s["additionalProperties"]), true
	case literal && props[string(name)] == nil && s["additionalProperties"] == false:
		return nil, false
	case literal:
		return in(props[string(name)]), true
	}
	// A variable key: only where all fields are alike is it known what comes.
	var one any
	for _, p := range props {
		ref := p.(map[string]any)["$ref"]
		if ref == nil || one != nil && one != ref {
			return nil, true
		}
		one = ref
	}
	return in(map[string]any{"$ref": one}), true
}

type fieldChecker struct {
	known map[string]*node
	vars  map[ast.Var]*node
	errs  ast.Errors
}

// walk follows a reference. bad is the first part that cannot be there.
func (c *fieldChecker) walk(ref ast.Ref) (n *node, bad *ast.Term) {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return nil, nil
	}
	n, rest := c.vars[head], ref[1:]
	// The longest prefix with a schema: data.sallyport.lib.dataset.
	for i := len(ref); n == nil && i > 0; i-- {
		if n = c.known[ref[:i].String()]; n != nil {
			rest = ref[i:]
		}
	}
	for _, t := range rest {
		if n == nil {
			return nil, nil
		}
		next, ok := n.at(t.Value)
		if !ok {
			return nil, t
		}
		n = next
	}
	return n, nil
}

func (c *fieldChecker) term(t *ast.Term) *node {
	switch v := t.Value.(type) {
	case ast.Var:
		return c.vars[v]
	case ast.Ref:
		n, _ := c.walk(v)
		return n
	}
	return nil
}

// bind learns what a local variable is from x = ref, and from object.get.
func (c *fieldChecker) bind(e *ast.Expr) bool {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || len(terms) != 3 || !e.IsEquality() && !e.IsAssignment() {
		return false
	}
	for _, p := range [][2]*ast.Term{{terms[1], terms[2]}, {terms[2], terms[1]}} {
		if v, ok := p[0].Value.(ast.Var); ok && c.vars[v] == nil {
			if n := c.term(p[1]); n != nil {
				c.vars[v] = n
			}
		}
	}
	return false
}

func (c *fieldChecker) ref(r ast.Ref) bool {
	if _, bad := c.walk(r); bad != nil {
		c.fail(bad, r[0].Location, r.String())
	}
	return false
}

func (c *fieldChecker) get(e *ast.Expr) bool {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || len(terms) < 4 || !e.Operator().Equal(ast.ObjectGet.Ref()) {
		return false
	}
	n := c.term(terms[1])
	keys := []*ast.Term{terms[2]}
	if list, ok := terms[2].Value.(*ast.Array); ok {
		keys = keys[:0]
		list.Foreach(func(t *ast.Term) { keys = append(keys, t) })
	}
	for _, k := range keys {
		if n == nil {
			break
		}
		next, ok := n.at(k.Value)
		if !ok {
			c.fail(k, e.Location, "object.get")
			break
		}
		n = next
	}
	return false
}

func (c *fieldChecker) fail(bad *ast.Term, at *ast.Location, where string) {
	if bad.Location != nil && bad.Location.File != "" {
		at = bad.Location
	}
	c.errs = append(c.errs, ast.NewError(ast.TypeErr, at, "no schema has the field %s of %s", bad, where))
}

// location is where an error is. OPA's type checker takes the place of a
// reference's first part, which references through one import share: it is
// where the module uses the import last. The part that is wrong knows better.
func location(e *ast.Error) *ast.Location {
	if d, ok := e.Details.(*ast.RefErrInvalidDetail); ok && d.Pos < len(d.Ref) {
		if at := d.Ref[d.Pos].Location; at != nil && at.File != "" {
			return at
		}
	}
	return e.Location
}
