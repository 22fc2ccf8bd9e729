package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"sallyport"
	"sallyport/anonymize"
)

// smallMB is the size that the larger memory figure is set against.
const smallMB = 10

// childTask is what a child process is told to do.
type childTask struct {
	Bytes int64  `json:"bytes"`
	Few   bool   `json:"few"`
	Dir   string `json:"dir"`

	// A file that is read instead of a generated table of Bytes, and its format.
	File   string `json:"file,omitempty"`
	Format string `json:"format,omitempty"`
}

// childReport is what it prints: its peak resident memory, in bytes, before
// and after the pass, and how many classes the census held.
type childReport struct {
	Before, After int64
	Records       int64
	Classes       int64 // of the raw quasi-identifiers
	Exact         bool  // false where they outgrew the census limit
}

// Child runs one sealed pass over a table that is generated while it is read,
// or over a file, and reports the peak memory of this process on out. task is
// the argument that [Options.Child] was called with.
func Child(ctx context.Context, task string, out io.Writer) (err error) {
	var t childTask
	if err := json.Unmarshal([]byte(task), &t); err != nil || t.Bytes <= 0 && t.File == "" {
		return sallyport.Errorf("bench", sallyport.Invalid, "It is started by `sallyport bench`.", "not a task of the bench")
	}
	l, err := openLab(ctx, t.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var r childReport
	if r.Before, err = peakMemory(); err != nil {
		return err
	}
	src, format := anonymize.Source(NewTable(t.Bytes, t.Few)), "csv"
	if t.File != "" {
		f, err := os.Open(t.File)
		if err != nil {
			return failed(err)
		}
		defer f.Close()
		src, format = f, t.Format
	}
	report, _, err := l.sealedPass(ctx, format, src)
	if err != nil {
		return err
	}
	if r.After, err = peakMemory(); err != nil {
		return err
	}
	r.Records, r.Classes, r.Exact = report.After.Records, report.Before.Classes, report.Before.Exact
	return json.NewEncoder(out).Encode(r)
}

// memory runs the pass in children at two sizes, over a table whose raw
// records are nearly all distinct, and over one with few classes.
func memory(ctx context.Context, o Options) ([]Figure, error) {
	small := min(smallMB, max(1, o.Big/2))
	var figures []Figure
	for _, few := range []bool{false, true} {
		about := "raw quasi-identifiers nearly all distinct"
		if few {
			about = "few raw classes"
		}
		var at [2]float64
		var first, last childReport
		for i, size := range []int{small, o.Big} {
			runs := o.Runs
			if i == 1 {
				runs = 1 // long enough to be its own mean
			}
			var peaks []float64
			for run := range runs {
				o.say("memory: %d MB, %s, run %d of %d", size, about, run+1, runs)
				r, err := child(ctx, o, childTask{Bytes: int64(size) * MB, Few: few, Dir: o.Dir})
				if err != nil {
					return nil, err
				}
				peaks = append(peaks, float64(r.After)/(1<<20))
				if last = r; i == 0 {
					first = r
				}
			}
			at[i] = Median(peaks)
		}
		figures = append(figures,
			New(fmt.Sprintf("peak memory at %d MB, %s", small, about), at[0], "MiB", memoryNote(first, o.Runs)),
			New(fmt.Sprintf("peak memory at %d MB, %s", o.Big, about), at[1], "MiB", memoryNote(last, 1)+"; target: flat from 10 MB to 10 GB").
				Against(fmt.Sprintf("the same pass at %d MB", small), at[0]))
	}
	return figures, nil
}

func memoryNote(r childReport, runs int) string {
	census := "counted exactly"
	if !r.Exact {
		census = "the census of raw data reached its limit and stopped; that of what leaves went on"
	}
	return fmt.Sprintf("%s; %s; %s of a process of its own, %.0f MiB of it before the pass; %d records, %d raw classes, %s",
		Machine(), Times(runs), peakMeans, float64(r.Before)/(1<<20), r.Records, r.Classes, census)
}

func errNoChild() error {
	return sallyport.Errorf("bench", sallyport.Internal, "", "no command for a child process")
}

func child(ctx context.Context, o Options, t childTask) (r childReport, err error) {
	if len(o.Child) == 0 {
		return r, errNoChild()
	}
	task, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, o.Child[0], append(append([]string{}, o.Child[1:]...), string(task))...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return r, sallyport.E("bench", sallyport.Canceled, ctx.Err(), "")
	}
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		return r, sallyport.Errorf("bench child", sallyport.Internal, "", "%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return r, nil
}
