// Package dir is the embedded default store: one folder, one file an object,
// the key as its path. What is in it can be looked at with ordinary tools, and
// files put there by hand are objects too.
//
// A key cannot be both an object and the beginning of another ("a" and "a/b"):
// that is a sallyport.Conflict. Symbolic links and other special files are no
// objects. The folder may be read-only as long as nobody writes.
package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"sallyport"
	"sallyport/store"
)

// Config says where the objects are.
type Config struct {
	Path string `yaml:"path" json:"path"` // made with mode 0700 if absent
}

// hidden is the folder of unfinished files. No key reaches it.
const hidden = ".sallyport-unfinished"

// Store keeps objects in a folder.
type Store struct {
	name string
	root *os.Root // nothing outside of it can be named, whatever links say

	// shape is held by Remove while it prunes empty folders, and shared by
	// those who have just made one and are about to use it.
	shape sync.RWMutex

	mu     sync.Mutex
	synced map[string]bool // folders whose entry in their parent is durable
}

// Open opens the store called name, and removes what writers that are no more
// left unfinished.
func Open(name string, cfg Config) (*Store, error) {
	op := "open store " + name
	if cfg.Path == "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Set path to a folder.", "no folder given")
	}
	if err := os.MkdirAll(cfg.Path, 0o700); err != nil {
		return nil, fault(op, err)
	}
	if err := syncPath(filepath.Dir(cfg.Path)); err != nil {
		return nil, fault(op, err)
	}
	root, err := os.OpenRoot(cfg.Path)
	if err != nil {
		return nil, fault(op, err)
	}
	s := &Store{name: name, root: root, synced: map[string]bool{".": true}}
	if err := s.sweep(); err != nil {
		root.Close()
		return nil, fault(op, err)
	}
	return s, nil
}

// Close gives the folder back; objects that are open stay so.
func (s *Store) Close() error { return s.root.Close() }

// sweep removes unfinished files that no living process is writing.
func (s *Store) sweep() error {
	list, err := fs.ReadDir(s.root.FS(), hidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		name := path.Join(hidden, e.Name())
		f, err := s.root.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return nil // a reader's view: not ours to clean
		}
		if err != nil {
			return err
		}
		if tryLock(f) {
			err = s.root.Remove(name)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Open opens an object.
func (s *Store) Open(ctx context.Context, ref sallyport.Ref) (store.Object, error) {
	const op = "open object"
	if err := s.check(ctx, op, ref); err != nil {
		return nil, err
	}
	absent := sallyport.Errorf(op, sallyport.NotFound, "", "%s is not there", ref)
	st, err := s.root.Lstat(ref.Key)
	if err != nil {
		if isAbsent(err) {
			return nil, absent
		}
		return nil, fault(op, err)
	}
	if !st.Mode().IsRegular() { // to open a pipe would wait for a writer
		return nil, absent
	}
	f, err := s.root.Open(ref.Key)
	if err != nil {
		if isAbsent(err) {
			return nil, absent
		}
		return nil, fault(op, err)
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return nil, fault(op, err)
	}
	return &object{f: f, info: s.info(ref.Key, st)}, nil
}

// Put writes a file aside, and moves it to its key when it is whole and durable.
func (s *Store) Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (_ store.Info, err error) {
	const op = "put object"
	if err := s.check(ctx, op, ref); err != nil {
		return store.Info{}, err
	}
	f, name, err := s.create()
	if err != nil {
		return store.Info{}, fault(op, err)
	}
	moved := false
	defer func() { // after a panic of fill too
		f.Close()
		if !moved {
			s.root.Remove(name)
		}
	}()
	w := &writer{ctx: ctx, f: f}
	err = fill(w)
	if failed := w.end(); failed != nil { // also where fill paid no attention
		err = failed
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return store.Info{}, sallyport.E(op+" "+ref.String(), kindOf(err), err, "")
	}
	if err := f.Sync(); err != nil {
		return store.Info{}, fault(op, err)
	}
	st, err := f.Stat()
	if err != nil {
		return store.Info{}, fault(op, err)
	}
	// Another process may prune a folder between its making and its use.
	for range 10 {
		err = s.move(name, ref.Key)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return store.Info{}, fault(op, err)
	}
	moved = true
	return s.info(ref.Key, st), s.syncDir(op, path.Dir(ref.Key))
}

// create makes an unfinished file, locked for as long as it is open.
func (s *Store) create() (*os.File, string, error) {
	if err := s.root.Mkdir(hidden, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, "", err
	}
	for range 100 {
		name := path.Join(hidden, rand.Text())
		f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, "", err
		}
		if tryLock(f) {
			// A sweeper may have had it between the making and the lock.
			if _, err := s.root.Lstat(name); err == nil {
				return f, name, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				f.Close()
				return nil, "", err
			}
		}
		f.Close()
		s.root.Remove(name)
	}
	return nil, "", errors.New("the file system gives no file locks")
}

// move makes the folders of key and gives the file its name there.
func (s *Store) move(name, key string) error {
	s.shape.RLock()
	defer s.shape.RUnlock()
	parent := "."
	for elem := range strings.SplitSeq(path.Dir(key), "/") {
		if elem == "." {
			break
		}
		d := path.Join(parent, elem)
		if err := s.root.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Whoever made it may not have got to syncing it: each does it himself.
		if !s.isSynced(d) {
			if err := s.sync(parent); err != nil {
				return err
			}
			s.setSynced(d, true)
		}
		parent = d
	}
	return s.root.Rename(name, key)
}

func (s *Store) isSynced(d string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced[d]
}

func (s *Store) setSynced(d string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.synced[d] = true
	} else {
		delete(s.synced, d)
	}
}

// Remove unlinks an object and the folders that became empty by it.
func (s *Store) Remove(ctx context.Context, ref sallyport.Ref) error {
	const op = "remove object"
	if err := s.check(ctx, op, ref); err != nil {
		return err
	}
	s.shape.Lock()
	defer s.shape.Unlock()
	st, err := s.root.Lstat(ref.Key)
	if err == nil && st.IsDir() {
		return nil // no object has this key
	}
	if err == nil {
		err = s.root.Remove(ref.Key)
	}
	if err != nil {
		if isAbsent(err) {
			return nil
		}
		return fault(op, err)
	}
	d := path.Dir(ref.Key)
	for d != "." && s.root.Remove(d) == nil { // a folder that is not empty stays
		s.setSynced(d, false)
		d = path.Dir(d)
	}
	return s.syncDir(op, d)
}

func (s *Store) syncDir(op, d string) error {
	err := s.sync(d)
	// A folder that was pruned since took a removed object with it.
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault(op, err)
}

// List walks the folders in key order; it holds one folder's names at a time.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		s.walk(ctx, ".", prefix, yield)
	}
}

func (s *Store) check(ctx context.Context, op string, ref sallyport.Ref) error {
	if err := store.CheckRef(op, s.name, ref); err != nil {
		return err
	}
	if ref.Key == hidden || strings.HasPrefix(ref.Key, hidden+"/") {
		return sallyport.Errorf(op, sallyport.Invalid, "Choose another key.", "%q is the store's own folder", hidden)
	}
	for elem := range strings.SplitSeq(ref.Key, "/") {
		if len(elem) > 255 {
			return sallyport.Errorf(op, sallyport.Invalid, "Shorten it; a file name has at most 255 bytes.", "an element of the key has %d bytes", len(elem))
		}
	}
	if ref.Version != "" {
		return sallyport.Errorf(op, sallyport.Unsupported, "Leave the version out.", "store %q keeps no versions", s.name)
	}
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	return nil
}

func (s *Store) info(key string, st fs.FileInfo) store.Info {
	return store.Info{Ref: sallyport.Ref{Store: s.name, Key: key}, Size: st.Size(), Modified: st.ModTime()}
}

// isAbsent: below a file there is nothing either.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func fault(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return sallyport.E(op, sallyport.Exhausted, err, "Make room on the disk, or move the store to a larger one.")
	case errors.Is(err, syscall.EFBIG):
		return sallyport.E(op, sallyport.Exhausted, err, "The object is larger than the file system or a limit (ulimit -f) allows.")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return sallyport.E(op, sallyport.Conflict, err, "In a folder one key cannot be the beginning of another; choose another key.")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return sallyport.E(op, sallyport.Denied, err, "Let the gateway's user write in the folder of the store.")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}

func kindOf(err error) sallyport.Kind {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return sallyport.Canceled
	}
	return sallyport.KindOf(err)
}

type object struct {
	f    *os.File
	info store.Info
}

func (o *object) Info() store.Info                        { return o.info }
func (o *object) Close() error                            { return o.f.Close() }
func (o *object) Read(p []byte) (int, error)              { return readFault(o.f.Read(p)) }
func (o *object) ReadAt(p []byte, off int64) (int, error) { return readFault(o.f.ReadAt(p, off)) }

func readFault(n int, err error) (int, error) {
	if err != nil && err != io.EOF {
		err = fault("read object", err)
	}
	return n, err
}

// writer is what fill gets. It remembers the first error and ends with fill.
type writer struct {
	ctx context.Context

	mu  sync.Mutex
	f   *os.File // nil after the end
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return 0, sallyport.Errorf("write object", sallyport.Conflict, "", "the object was finished")
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.err = fault("write object", err)
	}
	return n, w.err
}

func (w *writer) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.f = nil
	return w.err
}

var _ store.Store = (*Store)(nil)
