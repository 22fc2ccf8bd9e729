// Package codec takes compressed files apart and puts them together again:
// gzip (RFC 1952) and Zstandard (RFC 8878). Formats read through [Open] and
// write through [Writer], so that what leaves is compressed as what came.
package codec

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sallyport"
)

const (
	// Ratio is how many bytes one byte of a compressed file may become, once
	// Allowance bytes have been read. Tables seldom reach 50; deflate cannot
	// exceed 1032, and a file made to fill disks comes close to it.
	Ratio = 250
	// Allowance is how many bytes any compressed file may become.
	Allowance = 64 << 20
	// HeadSize is how many bytes Head returns at most.
	HeadSize = 4 << 10
	// Peek is how many bytes of a file Head must be given to be sure of
	// finding any plain bytes: a zstd block can only be read whole, and has at
	// most 128 KiB (RFC 8878, section 3.1.1.2.3). Gzip needs far fewer.
	Peek = 132 << 10

	// maxWindow bounds the memory for reading zstd. Level 19 needs 8 MiB;
	// only --ultra and --long need more than 32.
	maxWindow = 32 << 20
	// window is what Writer lets a reader of its zstd need.
	window = 1 << 20

	sourceBuffer = 64 << 10
)

// Open looks at the head of src and returns a reader of the plain bytes and
// the name of the compression: "" for none, "gzip" or "zstd". Concatenated
// members are read as one. A reader of compressed bytes gives a
// sallyport.Invalid where they are damaged or cut off, are followed by
// something else, or grow beyond [Allowance] and [Ratio] times what was read
// of src; errors of src come back as they are. Close frees memory; it does not
// close src.
func Open(src io.Reader) (r io.ReadCloser, name string, err error) {
	in := &source{src: src}
	buf := bufio.NewReaderSize(in, sourceBuffer)
	head, err := buf.Peek(magicSize)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	name = compression(head)
	switch name {
	case "gzip":
		z, err := gzip.NewReader(buf)
		if err != nil {
			return nil, name, in.explain(name, err)
		}
		return &reader{name: name, in: in, plain: z, release: func() { _ = z.Close() }}, name, nil
	case "zstd":
		// One goroutine, the caller's: nothing is left behind if it stops.
		z, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, name, in.explain(name, err)
		}
		return &reader{name: name, in: in, plain: z, release: z.Close}, name, nil
	}
	return io.NopCloser(buf), "", nil
}

const magicSize = 4

// compression names the compression of a file that starts with head.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), // a frame
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable one
		return "zstd"
	}
	return ""
}

// source counts what was read of a compressed file and remembers why that ended.
type source struct {
	src io.Reader
	n   int64
	err error // anything but io.EOF
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.src.Read(b)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// explain turns a decompressor's error into one for people. Its own words are
// left out: they are for programmers.
func (s *source) explain(name string, err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return sallyport.Errorf(name, sallyport.Invalid, "Copy or compress it again.", "the compressed file is cut off")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return sallyport.Errorf(name, sallyport.Invalid, "Compress it again without --ultra and --long, or give it uncompressed.", "the file needs more than %d MiB of memory to be read", maxWindow>>20)
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return sallyport.Errorf(name, sallyport.Invalid, "Compress it again without a dictionary.", "the file was compressed with a dictionary")
	}
	return sallyport.Errorf(name, sallyport.Invalid, "Copy or compress it again; nothing may follow the compressed data.", "the compressed file is damaged")
}

// reader gives plain bytes as long as they are in proportion.
type reader struct {
	name    string
	in      *source
	plain   io.Reader
	release func()
	out     int64
	err     error
}

func (r *reader) Read(b []byte) (int, error) {
	if r.err != nil || len(b) == 0 {
		return 0, r.err
	}
	n, err := r.plain.Read(b)
	r.out += int64(n)
	if r.out > Allowance && r.out/Ratio > r.in.n {
		r.err = sallyport.Errorf(r.name, sallyport.Invalid, "If you trust the file, decompress it and give it so.",
			"the file grows to more than %d times its size", Ratio)
		return 0, r.err
	}
	if err != nil && err != io.EOF {
		err = r.in.explain(r.name, err)
	}
	r.err = err
	return n, err
}

// Close frees memory. Later calls of Read fail.
func (r *reader) Close() error {
	if r.release != nil {
		r.release()
		r.release = nil
	}
	if r.err == nil {
		r.err = errors.New("codec: read after Close")
	}
	return nil
}

// Writer returns a writer that compresses to dst with the compression called
// name, as [Open] names it; "" copies. Close writes what is left and does not
// close dst. The same bytes, however they are cut into calls, become the same
// compressed bytes, without a time or a file name. An unknown name is a
// sallyport.Invalid; errors of dst come back as they are, at the latest at
// Close.
func Writer(dst io.Writer, name string) (io.WriteCloser, error) {
	switch name {
	case "":
		return nopCloser{dst}, nil
	case "gzip":
		return gzip.NewWriter(dst), nil
	case "zstd":
		return zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	}
	return nil, sallyport.Errorf("compress", sallyport.Invalid, "Known compressions: gzip, zstd.", "unknown compression %q", name)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Head returns up to HeadSize plain bytes of a file that starts with head and
// may be compressed, for Sniff: as many as can be read of it, nil if none can.
// See [Peek] for how much of a file to give. An uncompressed head comes back
// itself, cut to HeadSize.
func Head(head []byte) []byte {
	if compression(head) == "" {
		return head[:min(len(head), HeadSize)]
	}
	r, _, err := Open(bytes.NewReader(head))
	if err != nil {
		return nil
	}
	defer r.Close()
	plain := make([]byte, HeadSize)
	n, _ := io.ReadFull(r, plain) // head is cut off: an error is to be expected
	return plain[:n]
}
