package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize/planning"
	"sallyport/catalog"
)

type planCmd struct {
	File   string `arg:"" help:"The table."`
	Target string `arg:"" optional:"" help:"What to reach, in words: \"k=5, Safe Harbor, keep age useful\"."`

	K          *int64   `name:"k" placeholder:"N" help:"Records that share all quasi-identifiers, at least; 5 if nothing is asked."`
	L          *int64   `name:"l" placeholder:"N" help:"Distinct values of each sensitive column among them, at least."`
	T          *float64 `name:"t" placeholder:"0-1" help:"How far their sensitive values may be distributed from the table's, at most."`
	Limit      *float64 `placeholder:"0-1" help:"Share of the records that may stay behind; 0.04 if not said."`
	SafeHarbor bool     `help:"Also satisfy the HIPAA Safe Harbor."`
	Keep       []string `placeholder:"COLUMN,..." help:"Columns to keep useful: what they lose counts ten times, or as often as age=3 says."`

	Quasi       []string `placeholder:"COLUMN,..." help:"All columns by which a person could be recognized; proposed by the scan otherwise."`
	Sensitive   []string `placeholder:"COLUMN,..." help:"Columns that nobody may learn."`
	Direct      []string `placeholder:"COLUMN,..." help:"Columns that name a person by themselves."`
	Insensitive []string `placeholder:"COLUMN,..." help:"Columns that are none of these."`
	Subject     string   `placeholder:"COLUMN" help:"Column that identifies the data subject."`
	Roles       string   `placeholder:"FILE" help:"Take roles and identifiers from a plan or a catalog entry."`
	Hierarchies string   `placeholder:"DIR" help:"Folder of hierarchy files, COLUMN.csv each: value;parent;grandparent."`

	Output string `short:"o" placeholder:"PLAN.yaml" help:"Write the plan there."`
	Curve  string `placeholder:"CURVE.html" help:"Draw the curve of risk and utility there."`
	Force  bool   `help:"Replace files that exist."`
	Memory int64  `default:"512" placeholder:"MIB" help:"Memory for counting the table, in MiB."`
	dialect
}

func (planCmd) Help() string {
	return `Looks at a table, proposes what each column may tell, and searches all treatments of the quasi-identifiers for the one that reaches the target and loses least. It draws what other targets would cost. It needs no gateway, and changes nothing of the table.

  sallyport plan patients.csv
  sallyport plan patients.csv "k=5, Safe Harbor, keep age useful" -o plan.yaml --curve curve.html
  sallyport plan patients.csv --k 10 --l 2 --sensitive diagnosis --quasi birth_year,sex,zip

The search is exact, and nothing is sampled. Read the roles before you use the plan: a column that is taken for harmless and is not makes every figure wrong. Then: sallyport anonymize patients.csv OUT.csv --plan plan.yaml`
}

func (c planCmd) Run(a *app) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	for _, out := range []string{c.Output, c.Curve} {
		if _, err := os.Lstat(out); err == nil && out != "" && !c.Force {
			return sallyport.Errorf("plan", sallyport.Conflict, "Name another file, or say --force.", "%s exists", out)
		}
	}
	f, err := os.Open(c.File)
	if err != nil {
		return sallyport.E("plan", sallyport.NotFound, err, "Name a file.")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sallyport.E("plan", sallyport.Unavailable, err, "")
	}
	format, err := c.of("plan", f)
	if err != nil {
		return err
	}
	r, err := planning.Make(a.ctx, format, io.NewSectionReader(f, 0, info.Size()), o)
	if err != nil {
		return err
	}
	if c.Format != "" {
		r.File.Format = c.Format // with its options
	}
	if err := c.hierarchies(r, o); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := r.File.Write(&text); err != nil {
		return err
	}
	if c.Output != "" {
		if err := c.write(c.Output, text.Bytes()); err != nil {
			return err
		}
	}
	if c.Curve != "" {
		var page bytes.Buffer
		if err := r.Page(&page, filepath.Base(c.File)); err != nil {
			return err
		}
		if err := c.write(c.Curve, page.Bytes()); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(struct {
			*planning.Result
			Plan string `json:"plan"`
		}{r, text.String()})
	}
	return c.show(a.out, r, text.String())
}

// options puts flags, words and files together.
func (c planCmd) options() (planning.Options, error) {
	o := planning.Options{Target: planning.Target{K: 1, Limit: planning.DefaultLimit}, Subject: c.Subject, Transforms: transforms(),
		Quasi: c.Quasi, Sensitive: c.Sensitive, Direct: c.Direct, Insensitive: c.Insensitive, Curve: planning.Curve(), Now: time.Now}
	bad := func(hint, format string, args ...any) (planning.Options, error) {
		return planning.Options{}, sallyport.Errorf("plan", sallyport.Invalid, hint, format, args...)
	}
	if c.Memory < 1 || c.Memory > 1<<20 {
		return bad("Give it in MiB.", "the memory must be from 1 MiB to 1 TiB")
	}
	o.Memory = c.Memory << 20
	flags := c.K != nil || c.L != nil || c.T != nil || c.Limit != nil || c.SafeHarbor || len(c.Keep) > 0
	switch {
	case c.Target != "" && flags:
		return bad("Put it all into the words, or all into flags.", "the target is given in words and in flags")
	case c.Target != "":
		t, err := planning.ParseTarget(c.Target)
		if err != nil {
			return o, err
		}
		o.Target = t
	default:
		var text []string
		say := func(s string) { text = append(text, s) }
		if c.K == nil && c.L == nil && c.T == nil && !c.SafeHarbor {
			say("k=5")
		}
		if c.K != nil {
			say(fmt.Sprintf("k=%d", *c.K))
		}
		if c.L != nil {
			say(fmt.Sprintf("l=%d", *c.L))
		}
		if c.T != nil {
			say(fmt.Sprintf("t=%g", *c.T))
		}
		if c.Limit != nil {
			say(fmt.Sprintf("limit=%g", *c.Limit))
		}
		if c.SafeHarbor {
			say("Safe Harbor")
		}
		t, err := planning.ParseTarget(strings.Join(text, ", "))
		if err != nil {
			return o, err
		}
		for _, k := range c.Keep {
			keep, err := planning.ParseKeep(k)
			if err != nil {
				return o, err
			}
			t.Keep = append(t.Keep, keep)
		}
		o.Target = t
	}
	if c.Roles != "" {
		if err := c.roles(&o); err != nil {
			return o, err
		}
	}
	if c.Hierarchies != "" {
		entries, err := os.ReadDir(c.Hierarchies)
		if err != nil {
			return o, sallyport.E("plan", sallyport.NotFound, err, "Name a folder.")
		}
		for _, e := range entries {
			if !e.IsDir() && strings.EqualFold(filepath.Ext(e.Name()), ".csv") {
				o.Hierarchies = append(o.Hierarchies, e.Name())
			}
		}
		o.Hierarchy = func(name string) (io.ReadCloser, error) {
			f, err := os.Open(filepath.Join(c.Hierarchies, name))
			if err != nil {
				return nil, sallyport.E("hierarchy", sallyport.NotFound, err, "")
			}
			return f, nil
		}
	}
	return o, nil
}

// roles reads what is known of the columns from a plan or a catalog entry.
func (c planCmd) roles(o *planning.Options) error {
	src, err := os.ReadFile(c.Roles)
	if err != nil {
		return sallyport.E("plan", sallyport.NotFound, err, "Name a plan or a catalog entry.")
	}
	f, planErr := planning.Read(bytes.NewReader(src))
	if planErr == nil {
		o.Columns = f.Columns
		if o.Subject == "" {
			o.Subject = f.Subject
		}
		return nil
	}
	d, err := catalog.Parse(filepath.Base(c.Roles), src)
	if err != nil {
		if bytes.Contains(src, []byte("\nversion:")) || bytes.HasPrefix(src, []byte("version:")) {
			return planErr
		}
		return err
	}
	for _, col := range d.Columns {
		k := planning.Column{Name: col.Name, Role: col.Role, Identifier: col.Identifier}
		if m := col.Mask; m != nil && m.Verb != "keep" {
			k.Verb, k.Args = m.Verb, m.Args
		}
		o.Columns = append(o.Columns, k)
	}
	if o.Subject == "" {
		o.Subject = d.Subject
	}
	return nil
}

// hierarchies sees to it that the plan finds its hierarchy files: in the folder
// that was named, or, where some were made for it, all together in one beside it.
func (c planCmd) hierarchies(r *planning.Result, o planning.Options) error {
	var used []string
	for _, col := range r.File.Columns {
		name, ok := col.Args["file"].(string)
		if ok && col.Verb == "hierarchy" && !slices.Contains(used, name) {
			used = append(used, name)
		}
	}
	if len(used) == 0 {
		return nil
	}
	if len(r.Generated) == 0 {
		r.File.Hierarchies = filepath.ToSlash(c.Hierarchies)
		if c.Output == "" {
			return nil
		}
		base, err1 := filepath.Abs(filepath.Dir(c.Output))
		dir, err2 := filepath.Abs(c.Hierarchies)
		rel, err3 := filepath.Rel(base, dir)
		if err := errors.Join(err1, err2, err3); err != nil {
			return sallyport.E("plan", sallyport.Invalid, err, "Put plan and hierarchies on the same disk.")
		}
		r.File.Hierarchies = filepath.ToSlash(rel)
		return nil
	}
	if c.Output == "" {
		r.Notes = append(r.Notes, "The plan needs hierarchy files that are made with it: write it with -o.")
		return nil
	}
	dir := strings.TrimSuffix(c.Output, filepath.Ext(c.Output)) + ".hierarchies"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return sallyport.E("plan", sallyport.Unavailable, err, "")
	}
	r.File.Hierarchies = filepath.Base(dir)
	for _, name := range used {
		b, ok := r.Generated[name]
		if !ok {
			f, err := o.Hierarchy(name)
			if err != nil {
				return err
			}
			b, err = io.ReadAll(f)
			f.Close()
			if err != nil {
				return sallyport.E("plan", sallyport.Unavailable, err, "")
			}
		}
		if err := c.write(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file whole or not at all; one that holds the same already is
// left alone.
func (c planCmd) write(path string, b []byte) error {
	fail := func(err error) error { return sallyport.E("plan", sallyport.Unavailable, err, "") }
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, b):
		return nil
	case err == nil && !c.Force:
		return sallyport.Errorf("plan", sallyport.Conflict, "Name another file, or say --force.", "%s exists", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}

func (c planCmd) show(w io.Writer, r *planning.Result, text string) error {
	fmt.Fprintf(w, "%s, %d records, target %s\n\n", r.File.Format, r.Records, r.Target)
	var rows [][]string
	for _, ch := range r.Columns {
		useful := ""
		if len(ch.Ladder) > 0 {
			useful = percentOf(ch.Utility)
		}
		evidence := strings.Join(ch.Evidence, "; ")
		if ch.Warning != "" {
			evidence = "! " + ch.Warning + "; " + evidence
		}
		rows = append(rows, []string{ch.Column, string(ch.Role), clip(ch.Treatment, 44), useful, evidence})
	}
	table(w, []string{"column", "role", "treatment", "useful", "why"}, rows)
	if len(r.SafeHarbor) > 0 {
		fmt.Fprintln(w, "\nSafe Harbor, 45 CFR 164.514(b)(2)(i)")
		rows = nil
		for _, row := range r.SafeHarbor {
			var columns []string
			for _, col := range row.Columns {
				s := col.Column + ": " + clip(col.Treatment, 30)
				if col.Why != "" {
					s += " (" + col.Why + ")"
				}
				columns = append(columns, s)
			}
			answer := "yes"
			switch {
			case !row.Satisfied:
				answer = "NO"
			case len(columns) == 0: // that nobody declared one does not mean that there is none
				answer = "none declared"
			}
			rows = append(rows, []string{"(" + row.Letter + ")", row.Title, answer, list(columns)})
		}
		table(w, []string{"", "category", "satisfied", "columns"}, rows)
	}
	if r.Chosen != nil {
		fmt.Fprintln(w)
		if err := r.Draw(w); err != nil {
			return err
		}
		fmt.Fprintf(w, "\nUseful is what is left of the information in the quasi-identifiers. %d treatments, %d had to be tried.\n", r.Nodes, r.Checks)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintln(w, "A column that could recognize a person and is not a quasi-identifier here is not in these figures.")
	if c.Output != "" {
		fmt.Fprintf(w, "\nWrote %s. Read the roles in it before you use it.\n", c.Output)
	} else {
		fmt.Fprintf(w, "\n%s", text)
	}
	if c.Curve != "" {
		fmt.Fprintf(w, "Drew %s.\n", c.Curve)
	}
	return nil
}
