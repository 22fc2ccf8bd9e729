package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
)

// benchEntry is about 500 bytes of JSON, as the decision records are.
func benchEntry() Entry {
	e := testEntry(1)
	e.Detail, _ = json.Marshal(map[string]string{"input": string(bytes.Repeat([]byte("x"), 180))})
	return e
}

// BenchmarkAppend counts durable appends. Compare with BenchmarkFdatasync of
// the same run: a commit makes two such calls.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := openLog(b, newPath(b))
			e := benchEntry()
			next := make(chan struct{}, 1024)
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range next {
						if _, err := l.Append(context.Background(), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				next <- struct{}{}
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkVerify verifies a log of 20,000 records a time.
func BenchmarkVerify(b *testing.B) {
	const n = 20000
	path := newPath(b)
	l := openLog(b, path)
	fillFast(b, l, n)
	l.Close()
	for b.Loop() {
		if v, err := Verify(path, VerifyOptions{}); err != nil || !v.Whole {
			b.Fatal(v, err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
	if info, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(info.Size())/n, "file-B/record")
	}
}
