package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport"
	"sallyport/internal/strict"
)

// entry is a dataset as people write it.
type entry struct {
	ID          string    `yaml:"id"`
	Title       string    `yaml:"title,omitempty"`
	Owner       string    `yaml:"owner"`
	Location    location  `yaml:"location"`
	Format      string    `yaml:"format"`
	Sensitivity string    `yaml:"sensitivity"`
	Residency   []string  `yaml:"residency,omitempty"`
	Purposes    []string  `yaml:"purposes"`
	Subject     string    `yaml:"subject,omitempty"`
	Standard    string    `yaml:"standard,omitempty"`
	Consent     bool      `yaml:"consent,omitempty"`
	Suppress    *suppress `yaml:"suppress,omitempty"`
	Columns     []column  `yaml:"columns"`
}

// suppress is what keeps records back from the outside.
type suppress struct {
	K     int64   `yaml:"k"`
	L     int64   `yaml:"l,omitempty"`
	T     float64 `yaml:"t,omitempty"`
	Limit float64 `yaml:"limit"`
}

type location struct {
	Store   string `yaml:"store"`
	Key     string `yaml:"key"`
	Version string `yaml:"version,omitempty"`
}

// column's Mask is {verb: {argument: value}}, as in the policy's masks.
type column struct {
	Name       string                    `yaml:"name"`
	Role       string                    `yaml:"role"`
	Type       string                    `yaml:"type,omitempty"`
	Mask       map[string]map[string]any `yaml:"mask,omitempty"`
	Identifier string                    `yaml:"identifier,omitempty"`
}

// identifiers are the words for the categories (A) to (R) of 45 CFR
// 164.514(b)(2)(i), in its order; (C) has two, since dates and ages over 89 are
// treated in different ways. "none" is for a column that is none of them.
func identifiers() []string {
	return []string{"name", "geographic", "date", "age", "telephone", "fax", "email", "ssn", "record", "beneficiary",
		"account", "license", "vehicle", "device", "url", "ip", "biometric", "photo", "other", "none"}
}

// word reports whether s can name a standard: a lower-case word with digits and underscores.
func word(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Parse decodes one entry. Errors name the file and the line.
func Parse(name string, src []byte) (sallyport.Dataset, error) {
	var d sallyport.Dataset
	fail := func(err error) (sallyport.Dataset, error) {
		return sallyport.Dataset{}, sallyport.E("read catalog", sallyport.Invalid, err,
			"`sallyport dataset scan FILE` prints a complete entry to start from.")
	}
	doc, err := strict.Parse(name, src)
	if err != nil {
		return fail(err)
	}
	var e entry
	if err := doc.Decode(&e); err != nil {
		return fail(err)
	}
	for path, v := range map[string]string{"$.id": e.ID, "$.owner": e.Owner, "$.format": e.Format,
		"$.sensitivity": e.Sensitivity, "$.location.store": e.Location.Store, "$.location.key": e.Location.Key} {
		if v == "" {
			return fail(doc.Errorf(path, "%s is required", strings.TrimPrefix(path, "$.")))
		}
	}
	if !sallyport.JobID(e.ID).Valid() {
		return fail(doc.Errorf("$.id", "id %q: use 1 to 64 of a-z, 0-9 and -", e.ID))
	}
	d = sallyport.Dataset{ID: e.ID, Title: e.Title, Owner: e.Owner, Format: e.Format,
		Location:    sallyport.Ref{Store: e.Location.Store, Key: e.Location.Key, Version: e.Location.Version},
		Sensitivity: sallyport.Sensitivity(e.Sensitivity), Residency: e.Residency, Purposes: e.Purposes, Subject: e.Subject,
		Standard: e.Standard, Consent: e.Consent}
	if !d.Sensitivity.Valid() {
		return fail(doc.Errorf("$.sensitivity", "sensitivity %q: it is public, internal, confidential or restricted", e.Sensitivity))
	}
	if d.Standard != "" && !word(d.Standard) {
		return fail(doc.Errorf("$.standard", "standard %q: it is a word such as safe_harbor", e.Standard))
	}
	if s := e.Suppress; s != nil {
		if s.K < 2 && s.L < 2 && s.T == 0 {
			return fail(doc.Errorf("$.suppress", "suppress asks for nothing: give k, l or t"))
		}
		if s.K < 0 || s.L < 0 || !(s.T >= 0 && s.T <= 1) || !(s.Limit > 0 && s.Limit < 1) {
			return fail(doc.Errorf("$.suppress", "suppress: k and l are counts, t is 0 to 1, and limit is the share of records that may be kept back, between 0 and 1"))
		}
		d.Suppress = &sallyport.Suppression{K: s.K, L: s.L, T: s.T, Limit: s.Limit}
	}
	if len(e.Purposes) == 0 {
		return fail(doc.Errorf("$.purposes", "purposes is empty: the dataset could not be used for anything"))
	}
	if len(e.Columns) == 0 {
		return fail(doc.Errorf("$.columns", "columns is empty: nothing could leave"))
	}
	names := map[string]bool{}
	for i, c := range e.Columns {
		at := fmt.Sprintf("$.columns[%d]", i)
		if c.Name == "" {
			return fail(doc.Errorf(at, "column %d has no name", i+1))
		}
		if names[c.Name] {
			return fail(doc.Errorf(at+".name", "column %q is listed twice", c.Name))
		}
		names[c.Name] = true
		if !sallyport.Role(c.Role).Valid() {
			return fail(doc.Errorf(at+".role", "column %q has role %q: it is direct, quasi, sensitive or insensitive", c.Name, c.Role))
		}
		if c.Identifier != "" && !slices.Contains(identifiers(), c.Identifier) {
			return fail(doc.Errorf(at+".identifier", "column %q has identifier %q: it is one of %s", c.Name, c.Identifier,
				strings.Join(identifiers(), ", ")))
		}
		col := sallyport.Column{Name: c.Name, Role: sallyport.Role(c.Role), Type: c.Type, Identifier: c.Identifier}
		if len(c.Mask) > 1 {
			return fail(doc.Errorf(at+".mask", "column %q has %d masks (%s): one is allowed", c.Name, len(c.Mask),
				strings.Join(slices.Sorted(maps.Keys(c.Mask)), ", ")))
		}
		for verb, args := range c.Mask {
			col.Mask = &sallyport.Mask{Verb: verb, Args: args}
		}
		d.Columns = append(d.Columns, col)
	}
	if d.Subject != "" && !names[d.Subject] {
		return fail(doc.Errorf("$.subject", "subject %q is not a column", d.Subject))
	}
	return d, nil
}

// Format writes an entry as people would, so that Parse reads the same back.
func Format(d sallyport.Dataset) ([]byte, error) {
	e := entry{ID: d.ID, Title: d.Title, Owner: d.Owner, Format: d.Format, Sensitivity: string(d.Sensitivity),
		Location:  location{Store: d.Location.Store, Key: d.Location.Key, Version: d.Location.Version},
		Residency: d.Residency, Purposes: d.Purposes, Subject: d.Subject, Standard: d.Standard, Consent: d.Consent}
	if s := d.Suppress; s != nil {
		e.Suppress = &suppress{K: s.K, L: s.L, T: s.T, Limit: s.Limit}
	}
	for _, c := range d.Columns {
		col := column{Name: c.Name, Role: string(c.Role), Type: c.Type, Identifier: c.Identifier}
		if c.Mask != nil {
			args := c.Mask.Args
			if args == nil {
				args = map[string]any{}
			}
			col.Mask = map[string]map[string]any{c.Mask.Verb: args}
		}
		e.Columns = append(e.Columns, col)
	}
	b, err := strict.Marshal(e)
	if err != nil {
		return nil, sallyport.E("write catalog entry", sallyport.Internal, err, "")
	}
	return b, nil
}
