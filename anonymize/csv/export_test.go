package csv

// NewWith returns a format that takes n bytes at a time, so that short inputs
// reach the seams between chunks, and lets so many goroutines work.
func NewWith(n, workers int) *Format { return &Format{block: n, workers: workers} }
