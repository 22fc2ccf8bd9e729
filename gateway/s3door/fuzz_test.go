package s3door

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

// plainSHA is a hash as minio-go's signer wants it.
type plainSHA struct{ hash.Hash }

func (plainSHA) Close() {}

func newSHA() hash.Hash { return sha256.New() }

func crc32cOf(b []byte) string {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	h.Write(b)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range,Signature=" + emptySHA256)
	f.Add("AWS4-HMAC-SHA256 Signature=, Credential=a/b/c/d/e")
	f.Add("AWS a:b")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseAuthorization(s)
		if err != nil {
			return
		}
		again := algorithm + " Credential=" + c.accessKey + "/" + c.scope() + ", SignedHeaders=" + strings.Join(c.headers, ";") + ", Signature=" + hex.EncodeToString(c.signature)
		d, err := parseAuthorization(again)
		if err != nil || d.accessKey != c.accessKey || d.scope() != c.scope() || !bytes.Equal(d.signature, c.signature) {
			t.Fatalf("%q reads as %+v, then as %+v, %v", s, c, d, err)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/ward/a%20b.csv?list-type=2&prefix=%2F", "/ward/..", "/ward/%2e", "//", "/w/a?x=1&x=2", "/ward/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tg, err := parseTarget(s)
		if err != nil {
			return
		}
		for _, bad := range []string{"\\", "\x00", "//", "\n"} {
			if strings.Contains(tg.path, bad) {
				t.Fatalf("%q has the path %q", s, tg.path)
			}
		}
		for seg := range strings.SplitSeq(tg.path, "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q has the path %q", s, tg.path)
			}
		}
		// What was signed names the same: nobody who reads the canonical form
		// sees another path than we do.
		again, err := parseTarget(escape(tg.path, true) + "?" + tg.query.canonical())
		if err != nil && !strings.Contains(s, "X-Amz-Signature") {
			t.Fatalf("%q: the canonical form is refused: %v", s, err)
		}
		if again.path != tg.path && err == nil {
			t.Fatalf("%q is %q, then %q", s, tg.path, again.path)
		}
		if p, err := url.PathUnescape(escape(tg.path, true)); err != nil || p != tg.path {
			t.Fatalf("%q: net/url reads %q", tg.path, p)
		}
	})
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-9", int64(26))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=5-", int64(0))
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		r, ok := parseRange(s)
		if !ok {
			return
		}
		start, length, ok := r.of(size)
		if ok && (start < 0 || length <= 0 || start > size-length) {
			t.Fatalf("%q of %d: %d+%d", s, size, start, length)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"), true)
	f.Add([]byte("0;chunk-signature="+emptySHA256+"\r\n\r\n"), false)
	f.Add([]byte("ffffffffffff\r\n"), true)
	f.Fuzz(func(t *testing.T, wire []byte, unsigned bool) {
		newReader := func(in io.Reader) *chunkReader {
			if unsigned {
				return newChunkReader(in, nil, []string{"x-amz-checksum-crc32"})
			}
			return newChunkReader(in, &chain{key: []byte("k"), previous: emptySHA256}, nil)
		}
		a, errA := io.ReadAll(newReader(bytes.NewReader(wire)))
		b, errB := io.ReadAll(newReader(iotest.OneByteReader(bytes.NewReader(wire))))
		if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) {
			t.Fatalf("how it arrives matters: %q %v, %q %v", a, errA, b, errB)
		}
		if len(a) > len(wire) {
			t.Fatal("more came out than went in")
		}
		if errA == nil && !unsigned { // nobody can have signed it
			t.Fatalf("an unsigned body is taken: %q", wire)
		}
		if errA == nil && !bytes.Contains(bytes.ToLower(wire), []byte("x-amz-checksum-crc32")) {
			t.Fatalf("a body without its trailer is taken: %q", wire)
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte("<Delete><Object><Key>a</Key></Object></Delete>"))
	f.Add([]byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part></CompleteMultipartUpload>"))
	f.Add([]byte("<!DOCTYPE a><Delete/>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d deleteBody
		if decodeXML(raw, &d) == nil && !bytes.Contains(raw, []byte("Delete")) {
			t.Fatalf("%q is no Delete", raw)
		}
		var c completeBody
		if decodeXML(raw, &c) == nil {
			if parts, err := assemble(c.Parts, []Part{{1, "a", 1}}, 10); err == nil && len(parts) != 1 {
				t.Fatalf("%q makes %v", raw, parts)
			}
		}
	})
}
