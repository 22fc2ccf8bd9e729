package memory

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/audit"
)

func openLog(t testing.TB, path string, key byte) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Config{Path: path, Origin: "lab", Seed: bytes.Repeat([]byte{key}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newLog(t testing.TB, key byte, n int) *audit.Log {
	t.Helper()
	l := openLog(t, filepath.Join(t.TempDir(), "audit.db"), key)
	grow(t, l, n)
	return l
}

func grow(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note}); err != nil {
				t.Error(err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
}

// gate is a gateway with a log.
type gate struct {
	*audit.Log
	away   error
	proofs int // asked for
}

func (g *gate) Checkpoint(context.Context) (string, string, error) {
	s, err := g.Log.Checkpoint()
	return s, g.VerifierKey(), errors.Join(err, g.away)
}

func (g *gate) Consistency(_ context.Context, old, size uint64) ([]string, error) {
	if g.proofs++; g.away != nil {
		return nil, g.away
	}
	p, err := g.Log.Consistency(old, size)
	return audit.FormatHashes(p), err
}

func (g *gate) line(t testing.TB) string {
	t.Helper()
	s, err := g.Log.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	return audit.CheckpointLine(s)
}

func newMemory(t testing.TB) *Memory {
	return New(filepath.Join(t.TempDir(), "checkpoints"), func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) })
}

func see(t testing.TB, m *Memory, g *gate) error {
	t.Helper()
	return m.See(t.Context(), "/lab/gateway.sock", g.line(t), g)
}

func TestALogThatGrows(t *testing.T) {
	m, g := newMemory(t), &gate{Log: newLog(t, 7, 0)}
	for _, n := range []int{0, 1, 5, 0, 30} {
		stale := g.line(t)
		grow(t, g.Log, n)
		if err := see(t, m, g); err != nil {
			t.Fatal(err)
		}
		asked := g.proofs
		if err := see(t, m, g); err != nil || g.proofs != asked {
			t.Errorf("the same checkpoint again: %v, %d proofs", err, g.proofs-asked)
		}
		// An answer that began before another one showed more.
		if err := m.See(t.Context(), "/lab/gateway.sock", stale, g); err != nil {
			t.Errorf("a stale answer: %v", err)
		}
		e, err := m.read("/lab/gateway.sock")
		if err != nil || audit.CheckpointLine(e.Checkpoint) != g.line(t) || e.Key != g.VerifierKey() {
			t.Errorf("remembered %+v, %v", e, err)
		}
	}
	// Another gateway is another memory.
	if err := m.See(t.Context(), "/other/gateway.sock", (&gate{Log: newLog(t, 8, 2)}).line(t), &gate{Log: newLog(t, 8, 2)}); err != nil {
		t.Error(err)
	}
}

func TestHistoryForked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l := openLog(t, path, 7)
	grow(t, l, 5)
	old := filepath.Join(t.TempDir(), "audit.db")
	f, err := os.Create(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Snapshot(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	grow(t, l, 5)
	honest := &gate{Log: l}
	m := newMemory(t)
	if err := see(t, m, honest); err != nil {
		t.Fatal(err)
	}

	expect := func(name, word string, err error) {
		t.Helper()
		if sallyport.KindOf(err) != sallyport.Damaged || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "history forked") {
			t.Errorf("%s: %v", name, err)
			return
		}
		files, _ := filepath.Glob(filepath.Join(m.dir, "forked", "*.txt"))
		found := false
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(b), "\n10\n") && strings.Contains(string(b), word)
		}
		if !found {
			t.Errorf("%s: no evidence in %v", name, files)
		}
		if err := see(t, m, honest); err != nil {
			t.Errorf("%s: afterwards the honest log is refused: %v", name, err)
		}
	}
	back := &gate{Log: openLog(t, old, 7)}
	expect("older copy", "rolled back", see(t, m, back))
	grow(t, back.Log, 5)
	expect("as many other records", "two roots", see(t, m, back))
	grow(t, back.Log, 5)
	expect("more other records", "not shown to continue", see(t, m, back))
	expect("another key", "not signed by the log's key", see(t, m, &gate{Log: newLog(t, 8, 20)}))
	expect("no header", "no longer shows", m.See(t.Context(), "/lab/gateway.sock", "", honest))
	expect("noise", "cannot be read", m.See(t.Context(), "/lab/gateway.sock", "?", honest))

	grow(t, l, 1)
	refusing := &gate{Log: l, away: sallyport.Errorf("", sallyport.Invalid, "", "no such endpoint")}
	expect("no proof", "does not prove", see(t, m, refusing))

	// A gateway that went away while it was asked is not a forked one.
	grow(t, l, 1)
	gone := &gate{Log: l, away: sallyport.Errorf("", sallyport.Unavailable, "", "gone")}
	if err := see(t, m, gone); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("gone: %v", err)
	}
}

func TestMemoryThatCannotBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, g := New(filepath.Join(file, "checkpoints"), time.Now), &gate{Log: newLog(t, 7, 1)}
	if err := see(t, m, g); err == nil {
		t.Error("remembered in a file's folder")
	} else if _, ok := errors.AsType[*Unkept](err); !ok {
		t.Errorf("%v", err)
	}
}

func TestMemoryThatWasChanged(t *testing.T) {
	m, g := newMemory(t), &gate{Log: newLog(t, 7, 3)}
	if err := see(t, m, g); err != nil {
		t.Fatal(err)
	}
	file := m.file("/lab/gateway.sock")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(string(b), "/lab/", "/bal/", 1), strings.Replace(string(b), `\n3\n`, `\n2\n`, 1)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		grow(t, g.Log, 1)
		if err := see(t, m, g); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
}

// Many clients at once: what is remembered ends as the largest seen, and
// nobody cries wolf.
func TestManyClients(t *testing.T) {
	m, g := newMemory(t), newLog(t, 7, 1)
	if err := see(t, m, &gate{Log: g}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				one := &gate{Log: g}
				line := one.line(t)
				if _, err := g.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note}); err != nil {
					t.Error(err)
				}
				if err := m.See(t.Context(), "/lab/gateway.sock", line, one); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
