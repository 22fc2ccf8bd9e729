package register

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport"
)

// Bounds of what people write, in bytes.
const (
	maxWord = 200
	maxText = 2000
	maxList = 1000 // people or purposes of one grant
)

// Times lie between these years: Rego counts nanoseconds since 1970 in 64 bits,
// and a time beyond would make every decision that compares it an error.
const firstYear, lastYear = 1970, 2200

// fault is what is wrong with one value.
type fault struct{ at, text string }

func (f *fault) Error() string { return f.at + ": " + f.text }

func at(path, format string, args ...any) error { return &fault{path, fmt.Sprintf(format, args...)} }

// below puts a fault under a path.
func below(path string, err error) error {
	if f, ok := errors.AsType[*fault](err); ok {
		return &fault{path + "." + f.at, f.text}
	}
	return err
}

func invalidAt(path, format string, args ...any) error {
	return sallyport.E(op, sallyport.Invalid, at(path, format, args...), "")
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return sallyport.E(op, sallyport.Invalid, err, "")
}

func checkGrant(dataset, project string, g Grant) error {
	return invalid(first(word("dataset", dataset), word("project", project), g.check()))
}

func checkConsent(dataset, purpose string, c Consent) error {
	return invalid(first(word("dataset", dataset), word("purpose", purpose), c.check()))
}

func checkException(id string, e Exception, approved bool) error {
	return invalid(first(word("id", id), e.check(approved)))
}

// check returns the first fault.
func (g Grant) check() error {
	return first(
		words("purposes", g.Purposes), people(g.People), word("by", g.By), text("reason", g.Reason),
		period(g.Since, g.Until, true))
}

func people(list []string) error {
	if list == nil {
		return nil
	}
	if len(list) == 0 {
		return at("people", "is empty; leave it out for every member of the project, or name somebody")
	}
	return words("people", list)
}

func (c Consent) check() error {
	return first(text("basis", c.Basis), word("by", c.By), period(c.Since, c.Until, false))
}

func (e Exception) check(approved bool) error {
	err := first(words("checks", e.Checks), word("dataset", e.Dataset), word("project", e.Project),
		word("asked_by", e.AskedBy), text("reason", e.Reason), period(e.Since, e.Until, true))
	if err == nil && e.Purpose != "" {
		err = word("purpose", e.Purpose)
	}
	for i, c := range e.Checks {
		if err == nil && !label(c) {
			err = at(fmt.Sprintf("checks[%d]", i), "%q is no label of a check; one looks like admit.project_purpose", c)
		}
	}
	switch {
	case err != nil:
		return err
	case !approved && e.ApprovedBy != "":
		return at("approved_by", "an exception that waits is not approved")
	case approved && e.ApprovedBy == e.AskedBy:
		return at("approved_by", "%s asked for it; another person has to approve", e.AskedBy)
	case approved:
		return word("approved_by", e.ApprovedBy)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// label reports whether s is DOOR.CHECK.
func label(s string) bool {
	door, rest, ok := strings.Cut(s, ".")
	if !ok || door == "" || rest == "" || len(s) > maxWord {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '.')
	}) < 0
}

func words(name string, list []string) error {
	switch {
	case len(list) == 0:
		return at(name, "is missing or empty")
	case len(list) > maxList:
		return at(name, "has %d entries; at most %d", len(list), maxList)
	}
	seen := make(map[string]bool, len(list))
	for i, w := range list {
		if err := word(fmt.Sprintf("%s[%d]", name, i), w); err != nil {
			return err
		}
		if seen[w] {
			return at(fmt.Sprintf("%s[%d]", name, i), "%q is there twice", w)
		}
		seen[w] = true
	}
	return nil
}

// word checks a name: one line of printable characters.
func word(name, s string) error { return printable(name, s, maxWord) }

func text(name, s string) error { return printable(name, s, maxText) }

func printable(name, s string, most int) error {
	switch {
	case strings.TrimSpace(s) == "":
		return at(name, "is missing or empty")
	case len(s) > most:
		return at(name, "has %d bytes; at most %d", len(s), most)
	case !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) >= 0:
		return at(name, "holds characters that cannot be printed")
	case strings.TrimSpace(s) != s:
		return at(name, "begins or ends with a space")
	}
	return nil
}

func period(since, until time.Time, ends bool) error {
	if err := within("since", since); err != nil {
		return err
	}
	if until.IsZero() && !ends {
		return nil
	}
	if err := within("until", until); err != nil {
		return err
	}
	if !since.Before(until) {
		return at("until", "%s is not after since, %s", until.Format(time.RFC3339), since.Format(time.RFC3339))
	}
	return nil
}

func within(name string, t time.Time) error {
	switch y := t.UTC().Year(); {
	case t.IsZero():
		return at(name, "is missing")
	case y < firstYear || y > lastYear:
		return at(name, "%s lies outside the years %d to %d", t.Format(time.RFC3339), firstYear, lastYear)
	}
	return nil
}

// check looks at a whole state, and names the path of the first fault.
func (s *state) check() error {
	for _, dataset := range sorted(s.Grants) {
		for _, project := range sorted(s.Grants[dataset]) {
			if err := first(word("dataset", dataset), word("project", project), s.Grants[dataset][project].check()); err != nil {
				return below(join("grants", dataset, project), err)
			}
		}
	}
	for _, dataset := range sorted(s.Consents) {
		for _, purpose := range sorted(s.Consents[dataset]) {
			if err := first(word("dataset", dataset), word("purpose", purpose), s.Consents[dataset][purpose].check()); err != nil {
				return below(join("consents", dataset, purpose), err)
			}
		}
	}
	for _, id := range sorted(s.Exceptions) {
		if err := first(word("id", id), s.Exceptions[id].check(true)); err != nil {
			return below(join("exceptions", id), err)
		}
	}
	for _, id := range sorted(s.Pending) {
		if err := first(word("id", id), s.Pending[id].check(false)); err != nil {
			return below(join("pending", id), err)
		}
		if _, ok := s.Exceptions[id]; ok {
			return below(join("pending", id), at("id", "the same exception is approved"))
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// join writes a path; a key that is no plain word is quoted.
func join(keys ...string) string {
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte('.')
		}
		if k == "" || strings.IndexFunc(k, func(r rune) bool { return !(unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-') }) >= 0 {
			if len(k) > 60 {
				k = k[:60]
			}
			fmt.Fprintf(&b, "%q", k)
			continue
		}
		b.WriteString(k)
	}
	return b.String()
}
