// Package mem is a store in memory, for tests and for demonstrations that shall
// leave nothing behind. What it calls durable lasts as long as the process.
package mem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/store"
)

// Config bounds the store.
type Config struct {
	Limit int64 `yaml:"limit" json:"limit"` // bytes of all objects together; 0 is no limit
}

// Store keeps objects in memory.
type Store struct {
	name  string
	limit int64

	mu      sync.RWMutex
	objects map[string]stored
	used    int64 // bytes of objects, and of those being written
}

// stored is immutable: a replaced object lives on for those who have it open.
type stored struct {
	data     []byte
	modified time.Time
}

// Open makes an empty store.
func Open(name string, cfg Config) (*Store, error) {
	if cfg.Limit < 0 {
		return nil, sallyport.Errorf("open store "+name, sallyport.Invalid, "", "the limit is %d bytes", cfg.Limit)
	}
	return &Store{name: name, limit: cfg.Limit, objects: map[string]stored{}}, nil
}

// Open opens an object.
func (s *Store) Open(ctx context.Context, ref sallyport.Ref) (store.Object, error) {
	const op = "open object"
	if err := s.check(ctx, op, ref); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[ref.Key]
	if !ok {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "", "%s is not there", ref)
	}
	return &object{Reader: bytes.NewReader(o.data), info: s.info(ref.Key, o)}, nil
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (store.Info, error) {
	const op = "put object"
	if err := s.check(ctx, op, ref); err != nil {
		return store.Info{}, err
	}
	w := &writer{ctx: ctx, s: s}
	// What was reserved and not committed is given back, after a panic too.
	defer func() {
		data := w.end()
		s.mu.Lock()
		s.used -= int64(len(data))
		s.mu.Unlock()
	}()
	err := fill(w)
	if err == nil {
		err = w.failed()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return store.Info{}, sallyport.E(op+" "+ref.String(), kindOf(err), err, "")
	}
	data := w.end()
	o := stored{data: data, modified: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= int64(len(s.objects[ref.Key].data))
	s.objects[ref.Key] = o
	return s.info(ref.Key, o), nil
}

// List yields what was there when it began.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		s.mu.RLock()
		var all []store.Info
		for key, o := range s.objects {
			if strings.HasPrefix(key, prefix) {
				all = append(all, s.info(key, o))
			}
		}
		s.mu.RUnlock()
		slices.SortFunc(all, func(a, b store.Info) int { return strings.Compare(a.Ref.Key, b.Ref.Key) })
		for _, info := range all {
			if err := ctx.Err(); err != nil {
				yield(store.Info{}, sallyport.E("list objects", sallyport.Canceled, err, ""))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Remove forgets an object.
func (s *Store) Remove(ctx context.Context, ref sallyport.Ref) error {
	if err := s.check(ctx, "remove object", ref); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= int64(len(s.objects[ref.Key].data))
	delete(s.objects, ref.Key)
	return nil
}

func (s *Store) check(ctx context.Context, op string, ref sallyport.Ref) error {
	if err := store.CheckRef(op, s.name, ref); err != nil {
		return err
	}
	if ref.Version != "" {
		return sallyport.Errorf(op, sallyport.Unsupported, "Leave the version out.", "store %q keeps no versions", s.name)
	}
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	return nil
}

func (s *Store) info(key string, o stored) store.Info {
	return store.Info{Ref: sallyport.Ref{Store: s.name, Key: key}, Size: int64(len(o.data)), Modified: o.modified}
}

func kindOf(err error) sallyport.Kind {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return sallyport.Canceled
	}
	return sallyport.KindOf(err)
}

type object struct {
	*bytes.Reader
	info store.Info
}

func (o *object) Info() store.Info { return o.info }
func (o *object) Close() error     { return nil }

type writer struct {
	ctx context.Context
	s   *Store

	mu    sync.Mutex
	data  []byte
	err   error
	ended bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, sallyport.Errorf("write object", sallyport.Conflict, "", "the object was finished")
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil {
		w.err = w.s.reserve(int64(len(p)))
	}
	if w.err != nil {
		return 0, w.err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// end hands the bytes out once; nobody can write after it.
func (w *writer) end() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := w.data
	w.data, w.ended = nil, true
	return data
}

func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && s.used+n > s.limit {
		return sallyport.Errorf("write object", sallyport.Exhausted, "Remove objects or raise the limit.", "store %q is full (%d bytes)", s.name, s.limit)
	}
	s.used += n
	return nil
}

var _ store.Store = (*Store)(nil)
