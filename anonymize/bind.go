package anonymize

import (
	"io"
	"strings"

	"sallyport"
)

// editor checks the plan and binds its verbs.
func (r *Runner) editor(plan Plan, s *session) (*editor, error) {
	format, err := r.Format(plan.Format)
	if err != nil {
		return nil, err
	}
	e := &editor{session: s, known: map[string]*column{}, subject: -1, plan: plan}
	e.lists, _ = format.(Lister)
	for _, c := range plan.Columns {
		switch {
		case c.Name == "":
			return nil, invalid("Name it, or scan the dataset again.", "the catalog lists a column without a name")
		case e.known[c.Name] != nil:
			return nil, invalid("List it once.", "the catalog lists column %q twice", c.Name)
		case !c.Role.Valid():
			return nil, invalid("Roles: direct, quasi, sensitive, insensitive.", "column %q has role %q", c.Name, c.Role)
		}
		e.known[c.Name] = &column{name: c.Name, role: c.Role, identifier: c.Identifier, in: -1}
	}
	if plan.Subject != "" && e.known[plan.Subject] == nil {
		return nil, invalid("Correct the dataset's subject in the catalog.", "the subject column %q is not among the dataset's columns", plan.Subject)
	}
	if err := plan.Suppress.check(); err != nil {
		return nil, err
	}
	if e.filters, err = filters(plan.Rows, e.known); err != nil {
		return nil, err
	}
	leaving := 0
	for _, o := range plan.Obligations {
		c := e.known[o.Column]
		if c == nil {
			return nil, invalid("Correct the policy, or add the column to the catalog.", "an obligation names column %q, which the catalog does not list", o.Column)
		}
		if c.bound {
			return nil, invalid("Let policy give one obligation a column.", "two obligations for column %q", o.Column)
		}
		c.bound = true
		if err := r.bind(e, c, o, plan.Rows); err != nil {
			return nil, err
		}
		if c.watch != nil {
			c.watch.filters = e.filters
			e.watched = append(e.watched, c.watch)
		}
		if c.leaves {
			leaving++
		}
	}
	if leaving == 0 {
		return nil, invalid("Let policy allow at least one column, or do not ask for the dataset.", "no column would leave")
	}
	r.joint(e)
	return e, nil
}

// bind gives c what obligation o says.
// With rows, the filters of the release that says it.
func (r *Runner) bind(e *editor, c *column, o sallyport.Obligation, rows []sallyport.RowFilter) error {
	env := e.env
	c.args = o.Args
	if o.Verb == "" {
		if len(o.Args) > 0 {
			return invalid("Remove the arguments, or name a verb.", "column %q: arguments without a verb", c.name)
		}
		c.leaves = true
		return nil
	}
	var names []string
	for _, t := range r.transforms {
		names = append(names, t.Name())
		if t.Name() != o.Verb {
			continue
		}
		c.verb = o.Verb
		if t, ok := t.(interface{ Traits() Traits }); ok {
			c.traits = t.Traits()
		}
		if c.traits.Subject && e.plan.Subject == "" {
			return invalid("Name the dataset's subject column in the catalog.", "column %q: %s works per subject, and the plan names no subject column", c.name, o.Verb)
		}
		c.leaves = !c.traits.Drops
		mine := Env{Column: c.name, Key: keyOf(env), Hierarchy: hierarchyOf(env)}
		bind := func() (Apply, error) { return t.Bind(o.Args, mine) }
		if p, ok := t.(Preparer); ok && c.leaves {
			c.prepares = true
			treatment := treatmentOf(o, true, rows)
			if prepared := e.prepared[treatment]; prepared != nil {
				bind = prepared.Bind
			} else {
				c.watch = &watch{treatment: treatment, column: e.known[c.name], prepare: func() (Preparation, error) { return p.Prepare(o.Args, mine) }}
			}
		}
		c.rebind = func() (Apply, error) {
			apply, err := bind()
			if err != nil {
				return nil, inColumn(c, err)
			}
			return apply, nil
		}
		var err error
		c.apply, err = c.rebind()
		return err
	}
	return invalid("Known verbs: "+strings.Join(names, ", ")+"; \"\" keeps the value.", "column %q: unknown verb %q", c.name, o.Verb)
}

// keyOf and hierarchyOf make absent parts answer rather than panic.
func keyOf(env PassEnv) func(string) []byte {
	if env.Key == nil {
		return func(string) []byte { return nil }
	}
	return env.Key
}

func hierarchyOf(env PassEnv) func(string) (io.ReadCloser, error) {
	if env.Hierarchy == nil {
		return func(name string) (io.ReadCloser, error) {
			return nil, sallyport.Errorf("hierarchy", sallyport.NotFound, "Configure where the site keeps its hierarchies.", "no hierarchy %q", name)
		}
	}
	return env.Hierarchy
}

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("anonymize", sallyport.Invalid, hint, format, args...)
}
