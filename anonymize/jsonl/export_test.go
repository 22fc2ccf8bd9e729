package jsonl

// NewWith returns a format that takes n bytes at a time, so that short inputs
// reach the seams between chunks, and lets so many goroutines work.
func NewWith(n, workers int) *Format { return &Format{block: n, workers: workers} }

// Join returns the path of keys, "[]" in items standing for an item.
func Join(keys []string, items []bool) string {
	var path []byte
	for i, key := range keys {
		path = appendStep(path, step{item: items[i], key: key})
	}
	return string(path)
}
