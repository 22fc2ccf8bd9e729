package s3door

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
)

// chain is the chain of signatures of an aws-chunked body: each chunk's
// signature covers the one before; the request's own is the seed. Source:
// Amazon S3 API Reference, "Signature Calculations for the Authorization
// Header: Transferring Payload in Multiple Chunks", and "... Including Trailing
// Headers".
type chain struct {
	key      []byte
	previous string // hexadecimal
	scope    string
	time     string
}

// chunk checks the signature of the next chunk, whose data has this digest.
func (c *chain) chunk(signature, sum []byte) bool {
	return c.link(algorithm+"-PAYLOAD\n"+c.time+"\n"+c.scope+"\n"+c.previous+"\n"+emptySHA256+"\n"+hex.EncodeToString(sum), signature)
}

// trailer checks the signature of the trailing headers.
func (c *chain) trailer(signature []byte, headers string) bool {
	sum := sha256.Sum256([]byte(headers))
	return c.link(algorithm+"-TRAILER\n"+c.time+"\n"+c.scope+"\n"+c.previous+"\n"+hex.EncodeToString(sum[:]), signature)
}

func (c *chain) link(text string, signature []byte) bool {
	want := sign(c.key, text)
	c.previous = hex.EncodeToString(want)
	return hmac.Equal(want, signature)
}

// The longest line between chunks, and the most lines after the last.
const (
	maxChunkLine    = 512
	maxTrailerLines = 8
)

// chunkReader reads the data of an aws-chunked body. Data is handed on before
// its chunk's signature has come in, which keeps memory bounded whatever the
// chunk's size; io.EOF comes only when everything was verified and nothing
// follows.
type chunkReader struct {
	in       *bufio.Reader
	chain    *chain    // nil: chunks are not signed
	sum      hash.Hash // of the chunk's data, where signed
	names    []string  // trailing headers that must come, lower case
	trailers map[string]string

	left      int64  // of this chunk
	signature []byte // of this chunk
	open      bool   // inside a chunk
	err       error  // sticky
}

func newChunkReader(in io.Reader, c *chain, names []string) *chunkReader {
	return &chunkReader{in: bufio.NewReaderSize(in, 32<<10), chain: c, sum: sha256.New(), names: names, trailers: map[string]string{}}
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		if r.err = r.next(); r.err != nil {
			return 0, r.err
		}
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
	if r.chain != nil {
		r.sum.Write(p[:n])
	}
	r.left -= int64(n)
	if err != nil {
		r.err = cut(err)
	}
	return n, r.err
}

// cut is an early end of the body.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return newFault(codeIncompleteBody, "The body ended too early.")
	}
	return err
}

// next ends the chunk at hand and begins another; after the last it reads the
// trailing headers and returns io.EOF.
func (r *chunkReader) next() error {
	if r.open {
		if line, err := r.line(); err != nil {
			return err
		} else if line != "" {
			return malformedChunk()
		}
		if err := r.verify(); err != nil {
			return err
		}
		r.open = false
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	size, extension, extended := strings.Cut(line, ";")
	if r.left, err = parseChunkSize(size); err != nil {
		return err
	}
	switch {
	case r.chain == nil && extended:
		return malformedChunk()
	case r.chain != nil:
		value, ok := strings.CutPrefix(extension, "chunk-signature=")
		if !ok {
			return newFault(codeAccessDenied, "A chunk is not signed.")
		}
		if r.signature, err = parseSignature(value); err != nil {
			return err
		}
		r.sum.Reset()
	}
	if r.left > 0 {
		r.open = true
		return nil
	}
	if err := r.verify(); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	return io.EOF
}

// verify checks the signature of the chunk whose data has been read.
func (r *chunkReader) verify() error {
	if r.chain == nil || r.chain.chunk(r.signature, r.sum.Sum(nil)) {
		return nil
	}
	return newFault(codeSignatureDoesNotMatch, "The signature of a chunk does not match.")
}

// end reads what follows the last chunk: trailing headers, their signature,
// blank lines. Clients disagree on line ends and on where the blank ones stand
// (minio-go ends a header with a bare \n), so both are taken; what is signed
// has one form only.
func (r *chunkReader) end() error {
	var signed strings.Builder
	var signature []byte
	for lines := 0; ; lines++ {
		line, err := r.line()
		if f, ok := errors.AsType[*fault](err); ok && f.code == codeIncompleteBody && line == "" {
			break // the end of the body
		}
		switch {
		case err != nil:
			return err
		case lines >= maxTrailerLines:
			return malformedTrailer()
		case line == "":
			continue
		case signature != nil: // nothing may follow the signature
			return malformedTrailer()
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || value == "" {
			return malformedTrailer()
		}
		if name == "x-amz-trailer-signature" {
			if r.chain == nil {
				return malformedTrailer()
			}
			if signature, err = parseSignature(value); err != nil {
				return err
			}
			continue
		}
		if _, twice := r.trailers[name]; twice || len(r.trailers) == len(r.names) {
			return malformedTrailer()
		}
		r.trailers[name] = value
		signed.WriteString(name + ":" + value + "\n")
	}
	for _, name := range r.names {
		if r.trailers[name] == "" {
			return newFault(codeMalformedTrailer, "The trailing header %s, which x-amz-trailer announced, did not come.", clip(name))
		}
	}
	if r.chain == nil || len(r.names) == 0 {
		if signature != nil {
			return malformedTrailer()
		}
		return nil
	}
	if signature == nil {
		return newFault(codeAccessDenied, "The trailing headers are not signed.")
	}
	if !r.chain.trailer(signature, signed.String()) {
		return newFault(codeSignatureDoesNotMatch, "The signature of the trailing headers does not match.")
	}
	return nil
}

// line reads a line without its end. At the end of the body it fails as an
// IncompleteBody, with what there was of a line.
func (r *chunkReader) line() (string, error) {
	line, err := r.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), len(line) > maxChunkLine:
		return "", malformedChunk()
	case err != nil:
		return string(line), cut(err)
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

func parseChunkSize(s string) (int64, error) {
	if len(s) == 0 || len(s) > 12 {
		return 0, malformedChunk()
	}
	var n int64
	for i := range len(s) {
		d, ok := unhex(s[i])
		if !ok {
			return 0, malformedChunk()
		}
		n = n<<4 | int64(d)
	}
	return n, nil
}

func parseSignature(s string) ([]byte, error) {
	sig, err := hex.DecodeString(s)
	if err != nil || len(sig) != sha256.Size {
		return nil, newFault(codeSignatureDoesNotMatch, "A signature in the body is malformed.")
	}
	return sig, nil
}

func malformedChunk() error {
	return newFault(codeInvalidRequest, "The body is not aws-chunked as announced.")
}

func malformedTrailer() error {
	return newFault(codeMalformedTrailer, "The trailing headers are malformed, or not those that x-amz-trailer announced.")
}
