package lint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// notes are the annotations that hold for a rule: its own, and those of a
// sibling whose scope is the document.
func notes(m module, r *ast.Rule) []*ast.Annotations {
	out := slices.Clone(r.Annotations)
	for _, o := range m.Rules {
		if o != r && name(o) == name(r) {
			for _, a := range o.Annotations {
				if a.Scope == "document" {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func label(m module, r *ast.Rule) (string, bool) {
	for _, a := range notes(m, r) {
		if l, ok := a.Labels["rule"].(string); ok {
			return l, true
		}
	}
	return "", false
}

// key is the constant string that a rule adds to its set.
func key(r *ast.Rule) (string, bool) {
	if r.Head.Key == nil || !set(r) {
		return "", false
	}
	s, ok := r.Head.Key.Value.(ast.String)
	return string(s), ok
}

func missingLabel(p *pass) {
	p.rules(func(m module, r *ast.Rule) {
		n := name(r)
		if r.Default || !set(r) || n != "passed" && n != "permit" && n != "deny" {
			return
		}
		got, ok := label(m, r)
		k, constant := key(r)
		switch {
		case !ok && constant && n != "deny":
			// A second way to the same label need not repeat it.
			if slices.ContainsFunc(m.Rules, func(o *ast.Rule) bool {
				ko, _ := key(o)
				l, has := label(m, o)
				return name(o) == n && ko == k && has && l == k
			}) {
				return
			}
			p.report(r.Location, fmt.Sprintf("Add to its METADATA: labels: {rule: %s}.", k), "the check %s has no label", k)
		case !ok:
			p.report(r.Location, "Add to its METADATA: labels: {rule: the.label}.", "this rule of %s has no label", n)
		case constant && n != "deny" && got != k:
			p.report(r.Location, fmt.Sprintf("Write labels: {rule: %s}, or correct the string.", k), "the rule adds %q and is labeled %q", k, got)
		}
	})
}

// checksTable compares the table of checks with the rules that pass them.
func checksTable(p *pass) {
	for _, m := range p.modules {
		if m.test {
			continue
		}
		var table ast.Object
		var at *ast.Location
		for _, r := range m.Rules {
			if o, ok := r.Head.Value, true; ok && name(r) == "checks" && o != nil && len(conditions(r)) == 0 {
				table, _ = o.Value.(ast.Object)
				at = r.Location
			}
		}
		if table == nil {
			continue
		}
		passed, open := map[string]*ast.Location{}, false
		p.rules(func(o module, r *ast.Rule) {
			if name(r) != "passed" || !o.Package.Path.Equal(m.Package.Path) {
				return
			}
			if k, ok := key(r); ok {
				passed[k] = r.Location
			} else {
				open = true
			}
		})
		listed := map[string]bool{}
		table.Foreach(func(k, _ *ast.Term) {
			s, ok := k.Value.(ast.String)
			if !ok {
				return
			}
			listed[string(s)] = true
			if passed[string(s)] == nil && !open {
				loc := k.Location
				if loc == nil {
					loc = at
				}
				p.report(loc, fmt.Sprintf("Write a rule: passed contains %q if …; or take it off the list.", s), "the check %s has no rule and never passes", s)
			}
		})
		for _, k := range slices.Sorted(maps.Keys(passed)) {
			if !listed[k] {
				p.report(passed[k], fmt.Sprintf("List it in checks with what it says and needs, or correct %q.", k), "the check %s is not listed in checks, so nobody waits for it", k)
			}
		}
	}
}

func unknownVerb(p *pass) {
	if len(p.opts.Verbs) == 0 {
		return
	}
	known := func(verb string) bool {
		return verb == "" || verb == "keep" || slices.Contains(p.opts.Verbs, verb)
	}
	fix := "Use one that this gateway can fulfill: " + strings.Join(slices.Sorted(slices.Values(p.opts.Verbs)), ", ") + "."
	mask := func(t *ast.Term) {
		o, ok := t.Value.(ast.Object)
		if !ok {
			return
		}
		o.Foreach(func(k, _ *ast.Term) {
			if s, ok := k.Value.(ast.String); ok && !known(string(s)) {
				p.report(k.Location, fix, "no mask has the verb %q", s)
			}
		})
	}
	p.rules(func(_ module, r *ast.Rule) {
		ast.WalkTerms(r, func(t *ast.Term) bool {
			o, ok := t.Value.(ast.Object)
			if !ok {
				return false
			}
			o.Foreach(func(k, v *ast.Term) {
				switch s, _ := k.Value.(ast.String); s {
				case "mask":
					mask(v)
				case "masks":
					if columns, ok := v.Value.(ast.Object); ok {
						columns.Foreach(func(_, m *ast.Term) { mask(m) })
					}
				}
			})
			return false
		})
		if name(r) == "masks" && r.Head.Value != nil {
			if object(r) || len(r.Head.Ref()) > 1 {
				mask(r.Head.Value)
			} else if columns, ok := r.Head.Value.Value.(ast.Object); ok {
				columns.Foreach(func(_, m *ast.Term) { mask(m) })
			}
		}
	})
	p.verbsOfData(known, fix)
}

// verbsOfData looks for verbs in the tables: lists named verbs, texts named verb.
func (p *pass) verbsOfData(known func(string) bool, fix string) {
	for _, file := range p.b.Files() {
		src, _ := p.b.File(file)
		if path.Base(file) != "data.json" {
			continue
		}
		var doc any
		if json.Unmarshal(src, &doc) != nil {
			continue
		}
		bad := func(verb string) {
			line := 1
			if i := bytes.Index(src, []byte(`"`+verb+`"`)); i >= 0 {
				line += bytes.Count(src[:i], []byte("\n"))
			}
			p.report(&ast.Location{File: file, Row: line, Col: 1}, fix, "no mask has the verb %q", verb)
		}
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, x := range v {
					walk(x)
				}
			case map[string]any:
				for _, k := range slices.Sorted(maps.Keys(v)) {
					if s, ok := v[k].(string); ok && k == "verb" && !known(s) {
						bad(s)
					}
					if list, ok := v[k].([]any); ok && k == "verbs" {
						for _, x := range list {
							if s, ok := x.(string); ok && !known(s) {
								bad(s)
							}
						}
					}
					walk(v[k])
				}
			}
		}
		walk(doc)
	}
}

func missingAnnotation(p *pass) {
	described := map[string]bool{}
	for _, m := range p.modules {
		for _, a := range m.Annotations {
			if (a.Scope == "package" || a.Scope == "subpackages") && a.Title != "" {
				described[m.Package.Path.String()] = true
			}
		}
	}
	done := map[string]bool{}
	for _, m := range p.modules {
		if pkg := m.Package.Path.String(); !m.test && !described[pkg] && !done[pkg] {
			done[pkg] = true
			p.report(m.Package.Location, "Write # METADATA with # title: before package.", "package %s has no title", strings.TrimPrefix(pkg, "data."))
		}
	}
	p.rules(func(m module, r *ast.Rule) {
		if isElse(m, r) {
			return
		}
		has := func(r *ast.Rule) bool {
			return slices.ContainsFunc(notes(m, r), func(a *ast.Annotations) bool { return a.Title != "" && a.Description != "" })
		}
		k, _ := key(r)
		sibling := slices.ContainsFunc(m.Rules, func(o *ast.Rule) bool {
			ko, _ := key(o)
			return document(m, o) == document(m, r) && ko == k && has(o)
		})
		id := document(m, r) + "/" + k
		if !has(r) && !sibling && !done[id] {
			done[id] = true
			p.report(r.Location, "Write # METADATA with # title: and # description: before it.", "rule %s has no title and description", r.Head.Ref())
		}
	})
}

var (
	attribute  = regexp.MustCompile(`^ ?([A-Za-z_]+):(\s|$)`)
	attributes = []string{"scope", "title", "description", "related_resources", "authors", "organizations", "schemas", "entrypoint", "custom", "compile", "labels"}
)

// blocks calls f with each run of comment lines.
func (m module) blocks(f func(lines []*ast.Comment)) {
	var block []*ast.Comment
	for _, c := range m.Comments {
		if n := len(block); n > 0 && (block[n-1].Location.Row+1 != c.Location.Row || block[n-1].Location.Col != c.Location.Col) {
			f(block)
			block = nil
		}
		block = append(block, c)
	}
	if len(block) > 0 {
		f(block)
	}
}

func annotationWithoutMetadata(p *pass) {
	for _, m := range p.modules {
		m.blocks(func(lines []*ast.Comment) {
			if slices.ContainsFunc(lines, isMetadata) {
				return
			}
			if found := attribute.FindSubmatch(lines[0].Text); found != nil && slices.Contains(attributes, string(found[1])) {
				p.report(lines[0].Location, "Write # METADATA on the line before.", "a comment looks like an annotation (%s) and is none", found[1])
			}
		})
	}
}

func isMetadata(c *ast.Comment) bool { return string(bytes.TrimSpace(c.Text)) == "METADATA" }

func invalidAttribute(p *pass) {
	for _, m := range p.modules {
		m.blocks(func(lines []*ast.Comment) {
			i := slices.IndexFunc(lines, isMetadata)
			if i < 0 {
				return
			}
			for _, c := range lines[i+1:] {
				if found := attribute.FindSubmatch(c.Text); found != nil && !slices.Contains(attributes, string(found[1])) {
					p.report(c.Location, "Known are "+strings.Join(attributes, ", ")+"; put anything else under custom.", "an annotation has no attribute %s", found[1])
				}
			}
		})
	}
}
