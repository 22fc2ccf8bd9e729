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
// is valid until the next call. An error ends the pass.
type Editor interface {
	Header(columns []string) ([]string, error)
	Record(fields [][]byte) ([][]byte, error)
}

// Format reads and writes one file format.
//
// Sniff says whether head (the first bytes of a file, up to 4 KiB) looks like
// this format. Rewrite streams src through edit to dst; it holds at most a few
// records in memory. Input that is not well-formed is a sallyport.Invalid that
// names the line and what to do, and never quotes a value. An error of edit is
// returned as it is.
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
// one goroutine at a time.
type Transform interface {
	Name() string // the verb
	Doc() string  // one line, with its arguments
	Bind(args map[string]any, env Env) (Apply, error)
}

// Plan says what becomes of a table. Columns without an obligation do not
// leave; a column that the plan names and the file lacks is an error.
type Plan struct {
	Dataset     string                 `json:"dataset"`
	Format      string                 `json:"format"`
	Columns     []sallyport.Column     `json:"columns"` // what the catalog says of the file's columns
	Subject     string                 `json:"subject,omitempty"`
	Obligations []sallyport.Obligation `json:"obligations"`
}

// Report is what the pass did and measured.
type Report struct {
	Plan     sallyport.Digest  `json:"plan"`   // of the plan's canonical JSON
	Source   sallyport.Digest  `json:"source"` // of the bytes read
	Output   sallyport.Digest  `json:"output"` // of the bytes written, before sealing
	BytesIn  int64             `json:"bytes_in"`
	BytesOut int64             `json:"bytes_out"`
	Before   sallyport.Risk    `json:"before"` // over the raw quasi-identifiers
	After    sallyport.Risk    `json:"after"`  // over what leaves
	Columns  []string          `json:"columns"`
	Dropped  []string          `json:"dropped"`  // columns that did not leave
	Actions  map[string]string `json:"actions"`  // column that left → verb, "keep" for unchanged
	Residual map[string]int64  `json:"residual"` // likely identifiers seen in what left, by type
	Changed  map[string]int64  `json:"changed"`  // column → values that the transform altered
}
