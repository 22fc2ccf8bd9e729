package parquet

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression codecs of parquet.thrift. LZO and the first LZ4, whose frames
// were never specified, are refused.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecBrotli = 4
	codecZstd   = 6
	codecLZ4    = 7 // LZ4_RAW
)

var errCompressed = errors.New("a page cannot be decompressed")

func knownCodec(c int32) error {
	switch c {
	case codecNone, codecSnappy, codecGzip, codecBrotli, codecZstd, codecLZ4:
		return nil
	}
	return fmt.Errorf("its compression has the number %d: only none, Snappy, gzip, Brotli, Zstandard and LZ4_RAW can be read", c)
}

// codecs compresses and decompresses pages for one goroutine.
type codecs struct {
	gzipIn    gzip.Reader
	gzipOut   *gzip.Writer
	brotliIn  *brotli.Reader
	brotliOut *brotli.Writer
	zstdIn    *zstd.Decoder
	zstdOut   *zstd.Encoder
	lz4       lz4.Compressor
}

func (c *codecs) close() {
	if c.zstdIn != nil {
		c.zstdIn.Close()
	}
	if c.zstdOut != nil {
		_ = c.zstdOut.Close()
	}
}

// decompress puts what src holds into dst, which must be as long as the page
// header says. Anything longer or shorter is refused before it is made.
func (c *codecs) decompress(codec int32, dst, src []byte) error {
	switch codec {
	case codecSnappy:
		n, err := snappy.DecodedLen(src)
		if err != nil || n != len(dst) {
			return errCompressed
		}
		out, err := snappy.Decode(dst, src)
		if err != nil || len(out) != len(dst) {
			return errCompressed
		}
		return nil
	case codecLZ4:
		if len(dst) == 0 {
			return nil
		}
		n, err := lz4.UncompressBlock(src, dst)
		if err != nil || n != len(dst) {
			return errCompressed
		}
		return nil
	case codecZstd:
		if c.zstdIn == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(maxPage), zstd.WithDecoderMaxWindow(maxPage), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				return err
			}
			c.zstdIn = d
		}
		out, err := c.zstdIn.DecodeAll(src, dst[:0:len(dst)])
		if err != nil || len(out) != len(dst) || len(out) > 0 && &out[0] != &dst[0] {
			return errCompressed
		}
		return nil
	case codecGzip:
		if err := c.gzipIn.Reset(bytes.NewReader(src)); err != nil {
			return errCompressed
		}
		return fill(dst, &c.gzipIn)
	case codecBrotli:
		if c.brotliIn == nil {
			c.brotliIn = brotli.NewReader(nil)
		}
		if err := c.brotliIn.Reset(bytes.NewReader(src)); err != nil {
			return errCompressed
		}
		return fill(dst, c.brotliIn)
	}
	if len(src) != len(dst) {
		return errCompressed
	}
	copy(dst, src)
	return nil
}

// fill reads exactly dst from r.
func fill(dst []byte, r io.Reader) error {
	if _, err := io.ReadFull(r, dst); err != nil {
		return errCompressed
	}
	var more [1]byte
	if _, err := io.ReadFull(r, more[:]); err != io.EOF {
		return errCompressed
	}
	return nil
}

// compress appends src to dst, compressed. The same bytes give the same bytes.
func (c *codecs) compress(codec int32, dst, src []byte) ([]byte, error) {
	switch codec {
	case codecSnappy:
		n := len(dst)
		dst = grow(dst, snappy.MaxEncodedLen(len(src)))
		return dst[:n+len(snappy.Encode(dst[n:cap(dst)], src))], nil
	case codecLZ4:
		n := len(dst)
		dst = grow(dst, lz4.CompressBlockBound(len(src)))
		m, err := c.lz4.CompressBlock(src, dst[n:cap(dst)])
		if m == 0 && err == nil && len(src) == 0 {
			return append(dst, 0), nil // one token without literals
		}
		return dst[:n+m], err
	case codecZstd:
		if c.zstdOut == nil {
			e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
			if err != nil {
				return dst, err
			}
			c.zstdOut = e
		}
		return c.zstdOut.EncodeAll(src, dst), nil
	case codecGzip:
		out := bytes.NewBuffer(dst)
		if c.gzipOut == nil {
			c.gzipOut = gzip.NewWriter(out)
		} else {
			c.gzipOut.Reset(out)
		}
		return finish(out, c.gzipOut, src)
	case codecBrotli:
		out := bytes.NewBuffer(dst)
		if c.brotliOut == nil {
			c.brotliOut = brotli.NewWriterLevel(out, 4)
		} else {
			c.brotliOut.Reset(out)
		}
		return finish(out, c.brotliOut, src)
	}
	return append(dst, src...), nil
}

func finish(out *bytes.Buffer, w io.WriteCloser, src []byte) ([]byte, error) {
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// grow makes room for n bytes more; the length stays.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+max(n, len(b)/2)), b...)
}
