// Package formattest is the conformance suite of [anonymize.Format]. A
// format's own test calls [Run] with samples and nothing more.
package formattest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport"
	"sallyport/anonymize"
)

// Sample is a well-formed file and what it holds. A field that is a list (see
// [anonymize.Lister]) is written with [List].
type Sample struct {
	Name    string
	Data    []byte
	Columns []string
	Records [][]string

	// Make returns the format that reads Data, such as one with options; nil
	// means the suite's.
	Make func() anonymize.Format
	// Back returns the format that reads what was written; nil means Make. A
	// format that writes no other dialect than its own needs it.
	Back func() anonymize.Format
	// Loose says that what is written may differ in its bytes from run to run,
	// or with the pieces in which the file arrives; what it holds may not.
	Loose bool
	// Odd says that Sniff need not recognize it: it must be declared.
	Odd bool
}

// Bad is a file that the format must refuse.
type Bad struct {
	Name   string
	Data   []byte
	Says   string // what the error must say, for example "line 3"
	Secret string // a value in Data that neither error nor hint may quote; "" for none

	// Make returns the format that must refuse it; nil means the suite's.
	Make func() anonymize.Format
	// Source, if set, returns the file instead of Data: one too large to keep.
	// The heap may not grow beyond the suite's bound before it is refused.
	Source func() anonymize.Source
}

// Samples are what the suite runs on. Each Good sample has at least two
// columns and two records.
type Samples struct {
	Good []Sample
	Bad  []Bad
	// Foreign are files that Sniff must not take for its own.
	Foreign [][]byte
	// Large returns a well-formed file of about size bytes, made as it is read.
	Large func(size int64) anonymize.Source
	// Loose says of large files what Sample.Loose says of samples.
	Loose bool
	// Heap is how many bytes the heap may grow during a pass; 0 means 16 MiB.
	Heap uint64
}

// List writes a list field: the items as [anonymize.AppendItem] joins them.
func List(items ...string) string {
	var list []byte
	for _, item := range items {
		list = anonymize.AppendItem(list, []byte(item))
	}
	return string(list)
}

// leaves are ways for records not to leave, by their number in the file.
var leaves = map[string]func(i int) bool{
	"the first record":    func(i int) bool { return i == 0 },
	"all records but one": func(i int) bool { return i != 0 },
	"every other record":  func(i int) bool { return i%2 == 1 },
	"no record":           func(int) bool { return false },
	"every record":        func(int) bool { return true },
}

// Run runs the suite on the formats that make returns.
func Run(t *testing.T, make func() anonymize.Format, samples Samples) {
	if len(samples.Good) == 0 || len(samples.Bad) == 0 || samples.Large == nil {
		t.Fatal("formattest: samples are needed: good, bad and large")
	}
	t.Run("name", func(t *testing.T) {
		name := make().Name()
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t/") {
			t.Errorf("Name() = %q: want one lower-case word", name)
		}
	})
	for _, s := range samples.Good {
		if s.Make == nil {
			s.Make = make
		}
		if s.Back == nil {
			s.Back = s.Make
		}
		t.Run("good/"+s.Name, func(t *testing.T) { good(t, s) })
		t.Run("damaged/"+s.Name, func(t *testing.T) { damaged(t, s) })
	}
	for _, b := range samples.Bad {
		if b.Make == nil {
			b.Make = make
		}
		t.Run("bad/"+b.Name, func(t *testing.T) { bad(t, b, samples.heap()) })
	}
	t.Run("sniff", func(t *testing.T) {
		for i, head := range samples.Foreign {
			if make().Sniff(head) {
				t.Errorf("Sniff takes foreign file %d for its own", i)
			}
		}
		if make().Sniff(nil) {
			t.Error("Sniff recognizes an empty file")
		}
	})
	t.Run("fork", func(t *testing.T) { fork(t, make(), samples) })
	t.Run("cancel", func(t *testing.T) { cancel(t, make(), samples) })
	t.Run("memory", func(t *testing.T) { memory(t, make(), samples) })
}

func (s Samples) heap() uint64 { return cmp.Or(s.Heap, 16<<20) }

func good(t *testing.T, s Sample) {
	f, back := s.Make(), s.Back()
	if !s.Odd && !f.Sniff(s.Data[:min(len(s.Data), 4096)]) {
		t.Error("Sniff does not recognize it")
	}
	want := &Recorder{Columns: s.Columns, Records: s.Records}

	var copied bytes.Buffer
	got := &Recorder{}
	if err := f.Rewrite(t.Context(), &copied, bytes.NewReader(s.Data), got); err != nil {
		t.Fatalf("Rewrite: %v", err)
	}
	got.compare(t, want, "in file order")

	again := &Recorder{}
	if err := back.Rewrite(t.Context(), io.Discard, bytes.NewReader(copied.Bytes()), again); err != nil {
		t.Fatalf("Rewrite of its own output: %v", err)
	}
	again.compare(t, want, "after writing and reading back")

	// The same file once more, in single bytes, and with the end told along
	// with data.
	for name, r := range map[string]io.Reader{
		"once more":          bytes.NewReader(s.Data),
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(s.Data)),
		"data with EOF":      iotest.DataErrReader(bytes.NewReader(s.Data)),
	} {
		var out bytes.Buffer
		got := &Recorder{}
		if err := s.Make().Rewrite(t.Context(), &out, source{r, bytes.NewReader(s.Data)}, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got.compare(t, want, name)
		if !s.Loose && !bytes.Equal(out.Bytes(), copied.Bytes()) {
			t.Errorf("%s: other output", name)
		}
	}

	// For an editor that knows the columns, and lets values keep their types.
	{
		var out bytes.Buffer
		known := &knower{columns: s.Columns}
		if err := f.Rewrite(t.Context(), &out, bytes.NewReader(s.Data), known); err != nil {
			t.Fatalf("for a Knower: %v", err)
		}
		known.compare(t, want, "for a Knower")
		again := &Recorder{}
		if err := back.Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), again); err != nil {
			t.Fatalf("reading back what a Knower and Typer wrote: %v", err)
		}
		again.compare(t, want, "read back from a Knower and Typer")
	}

	// One column less: it is absent from what is written.
	for drop := range s.Columns {
		var out bytes.Buffer
		if err := f.Rewrite(t.Context(), &out, bytes.NewReader(s.Data), &Recorder{Drop: s.Columns[drop]}); err != nil {
			t.Fatalf("without a column: %v", err)
		}
		less := &Recorder{}
		if err := back.Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), less); err != nil {
			t.Fatalf("reading back without a column: %v", err)
		}
		less.compare(t, want.without(drop), "without column "+s.Columns[drop])
	}

	// Records that do not leave are absent from what is written.
	for name, keep := range leaves {
		var out bytes.Buffer
		all := &Recorder{Keep: keep}
		if err := f.Rewrite(t.Context(), &out, bytes.NewReader(s.Data), all); err != nil {
			t.Fatalf("with %s: %v", name, err)
		}
		all.compare(t, want, "given while "+name+" leaves")
		less, some := &Recorder{}, &Recorder{Columns: want.Columns}
		for i, record := range want.Records {
			if keep(i) {
				some.Records = append(some.Records, record)
			}
		}
		if err := back.Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), less); err != nil {
			t.Fatalf("reading back %s: %v", name, err)
		}
		less.compare(t, some, "with "+name)
	}

	// Errors of the editor, of the source and of the sink come through.
	mark := errors.New("mark")
	if err := f.Rewrite(t.Context(), io.Discard, bytes.NewReader(s.Data), &Recorder{HeaderErr: mark}); !errors.Is(err, mark) {
		t.Errorf("error of Header: got %v", err)
	}
	if err := f.Rewrite(t.Context(), io.Discard, bytes.NewReader(s.Data), &Recorder{RecordErr: mark, After: 1}); !errors.Is(err, mark) {
		t.Errorf("error of Record: got %v", err)
	}
	failing := source{io.MultiReader(bytes.NewReader(s.Data[:len(s.Data)/2]), iotest.ErrReader(mark)), failingAt{mark, int64(len(s.Data))}}
	if err := f.Rewrite(t.Context(), io.Discard, failing, &Recorder{}); !errors.Is(err, mark) {
		t.Errorf("error of the source: got %v", err)
	}
	if err := f.Rewrite(t.Context(), failingWriter{mark}, bytes.NewReader(s.Data), &Recorder{}); !errors.Is(err, mark) {
		t.Errorf("error of the sink: got %v", err)
	}
}

// damaged sees to it that a file that was cut off or altered is read or
// refused, and nothing else. What it holds is not judged: in most formats a
// flipped bit can be one more well-formed file.
func damaged(t *testing.T, s Sample) {
	try := func(what string, data []byte) {
		t.Helper()
		f := s.Make()
		f.Sniff(data[:min(len(data), 4096)])
		err := f.Rewrite(t.Context(), io.Discard, bytes.NewReader(data), &Recorder{})
		if err == nil {
			return
		}
		if k := sallyport.KindOf(err); k != sallyport.Invalid && k != sallyport.Unsupported {
			t.Errorf("%s: %v, of kind %q; want %q", what, err, k, sallyport.Invalid)
		}
	}
	step := max(1, len(s.Data)/100)
	for i := 0; i < len(s.Data); i += step {
		try(fmt.Sprintf("cut off at byte %d", i), s.Data[:i:i])
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			data := bytes.Clone(s.Data)
			data[i] ^= flip
			try(fmt.Sprintf("byte %d xor %#02x", i, flip), data)
		}
	}
	try("with more behind it", append(bytes.Clone(s.Data), "\x00\xffmore"...))
}

func bad(t *testing.T, b Bad, heap uint64) {
	var src anonymize.Source = bytes.NewReader(b.Data)
	if b.Source != nil {
		src = b.Source()
	}
	var err error
	grown := grows(func(look func()) {
		err = b.Make().Rewrite(t.Context(), io.Discard, src, &counter{each: func(int64) { look() }})
	})
	if b.Source != nil && grown > heap {
		t.Errorf("heap grew by %d bytes; bound %d", grown, heap)
	}
	if err == nil {
		t.Fatal("accepted")
	}
	if k := sallyport.KindOf(err); k != sallyport.Invalid {
		t.Errorf("kind %q, want %q", k, sallyport.Invalid)
	}
	if !strings.Contains(err.Error(), b.Says) {
		t.Errorf("%q does not say %q", err, b.Says)
	}
	if sallyport.HintOf(err) == "" {
		t.Errorf("%q has no hint", err)
	}
	if b.Secret != "" && strings.Contains(err.Error()+sallyport.HintOf(err), b.Secret) {
		t.Errorf("%q quotes a value", err)
	}
}

func cancel(t *testing.T, f anonymize.Format, samples Samples) {
	const size = 16 << 20
	ctx, stop := context.WithCancel(t.Context())
	edit := &counter{each: func(n int64) {
		if n == 10 {
			stop()
		}
	}}
	if err := f.Rewrite(ctx, io.Discard, samples.Large(size), edit); err == nil {
		t.Error("Rewrite went on to the end after its context was canceled")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an error that is context.Canceled", err)
	}
	all := &counter{}
	if err := f.Rewrite(t.Context(), io.Discard, samples.Large(size), all); err != nil {
		t.Fatal(err)
	}
	if edit.n > all.n/2 {
		t.Errorf("stopped after %d of %d records", edit.n, all.n)
	}
}

// fork sees to it that sharing out the records changes nothing.
func fork(t *testing.T, f anonymize.Format, samples Samples) {
	const size = 4 << 20
	var alone, shared bytes.Buffer
	one := &counter{}
	if err := f.Rewrite(t.Context(), &alone, samples.Large(size), one); err != nil {
		t.Fatal(err)
	}
	all := &forker{}
	if err := f.Rewrite(t.Context(), &shared, samples.Large(size), all); err != nil {
		t.Fatal(err)
	}
	n := all.n
	for _, f := range all.forks {
		n += f.n
	}
	if n != one.n {
		t.Errorf("%d records shared out, %d alone", n, one.n)
	}
	if !samples.Loose && !bytes.Equal(alone.Bytes(), shared.Bytes()) {
		t.Error("other output when the records are shared out")
	}
	// Not even when none of them leaves.
	alone.Reset()
	shared.Reset()
	if err := f.Rewrite(t.Context(), &alone, samples.Large(size), &counter{none: true}); err != nil {
		t.Fatal(err)
	}
	all = &forker{counter: counter{none: true}}
	if err := f.Rewrite(t.Context(), &shared, samples.Large(size), all); err != nil {
		t.Fatal(err)
	}
	if !samples.Loose && !bytes.Equal(alone.Bytes(), shared.Bytes()) {
		t.Error("other output when the records are shared out and none leaves")
	}
	back := &counter{}
	if err := f.Rewrite(t.Context(), io.Discard, bytes.NewReader(shared.Bytes()), back); err != nil || back.n != 0 {
		t.Errorf("%d records left although none should: %v", back.n, err)
	}
}

// forker is a counter that can be forked. Each fork counts by itself, without
// a lock, as its Record is for one goroutine at a time.
type forker struct {
	counter
	forks []*counter
}

func (f *forker) Fork() (anonymize.Editor, error) {
	c := &counter{none: f.none}
	f.forks = append(f.forks, c)
	return c, nil
}

// memory sees to it that the heap does not grow with the file.
func memory(t *testing.T, f anonymize.Format, samples Samples) {
	const size = 64 << 20
	src := samples.Large(size)
	grown := grows(func(look func()) {
		if err := f.Rewrite(t.Context(), io.Discard, src, &counter{each: func(int64) { look() }}); err != nil {
			t.Fatal(err)
		}
	})
	if grown > samples.heap() {
		t.Errorf("heap grew by %d bytes while %d were rewritten; bound %d", grown, size, samples.heap())
	}
}

// grows returns by how many bytes the heap grew while do ran. do calls look
// for each record.
func grows(do func(look func())) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most, n := m.HeapAlloc, m.HeapAlloc, 0
	do(func() {
		if n++; n%20000 == 0 {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	})
	runtime.ReadMemStats(&m)
	return max(most, m.HeapAlloc) - before
}

// counter lets everything pass, or nothing, and counts.
type counter struct {
	n    int64
	none bool // no record leaves
	each func(n int64)
}

func (c *counter) Header(columns []string) ([]string, error) { return columns, nil }
func (c *counter) Record(fields [][]byte) ([][]byte, error) {
	if c.n++; c.each != nil {
		c.each(c.n)
	}
	if c.none {
		return nil, nil
	}
	return fields, nil
}

// Recorder is an Editor that notes what it is given and lets it pass.
type Recorder struct {
	Columns []string
	Records [][]string

	Drop      string // a column that does not leave
	HeaderErr error
	RecordErr error // of the record after After others
	After     int
	Keep      func(i int) bool // whether record i leaves; nil: all do

	kept []int
}

func (r *Recorder) Header(columns []string) ([]string, error) {
	if r.HeaderErr != nil {
		return nil, r.HeaderErr
	}
	if r.Columns != nil {
		return nil, errors.New("formattest: a second header")
	}
	r.Columns = slices.Clone(columns)
	var leaving []string
	for i, name := range columns {
		if name != r.Drop || r.Drop == "" {
			leaving = append(leaving, name)
			r.kept = append(r.kept, i)
		}
	}
	return leaving, nil
}

func (r *Recorder) Record(fields [][]byte) ([][]byte, error) {
	if r.RecordErr != nil && len(r.Records) == r.After {
		return nil, r.RecordErr
	}
	if len(fields) != len(r.Columns) {
		return nil, fmt.Errorf("formattest: %d fields for %d columns", len(fields), len(r.Columns))
	}
	record := make([]string, len(fields))
	for i, f := range fields {
		record[i] = string(f)
	}
	r.Records = append(r.Records, record)
	if r.Keep != nil && !r.Keep(len(r.Records)-1) {
		return nil, nil
	}
	leaving := make([][]byte, len(r.kept))
	for i, k := range r.kept {
		leaving[i] = fields[k]
	}
	return leaving, nil
}

// knower is a Recorder that knows the columns, and says that what leaves is of
// the type that came.
type knower struct {
	Recorder
	columns []string
}

func (k *knower) Columns() []string    { return k.columns }
func (k *knower) SameType(string) bool { return true }

var (
	_ anonymize.Knower = (*knower)(nil)
	_ anonymize.Typer  = (*knower)(nil)
)

func (r *Recorder) without(drop int) *Recorder {
	cut := func(s []string) []string { return slices.Delete(slices.Clone(s), drop, drop+1) }
	less := &Recorder{Columns: cut(r.Columns)}
	for _, record := range r.Records {
		less.Records = append(less.Records, cut(record))
	}
	return less
}

func (r *Recorder) compare(t *testing.T, want *Recorder, when string) {
	t.Helper()
	if !slices.Equal(r.Columns, want.Columns) {
		t.Errorf("%s: columns %q, want %q", when, r.Columns, want.Columns)
	}
	if !slices.EqualFunc(r.Records, want.Records, slices.Equal[[]string]) {
		t.Errorf("%s: records %q, want %q", when, r.Records, want.Records)
	}
}

// source reads from one and reads at the other.
type source struct {
	io.Reader
	at interface {
		io.ReaderAt
		Size() int64
	}
}

func (s source) ReadAt(b []byte, off int64) (int, error) { return s.at.ReadAt(b, off) }
func (s source) Size() int64                             { return s.at.Size() }

var _ anonymize.Sized = source{}

type failingAt struct {
	err  error
	size int64
}

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f failingAt) Size() int64                       { return f.size }

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
