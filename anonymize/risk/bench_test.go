package risk

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCensusAdd is the census in memory, in batches as a pass has them:
// few classes, as after generalizing, and as many as there are records.
func BenchmarkCensusAdd(b *testing.B) {
	for _, classes := range []int{1000, 100_000, 4_000_000} {
		b.Run(fmt.Sprint("classes=", classes), func(b *testing.B) {
			c := NewCensus(Options{Memory: NewMemory(1 << 30)})
			defer c.Close()
			batch := make([]Key, 512)
			r := rand.New(rand.NewPCG(1, 2))
			for i := range classes { // full grown
				c.Add(spread64(i))
			}
			for b.Loop() {
				for i := range batch {
					batch[i] = spread64(r.IntN(classes))
				}
				if err := c.AddBatch(batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/row")
		})
	}
}

// BenchmarkCensusGrow counts four million new classes.
func BenchmarkCensusGrow(b *testing.B) {
	batch := make([]Key, 512)
	for b.Loop() {
		c := NewCensus(Options{Memory: NewMemory(1 << 30)})
		for i := 0; i < 4_000_000; i += len(batch) {
			for j := range batch {
				batch[j] = spread64(i + j)
			}
			if err := c.AddBatch(batch, nil); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4_000_000, "ns/row")
}

// rows is the size of BenchmarkCensusSpill: SALLYPORT_CENSUS_ROWS, or a million.
func rows(b *testing.B) uint64 {
	s := os.Getenv("SALLYPORT_CENSUS_ROWS")
	if s == "" {
		return 1_000_000
	}
	n, err := strconv.ParseUint(s, 10, 40)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkCensusSpill counts a table, most of whose classes have one record,
// in 192 MiB (or two bytes a row, if that is less), and checks every figure.
// SALLYPORT_CENSUS_ROWS=100000000 with -benchtime=1x shows the design's goal,
// 10^8 rows at no more than 512 MB: the process's peak is reported as peak-MB.
func BenchmarkCensusSpill(b *testing.B) {
	n := rows(b)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(400 << 20))
	for _, columns := range []int{0, 1} {
		b.Run(fmt.Sprint("rows=", n, "/sensitive=", columns), func(b *testing.B) {
			for b.Loop() {
				spillOnce(b, n, columns)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			if mb := peak(); mb > 0 {
				b.ReportMetric(mb, "peak-MB")
			}
		})
	}
}

func spillOnce(b *testing.B, n uint64, columns int) {
	c := NewCensus(Options{Memory: NewMemory(int64(min(192<<20, max(1<<20, 2*n)))), Dir: b.TempDir(), Sensitive: columns})
	defer c.Close()
	began := time.Now()
	// Record i is of class i, but the last eighth repeats the first.
	batch, values := make([]Key, 512), make([]Key, 512*columns)
	distinct := n - n/8
	for i := uint64(0); i < n; i += uint64(len(batch)) {
		batch = batch[:min(n-i, 512)]
		values = values[:len(batch)*columns]
		for j := range batch {
			k := i + uint64(j)
			batch[j] = spread64(int(k % distinct))
			if columns > 0 {
				values[j] = spread64(int(k % 1000))
			}
		}
		if err := c.AddBatch(batch, values); err != nil {
			b.Fatal(err)
		}
	}
	counted := time.Now()
	sizes, err := c.Sizes(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	want := []Size{{Records: 1, Classes: int64(distinct - n/8)}, {Records: 2, Classes: int64(n / 8)}}
	if len(sizes) != 2 || sizes[0] != want[0] || sizes[1] != want[1] || c.Spilled() == 0 {
		b.Fatalf("%v, want %v; %d bytes spilled", sizes, want, c.Spilled())
	}
	measured := time.Now()
	if columns > 0 {
		s, err := c.Sensitive(context.Background())
		if err != nil || s[0].Values != 1000 || s[0].Distinct != 1 {
			b.Fatal(s, err)
		}
	}
	b.Logf("count %v, sizes %v, sensitive %v, %d MB spilled", counted.Sub(began).Round(time.Millisecond),
		measured.Sub(counted).Round(time.Millisecond), time.Since(measured).Round(time.Millisecond), c.Spilled()/1e6)
}

// peak returns the most memory that the process has had, in MB; 0 where the
// system does not say.
func peak() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if kb, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			return n * 1024 / 1e6
		}
	}
	return 0
}
