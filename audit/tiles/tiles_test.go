package tiles

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"sallyport"
	"sallyport/audit"
)

func newLog(t testing.TB, seed byte, n int) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "audit.db"), Origin: "lab.example/sallyport", Seed: bytes.Repeat([]byte{seed}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	grow(t, l, n)
	return l
}

func grow(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	queue := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range queue {
				if _, err := l.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		queue <- i
	}
	close(queue)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// files returns path → content.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The path of C2SP's own example, and the tiles of its example sizes.
func TestTilePath(t *testing.T) {
	for want, got := range map[string]string{
		"tile/3/x001/x234/067":      tilePath(3, 1234067, width),
		"tile/0/000":                tilePath(0, 0, width),
		"tile/entries/x001/000.p/7": tilePath(-1, 1000, 7),
		"tile/0/273.p/112":          tilePath(0, 273, 112), // of 70,000 entries
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestWriteGrowsAndNeverRewrites(t *testing.T) {
	l := newLog(t, 7, 0)
	dir := filepath.Join(t.TempDir(), "tiles")
	var before map[string]string
	for _, n := range []int{0, 1, 255, 256, 257, 700, 700} {
		grow(t, l, n-int(l.Size()))
		w, err := Write(dir, l, "")
		if err != nil || w.Size != uint64(n) {
			t.Fatalf("%d: %+v, %v", n, w, err)
		}
		if cp, err := Check(dir, l.VerifierKey()); err != nil || cp.Size != uint64(n) {
			t.Fatalf("%d: %+v, %v", n, cp, err)
		}
		now := files(t, dir)
		for name, b := range before {
			if name == "checkpoint" || strings.Contains(name, ".p/") {
				continue
			}
			if now[name] != b {
				t.Errorf("at %d: full tile %s changed", n, name)
			}
		}
		if n == 256 {
			want := []string{"checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"}
			var got []string
			for name := range now {
				got = append(got, name)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("a tree of 256 is %v, want %v", got, want)
			}
		}
		before = now
	}
	if w, err := Write(dir, l, ""); err != nil || w.Files != 1 {
		t.Errorf("nothing new, but %+v, %v", w, err)
	}
}

// A reader that is not ours: entries by plain bytes, the tree by
// transparency-dev/merkle.
func TestAnotherReader(t *testing.T) {
	const n = 600
	l := newLog(t, 7, n)
	dir := t.TempDir()
	if _, err := Write(dir, l, ""); err != nil {
		t.Fatal(err)
	}
	fact := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree := fact.NewEmptyRange(0)
	var hashes [][]byte
	for _, name := range []string{"000", "001", "002.p/88"} {
		b, err := os.ReadFile(filepath.Join(dir, "tile", "entries", name))
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := int(b[0])<<8 | int(b[1])
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(b[2:2+n]))
			if err := tree.Append(hashes[len(hashes)-1], nil); err != nil {
				t.Fatal(err)
			}
			b = b[2+n:]
		}
		tile, err := os.ReadFile(filepath.Join(dir, "tile", "0", name))
		if err != nil || !bytes.Equal(tile, bytes.Join(hashes[len(hashes)-len(tile)/32:], nil)) {
			t.Errorf("tile/0/%s is not of its entries (%v)", name, err)
		}
	}
	if len(hashes) != n {
		t.Fatalf("%d entries", len(hashes))
	}
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := audit.ParseCheckpoint(string(signed), l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if root, err := tree.GetRootHash(nil); err != nil || !bytes.Equal(root, cp.Root[:]) {
		t.Errorf("root %x, signed %x (%v)", root, cp.Root, err)
	}
	for _, seq := range []uint64{0, 255, 256, 511, 512, 599} {
		p, err := Prove(dir, l.VerifierKey(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var path [][]byte
		for _, h := range p.Path {
			path = append(path, slices.Clone(h[:]))
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, seq, n, hashes[seq], path, cp.Root[:]); err != nil {
			t.Errorf("entry %d: %v", seq, err)
		}
		if mine, err := l.Prove(seq, ""); err != nil || !bytes.Equal(mine.Format(), p.Format()) {
			t.Errorf("entry %d: the tiles' proof is not the log's (%v)", seq, err)
		}
	}
	if _, err := Prove(dir, l.VerifierKey(), n); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
}

// Every byte of every file counts, and every file.
func TestEveryChangeIsFound(t *testing.T) {
	l := newLog(t, 7, 300)
	dir := t.TempDir()
	if _, err := Write(dir, l, ""); err != nil {
		t.Fatal(err)
	}
	for name, b := range files(t, dir) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		for _, at := range []int{0, len(b) / 2, len(b) - 1} {
			bad := []byte(b)
			bad[at] ^= 0x10
			expectBad(t, dir, l, file, bad, name)
		}
		expectBad(t, dir, l, file, []byte(b[:len(b)-1]), name+" cut")
		expectBad(t, dir, l, file, []byte(b+"\x00\x00"), name+" longer")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(dir, l.VerifierKey()); err == nil {
			t.Errorf("%s may be missing", name)
		}
		if err := os.WriteFile(file, []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Check(dir, l.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, newLog(t, 8, 0).VerifierKey()); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another log's key: %v", err)
	}
}

func expectBad(t *testing.T, dir string, l *audit.Log, file string, bad []byte, what string) {
	t.Helper()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(dir, l.VerifierKey()); err == nil {
		t.Errorf("%s changed, and nothing is said", what)
	}
	if err := os.WriteFile(file, good, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWriteRefusesAnotherHistory(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, 7, 10)
	if _, err := Write(dir, l, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		l    *audit.Log
		kind sallyport.Kind
	}{
		{"another key", newLog(t, 8, 20), sallyport.Conflict},
		{"another history", newLog(t, 7, 20), sallyport.Damaged},
		{"rolled back", newLog(t, 7, 5), sallyport.Damaged},
	} {
		before := files(t, dir)
		if _, err := Write(dir, c.l, ""); sallyport.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		if after := files(t, dir); len(after) != len(before) || after["checkpoint"] != before["checkpoint"] {
			t.Errorf("%s: the folder changed", c.name)
		}
	}
	other, err := newLog(t, 7, 5).Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir, l, other); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("a checkpoint of another history: %v", err)
	}
}

// A crash before the checkpoint leaves more tiles than it counts, partial ones
// gone: the old checkpoint still checks, and the next export goes on.
func TestCrashBeforeCheckpoint(t *testing.T) {
	l := newLog(t, 7, 200)
	dir := t.TempDir()
	if _, err := Write(dir, l, ""); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	grow(t, l, 400)
	if _, err := Write(dir, l, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	if cp, err := Check(dir, l.VerifierKey()); err != nil || cp.Size != 200 {
		t.Fatalf("%+v, %v", cp, err)
	}
	if _, err := Prove(dir, l.VerifierKey(), 150); err != nil {
		t.Error(err)
	}
	if w, err := Write(dir, l, ""); err != nil || w.Old != 200 || w.Size != 600 {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := Check(dir, l.VerifierKey()); err != nil {
		t.Error(err)
	}
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'x', 0, 0}, 2)
	f.Add([]byte{0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		if count < 0 || count > width {
			return
		}
		leaves, rest, err := parseBundle(b, count)
		if err != nil {
			return
		}
		n := len(rest)
		for _, l := range leaves {
			n += 2 + len(l)
		}
		if len(leaves) != count || n != len(b) {
			t.Fatalf("%x: %d leaves, %d bytes", b, len(leaves), n)
		}
	})
}
