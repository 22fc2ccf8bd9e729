package bench

import (
	"bufio"
	"compress/gzip"
	"context"
	stdcsv "encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	peer "github.com/parquet-go/parquet-go"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/jsonl"
	"sallyport/anonymize/parquet"
	"sallyport/anonymize/transform"
)

// TableOptions say how much of the tables is measured.
type TableOptions struct {
	Options
	Census int64  // records of the census
	Python string // an interpreter with pandas, and Presidio if it is there; "": peers in Python are left out
	Adult  string // folder of the Adult census table with ARX's hierarchies; "": the search is left out
}

// row of the bench's table, as the Parquet library wants it.
type row struct {
	MRN       string `parquet:"mrn,zstd" json:"mrn"`
	Encounter string `parquet:"encounter,zstd" json:"encounter"`
	Age       string `parquet:"age,zstd" json:"age"`
	Sex       string `parquet:"sex,zstd,dict" json:"sex"`
	ZIP       string `parquet:"zip,zstd" json:"zip"`
	Admitted  string `parquet:"admitted,zstd" json:"admitted"`
	Visit     string `parquet:"visit,zstd" json:"visit"`
	Diagnosis string `parquet:"diagnosis,zstd,dict" json:"diagnosis"`
	HbA1c     string `parquet:"hba1c,zstd" json:"hba1c"`
	Codes     string `parquet:"codes,zstd" json:"codes"`
}

func rowOf(r []string) row {
	return row{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9]}
}

// kind is a file format with a file of the bench's table in it.
type kind struct {
	name, format, file string
	// copy reads the file and writes it again with the library that Go programs
	// would take, to dst.
	library string
	copy    func(dst io.Writer, src *os.File) error
}

// Tables measures what is done to tables: each format beside age and the usual
// library, the census, the search for a plan, the matcher, and peers in Python.
func Tables(ctx context.Context, o TableOptions) ([]Figure, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	runner := anonymize.NewRunner([]anonymize.Format{csv.New(), jsonl.New(), parquet.New()}, []anonymize.Transform{
		transform.Pseudonym{}, transform.Generalize{}, transform.Prefix{}, transform.Date{}, transform.ShiftDate{}})
	kinds, err := o.lay()
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, k := range kinds {
		f, err := o.format(ctx, runner, k)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		figures = append(figures, f...)
	}
	first := figures[0]
	for _, part := range []func(context.Context) ([]Figure, error){
		func(ctx context.Context) ([]Figure, error) { return o.python(ctx, kinds[0].file, first) },
		o.census, o.search, o.matcher,
		func(ctx context.Context) ([]Figure, error) { return memory(ctx, o.Options) },
	} {
		f, err := part(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f...)
	}
	return figures, nil
}

// lay writes the table in each format into the bench's folder.
func (o TableOptions) lay() ([]kind, error) {
	path := func(name string) string { return filepath.Join(o.Dir, name) }
	plain := func(dst io.Writer, src *os.File) error { return copyCSV(dst, struct{ io.Reader }{src}) }
	kinds := []kind{
		{"CSV", "csv", path("table.csv"), "encoding/csv", plain},
		{"CSV, gzip", "csv", path("table.csv.gz"), "encoding/csv over compress/gzip, read and written", gzipped},
		{"CSV, zstd", "csv", path("table.csv.zst"), "encoding/csv over klauspost/compress, read and written", zstandard},
		{"JSON Lines", "jsonl", path("table.jsonl"), "encoding/json, decoded to maps and encoded", copyJSON},
		{"Parquet, zstd", "parquet", path("table.parquet"), "parquet-go, rows of a struct", copyParquet},
	}
	o.say("writing a table of %d MB in %d formats", o.Size, len(kinds))
	lines, rows, err := o.layText(kinds[0].file, kinds[3].file, kinds[4].file)
	if err != nil {
		return nil, err
	}
	if lines != rows {
		return nil, sallyport.Errorf("bench", sallyport.Internal, "", "%d lines, %d rows", lines, rows)
	}
	for i, pack := range []func(io.Writer) (io.WriteCloser, error){1: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		2: func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }} {
		if pack == nil {
			continue
		}
		if err := repack(kinds[i].file, kinds[0].file, pack); err != nil {
			return nil, err
		}
	}
	return kinds, nil
}

func repack(to, from string, pack func(io.Writer) (io.WriteCloser, error)) error {
	return create(to, func(w io.Writer) error {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		p, err := pack(w)
		if err != nil {
			return err
		}
		_, err = io.Copy(p, f)
		return errors.Join(err, p.Close())
	})
}

// create writes a file of the bench.
func create(name string, fill func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder with enough room by --dir.")
	}
	b := bufio.NewWriterSize(f, buffer)
	err = fill(b)
	if err = errors.Join(err, b.Flush(), f.Close()); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder with enough room by --dir.")
	}
	return nil
}

func (o TableOptions) layText(asCSV, asJSON, asParquet string) (lines, rows int64, err error) {
	if err := create(asCSV, func(w io.Writer) error {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{NewTable(int64(o.Size)*MB, false)}, make([]byte, buffer))
		return err
	}); err != nil {
		return 0, 0, err
	}
	f, err := os.Open(asCSV)
	if err != nil {
		return 0, 0, failed(err)
	}
	defer f.Close()
	r := stdcsv.NewReader(bufio.NewReaderSize(f, buffer))
	if _, err := r.Read(); err != nil {
		return 0, 0, failed(err)
	}
	err = create(asJSON, func(j io.Writer) error {
		return create(asParquet, func(p io.Writer) error {
			js, pq := json.NewEncoder(j), peer.NewGenericWriter[row](p)
			for {
				rec, err := r.Read()
				if err == io.EOF {
					return pq.Close()
				}
				if err != nil {
					return err
				}
				v := rowOf(rec)
				if err := js.Encode(v); err != nil {
					return err
				}
				lines++
				n, err := pq.Write([]row{v})
				if err != nil {
					return err
				}
				rows += int64(n)
				if rows%100_000 == 0 {
					if err := pq.Flush(); err != nil { // a row group
						return err
					}
				}
			}
		})
	})
	return lines, rows, err
}

// format measures one format. Throughput is of the file's bytes as they lie;
// of compressed ones the note says how many they unpack to.
func (o TableOptions) format(ctx context.Context, runner *anonymize.Runner, k kind) ([]Figure, error) {
	st, err := os.Stat(k.file)
	if err != nil {
		return nil, failed(err)
	}
	p := plan(Dataset("bench", tableRef))
	p.Format = k.format
	env := anonymize.PassEnv{Key: func(purpose string) []byte { return []byte(fmt.Sprintf("%-32s", purpose))[:32] }, SpillDir: o.Dir}
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
	ours := &contender{name: k.name + ": the pass", run: from(func(f *os.File) error {
		report, err = runner.Run(ctx, p, env, new(sink), f)
		return err
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
		for _, c := range []*contender{ours, alone, library} {
			o.say("run %d of %d: %s", run+1, o.Runs, c.name)
			if err := c.measure(ctx, st.Size()); err != nil {
				return nil, err
			}
		}
	}
	if want := NewTable(int64(o.Size)*MB, false).rows; report.After.Records != want || !report.After.Exact {
		return nil, sallyport.Errorf("bench", sallyport.Internal, "", "the pass counted %d of %d records", report.After.Records, want)
	}
	note := fmt.Sprintf("%s; %s; %.1f MB as it lies, %.1f as plain CSV; 10 columns, 2 pseudonyms, 1 date shift, 3 generalizations, exact census, to memory",
		Machine(), Times(o.Runs), float64(st.Size())/MB, float64(o.Size))
	speed := New(k.name+", the pass", Median(ours.mbps), "MB/s", note)
	return []Figure{speed.Against("age.Encrypt alone, same bytes", Median(alone.mbps)), speed.Against(k.library+", merely copying", Median(library.mbps))}, nil
}

func gzipped(dst io.Writer, src *os.File) error {
	r, err := gzip.NewReader(bufio.NewReaderSize(src, buffer))
	if err != nil {
		return err
	}
	w := gzip.NewWriter(dst)
	return errors.Join(copyCSV(w, r), w.Close())
}

func zstandard(dst io.Writer, src *os.File) error {
	r, err := zstd.NewReader(src)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := zstd.NewWriter(dst)
	if err != nil {
		return err
	}
	return errors.Join(copyCSV(w, r), w.Close())
}

func copyJSON(dst io.Writer, src *os.File) error {
	out := bufio.NewWriterSize(dst, buffer)
	d, e := json.NewDecoder(bufio.NewReaderSize(src, buffer)), json.NewEncoder(out)
	for {
		var v map[string]any
		if err := d.Decode(&v); err == io.EOF {
			return out.Flush()
		} else if err != nil {
			return err
		}
		if err := e.Encode(v); err != nil {
			return err
		}
	}
}

func copyParquet(dst io.Writer, src *os.File) error {
	r, w := peer.NewGenericReader[row](src), peer.NewGenericWriter[row](dst)
	defer r.Close()
	rows := make([]row, 1000)
	total := 0
	for {
		n, err := r.Read(rows)
		if _, werr := w.Write(rows[:n]); werr != nil {
			return werr
		}
		if total += n; total >= 100_000 {
			total = 0
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return w.Close()
		}
		if err != nil {
			return err
		}
	}
}

// rate runs work o.Runs times and returns the median of n a second.
func (o TableOptions) rate(ctx context.Context, what string, n float64, work func() error) (float64, error) {
	var rates []float64
	for run := range o.Runs {
		o.say("run %d of %d: %s", run+1, o.Runs, what)
		if err := ctx.Err(); err != nil {
			return 0, sallyport.E("bench", sallyport.Canceled, err, "")
		}
		began := time.Now()
		if err := work(); err != nil {
			return 0, err
		}
		rates = append(rates, n/time.Since(began).Seconds())
	}
	return Median(slices.Clone(rates)), nil
}
