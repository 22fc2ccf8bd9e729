package network_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/node"
	"sallyport/routing"
	"sallyport/routing/backendtest"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) (routing.Backend, backendtest.Fixture) {
		l := newLab(t)
		f, _ := l.node("n1", func(c *node.Config) { c.Run = behave })
		return l.net, backendtest.Fixture{
			Assign: func(_ *testing.T, n routing.Node, id string, does backendtest.Behavior) routing.Assignment {
				return l.assignment(id, n, string(backendtest.Input), string(does))
			},
			Result: func(_ *testing.T, ref sallyport.SealedRef) []byte {
				return []byte(l.result(routing.Outcome{Result: ref}))
			},
			Stored: func(_ *testing.T, a routing.Assignment) bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.hold[a.Result.String()] != nil
			},
			Executions: func(id string) int { n, _ := f.count(id); return n },
			Reopen:     func(*testing.T) routing.Backend { l.restart(); return l.net },
		}
	})
}

// behave is a Runner whose module does what its first argument says.
func behave(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
	b, err := io.ReadAll(s.Stdin)
	if err != nil {
		return sandbox.Result{}, err
	}
	switch backendtest.Behavior(s.Args[0]) {
	case backendtest.Fail:
		_, err = s.Stdout.Write(b[:len(b)/2])
		return sandbox.Result{Exit: 3, Log: "it failed\n"}, err
	case backendtest.Hang:
		select {
		case <-ctx.Done():
			return sandbox.Result{}, ctx.Err()
		case <-time.After(s.Walltime):
			return sandbox.Result{}, sandbox.ErrWalltime
		}
	}
	_, err = io.Copy(s.Stdout, bytes.NewReader(b))
	return sandbox.Result{Seconds: 0.001}, err
}
