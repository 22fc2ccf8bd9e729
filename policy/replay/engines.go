package replay

import (
	"container/list"
	"context"
	"sync"
)

// cache keeps the few values that were used last. A value is made once, however
// many ask for it at the same time, and what could not be made stays so.
type cache[K comparable, V any] struct {
	most int
	make func(context.Context, K) (V, error)

	mu    sync.Mutex
	known map[K]*list.Element
	used  list.List // of *cached, the last used first
}

type cached[K comparable, V any] struct {
	key   K
	ready chan struct{}
	value V
	err   error
}

func newCache[K comparable, V any](most int, make func(context.Context, K) (V, error)) *cache[K, V] {
	return &cache[K, V]{most: most, make: make, known: map[K]*list.Element{}}
}

func (c *cache[K, V]) get(ctx context.Context, key K) (V, error) {
	c.mu.Lock()
	if e, ok := c.known[key]; ok {
		c.used.MoveToFront(e)
		c.mu.Unlock()
		have := e.Value.(*cached[K, V])
		select {
		case <-have.ready:
			return have.value, have.err
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
	made := &cached[K, V]{key: key, ready: make(chan struct{})}
	c.known[key] = c.used.PushFront(made)
	for c.used.Len() > c.most {
		last := c.used.Back()
		c.used.Remove(last)
		delete(c.known, last.Value.(*cached[K, V]).key)
	}
	c.mu.Unlock()
	defer close(made.ready)
	made.value, made.err = c.make(ctx, key)
	return made.value, made.err
}
