package anonymize

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"sallyport"
)

// The pass is a pipeline of three goroutines with ordered hand-off of blocks:
// read ahead and hash · tokenize, transform and count · hash and write. A
// block changes hands, it is never shared.
const (
	pipeBlock = 256 << 10
	pipeDepth = 4 // blocks in flight on each side
)

// intake is a Source that reads ahead in blocks and hashes what it read.
type intake struct {
	at       io.ReaderAt
	full     chan []byte
	free     chan []byte
	quit     chan struct{}
	done     chan struct{}
	progress func(read int64)

	// Of the reading goroutine; others read them after full is closed.
	sum hash.Hash
	n   int64
	err error

	// Of the goroutine that calls Read.
	block, rest []byte
	taken, told int64
}

func newIntake(ctx context.Context, src io.Reader, at io.ReaderAt) *intake {
	in := &intake{at: at, full: make(chan []byte, pipeDepth), free: make(chan []byte, pipeDepth),
		quit: make(chan struct{}), done: make(chan struct{}), sum: sha256.New()}
	for range pipeDepth {
		in.free <- make([]byte, pipeBlock)
	}
	go in.run(ctx, src)
	return in
}

func (in *intake) run(ctx context.Context, src io.Reader) {
	defer close(in.done)
	defer close(in.full)
	for in.err == nil {
		var block []byte
		select {
		case block = <-in.free:
		case <-in.quit:
			return
		case <-ctx.Done():
			in.err = sallyport.E("anonymize", sallyport.Canceled, context.Cause(ctx), "")
			return
		}
		n := 0
		for idle := 0; n < len(block) && in.err == nil; {
			var m int
			m, in.err = src.Read(block[n:])
			if n += m; m > 0 {
				idle = 0
			} else if idle++; idle > 100 && in.err == nil {
				in.err = io.ErrNoProgress
			}
		}
		in.n += int64(n)
		in.sum.Write(block[:n])
		select {
		case in.full <- block[:n]:
		case <-in.quit:
			return
		}
	}
}

// source is the intake as the format sees it: it knows its size if what is read
// does.
func (in *intake) source() Source {
	if sized, ok := in.at.(Sized); ok {
		return sizedIntake{in, sized.Size()}
	}
	return in
}

// sizedIntake is an intake of known size.
type sizedIntake struct {
	*intake
	size int64
}

var _ Sized = sizedIntake{}

func (s sizedIntake) Size() int64 { return s.size }

// head returns up to size of the bytes that Read will give first.
func (in *intake) head(size int) ([]byte, error) {
	if in.block == nil {
		block, ok := <-in.full
		if !ok {
			if in.err == io.EOF {
				return nil, nil
			}
			return nil, in.err
		}
		in.take(block)
	}
	return in.rest[:min(size, len(in.rest))], nil
}

// take makes block the one that is read.
func (in *intake) take(block []byte) {
	in.block, in.rest = block, block
	in.taken += int64(len(block))
	if in.progress != nil && in.taken-in.told >= 16*pipeBlock {
		in.told = in.taken
		in.progress(in.taken)
	}
}

// Read gives what the source gave, in order.
func (in *intake) Read(b []byte) (int, error) {
	for len(in.rest) == 0 {
		if in.block != nil {
			in.free <- in.block[:cap(in.block)] // never blocks: no more blocks than places
			in.block = nil
		}
		block, ok := <-in.full
		if !ok {
			return 0, in.err
		}
		in.take(block)
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// ReadAt reads the source directly; drain sees to it that all is hashed.
func (in *intake) ReadAt(b []byte, off int64) (int, error) { return in.at.ReadAt(b, off) }

// drain reads what the format left unread, so that the digest is of the whole.
func (in *intake) drain() error {
	in.rest = nil
	for {
		if _, err := in.Read(nil); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		in.rest = nil
	}
}

// stop ends reading ahead and waits for the goroutine.
func (in *intake) stop() {
	close(in.quit)
	<-in.done
}

// outlet gathers writes into blocks, hashes them and writes them to dst.
type outlet struct {
	ctx    context.Context
	full   chan []byte
	free   chan []byte
	failed chan struct{} // closed when err is set
	done   chan struct{}

	// Of the writing goroutine; others read them after failed or done is closed.
	sum hash.Hash
	n   int64
	err error

	// Of the goroutine that calls Write.
	block []byte
}

func newOutlet(ctx context.Context, dst io.Writer) *outlet {
	o := &outlet{ctx: ctx, full: make(chan []byte, pipeDepth), free: make(chan []byte, pipeDepth),
		failed: make(chan struct{}), done: make(chan struct{}), sum: sha256.New()}
	for range pipeDepth {
		o.free <- make([]byte, 0, pipeBlock)
	}
	go o.run(dst)
	return o
}

func (o *outlet) run(dst io.Writer) {
	defer close(o.done)
	for block := range o.full {
		if o.err == nil {
			o.sum.Write(block)
			n, err := dst.Write(block)
			if o.n += int64(n); err == nil && n < len(block) {
				err = io.ErrShortWrite
			}
			if o.err = err; err != nil {
				close(o.failed)
			}
		}
		o.free <- block[:0] // never blocks: no more blocks than places
	}
}

// Write takes b for writing. An error of dst shows at a later Write or at stop.
func (o *outlet) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		if o.block == nil {
			select {
			case o.block = <-o.free:
			case <-o.failed:
				return written, o.err
			case <-o.ctx.Done():
				return written, sallyport.E("anonymize", sallyport.Canceled, context.Cause(o.ctx), "")
			}
		}
		n := min(len(b), cap(o.block)-len(o.block))
		o.block = append(o.block, b[:n]...)
		b = b[n:]
		written += n
		if len(o.block) == cap(o.block) {
			o.full <- o.block // never blocks: no more blocks than places
			o.block = nil
		}
	}
	return written, nil
}

// stop writes what is left and waits for the goroutine.
func (o *outlet) stop() error {
	if len(o.block) > 0 {
		o.full <- o.block
	}
	o.block = nil
	close(o.full)
	<-o.done
	return o.err
}
