package anonymize

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport"
)

// DefaultCensusLimit is the memory that counting equivalence classes may take
// where PassEnv names none: room for about 4 to 8 million classes.
const DefaultCensusLimit = 256 << 20

// PassEnv is what a pass may use of the site besides its plan.
type PassEnv struct {
	// Key returns 32 secret bytes for a purpose, keyed per project and stable.
	Key func(purpose string) []byte
	// Hierarchy opens a generalization hierarchy of the site by name.
	Hierarchy func(name string) (io.ReadCloser, error)
	// CensusLimit bounds the memory, in bytes, of the two risk censuses
	// together; 0 means DefaultCensusLimit.
	CensusLimit int64
	// Progress, if set, is told now and then how much was read. It is called
	// from one goroutine at a time, and not after Run returned.
	Progress func(bytesIn, records int64)
}

// Runner runs passes with the formats and verbs it was given. It keeps no
// state between passes and may run several at once.
type Runner struct {
	formats    []Format
	transforms []Transform
}

// NewRunner returns a Runner. It panics on a repeated name, which only a
// programmer can cause.
func NewRunner(formats []Format, transforms []Transform) *Runner {
	seen := map[string]bool{}
	for _, f := range formats {
		if seen["format "+f.Name()] {
			panic("anonymize: two formats named " + f.Name())
		}
		seen["format "+f.Name()] = true
	}
	for _, t := range transforms {
		if seen["verb "+t.Name()] {
			panic("anonymize: two transforms named " + t.Name())
		}
		seen["verb "+t.Name()] = true
	}
	return &Runner{formats: slices.Clone(formats), transforms: slices.Clone(transforms)}
}

// Formats returns the formats in the order they were given.
func (r *Runner) Formats() []Format { return slices.Clone(r.formats) }

// Transforms returns the verbs in the order they were given.
func (r *Runner) Transforms() []Transform { return slices.Clone(r.transforms) }

// Format returns the format called name.
func (r *Runner) Format(name string) (Format, error) {
	var names []string
	for _, f := range r.formats {
		if f.Name() == name {
			return f, nil
		}
		names = append(names, f.Name())
	}
	return nil, sallyport.Errorf("anonymize", sallyport.Invalid, "Known formats: "+strings.Join(names, ", ")+".", "unknown format %q", name)
}

// Sniff returns the first format that recognizes head, the first bytes of a file.
func (r *Runner) Sniff(head []byte) (Format, error) {
	var names []string
	for _, f := range r.formats {
		if f.Sniff(head) {
			return f, nil
		}
		names = append(names, f.Name())
	}
	return nil, sallyport.Errorf("anonymize", sallyport.Invalid, "Known formats: "+strings.Join(names, ", ")+".", "the file's format is not recognized")
}

// Check judges a plan without touching data: every name is known, every
// obligation's arguments are right, keys and hierarchies are there, no column
// has two row filters, and at least one column leaves. Its errors are those that Run would give before it
// reads a byte.
func (r *Runner) Check(plan Plan, env PassEnv) error {
	_, err := r.editor(plan, env)
	return err
}

// Run reads src, changes each record as plan says, writes what leaves to dst,
// and measures both. It returns when all is written and no goroutine of its
// own is left, so dst and src must return from blocking calls when ctx ends.
//
// Only columns that plan.Columns lists are known: the file must hold exactly
// these, in any order. Errors are Invalid for a plan or file that is not
// right, Exhausted if the classes of what leaves do not fit the census limit,
// Canceled if ctx ended, and whatever src and dst gave. The Report is of use
// only if the error is nil: nothing of a failed pass may be released.
func (r *Runner) Run(ctx context.Context, plan Plan, env PassEnv, dst io.Writer, src Source) (Report, error) {
	edit, err := r.editor(plan, env)
	if err != nil {
		return Report{}, err
	}
	format, err := r.Format(plan.Format)
	if err != nil {
		return Report{}, err
	}
	canonical, err := json.Marshal(plan)
	if err != nil {
		return Report{}, sallyport.E("anonymize", sallyport.Invalid, err, "Use only strings, numbers, booleans and lists as arguments.")
	}

	in := newIntake(ctx, src)
	out := newOutlet(ctx, dst)
	if env.Progress != nil {
		in.progress = func(read int64) { env.Progress(read, edit.records.Load()) }
	}
	err = format.Rewrite(ctx, out, in, edit)
	if err == nil {
		err = in.drain()
	}
	in.stop()
	if e := out.stop(); err == nil {
		err = e
	}
	if err == nil && !edit.begun {
		err = sallyport.Errorf("anonymize", sallyport.Invalid, "", "the file has no header")
	}
	if err != nil {
		if ctx.Err() != nil && sallyport.KindOf(err) == sallyport.Internal {
			err = sallyport.E("anonymize", sallyport.Canceled, err, "")
		}
		return Report{}, err
	}
	report, err := edit.report()
	if err != nil {
		return Report{}, err
	}
	if env.Progress != nil {
		env.Progress(in.n, edit.records.Load())
	}
	report.Plan = sallyport.DigestOf(canonical)
	report.Source, report.BytesIn = sallyport.DigestSum(in.sum.Sum(nil)), in.n
	report.Output, report.BytesOut = sallyport.DigestSum(out.sum.Sum(nil)), out.n
	return report, nil
}

// editor checks the plan and binds its verbs.
func (r *Runner) editor(plan Plan, env PassEnv) (*editor, error) {
	if _, err := r.Format(plan.Format); err != nil {
		return nil, err
	}
	limit := cmp.Or(env.CensusLimit, DefaultCensusLimit)
	memory := &budget{left: limit}
	e := &editor{known: map[string]*column{}, before: newCensus(memory), after: newCensus(memory), subject: -1, plan: plan}
	for _, c := range plan.Columns {
		switch {
		case c.Name == "":
			return nil, invalid("Name it, or scan the dataset again.", "the catalog lists a column without a name")
		case e.known[c.Name] != nil:
			return nil, invalid("List it once.", "the catalog lists column %q twice", c.Name)
		case !c.Role.Valid():
			return nil, invalid("Roles: direct, quasi, sensitive, insensitive.", "column %q has role %q", c.Name, c.Role)
		}
		e.known[c.Name] = &column{name: c.Name, role: c.Role, in: -1}
	}
	if plan.Subject != "" && e.known[plan.Subject] == nil {
		return nil, invalid("Correct the dataset's subject in the catalog.", "the subject column %q is not among the dataset's columns", plan.Subject)
	}
	var err error
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
		if err := r.bind(c, o, plan, env); err != nil {
			return nil, err
		}
		if c.leaves {
			leaving++
		}
	}
	if leaving == 0 {
		return nil, invalid("Let policy allow at least one column, or do not ask for the dataset.", "no column would leave")
	}
	return e, nil
}

// bind gives c what obligation o says.
func (r *Runner) bind(c *column, o sallyport.Obligation, plan Plan, env PassEnv) error {
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
		if c.traits.Subject && plan.Subject == "" {
			return invalid("Name the dataset's subject column in the catalog.", "column %q: %s works per subject, and the plan names no subject column", c.name, o.Verb)
		}
		c.rebind = func() (Apply, error) {
			apply, err := t.Bind(o.Args, Env{Column: c.name, Key: keyOf(env), Hierarchy: hierarchyOf(env)})
			if err != nil {
				return nil, sallyport.E(fmt.Sprintf("column %q", c.name), sallyport.KindOf(err), err, "")
			}
			return apply, nil
		}
		var err error
		if c.apply, err = c.rebind(); err != nil {
			return err
		}
		c.leaves = !c.traits.Drops
		return nil
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
