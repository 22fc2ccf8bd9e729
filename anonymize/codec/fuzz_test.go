package codec_test

import (
	"bytes"
	"io"
	"testing"

	"sallyport"
	"sallyport/anonymize/codec"
)

// FuzzOpen reads whatever there is: it is read or refused as Invalid, and in
// what pieces it arrives changes nothing.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("a,b\n"))
	f.Add([]byte(hello))
	f.Add([]byte(skipped + hello))
	f.Add([]byte(frame + zeros + lastZeros))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	const most = 1 << 20
	f.Fuzz(func(t *testing.T, data []byte) {
		open := func(src io.Reader) ([]byte, error) {
			r, name, err := codec.Open(src)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			plain, err := io.ReadAll(io.LimitReader(r, most))
			if name == "" && !bytes.Equal(plain, data[:min(len(data), most)]) {
				t.Fatal("plain bytes were changed")
			}
			return plain, err
		}
		got, err := open(bytes.NewReader(data))
		if err != nil && sallyport.KindOf(err) != sallyport.Invalid {
			t.Fatalf("refused, but not as Invalid: %v", err)
		}
		slow, slowErr := open(&trickle{data})
		if (err == nil) != (slowErr == nil) || !bytes.Equal(got, slow) {
			t.Fatalf("at once %d bytes, %v; in pieces %d bytes, %v", len(got), err, len(slow), slowErr)
		}
		head := codec.Head(data)
		if len(head) > codec.HeadSize || !bytes.HasPrefix(got, head) {
			t.Fatalf("Head gives %d bytes that are not the first of %d", len(head), len(got))
		}
	})
}

// trickle gives three bytes at a time.
type trickle struct{ left []byte }

func (s *trickle) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(3, len(b))], s.left)
	s.left = s.left[n:]
	return n, nil
}

// FuzzRoundTrip writes what it then reads.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(""), uint8(0))
	f.Add([]byte("a,b\n1,2\n"), uint8(1))
	f.Add(bytes.Repeat([]byte("1,2\n"), 1000), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, which uint8) {
		name := []string{"", "gzip", "zstd"}[which%3]
		data := write(t, name, text, max(1, len(text)))
		if !bytes.Equal(data, write(t, name, text, 7)) {
			t.Fatal("other bytes in pieces")
		}
		if name == "" {
			return // text may itself be compressed
		}
		got, as, err := read(data)
		if err != nil || as != name || !bytes.Equal(got, text) {
			t.Fatalf("%s: read back %d of %d bytes as %q: %v", name, len(got), len(text), as, err)
		}
	})
}
