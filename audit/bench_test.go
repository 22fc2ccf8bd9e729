package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport"
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

// benchRecords is how many records searching and erasing are measured on;
// AUDIT_BENCH_RECORDS says another number.
func benchRecords(b *testing.B) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("AUDIT_BENCH_RECORDS"), "50000"))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// variedEntry is as a site's records are: 200 people, 50 datasets, a job for
// every 12 records, one denial in 50.
func variedEntry(i int) Entry {
	e := benchEntry()
	e.Time = testTime.Add(time.Duration(i) * time.Second)
	e.Step = []string{"admit", "hold", "release", "place", "hand over", "keep"}[i/2%6]
	e.Phase = []Phase{Intent, Outcome}[i%2]
	e.Job = sallyport.JobID("job-" + strconv.Itoa(i/12))
	e.Subject = "person-" + strconv.Itoa(i/12%200)
	e.Dataset = "set-" + strconv.Itoa(i/12%50)
	e.Project = "project-" + strconv.Itoa(i/12%20)
	e.Node = "node-" + strconv.Itoa(i/12%300)
	e.Rules = []string{"rule-" + strconv.Itoa(i%30)}
	if i%50 == 0 {
		e.Decision, e.Reasons = "deny", []string{"no consent of the subject on record"}
	}
	return e
}

// BenchmarkSearch asks for first pages of 50, newest first, each question over
// and over; then it erases one person and verifies.
func BenchmarkSearch(b *testing.B) {
	n := benchRecords(b)
	path := newPath(b)
	l := openLog(b, path)
	began := time.Now()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := w * 12; i < n; i += 64*12 - 11 { // a writer takes a job, a record after the other
				for last := i + 11; ; i++ {
					if _, err := l.Append(context.Background(), variedEntry(i)); err != nil {
						b.Error(err)
						return
					}
					if i == last {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	b.Logf("%d records in %v, %.0f/s, with 64 writers", n, time.Since(began), float64(n)/time.Since(began).Seconds())
	began = time.Now()
	indexAll(b, l.index)
	covered, _ := l.Indexed()
	b.Logf("index complete %v later: %d records in %d segments", time.Since(began), covered, len(*l.index.segs.Load()))
	for name, f := range map[string]Filter{
		"person":         {Subject: "person-7"},
		"job":            {Job: sallyport.JobID("job-" + strconv.Itoa(n/24))},
		"dataset+denied": {Dataset: "set-3", Decision: "deny"},
		"word":           {Text: "consent subject"},
		"rule+node":      {Rule: "rule-3", Node: "node-11"},
		"nobody":         {Subject: "nobody"},
		"hour":           {Since: testTime.Add(time.Duration(n/2) * time.Second), Until: testTime.Add(time.Duration(n/2+3600) * time.Second), Decision: "deny"},
		"everything":     {},
	} {
		f.Newest, f.Limit = true, 50
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				for _, err := range l.Records(context.Background(), f) {
					if err != nil {
						b.Fatal(err)
					}
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for i := 0; ; i++ {
			select {
			case <-stop:
				longest <- most
				return
			default:
			}
			began := time.Now()
			if _, err := l.Append(context.Background(), variedEntry(i)); err != nil {
				b.Error(err)
			}
			most = max(most, time.Since(began))
		}
	}()
	began = time.Now()
	done, err := l.Erase(context.Background(), erasureOf("person-7"))
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	close(stop)
	b.Logf("erased %d records in %v; the longest append meanwhile took %v", done.Records, took, <-longest)
	l.Close()
	began = time.Now()
	l = openLog(b, path)
	b.Logf("opened in %v", time.Since(began))
	began = time.Now()
	if _, err := l.Orphans(); err != nil {
		b.Fatal(err)
	}
	b.Logf("orphans in %v", time.Since(began))
	l.Close()
	for _, keys := range []string{"", "none"} {
		began = time.Now()
		if v, err := Verify(path, VerifyOptions{Keys: keys}); err != nil || !v.Whole {
			b.Fatal(v, err)
		}
		b.Logf("verified with keys %q in %v", keys, time.Since(began))
	}
	for _, dir := range []string{path, path + ".index", path + ".keys"} {
		size := int64(0)
		_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil {
				if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
					size += info.Size()
				}
			}
			return nil
		})
		b.Logf("%s: %.1f bytes a record", filepath.Ext(dir), float64(size)/float64(n))
	}
}
