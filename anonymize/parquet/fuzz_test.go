package parquet_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	peer "github.com/parquet-go/parquet-go"

	"sallyport"
	"sallyport/anonymize/formattest"
	"sallyport/anonymize/parquet"
)

// FuzzRewrite: a file is refused as Invalid, or its copy is read as it was.
func FuzzRewrite(f *testing.F) {
	rows := encodedRows(9)
	f.Add(write(f, []two{{"1", "2"}, {"3", ""}}))
	f.Add(write(f, visits(), peer.DataPageVersion(1)))
	f.Add(write(f, visits(), peer.Compression(&peer.Snappy), peer.MaxRowsPerRowGroup(2)))
	f.Add(write(f, rows, peer.DataPageVersion(2)))
	f.Add(write(f, rows[:5], peer.Compression(&peer.Zstd)))
	f.Fuzz(func(t *testing.T, data []byte) {
		// A short file may hold many records.
		enough := errors.New("enough")
		first := &formattest.Recorder{RecordErr: enough, After: 2000}
		var out bytes.Buffer
		err := parquet.New().Rewrite(t.Context(), &out, bytes.NewReader(data), first)
		if err == nil {
			second := &formattest.Recorder{}
			if err := parquet.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), second); err != nil {
				t.Fatalf("refuses its own output: %v", err)
			}
			if !slices.EqualFunc(first.Records, second.Records, slices.Equal[[]string]) {
				t.Fatalf("%q was written, %q read back", first.Records, second.Records)
			}
			out.Reset()
			err = parquet.New().Rewrite(t.Context(), &out, bytes.NewReader(data), &editor{})
		}
		if errors.Is(err, enough) {
			return
		}
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Invalid || strings.Contains(err.Error(), "without a reason") {
				t.Fatalf("refused, but not as Invalid: %v", err)
			}
			return
		}
		third := &formattest.Recorder{}
		if err := parquet.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), third); err != nil {
			t.Fatalf("refuses its own output with types: %v", err)
		}
		if !slices.EqualFunc(first.Records, third.Records, slices.Equal[[]string]) {
			t.Fatalf("%q was written with types, %q read back", first.Records, third.Records)
		}
	})
}

// Whatever byte is wrong, and wherever the file ends, nothing panics.
func TestEveryByte(t *testing.T) {
	enough := errors.New("enough")
	try := func(data []byte, at int) {
		r := &formattest.Recorder{RecordErr: enough, After: 100}
		err := parquet.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(data), r)
		if err != nil && !errors.Is(err, enough) && sallyport.KindOf(err) != sallyport.Invalid || err != nil && strings.Contains(err.Error(), "without a reason") {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	for _, data := range [][]byte{
		write(t, encodedRows(6), peer.DataPageVersion(2)), write(t, visits(), peer.DataPageVersion(1), peer.Compression(&peer.Snappy)),
		write(t, visits(), peer.Compression(&peer.Zstd)), write(t, visits(), peer.Compression(&peer.Gzip)), write(t, visits(), peer.Compression(&peer.Lz4Raw)), write(t, visits(), peer.Compression(&peer.Brotli)),
	} {
		for i, was := range data {
			for _, b := range []byte{0, 0xff, was + 1, was ^ 0x80} {
				data[i] = b
				try(data, i)
			}
			data[i] = was
			try(data[:i], i)
		}
	}
}
