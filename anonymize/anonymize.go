// Package anonymize is the pass between the two doors: one stream in, one
// stream out, each record transformed as the plan says and counted by the risk
// meter as it will leave. Memory is bounded, whatever the size of the dataset.
package anonymize

import (
	"context"
	"io"

	"sallyport"
)

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

// Format reads and writes one file format.
//
// Sniff says whether head (the first bytes of a file, up to 4 KiB) looks like
// this format. Rewrite streams src through edit to dst, less the records that
// edit answers with nil; it holds at most a few records in memory. Input that is not well-formed is a sallyport.Invalid that
// names the line and what to do, and never quotes a value. An error of edit
// ends the pass; it comes back as it is, or wrapped with the place in the file.
type Format interface {
	Name() string
	Sniff(head []byte) bool
	Rewrite(ctx context.Context, dst io.Writer, src Source, edit Editor) error
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
	// Shared says that Apply keeps no state, so that several goroutines may
	// call it at once. Other verbs are bound once for each goroutine.
	Shared bool
}

// Plan says what becomes of a table. Columns without an obligation do not
// leave; a column that the plan names and the file lacks is an error.
type Plan struct {
	Dataset     string                 `json:"dataset"`
	Format      string                 `json:"format"`
	Columns     []sallyport.Column     `json:"columns"` // what the catalog says of the file's columns
	Subject     string                 `json:"subject,omitempty"`
	Obligations []sallyport.Obligation `json:"obligations"`
	// Rows are filters that a record must all pass to leave. They are compared,
	// byte for byte, with values as the file has them (without the format's
	// quotes), also of columns that do not leave. None: every record leaves.
	Rows []sallyport.RowFilter `json:"rows,omitempty"`
}

// Report is what the pass did and measured.
type Report struct {
	Plan     sallyport.Digest `json:"plan"`   // of the plan's canonical JSON
	Source   sallyport.Digest `json:"source"` // of the bytes read
	Output   sallyport.Digest `json:"output"` // of the bytes written, before sealing
	BytesIn  int64            `json:"bytes_in"`
	BytesOut int64            `json:"bytes_out"`
	// Before is over the raw values of all quasi-identifiers of the file,
	// leaving or not. After is over the values that leave: those of quasi-
	// identifiers, and of direct identifiers that are no keyed pseudonyms.
	// Both, and Residual and Changed, are over the records that leave only:
	// those that a row filter kept back are in Filtered and nowhere else.
	Before   sallyport.Risk    `json:"before"`
	After    sallyport.Risk    `json:"after"`
	Columns  []string          `json:"columns"`
	Dropped  []string          `json:"dropped"`  // columns that did not leave
	Actions  map[string]string `json:"actions"`  // column that left → verb, "keep" for unchanged
	Residual map[string]int64  `json:"residual"` // likely identifiers seen in what left, by type
	Changed  map[string]int64  `json:"changed"`  // column → values that the transform altered
	Filtered int64             `json:"filtered"` // records that did not leave, by the plan's Rows
}
