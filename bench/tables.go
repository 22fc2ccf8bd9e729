package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"filippo.io/age"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/seal"
)

// TableOptions say how much of the tables is measured.
type TableOptions struct {
	Options
	Census int64  // records of the census
	Python string // an interpreter with pandas, and Presidio if it is there; "": peers in Python are left out
	Adult  string // folder of the Adult census table with ARX's hierarchies; "": the search is left out
}

func (o TableOptions) check() error {
	if err := o.Options.check(); err != nil {
		return err
	}
	if o.Census < 1 {
		return sallyport.Errorf("bench", sallyport.Invalid, "Count one record at least.", "a census of %d records", o.Census)
	}
	if len(o.Child) == 0 {
		return errNoChild()
	}
	if o.Adult != "" {
		if _, err := os.Stat(filepath.Join(o.Adult, "adult.csv")); err != nil {
			return errNoAdult(err)
		}
	}
	if o.Python != "" {
		if _, err := exec.LookPath(o.Python); err != nil {
			return sallyport.E("bench", sallyport.NotFound, err, "Name an interpreter that has pandas with --python, or none.")
		}
	}
	return nil
}

// Tables measures what is done to tables: each format beside age and the usual
// library, peers in Python, the census, the search for a plan, the matcher, and
// memory at two sizes.
func Tables(ctx context.Context, o TableOptions) (_ []Figure, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Dir, err = os.MkdirTemp(o.Dir, "tables-"); err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	figures, err := o.formats(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range []func(context.Context) ([]Figure, error){
		o.census, o.search, o.matcher,
		func(ctx context.Context) ([]Figure, error) { return memory(ctx, o.Options) },
		o.footprint,
	} {
		f, err := part(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f...)
	}
	return figures, nil
}

// formats lays the table in each format, and measures each; then the peers in
// Python, on the same CSV.
func (o TableOptions) formats(ctx context.Context) (_ []Figure, err error) {
	table := NewTable(int64(o.Size)*MB, false)
	kinds, err := o.lay(o.Dir, table)
	if err != nil {
		return nil, err
	}
	l, err := openLab(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var figures []Figure
	for _, k := range kinds {
		f, err := o.format(ctx, l, k, table)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		figures = append(figures, f...)
	}
	// The pass to memory, not sealed: the peers do not seal.
	peers, err := o.python(ctx, kinds[0].file, table, figures[0])
	return append(figures, peers...), err
}

// format measures one format. Throughput is of the file's bytes as they lie;
// of compressed ones the note says how many they unpack to.
func (o TableOptions) format(ctx context.Context, l *lab, k kind, table *Table) ([]Figure, error) {
	st, err := os.Stat(k.file)
	if err != nil {
		return nil, failed(err)
	}
	from := func(use func(*os.File) error) func() error {
		return func() error {
			f, err := os.Open(k.file)
			if err != nil {
				return failed(err)
			}
			defer f.Close()
			return use(f)
		}
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, failed(err)
	}
	var report anonymize.Report
	pass := func(dst io.Writer, src *os.File) (err error) {
		report, err = l.pass(ctx, k.format, dst, src)
		return err
	}
	bare := &contender{name: k.name + ": the pass", run: from(func(f *os.File) error { return pass(new(sink), f) })}
	sealed := &contender{name: k.name + ": the pass, sealed", run: from(func(f *os.File) error {
		w, err := seal.Writer(new(sink), id.Recipient().String())
		if err != nil {
			return err
		}
		if err := pass(w, f); err != nil {
			return err
		}
		return w.Close()
	})}
	alone := &contender{name: k.name + ": age.Encrypt alone", run: from(func(f *os.File) error {
		w, err := age.Encrypt(new(sink), id.Recipient())
		if err != nil {
			return failed(err)
		}
		if _, err := io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, buffer)); err != nil {
			return failed(err)
		}
		return w.Close()
	})}
	library := &contender{name: k.name + ": " + k.library, run: from(func(f *os.File) error { return k.copy(new(sink), f) })}
	for run := range o.Runs {
		for _, c := range []*contender{bare, sealed, alone, library} {
			o.say("run %d of %d: %s", run+1, o.Runs, c.name)
			if err := c.measure(ctx, st.Size()); err != nil {
				return nil, err
			}
		}
	}
	if report.After.Records != table.rows || !report.After.Exact {
		return nil, sallyport.Errorf("bench", sallyport.Internal, "", "the pass counted %d of %d records", report.After.Records, table.rows)
	}
	note := fmt.Sprintf("%s; %s; %.1f MB as it lies, %.1f as plain CSV; 10 columns, 2 pseudonyms, 1 date shift, 3 generalizations, exact census, what leaves scanned for identifiers; to memory",
		Machine(), Times(o.Runs), float64(st.Size())/MB, float64(table.Size())/MB)
	ageNote, libraryNote := note, note+"; the peer merely copies"
	if k.name == "CSV" {
		ageNote += "; target: 0.25 times at least"
		libraryNote += "; target: 3 times at least"
	}
	const ageAlone = "age.Encrypt alone, same bytes"
	return []Figure{
		New(k.name+", the pass", Median(bare.mbps), "MB/s", note).Against(ageAlone, Median(alone.mbps)),
		New(k.name+", the pass, sealed", Median(sealed.mbps), "MB/s", ageNote).Against(ageAlone, Median(alone.mbps)),
		New(k.name+", the pass, sealed", Median(sealed.mbps), "MB/s", libraryNote).Against(k.library, Median(library.mbps)),
	}, nil
}

// footprint is the memory of the pass over the formats whose files cannot be
// generated while they are read.
func (o TableOptions) footprint(ctx context.Context) ([]Figure, error) {
	sizes := []int{max(1, o.Size/8), o.Size}
	var at [2][]float64
	var reports [2][]childReport
	var names []string
	for i, size := range sizes {
		folder, err := os.MkdirTemp(o.Dir, "memory-")
		if err != nil {
			return nil, failed(err)
		}
		kinds, err := o.lay(folder, NewTable(int64(size)*MB, true))
		if err != nil {
			return nil, err
		}
		for _, k := range kinds[1:] {
			var peaks []float64
			var r childReport
			for run := range o.Runs {
				o.say("memory: %s, %d MB as CSV, run %d of %d", k.name, size, run+1, o.Runs)
				if r, err = child(ctx, o.Options, childTask{Few: true, Dir: o.Dir, File: k.file, Format: k.format}); err != nil {
					return nil, fmt.Errorf("%s: %w", k.name, err)
				}
				peaks = append(peaks, float64(r.After)/(1<<20))
			}
			at[i], reports[i] = append(at[i], Median(peaks)), append(reports[i], r)
			if i == 0 {
				names = append(names, k.name)
			}
		}
		if err := os.RemoveAll(folder); err != nil {
			return nil, failed(err)
		}
	}
	var figures []Figure
	for k, name := range names {
		figures = append(figures, New(fmt.Sprintf("peak memory, %s, %d MB as CSV", name, sizes[1]), at[1][k], "MiB",
			memoryNote(reports[1][k], o.Runs)+"; few raw classes; target: flat in the size").Against(fmt.Sprintf("the same pass at %d MB", sizes[0]), at[0][k]))
	}
	return figures, nil
}

// rates measures contenders in turn, o.Runs times each, and returns the median
// of n a second for each.
func (o TableOptions) rates(ctx context.Context, n float64, contenders ...*contender) ([]float64, error) {
	taken := make([][]float64, len(contenders))
	for run := range o.Runs {
		for i, c := range contenders {
			if err := ctx.Err(); err != nil {
				return nil, sallyport.E("bench", sallyport.Canceled, err, "")
			}
			o.say("run %d of %d: %s", run+1, o.Runs, c.name)
			runtime.GC() // nobody pays for the one before
			began := time.Now()
			if err := c.run(); err != nil {
				return nil, err
			}
			taken[i] = append(taken[i], n/time.Since(began).Seconds())
		}
	}
	medians := make([]float64, len(contenders))
	for i, t := range taken {
		medians[i] = Median(t)
	}
	return medians, nil
}
