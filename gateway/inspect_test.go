package gateway

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport"
)

// lineEditor gathers lines.
type lineEditor struct{ got [][]byte }

func (e *lineEditor) Header(names []string) ([]string, error) { return names, nil }

func (e *lineEditor) Record(fields [][]byte) ([][]byte, error) {
	e.got = append(e.got, bytes.Clone(fields[0]))
	return nil, nil
}

func opened(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// FuzzInspect: what is learnt of bytes does not depend on how they arrive, and
// no byte is left out of the search.
func FuzzInspect(f *testing.F) {
	for _, s := range []string{"", "a", "a,b\n1,2\n", "{\"a\":1}\n{}\n", "\xc3\xa9\xc3", "\n\n x\r\n", "m17@ward.example", strings.Repeat("x", 17) + "\n\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		digest := sallyport.DigestOf(b)
		s, err := scanText(opened(b), digest)
		if err != nil {
			t.Fatal(err)
		}
		byByte := &textScan{}
		if _, err := io.Copy(struct{ io.Writer }{byByte}, iotest.OneByteReader(struct{ io.Reader }{bytes.NewReader(b)})); err != nil {
			t.Fatal(err)
		}
		if s.media() != byByte.media() || s.lines != byByte.lines || s.objects != byByte.objects || s.text() != byByte.text() || s.n != byByte.n {
			t.Errorf("%+v, byte by byte %+v", s, byByte)
		}
		if s.n != int64(len(b)) || s.lines < s.objects || len(s.head) > 4096 {
			t.Errorf("%+v", s)
		}
		e := &lineEditor{}
		if err := (lines{16}).Rewrite(context.Background(), io.Discard, &watched{r: iotest.HalfReader(bytes.NewReader(b))}, e); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(e.got, nil); !bytes.Equal(got, bytes.ReplaceAll(b, []byte{'\n'}, nil)) {
			t.Errorf("%d bytes of %d were searched", len(got), len(b))
		}
		if _, err := scanText(opened(append(b, 'x')), digest); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("other bytes pass: %v", err)
		}
	})
}
