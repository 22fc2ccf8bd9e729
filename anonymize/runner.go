package anonymize

import (
	"context"
	"encoding/json"
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
	// SpillDir is a folder for sealed runs of the censuses where memory is
	// short: with it they count exactly whatever the number of classes. ""
	// writes nothing to disk.
	SpillDir string
	// Diversity asks for Diversity and Closeness of what leaves whatever it
	// costs: memory of the censuses' for each pair of a class and a sensitive
	// value, and as much time again. Without it they are measured only where
	// there are few enough pairs, about 75,000, that nobody notices.
	Diversity bool
	// Contribution asks for what each quasi-identifier adds to the risk; it
	// costs one census for each.
	Contribution bool
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

// Format returns the format called name, tuned if options follow the name (see
// [SplitFormat]).
func (r *Runner) Format(name string) (Format, error) {
	base, options, err := SplitFormat(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range r.formats {
		if f.Name() != base {
			names = append(names, f.Name())
			continue
		}
		if len(options) == 0 {
			return f, nil
		}
		t, ok := f.(Tuned)
		if !ok {
			return nil, invalid("Name the format alone.", "format %s has no options", base)
		}
		return t.With(options)
	}
	return nil, sallyport.Errorf("anonymize", sallyport.Invalid, "Known formats: "+strings.Join(names, ", ")+".", "unknown format %q", base)
}

// agree refuses a file that is of another format than it was declared to be. A
// head that no format recognizes is no reason: one column without a delimiter is
// a table, too.
func (r *Runner) agree(declared Format, head []byte) error {
	if declared.Sniff(head) {
		return nil
	}
	for _, f := range r.formats {
		if f.Name() != declared.Name() && f.Sniff(head) {
			return invalid("Correct the dataset's format, or give the file that was meant.", "the file is declared to be %s and looks like %s", declared.Name(), f.Name())
		}
	}
	return nil
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
// has two row filters, and at least one column leaves. Its errors are those that
// Run would give before it reads a byte.
func (r *Runner) Check(plan Plan, env PassEnv) error {
	_, err := r.editor(plan, newSession(env))
	return err
}

// Run reads src, changes each record as plan says, writes what leaves to dst,
// and measures both. It returns when all is written and no goroutine of its
// own is left, so dst and src must return from blocking calls when ctx ends.
//
// A plan that suppresses, or that has a verb that must see its column first (a
// [Preparer]), makes Run read src several times: by ReadAt at first, and by Read
// at last, when it writes. A source that is not the same each time is
// Unavailable.
//
// Only columns that plan.Columns lists are known: the file must hold exactly
// these, in any order. Errors are Invalid for a plan or file that is not
// right, Exhausted if the classes of what leaves do not fit the census limit,
// Canceled if ctx ended, and whatever src and dst gave. The Report is of use
// only if the error is nil: nothing of a failed pass may be released.
func (r *Runner) Run(ctx context.Context, plan Plan, env PassEnv, dst io.Writer, src Source) (Report, error) {
	p := &run{runner: r, plan: plan, session: newSession(env), src: src}
	edit, err := r.editor(plan, p.session)
	if err != nil {
		return Report{}, err
	}
	if p.format, err = r.Format(plan.Format); err != nil {
		return Report{}, err
	}
	canonical, err := json.Marshal(plan)
	if err != nil {
		return Report{}, sallyport.E("anonymize", sallyport.Invalid, err, "Use only strings, numbers, booleans and lists as arguments.")
	}
	if len(edit.watched) > 0 {
		if err := edit.prepare(); err != nil {
			return Report{}, err
		}
		if err := p.before(ctx, edit); err != nil {
			return Report{}, err
		}
		edit.handOn()
		edit = nil
	}
	if err := p.sort(ctx); err != nil {
		return Report{}, err
	}
	if edit == nil || p.failing != nil {
		if edit, err = r.editor(plan, p.session); err != nil {
			return Report{}, err
		}
	}
	return p.write(ctx, edit, dst, sallyport.DigestOf(canonical))
}
