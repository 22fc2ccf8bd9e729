// Package bench measures this program beside its peers: in one run, on one
// machine, on the same bytes. A ratio travels between machines, a number of
// megabytes a second does not, so every figure that has a peer carries both.
// Figures are what they are; nothing here decides whether they are good.
package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"

	"sallyport"
)

// MB is a million bytes; sizes and throughputs are in it. Memory is in MiB.
const MB = 1_000_000

// Figure is one thing measured, and what the peer needed for the same.
type Figure struct {
	Figure    string  `json:"figure"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer,omitempty"`
	PeerValue float64 `json:"peer_value,omitempty"` // in Unit
	Ratio     float64 `json:"ratio,omitempty"`      // Value / PeerValue
	Note      string  `json:"note,omitempty"`
}

// Against returns f beside a peer's value.
func (f Figure) Against(peer string, value float64) Figure {
	f.Peer, f.PeerValue = peer, round(value)
	if value > 0 {
		f.Ratio = round(f.Value / value)
	}
	return f
}

// New returns a figure without a peer. Values keep four digits; more would
// claim a precision that no such measurement has.
func New(name string, value float64, unit, note string) Figure {
	return Figure{Figure: name, Value: round(value), Unit: unit, Note: note}
}

func round(v float64) float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) { // JSON has neither
		return 0
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return r
}

// Options say how much is measured.
type Options struct {
	Size int // MB of the table of the throughput figures
	Big  int // MB of the larger table of the memory figures
	Runs int // of each contender; the median counts

	// Dir is an existing folder for the data, the sealed parcels and the keys.
	// What is written there is removed again.
	Dir string
	// Child is the command line that makes this binary call [Child] with one
	// more argument: memory is measured in a process of its own.
	Child []string
	// Progress is told what is being measured, a line each.
	Progress io.Writer
}

func (o Options) check() error {
	if o.Size < 1 || o.Big < 1 || o.Runs < 1 {
		return sallyport.Errorf("bench", sallyport.Invalid, "Sizes are in MB; all are at least 1.", "size %d, big %d, runs %d", o.Size, o.Big, o.Runs)
	}
	return nil
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, "bench: "+format+"\n", args...)
	}
}

// Passage measures the pass between the two doors: how fast it is beside age
// and encoding/csv, and how much memory it takes at two sizes.
func Passage(ctx context.Context, o Options) ([]Figure, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	speed, err := throughput(ctx, o)
	if err != nil {
		return nil, err
	}
	memory, err := memory(ctx, o)
	if err != nil {
		return nil, err
	}
	return append(speed, memory...), nil
}

// Machine says what the figures were measured on.
func Machine() string {
	return fmt.Sprintf("%d cores, %s %s/%s", runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Times says what a value stands for that was measured n times.
func Times(n int) string {
	if n == 1 {
		return "one run"
	}
	return fmt.Sprintf("median of %d runs", n)
}

// Median returns the middle value, or the mean of the two in the middle; 0 of
// none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}
