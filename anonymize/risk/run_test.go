package risk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"sallyport"
)

// spilled returns a census of n classes that has runs on disk.
func spilled(t *testing.T, n, columns int) *Census {
	t.Helper()
	c := NewCensus(Options{Memory: NewMemory(64 << 20), Dir: t.TempDir(), Sensitive: columns})
	t.Cleanup(func() {
		c.Close()
		nothingLeft(t, c.vault.dir)
	})
	for i := range n {
		if err := c.AddSensitive(spread64(i), []Key{spread64(-i)}[:columns]); err != nil {
			t.Fatal(err)
		}
		if i%(n/3+1) == n/3 {
			if err := c.spill(i%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.spill(false); err != nil {
		t.Fatal(err)
	}
	return c
}

// A run that was changed on disk ends the measurement, whatever was changed.
func TestDamagedRunsAreErrors(t *testing.T) {
	const chunk = chunkSize/24*24 + tagSize
	change := map[string]func(t *testing.T, rs []*run[[3]uint64]){
		"a bit": func(t *testing.T, rs []*run[[3]uint64]) {
			flip(t, rs[0].file, chunk+77)
		},
		"the last tag": func(t *testing.T, rs []*run[[3]uint64]) {
			at, _ := rs[2].file.Seek(0, 2)
			flip(t, rs[2].file, at-1)
		},
		"truncated by a byte": func(t *testing.T, rs []*run[[3]uint64]) {
			at, _ := rs[1].file.Seek(0, 2)
			rs[1].file.Truncate(at - 1)
		},
		"truncated by a chunk": func(t *testing.T, rs []*run[[3]uint64]) {
			rs[1].file.Truncate(chunk)
		},
		"emptied": func(t *testing.T, rs []*run[[3]uint64]) {
			rs[1].file.Truncate(0)
		},
		"two chunks changed places": func(t *testing.T, rs []*run[[3]uint64]) {
			swap(t, rs[0].file, 0, rs[0].file, chunk, chunk)
		},
		"two runs changed places": func(t *testing.T, rs []*run[[3]uint64]) {
			swap(t, rs[0].file, 0, rs[1].file, 0, chunk)
		},
		"a run of another census": func(t *testing.T, rs []*run[[3]uint64]) {
			other := spilled(t, 9000, 0).classes.runs.level[0][0]
			swap(t, rs[0].file, 0, other.file, 0, chunk)
		},
	}
	for name, damage := range change {
		t.Run(name, func(t *testing.T) {
			c := spilled(t, 9000, 0)
			rs := c.classes.runs.level[0]
			if len(rs) != 3 {
				t.Fatalf("%d runs", len(rs))
			}
			if _, err := c.Sizes(t.Context()); err != nil {
				t.Fatal(err)
			}
			damage(t, rs)
			if _, err := c.Sizes(t.Context()); sallyport.KindOf(err) != sallyport.Damaged {
				t.Errorf("sizes: %v", err)
			}
			if _, _, err := c.Failing(t.Context(), 2, 0, 0); sallyport.KindOf(err) != sallyport.Damaged {
				t.Errorf("failing: %v", err)
			}
			people := NewCensus(Options{Memory: NewMemory(1 << 20)})
			if _, _, err := c.SizesIn(t.Context(), people); sallyport.KindOf(err) != sallyport.Damaged {
				t.Errorf("in a population: %v", err)
			}
		})
	}
}

func TestDamagedPairsAreErrors(t *testing.T) {
	c := spilled(t, 9000, 1)
	if _, err := c.Sensitive(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip(t, c.pairs[0].runs.level[0][1].file, 1)
	if _, err := c.Sensitive(t.Context()); sallyport.KindOf(err) != sallyport.Damaged {
		t.Error(err)
	}
	if _, _, err := c.Failing(t.Context(), 0, 2, 0); sallyport.KindOf(err) != sallyport.Damaged {
		t.Error(err)
	}
}

// A merge that fails while more is added ends the census, and leaves no file.
func TestFailedMergeEndsTheCensus(t *testing.T) {
	c := spilled(t, 9000, 0)
	flip(t, c.classes.runs.level[0][0].file, 3)
	var err error
	for i := 0; err == nil && i < 2*fanIn; i++ {
		if err = c.Add(spread64(i)); err == nil {
			err = c.spill(false)
		}
	}
	if sallyport.KindOf(err) != sallyport.Damaged {
		t.Fatalf("merging a changed run: %v", err)
	}
	if err := c.Add(spread64(1)); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("adding afterwards: %v", err)
	}
	if _, err := c.Sizes(t.Context()); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("reading afterwards: %v", err)
	}
}

func flip(t *testing.T, f *os.File, at int64) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func swap(t *testing.T, f *os.File, i int64, g *os.File, j, n int64) {
	t.Helper()
	a, b := make([]byte, n), make([]byte, n)
	if _, err := f.ReadAt(a, i); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ReadAt(b, j); err != nil {
		t.Fatal(err)
	}
	f.WriteAt(b, i)
	g.WriteAt(a, j)
}

// What lies on disk belongs to the owner alone, has no name where the system
// allows it, and does not show its keys.
func TestRunsAreSealed(t *testing.T) {
	c := spilled(t, 300, 0)
	if runtime.GOOS != "windows" {
		nothingLeft(t, c.vault.dir)
	}
	for _, r := range c.classes.runs.level[0] {
		info, err := r.file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		b := make([]byte, info.Size())
		if _, err := r.file.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			if k := spread64(i); i > 0 && bytes.Contains(b, binary.LittleEndian.AppendUint64(nil, k.hi)) {
				t.Fatal("a key is readable")
			}
		}
	}
}

// A system that keeps the names of open files has them removed in the end.
func TestRunsWithNamesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "named"))
	if err != nil {
		t.Fatal(err)
	}
	r := &run[[3]uint64]{file: f, name: f.Name()}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dir)
}

// However many runs there are, few files are open, and the count is right.
func TestManyRuns(t *testing.T) {
	const spills = 2*fanIn*fanIn + 40
	c := NewCensus(Options{Memory: NewMemory(1 << 20), Dir: t.TempDir()})
	defer c.Close()
	for i := range spills {
		for _, k := range []int{i, i / 2, 7} {
			if err := c.Add(spread64(k)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spill(true); err != nil {
			t.Fatal(err)
		}
		if n := len(c.classes.runs.sources(t.Context())); n > 3*fanIn {
			t.Fatalf("%d runs", n)
		}
	}
	if len(c.classes.runs.level) != 3 {
		t.Errorf("%d levels", len(c.classes.runs.level))
	}
	sizes, err := c.Sizes(t.Context())
	// Class k is there once as i, and as i/2 twice if that reaches it.
	if want := []Size{{1, 0, spills / 2}, {3, 0, spills/2 - 1}, {3 + spills, 0, 1}}; err != nil || !slices.Equal(sizes, want) {
		t.Errorf("%v %v, want %v", sizes, err, want)
	}
}

// Whoever has most gives way, if it may.
func TestMemoryIsShared(t *testing.T) {
	memory := NewMemory(2 << 20)
	fixed := NewCensus(Options{Memory: memory})
	small := NewCensus(Options{Memory: memory, Dir: t.TempDir()})
	large := NewCensus(Options{Memory: memory, Dir: t.TempDir()})
	for i := range 200_000 {
		if i < 1000 {
			if err := fixed.Add(spread64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := small.Add(spread64(i / 100)); err != nil {
			t.Fatal(err)
		}
		if err := large.Add(spread64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if large.Spilled() == 0 || small.Spilled() != 0 || fixed.Spilled() != 0 {
		t.Errorf("%d and %d bytes spilled", large.Spilled(), small.Spilled())
	}
	if memory.left < 0 || memory.left+fixed.taken+small.taken+large.taken != memory.limit {
		t.Errorf("%d bytes left", memory.left)
	}
	for want, c := range map[int64]*Census{1000: fixed, 2000: small, 200_000: large} {
		sizes, err := c.Sizes(t.Context())
		if err != nil || len(sizes) != 1 || sizes[0].Classes != want {
			t.Errorf("%v %v, want %d", sizes, err, want)
		}
		c.Close()
	}
}

// A folder that cannot be written to ends the census with what to do about it.
func TestNoFolderToSpillTo(t *testing.T) {
	c := NewCensus(Options{Memory: NewMemory(1 << 20), Dir: filepath.Join(t.TempDir(), "absent")})
	defer c.Close()
	var err error
	for i := 0; err == nil && i < 1<<20; i++ {
		err = c.Add(spread64(i))
	}
	if sallyport.KindOf(err) != sallyport.Unavailable || sallyport.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err := c.Sizes(t.Context()); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Error("an incomplete census answers")
	}
	if err := spillError(fmt.Errorf("write: %w", syscall.ENOSPC)); sallyport.KindOf(err) != sallyport.Exhausted {
		t.Error(err)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]*Census{"spilled": spilled(t, 300, 1), "in memory": NewCensus(Options{Memory: NewMemory(1 << 20), Sensitive: 1})} {
		if err := c.AddSensitive(spread64(1), []Key{spread64(2)}); err != nil {
			t.Fatal(err)
		}
		_, sizes := c.Sizes(ctx)
		_, sensitive := c.Sensitive(ctx)
		_, _, failing := c.Failing(ctx, 1, 1, 0.5)
		for what, err := range map[string]error{"sizes": sizes, "sensitive": sensitive, "failing": failing} {
			if sallyport.KindOf(err) != sallyport.Canceled {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		if _, err := c.Sizes(t.Context()); err != nil {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

func TestMisuseIsAnError(t *testing.T) {
	c := NewCensus(Options{Memory: NewMemory(1 << 20), Sensitive: 1})
	if err := c.Add(spread64(1)); sallyport.KindOf(err) != sallyport.Internal {
		t.Error("a record without its sensitive value was counted")
	}
	if err := c.AddBatch([]Key{spread64(1)}, nil); sallyport.KindOf(err) != sallyport.Internal {
		t.Error("so was a batch")
	}
	if err := c.AddBatch([]Key{spread64(1)}, []Key{spread64(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sensitive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.AddBatch([]Key{spread64(1)}, []Key{spread64(1)}); sallyport.KindOf(err) != sallyport.Internal {
		t.Error("without a folder it went on after it was measured")
	}
	plain := NewCensus(Options{Memory: NewMemory(1 << 20)})
	if _, _, err := plain.Failing(t.Context(), 2, 2, 0); sallyport.KindOf(err) != sallyport.Invalid {
		t.Error("diversity without a sensitive column")
	}
}
