package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"sallyport"
)

// spool keeps a stream that must be read again, or must not be seen before it
// is whole: in memory while it is small, then in a file without a name (or, if
// the system has none, with one that is removed at once where it can be). What
// is on disk is encrypted with a key that lives in this process only (AES-256 in
// counter mode: nobody else can write to the file, and no plaintext stays on the
// disk when the process dies).
type spool struct {
	dir    string
	most   int64 // bytes that stay in memory
	memory []byte
	file   *os.File
	temp   string
	block  cipher.Block
	size   int64
	read   int64 // of Read
	room   []byte
}

// spoolMemory is how much of a stream stays in memory.
const spoolMemory = 8 << 20

// newSpool returns an empty spool that uses files in dir.
func newSpool(dir string) *spool { return &spool{dir: dir, most: spoolMemory} }

// fill reads all of r.
func (s *spool) fill(r io.Reader) error {
	_, err := io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{r})
	return err
}

func (s *spool) Write(b []byte) (int, error) {
	if s.file == nil && s.size+int64(len(b)) <= s.most {
		s.memory = append(s.memory, b...)
		s.size += int64(len(b))
		return len(b), nil
	}
	if s.file == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
		memory := s.memory
		s.memory, s.size = nil, 0
		if err := s.put(memory); err != nil {
			return 0, err
		}
	}
	if err := s.put(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *spool) open() error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	var err error
	if s.block, err = aes.NewCipher(key); err != nil {
		return err
	}
	o, err := createOutput(s.dir + string(os.PathSeparator) + "spool")
	if err != nil {
		return err
	}
	s.file, s.temp = o.File, o.temp
	if s.temp != "" && os.Remove(s.temp) == nil {
		s.temp = ""
	}
	return nil
}

func (s *spool) put(b []byte) error {
	s.room = append(s.room[:0], b...)
	s.crypt(s.room, s.size)
	n, err := s.file.WriteAt(s.room, s.size)
	s.size += int64(n)
	if err != nil {
		return sallyport.E("spool", sallyport.Exhausted, err, "Name a folder with room by --spill.")
	}
	return nil
}

// crypt encrypts or decrypts b, which lies at off. The counter is the number of
// the 16-byte block, under a key that is used for one stream.
func (s *spool) crypt(b []byte, off int64) {
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(s.block, iv[:])
	var skip [aes.BlockSize]byte
	stream.XORKeyStream(skip[:off%aes.BlockSize], skip[:off%aes.BlockSize])
	stream.XORKeyStream(b, b)
}

// ReadAt may be called by several goroutines once nothing is written any more.
func (s *spool) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > s.size-off
	if short {
		b = b[:s.size-off]
	}
	if s.file == nil {
		copy(b, s.memory[off:])
	} else {
		n, err := s.file.ReadAt(b, off)
		s.crypt(b[:n], off)
		if n < len(b) {
			return n, err
		}
	}
	if short {
		return len(b), io.EOF
	}
	return len(b), nil
}

func (s *spool) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := s.ReadAt(b, s.read)
	s.read += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (s *spool) Size() int64 { return s.size }

func (s *spool) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.temp != "" {
		os.Remove(s.temp)
	}
	return err
}
