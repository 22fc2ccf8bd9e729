// Package plug is the one registry: an explicit list of the things of one kind
// (formats, stores, issuers, backends …) that a binary can open by name.
//
// A Set is a value filled where the binary is wired, never by init functions,
// so that a reviewer reads in one place what a gateway can do.
package plug

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Kind is one entry of a [Set]: a name, one line of documentation, and how to
// open it. decode fills a typed configuration and must refuse unknown keys.
type Kind[T any] struct {
	Name, Doc string
	Open      func(ctx context.Context, decode func(any) error) (T, error)
}

// Of returns a Kind whose configuration has type C.
func Of[C, T any](name, doc string, open func(context.Context, C) (T, error)) Kind[T] {
	return Kind[T]{Name: name, Doc: doc, Open: func(ctx context.Context, decode func(any) error) (T, error) {
		var c C
		if err := decode(&c); err != nil {
			var zero T
			return zero, err
		}
		return open(ctx, c)
	}}
}

// Set is a list of kinds with distinct names.
type Set[T any] struct {
	noun  string
	kinds []Kind[T]
}

// NewSet returns the set of kinds; noun is what messages call a member. It
// panics on a repeated name, which only a programmer can cause.
func NewSet[T any](noun string, kinds ...Kind[T]) Set[T] {
	seen := map[string]bool{}
	for _, k := range kinds {
		if seen[k.Name] {
			panic("plug: two kinds of " + noun + " named " + k.Name)
		}
		seen[k.Name] = true
	}
	return Set[T]{noun: noun, kinds: kinds}
}

// Noun returns what a member is called.
func (s Set[T]) Noun() string { return s.noun }

// Kinds returns the members in the order they were listed.
func (s Set[T]) Kinds() []Kind[T] { return slices.Clone(s.kinds) }

// Open opens the member called name. An unknown name is answered with the
// known ones.
func (s Set[T]) Open(ctx context.Context, name string, decode func(any) error) (T, error) {
	var names []string
	for _, k := range s.kinds {
		if k.Name == name {
			v, err := k.Open(ctx, decode)
			if err != nil {
				return v, fmt.Errorf("%s %s: %w", s.noun, name, err)
			}
			return v, nil
		}
		names = append(names, k.Name)
	}
	var zero T
	return zero, fmt.Errorf("unknown %s %q: this binary has %s", s.noun, name, strings.Join(names, ", "))
}
