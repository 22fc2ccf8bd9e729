package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"sallyport"
)

// The payload of an age v1 file (age-encryption.org/v1, section "Payload"):
// chunks of 64 KiB, each sealed by ChaCha20-Poly1305 under one key, with a
// nonce of an 11-byte big-endian counter and a byte that is 1 for the last
// chunk only.
const (
	chunkSize  = 64 << 10
	sealedSize = chunkSize + chacha20poly1305.Overhead
	nonceSize  = 16 // of the salt between header and payload
)

const (
	maxWorkers  = 8 // one core outruns a 10 Gbit/s line; more are for the disk's sake
	perWorker   = 8 // chunks a worker seals in one go
	errSealDone = "the seal is closed already"
)

// sealer writes an age payload, sealing chunks on all cores. The caller fills
// one batch while the one before it is being sealed; everything that is written
// to dst is written by the caller's own calls, in order. The goroutines end by
// themselves, so a sealer may be dropped without Close.
type sealer struct {
	dst     io.Writer
	aead    cipher.AEAD
	workers int

	filling *batch
	sealing *batch // nil at first
	err     error
}

// newSealer lets age write header and salt, and takes over from there.
func newSealer(dst io.Writer, to []age.Recipient) (*sealer, error) {
	const op = "seal"
	var fileKey []byte
	for i, r := range to {
		to[i] = &capture{r, &fileKey}
	}
	var head bytes.Buffer
	if _, err := age.Encrypt(&head, to...); err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	salt := head.Bytes()[head.Len()-nonceSize:]
	key, err := hkdf.Key(sha256.New, fileKey, salt, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	clear(key)
	clear(fileKey)
	if _, err := dst.Write(head.Bytes()); err != nil {
		return nil, keepKind(op, sallyport.Unavailable, err)
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	return &sealer{dst: dst, aead: aead, workers: workers, filling: newBatch(workers * perWorker)}, nil
}

// capture is a recipient that also keeps the file key it is given. It passes
// the inner recipient's labels on, by which age refuses to mix kinds.
type capture struct {
	age.Recipient
	fileKey *[]byte
}

func (c *capture) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	*c.fileKey = bytes.Clone(fileKey)
	if r, ok := c.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(fileKey)
	}
	stanzas, err := c.Wrap(fileKey)
	return stanzas, nil, err
}

func (s *sealer) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	total := len(p)
	for len(p) > 0 {
		// Only when more comes is a full batch known not to hold the last chunk.
		if s.filling.full() {
			s.filling.seal(s.aead, s.workers, false)
			next, err := s.flush(s.sealing)
			if err != nil {
				return total - len(p), err
			}
			if next == nil {
				next = newBatch(s.filling.chunks)
			}
			next.first = s.filling.first + uint64(s.filling.chunks)
			s.filling, s.sealing = next, s.filling
		}
		p = p[s.filling.add(p):]
	}
	return total, nil
}

// Close writes what is left. It does not close dst.
func (s *sealer) Close() error {
	if s.err != nil {
		return s.err
	}
	s.filling.seal(s.aead, s.workers, true)
	for _, b := range []*batch{s.sealing, s.filling} {
		if _, err := s.flush(b); err != nil {
			return err
		}
	}
	s.filling, s.sealing = nil, nil
	s.err = sallyport.E("seal", sallyport.Conflict, errors.New(errSealDone), "")
	return nil
}

// flush waits for a batch, writes it, and returns it empty.
func (s *sealer) flush(b *batch) (*batch, error) {
	if b == nil {
		return nil, nil
	}
	b.done.Wait()
	if _, err := s.dst.Write(b.bytes()); err != nil {
		s.err = keepKind("seal", sallyport.Unavailable, err)
		return nil, s.err
	}
	b.last, b.fill = 0, 0
	return b, nil
}

// batch is a run of chunks. Chunk i lies at i×sealedSize with room for its tag,
// so that sealed in place they are ready to be written in one go.
type batch struct {
	chunks int    // how many it can hold
	first  uint64 // number in the file of its first chunk
	buf    []byte // room for one chunk at first, for all once a second is begun
	last   int    // index of the chunk being filled
	fill   int    // bytes in it
	done   sync.WaitGroup
}

func newBatch(chunks int) *batch { return &batch{chunks: chunks, buf: make([]byte, sealedSize)} }

func (b *batch) full() bool { return b.last == b.chunks-1 && b.fill == chunkSize }

// add copies what it has room for, and returns how much.
func (b *batch) add(p []byte) int {
	n := 0
	for len(p) > 0 && !b.full() {
		if b.fill == chunkSize {
			b.last, b.fill = b.last+1, 0
			if len(b.buf) == sealedSize && b.chunks > 1 {
				all := make([]byte, b.chunks*sealedSize)
				copy(all, b.buf)
				b.buf = all
			}
		}
		at := b.last * sealedSize
		m := copy(b.buf[at+b.fill:at+chunkSize], p)
		b.fill += m
		n += m
		p = p[m:]
	}
	return n
}

func (b *batch) bytes() []byte { return b.buf[:b.last*sealedSize+b.fill+chacha20poly1305.Overhead] }

// seal begins to seal the chunks in place; done says when it is over. end is
// whether the chunk filled last is the file's last.
func (b *batch) seal(aead cipher.AEAD, workers int, end bool) {
	work := func(from, step int) {
		var nonce [chacha20poly1305.NonceSize]byte
		for i := from; i <= b.last; i += step {
			size := chunkSize
			if i == b.last {
				size = b.fill
				if end {
					nonce[len(nonce)-1] = 1
				}
			}
			// 8 of the counter's 11 bytes: 2^64 chunks are enough.
			binary.BigEndian.PutUint64(nonce[3:11], b.first+uint64(i))
			plain := b.buf[i*sealedSize:][:size]
			aead.Seal(plain[:0], nonce[:], plain, nil)
		}
	}
	workers = min(workers, b.last+1)
	if workers == 1 {
		work(0, 1)
		return
	}
	for w := range workers {
		b.done.Go(func() { work(w, workers) })
	}
}
