package anonymize

import (
	"bufio"
	"cmp"
	"context"
	"hash/maphash"
	"io"
	"math"

	"sallyport"
	"sallyport/anonymize/risk"
)

const (
	aheadSize = 4 << 20 // bytes asked for at once where the source is read by ReadAt
)

// run is one pass: a reading that writes, and those that must come before.
type run struct {
	*session
	runner *Runner
	plan   Plan
	format Format
	src    Source
	seen   []sallyport.Digest // of the source, at each earlier reading
}

func newSession(env PassEnv) *session {
	return &session{env: env, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		memory: risk.NewMemory(cmp.Or(env.CensusLimit, DefaultCensusLimit))}
}

// before is a reading of which nothing leaves.
func (p *run) before(ctx context.Context, e *editor) error {
	section := bufio.NewReaderSize(io.NewSectionReader(p.src, 0, math.MaxInt64), aheadSize)
	in, _, err := p.read(ctx, e, io.Discard, section)
	if err != nil {
		return err
	}
	p.seen = append(p.seen, sallyport.DigestSum(in.sum.Sum(nil)))
	return p.same()
}

// same reports whether all readings read the same.
func (p *run) same() error {
	for _, d := range p.seen {
		if d != p.seen[0] {
			return sallyport.Errorf("anonymize", sallyport.Unavailable, "Try again.", "the dataset changed while it was read")
		}
	}
	return nil
}

// write is the reading that writes what leaves.
func (p *run) write(ctx context.Context, e *editor, dst io.Writer, plan sallyport.Digest) (Report, error) {
	defer func() {
		e.close()
		for _, set := range p.failing {
			set.Close()
		}
	}()
	in, out, err := p.read(ctx, e, dst, p.src)
	if err != nil {
		return Report{}, err
	}
	source := sallyport.DigestSum(in.sum.Sum(nil))
	p.seen = append(p.seen, source)
	if err := p.same(); err != nil {
		return Report{}, err
	}
	report, err := e.report(ctx)
	if err != nil {
		return Report{}, err
	}
	if p.env.Progress != nil {
		p.env.Progress(in.n, e.records.Load())
	}
	report.Plan = plan
	report.Source, report.BytesIn = source, in.n
	report.Output, report.BytesOut = sallyport.DigestSum(out.sum.Sum(nil)), out.n
	return report, nil
}

// read streams src through the format, and returns when no goroutine is left.
func (p *run) read(ctx context.Context, e *editor, dst io.Writer, src io.Reader) (*intake, *outlet, error) {
	in := newIntake(ctx, src, p.src)
	out := newOutlet(ctx, dst)
	if p.env.Progress != nil {
		in.progress = func(read int64) { p.env.Progress(read, e.records.Load()) }
	}
	head, err := in.head(HeadSize)
	if err == nil {
		err = p.runner.agree(p.format, head)
	}
	if err == nil {
		err = p.format.Rewrite(ctx, out, in.source(), e)
	}
	if err == nil {
		err = in.drain()
	}
	in.stop()
	if e := out.stop(); err == nil {
		err = e
	}
	if err == nil && !e.begun {
		err = sallyport.Errorf("anonymize", sallyport.Invalid, "", "the file has no header")
	}
	if err != nil {
		if ctx.Err() != nil && sallyport.KindOf(err) == sallyport.Internal {
			err = sallyport.E("anonymize", sallyport.Canceled, err, "")
		}
		return nil, nil, err
	}
	return in, out, nil
}
