// Package anonymize is the pass between the two doors: one stream in, one
// stream out, each record transformed as the plan says and counted by the risk
// meter as it will leave. Memory is bounded, whatever the size of the dataset.
package anonymize

import (
	"context"
	"io"

	"sallyport"
)

// HeadSize is how many bytes of a file a format is recognized by, where there
// are so many. A block of zstd, which must be unpacked whole, is within it.
const HeadSize = 132 << 10

// Source is a dataset being read. Formats that can stream only Read.
type Source interface {
	io.Reader
	io.ReaderAt
}

// Editor decides what becomes of each record. A Format calls Header once, then
// Record for each record in file order.
//
// Header is given the column names in file order. Its answer holds the names
// that leave, in the order they will be written.
//
// Record is given one value per column of the header; the slices are valid only
// during the call. Its answer holds one value per column of Header's answer and
// is valid until the next call; nil, which no other answer is, means that the
// record does not leave, and nothing is written for it. An error ends the pass.
type Editor interface {
	Header(columns []string) ([]string, error)
	Record(fields [][]byte) ([][]byte, error)
}

// Forker is an Editor whose work can be shared out among goroutines. Fork, to
// be called after Header, returns one more Editor for the same pass: its Record
// may run while those of the others do, and a Format may give each of them any
// part of the records, as long as it writes the answers in file order. Its
// Header must not be called.
type Forker interface {
	Editor
	Fork() (Editor, error)
}

// Knower is an Editor that knows beforehand which columns there are. A format
// without a header, such as JSON Lines, gives Header exactly these, in this
// order; a path of the file that is not among them ends the pass. For any other
// Editor such a format reads the file once more, from its start, to find them.
type Knower interface {
	Editor
	Columns() []string
}

// Typer is an Editor that says of a leaving column whether what leaves is of
// the type that came: numbers stay numbers and dates dates. A typed format
// writes any other column as text. It is called after Header.
type Typer interface {
	Editor
	SameType(column string) bool
}

// Format reads and writes one file format.
//
// Sniff says whether head (the first bytes of a file, up to [HeadSize]) looks like
// this format. Rewrite streams src through edit to dst, less the records that
// edit answers with nil; it holds at most a few records in memory. Input that is not well-formed is a sallyport.Invalid that
// names the line and what to do, and never quotes a value. An error of edit
// ends the pass; it comes back as it is, or wrapped with the place in the file.
type Format interface {
	Name() string
	Sniff(head []byte) bool
	Rewrite(ctx context.Context, dst io.Writer, src Source, edit Editor) error
}

// Lister is a Format that has columns whose fields are lists of values, as
// [AppendItem] makes them: paths with [] in nested data. Verbs and the scan for
// identifiers see the items one by one.
type Lister interface {
	Format
	List(column string) bool
}

// Tuned is a Format with options. A plan names them after the format's name:
// "csv;delimiter=|;encoding=windows-1252". With returns the format so tuned; an
// unknown option or value is a sallyport.Invalid that names those there are.
type Tuned interface {
	Format
	With(options map[string]string) (Format, error)
}

// Sized is a Source that knows its size. A format that cannot stream needs it.
type Sized interface {
	Source
	Size() int64
}

// Apply appends the transformed value to dst and returns the extended slice,
// as strconv.AppendInt does. subject is the value of the dataset's subject
// column in the same record (nil if the plan names none).
type Apply func(dst, value, subject []byte) ([]byte, error)

// Env is what a transform may use besides its arguments.
type Env struct {
	Column    string                                   // the column being transformed
	Key       func(purpose string) []byte              // 32 secret bytes, keyed per project; stable
	Hierarchy func(name string) (io.ReadCloser, error) // generalization hierarchies of the site
}

// Transform is one verb of the obligation language. Bind checks the arguments
// (an unknown, missing or ill-typed one is a sallyport.Invalid) and returns
// what is applied to each value. Apply must be deterministic; it is called from
// one goroutine at a time, unless the verb's [Traits] say that it may be shared.
type Transform interface {
	Name() string // the verb
	Doc() string  // one line, with its arguments
	Bind(args map[string]any, env Env) (Apply, error)
}

// Traits is what the pass must know of a verb beyond what its Apply does. A
// Transform says so by a method `Traits() Traits`; one without it has the zero
// Traits, the cautious reading.
type Traits struct {
	Drops   bool // the column does not leave
	Keyed   bool // the value leaves as a keyed pseudonym: a direct identifier so treated is no longer counted as a quasi-identifier
	Opaque  bool // no part of the value leaves as it was: the residual scan has nothing to look for
	Subject bool // it needs the plan's subject column
	// SameType says that what leaves is of the type that came: a number stays a
	// number, a date a date. Only an "otherwise" or a missing value may differ.
	SameType bool
	// Reversible says that the holder of the key can undo it.
	Reversible bool
	// Shared says that Apply keeps no state, so that several goroutines may
	// call it at once. Other verbs are bound once for each goroutine.
	Shared bool
}

// Preparer is a Transform that must see a whole column before it can change it,
// such as microaggregation. It costs one reading more of the source: Prepare
// checks the arguments as Bind does, the Preparation is shown the column's value
// of every record that passes the row filters (of a list field, item by item),
// and its Bind then takes the place of the Transform's, whose Bind is used only
// to check a plan.
type Preparer interface {
	Transform
	Prepare(args map[string]any, env Env) (Preparation, error)
}

// Preparation gathers what a Preparer must know. Observe is called from one
// goroutine at a time, in no particular order of the records, and may not keep
// value; its memory is bounded, and sallyport.Exhausted is its answer beyond.
// Bind is called after the last Observe, once for each goroutine that needs an
// Apply of its own.
type Preparation interface {
	Observe(value []byte) error
	Bind() (Apply, error)
}

// Plan says what becomes of a table. Columns without an obligation do not
// leave; a column that the plan names and the file lacks is an error.
type Plan struct {
	Dataset string `json:"dataset"`
	// Format is a format's name, with its options if it is [Tuned]: "csv;delimiter=|".
	Format      string                 `json:"format"`
	Columns     []sallyport.Column     `json:"columns"` // what the catalog says of the file's columns
	Subject     string                 `json:"subject,omitempty"`
	Obligations []sallyport.Obligation `json:"obligations"`
	// Rows are filters that a record must all pass to leave. They are compared,
	// byte for byte, with values as the file has them (without the format's
	// quotes), also of columns that do not leave. None: every record leaves.
	Rows []sallyport.RowFilter `json:"rows,omitempty"`
	// Suppress keeps back records whose class would be too risky. The source is
	// then read twice: to count, and to write.
	Suppress *Suppression `json:"suppress,omitempty"`
	// Earlier are earlier releases of the same dataset. What they and this one
	// say together is measured, as if all had been made of the source as it is.
	Earlier []Earlier `json:"earlier,omitempty"`
}

// Suppression says which records do not leave because of their company. To take
// records out moves the whole table's distribution, by which T is measured: where
// T is asked for, classes are counted anew over what is left until none fails.
type Suppression sallyport.Suppression

// Earlier is what policy let leave of the same dataset before. Records that the
// release kept back because of their class are counted as if they had left: it
// cannot be known which they were once the dataset has changed, and classes come
// out no larger than they are, since a class was kept back whole.
type Earlier struct {
	Job         sallyport.JobID        `json:"job"`
	Obligations []sallyport.Obligation `json:"obligations"`
	Rows        []sallyport.RowFilter  `json:"rows,omitempty"`
}
