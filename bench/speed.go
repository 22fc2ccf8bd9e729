package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"sallyport"
	"sallyport/anonymize"
)

// contender is one way to deal with the table in the data store. done, if set,
// cleans up outside the measured time.
type contender struct {
	name string
	run  func() error
	done func() error

	mbps []float64 // throughput, a value a run
	cpu  []float64 // ms of CPU time a MB, all threads, user and system
}

// throughput lets the contenders take turns, so that what else the machine
// does meets all of them alike.
func throughput(ctx context.Context, o Options) (_ []Figure, err error) {
	l, err := openLab(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := l.Close(); err == nil && e != nil {
			err = sallyport.E("bench", sallyport.Unavailable, e, "")
		}
	}()
	table := NewTable(int64(o.Size)*MB, false)
	o.say("laying a table of %d MB into a store", o.Size)
	if err := l.lay(ctx, table); err != nil {
		return nil, err
	}

	var report anonymize.Report
	remove := sallyport.Ref{}
	clean := func() error { return l.hold.Remove(ctx, remove) }
	from := func(use func(anonymize.Source) error) func() error {
		return func() error {
			src, err := l.open(ctx)
			if err != nil {
				return err
			}
			defer src.Close()
			return use(src)
		}
	}
	whole := &contender{name: "pass, sealed into the hold", done: clean, run: from(func(src anonymize.Source) error {
		r, parcel, err := l.sealedPass(ctx, "csv", src)
		report, remove = r, parcel.Ref
		return err
	})}
	alone := &contender{name: "age.Encrypt alone, into the hold", done: clean, run: from(func(src anonymize.Source) error {
		info, err := l.ageAlone(ctx, src)
		remove = info.Ref
		return err
	})}
	unsealed := &contender{name: "pass, to memory", run: from(func(src anonymize.Source) error {
		_, err := l.pass(ctx, "csv", new(sink), src)
		return err
	})}
	copied := &contender{name: "encoding/csv copy, to memory", run: from(func(src anonymize.Source) error {
		return copyCSV(new(sink), struct{ io.Reader }{src})
	})}
	all := []*contender{whole, alone, unsealed, copied}
	for run := range o.Runs {
		for _, c := range all {
			o.say("run %d of %d: %s", run+1, o.Runs, c.name)
			if err := c.measure(ctx, table.Size()); err != nil {
				return nil, err
			}
		}
	}
	if report.After.Records != table.rows || !report.After.Exact {
		return nil, sallyport.Errorf("bench", sallyport.Internal, "", "the pass counted %d of %d records", report.After.Records, table.rows)
	}
	return speedFigures(o, report, whole, alone, unsealed, copied), nil
}

func (c *contender) measure(ctx context.Context, size int64) error {
	if err := ctx.Err(); err != nil {
		return sallyport.E("bench", sallyport.Canceled, err, "")
	}
	runtime.GC() // nobody pays for the one before
	used, began := cpuTime(), time.Now()
	if err := c.run(); err != nil {
		return err
	}
	took, cpu := time.Since(began), cpuTime()-used
	mb := float64(size) / MB
	c.mbps = append(c.mbps, mb/took.Seconds())
	if cpu > 0 {
		c.cpu = append(c.cpu, float64(cpu.Microseconds())/1000/mb)
	}
	if c.done != nil {
		return c.done()
	}
	return nil
}

func speedFigures(o Options, report anonymize.Report, whole, alone, unsealed, copied *contender) []Figure {
	runs := Machine() + "; " + Times(o.Runs)
	shape := fmt.Sprintf("%d MB in, %.2f times that out, 10 columns, 2 pseudonyms, 1 date shift, 3 generalizations, exact census (%d classes before, %d after), hybrid key per release, synced store",
		o.Size, float64(report.BytesOut)/float64(report.BytesIn), report.Before.Classes, report.After.Classes)
	age, std := "age.Encrypt alone, same bytes, same store", "encoding/csv copy of the same bytes to memory"
	figures := []Figure{
		New("pass, sealed into the hold", Median(whole.mbps), "MB/s", runs+"; "+shape).Against(age, Median(alone.mbps)),
		New("pass, sealed into the hold", Median(whole.mbps), "MB/s", runs+"; the peer neither transforms nor seals").Against(std, Median(copied.mbps)),
		New("pass, not sealed, to memory", Median(unsealed.mbps), "MB/s", runs+"; every byte is copied once by the sink").Against(std, Median(copied.mbps)),
	}
	if len(whole.cpu) > 0 {
		figures = append(figures,
			New("CPU time of the pass, sealed", Median(whole.cpu), "ms/MB", runs+"; all threads, user and system; lower is better").Against(age, Median(alone.cpu)),
			New("CPU time of the pass, not sealed", Median(unsealed.cpu), "ms/MB", runs+"; lower is better").Against(std, Median(copied.cpu)))
	}
	return figures
}
