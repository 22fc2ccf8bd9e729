package risk

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"syscall"

	"sallyport"
)

const (
	chunkSize = 32 << 10 // bytes of slots that are sealed together, at most
	tagSize   = 16
	fanIn     = 32 // runs of one level, before they are merged into one of the next
)

// vault makes temporary files that nobody else can read or change unseen: each
// chunk is sealed with AES-256-GCM under a key that lives in this process only.
// A chunk's nonce is the number of its run and its place there, so that no two
// are sealed with the same, and none passes for another.
type vault struct {
	dir     string
	aead    cipher.AEAD // nil until the first run
	runs    uint32
	written int64
}

func (v *vault) nonce(run uint32, chunk int64) []byte {
	var n [12]byte
	binary.BigEndian.PutUint32(n[:4], run)
	binary.BigEndian.PutUint64(n[4:], uint64(chunk))
	return n[:]
}

// run is a sorted file of slots, no key twice.
type run[S slot] struct {
	vault *vault
	id    uint32
	file  *os.File
	name  string // "" where the file has no name any more
	slots int64
}

func (r *run[S]) close() error {
	err := r.file.Close()
	if r.name != "" {
		err = errors.Join(err, os.Remove(r.name))
	}
	return err
}

// write makes a run of what next returns, in the order it comes.
func write[S slot](v *vault, next func() (S, bool, error)) (_ *run[S], err error) {
	if v.aead == nil {
		var key [32]byte
		rand.Read(key[:]) // never fails
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, sallyport.E("census", sallyport.Internal, err, "")
		}
		clear(key[:])
		if v.aead, err = cipher.NewGCM(block); err != nil {
			return nil, sallyport.E("census", sallyport.Internal, err, "")
		}
	}
	if v.runs++; v.runs == 0 {
		return nil, sallyport.Errorf("census", sallyport.Exhausted, "Allow more memory.", "the count was spilled too often")
	}
	f, err := os.CreateTemp(v.dir, "census-*.run") // mode 0600
	if err != nil {
		return nil, spillError(err)
	}
	r := &run[S]{vault: v, id: v.runs, file: f}
	if os.Remove(f.Name()) != nil {
		r.name = f.Name() // a system that keeps the names of open files
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	full := int(chunkSize / bytesOf[S]() * bytesOf[S]())
	buf := make([]byte, 0, full+tagSize)
	var chunk int64
	for {
		s, ok, err := next()
		if err != nil {
			return nil, err
		}
		if ok {
			for i := range len(s) {
				buf = binary.LittleEndian.AppendUint64(buf, s[i])
			}
			r.slots++
		}
		if len(buf) == full || !ok && len(buf) > 0 {
			sealed := v.aead.Seal(buf[:0], v.nonce(r.id, chunk), buf, nil)
			if _, err := f.Write(sealed); err != nil {
				return nil, spillError(err)
			}
			v.written += int64(len(sealed))
			chunk++
			buf = buf[:0]
		}
		if !ok {
			return r, nil
		}
	}
}

// spillError says what to do about a file that could not be written.
func spillError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.EDQUOT) {
		return sallyport.E("census", sallyport.Exhausted, err, "Allow more memory, or spill to a folder with more room.")
	}
	return sallyport.E("census", sallyport.Unavailable, err, "Spill to a folder that can be written to.")
}

// source returns a reader of the run from its start.
func (r *run[S]) source(ctx context.Context) *source[S] {
	width := bytesOf[S]()
	full := chunkSize / width // slots
	var buf []byte
	var batch []S
	var chunk int64
	return &source[S]{more: func() ([]S, error) {
		if err := ctx.Err(); err != nil {
			return nil, sallyport.E("census", sallyport.Canceled, err, "")
		}
		n := min(full, r.slots-chunk*full)
		if n <= 0 {
			return nil, nil
		}
		if buf == nil {
			buf, batch = make([]byte, n*width+tagSize), make([]S, n)
		}
		sealed := buf[:n*width+tagSize]
		if _, err := r.file.ReadAt(sealed, chunk*(full*width+tagSize)); err == io.EOF {
			return nil, damaged("is shorter than it was written")
		} else if err != nil {
			return nil, sallyport.E("census", sallyport.Unavailable, err, "Try again, or spill to another folder.")
		}
		plain, err := r.vault.aead.Open(sealed[:0], r.vault.nonce(r.id, chunk), sealed, nil)
		if err != nil {
			return nil, damaged("is not what was written")
		}
		chunk++
		batch = batch[:n]
		for i := range batch {
			for j := range len(batch[i]) {
				batch[i][j] = binary.LittleEndian.Uint64(plain)
				plain = plain[8:]
			}
		}
		return batch, nil
	}}
}

func damaged(how string) error {
	return sallyport.Errorf("census", sallyport.Damaged, "Start again; check the disk, and who may write to it.", "a spilled run %s", how)
}

// runs are those of one table, by level: a run of level n was made of fanIn of
// level n-1. So few files are open, and few buffers needed to read them all.
type runs[S slot] struct{ level [][]*run[S] }

func (rs *runs[S]) add(r *run[S]) error {
	for i := 0; ; i++ {
		if i == len(rs.level) {
			rs.level = append(rs.level, nil)
		}
		rs.level[i] = append(rs.level[i], r)
		if len(rs.level[i]) < fanIn {
			return nil
		}
		var sources []*source[S]
		for _, r := range rs.level[i] {
			sources = append(sources, r.source(context.Background()))
		}
		m, err := merge(sources)
		if err != nil {
			return err
		}
		joined, err := write(r.vault, m.next)
		if err != nil {
			return err
		}
		err = nil
		for _, old := range rs.level[i] {
			err = errors.Join(err, old.close())
		}
		rs.level[i] = nil
		if r = joined; err != nil {
			return errors.Join(spillError(err), r.close())
		}
	}
}

func (rs *runs[S]) none() bool { return len(rs.level) == 0 }

func (rs *runs[S]) sources(ctx context.Context) (out []*source[S]) {
	for _, level := range rs.level {
		for _, r := range level {
			out = append(out, r.source(ctx))
		}
	}
	return out
}

func (rs *runs[S]) close() (err error) {
	for _, level := range rs.level {
		for _, r := range level {
			err = errors.Join(err, r.close())
		}
	}
	rs.level = nil
	return err
}
