package jsonl

import "strings"

// step is one step of a path: to the items of an array, or to a member.
type step struct {
	item bool
	key  string
}

// plain reports whether a key stands in a path as it is.
func plain(key string) bool {
	if key == "" {
		return false
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c < 0x20, c == 0x7f, c == '.', c == '[', c == ']', c == '"', c == '\\':
			return false
		}
	}
	return true
}

// appendStep appends s to the path in dst.
func appendStep(dst []byte, s step) []byte {
	switch {
	case s.item:
		return append(dst, "[]"...)
	case !plain(s.key):
		dst = append(dst, '[')
		dst = appendString(dst, []byte(s.key))
		return append(dst, ']')
	case len(dst) > 0:
		dst = append(dst, '.')
	}
	return append(dst, s.key...)
}

// parsePath returns the steps of a column's name. Only the one spelling that
// appendStep gives is accepted.
func parsePath(name string) ([]step, bool) {
	var steps []step
	for rest := name; rest != ""; {
		var s step
		switch {
		case strings.HasPrefix(rest, "[]") && len(steps) > 0:
			s.item, rest = true, rest[2:]
		case strings.HasPrefix(rest, `["`):
			var lex lexer
			lex.line = []byte(rest)
			end, escaped := lex.str(1)
			if end < 0 || end == len(rest) || rest[end] != ']' {
				return nil, false
			}
			s.key = rest[2 : end-1]
			if escaped {
				s.key = string(appendUnescaped(nil, []byte(s.key)))
			}
			rest = rest[end+1:]
		default:
			if len(steps) > 0 {
				if rest[0] != '.' {
					return nil, false
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			s.key, rest = rest[:end], rest[end:]
		}
		steps = append(steps, s)
	}
	var again []byte
	for _, s := range steps {
		again = appendStep(again, s)
	}
	return steps, len(steps) > 0 && string(again) == name
}
