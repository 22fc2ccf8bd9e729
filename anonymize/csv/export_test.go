package csv

import "sallyport/anonymize"

// NewWith returns a format that takes n bytes at a time, so that short inputs
// reach the seams between chunks, and lets so many goroutines work.
func NewWith(n, workers int) *Format { return InBlocks(New(), n, workers) }

// InBlocks is NewWith for a format with options.
func InBlocks(format anonymize.Format, n, workers int) *Format {
	f := *format.(*Format)
	f.block, f.workers = n, workers
	return &f
}
