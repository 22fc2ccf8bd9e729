package audit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// disk is a folder on a disk whose power may fail. It promises what POSIX does
// and no more: a write is safe when a sync of its file that began after it has
// returned, a name is safe when a sync of its folder has. Before that each
// 512-byte sector of a write is there or not, whatever was written before or
// after it, and each change of a name as well.
type disk struct {
	root  string
	nodes map[string]*node // by path, as a process sees them
	names []*change        // not safe yet, in order
	safe  map[string]*node
}

// node is a file, or a folder.
type node struct {
	folder  bool
	safe    []byte
	pending []*change
}

// change is a write, a new length, or a change of names.
type change struct {
	done bool // the call returned
	data []byte
	at   int64
	size int64 // new length, if data is nil

	folders  []string // whose syncs make it safe: all of them
	from, to string   // from "": new; to "": gone
	node     *node
}

const sector = 512

// newDisk returns a disk that holds files, all of them safe: names below root,
// those of folders end in a slash.
func newDisk(root string, files map[string][]byte) *disk {
	d := &disk{root: root, nodes: map[string]*node{root: {folder: true}}}
	for p, b := range files {
		d.nodes[root+strings.TrimSuffix(p, "/")] = &node{folder: strings.HasSuffix(p, "/"), safe: slices.Clone(b)}
	}
	d.safe = maps.Clone(d.nodes)
	return d
}

// name records that to is n from now on, and from is nothing.
func (d *disk) name(n *node, from, to string) *change {
	c := &change{from: from, to: to, node: n}
	for _, p := range []string{from, to} {
		if p != "" && !slices.Contains(c.folders, filepath.Dir(p)) {
			c.folders = append(c.folders, filepath.Dir(p))
		}
	}
	c.apply(d.nodes)
	d.names = append(d.names, c)
	return c
}

func (c *change) apply(to map[string]*node) {
	if c.from != "" {
		delete(to, c.from)
	}
	if c.to != "" {
		to[c.to] = c.node
	}
}

// sync returns what makes safe what is done by now.
func (d *disk) sync(n *node, path string) func() {
	if n.folder {
		var safe []*change
		for _, c := range d.names {
			if c.done && slices.Contains(c.folders, path) {
				safe = append(safe, c)
			}
		}
		return func() {
			d.names = slices.DeleteFunc(d.names, func(c *change) bool {
				if !slices.Contains(safe, c) {
					return false
				}
				if c.folders = slices.DeleteFunc(c.folders, func(f string) bool { return f == path }); len(c.folders) > 0 {
					return false
				}
				c.apply(d.safe)
				return true
			})
		}
	}
	var safe []*change
	for _, c := range n.pending {
		if c.done {
			safe = append(safe, c)
		}
	}
	return func() {
		n.pending = slices.DeleteFunc(n.pending, func(c *change) bool {
			if !slices.Contains(safe, c) {
				return false
			}
			if c.data == nil {
				n.safe = resize(n.safe, c.size)
			} else {
				n.safe = resize(n.safe, max(int64(len(n.safe)), c.at+int64(len(c.data))))
				copy(n.safe[c.at:], c.data)
			}
			return true
		})
	}
}

func resize(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return b[:n:n]
	}
	return append(b, make([]byte, n-int64(len(b)))...)
}

// luck decides what of the unsafe is there after a power cut.
type luck struct {
	r    *rand.Rand
	kind int // of names: none, all, the first some (a journal), any
	keep float64
	torn bool // by the sector, not by the write
	// garbage: what was not written of a file that got longer is whatever lay
	// there, not zeros.
	garbage bool
}

func newLuck(r *rand.Rand) luck {
	return luck{r: r, kind: r.IntN(4), keep: []float64{0, 1, .5, .1, .9, r.Float64()}[r.IntN(6)], torn: r.IntN(3) > 0, garbage: r.IntN(3) == 0}
}

func (l luck) String() string {
	return fmt.Sprintf("names %d, keep %.2f, torn %v, garbage %v", l.kind, l.keep, l.torn, l.garbage)
}

func (l luck) yes() bool { return l.r.Float64() < l.keep }

// cut returns the files after a power cut, as newDisk takes them: a possible
// state, without changing d.
func (d *disk) cut(l luck) map[string][]byte {
	names := maps.Clone(d.safe)
	first := l.r.IntN(len(d.names) + 1)
	for i, c := range d.names {
		if [4]bool{false, true, i < first, l.yes()}[l.kind] {
			c.apply(names)
		}
	}
	out := map[string][]byte{}
	contents := map[*node][]byte{} // a file of two names has one content
	paths := slices.Sorted(maps.Keys(names))
	for _, p := range paths {
		n := names[p]
		if up := names[filepath.Dir(p)]; p != d.root && (up == nil || !up.folder) {
			names[p] = nil // the folder that it is in is not there
			continue
		}
		if n.folder {
			if p != d.root {
				out[p[len(d.root):]+"/"] = nil
			}
			continue
		}
		b, ok := contents[n]
		if !ok {
			b = n.cut(l)
			contents[n] = b
		}
		out[p[len(d.root):]] = b
	}
	return out
}

func (n *node) cut(l luck) []byte {
	b := slices.Clone(n.safe)
	grow := func(to int64) {
		old := len(b)
		b = resize(b, max(int64(old), to))
		if l.garbage {
			for i := old; i < len(b); i++ {
				b[i] = byte(i*131 + 17)
			}
		}
	}
	for _, c := range n.pending {
		if c.data == nil {
			if l.yes() {
				if c.size < int64(len(b)) {
					b = b[:c.size]
				}
				grow(c.size)
			}
			continue
		}
		whole := l.yes()
		for at, end := c.at, c.at+int64(len(c.data)); at < end; {
			next := min(end, (at/sector+1)*sector)
			if l.torn && l.yes() || !l.torn && whole {
				grow(next)
				copy(b[at:next], c.data[at-c.at:])
			}
			at = next
		}
	}
	return b
}

// writeState puts files where a process can open them.
func writeState(t testing.TB, files map[string][]byte, to string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(to, p)
		var err error
		if strings.HasSuffix(p, "/") {
			err = os.MkdirAll(at, 0o700)
		} else {
			err = os.WriteFile(at, files[p], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What the disk promises holds in every state after a cut, and what it does
// not promise is missing in some.
func TestDiskModel(t *testing.T) {
	d := newDisk("/d", nil)
	f := &node{}
	d.name(f, "", "/d/new").done = true
	old := &change{done: true, data: []byte(strings.Repeat("a", 2*sector))}
	f.pending = append(f.pending, old)
	d.sync(f, "/d/new")()
	d.sync(d.nodes["/d"], "/d")()
	d.name(f, "/d/new", "/d/name").done = true
	f.pending = append(f.pending, &change{done: true, data: []byte(strings.Repeat("b", 3*sector))})
	inFlight := &change{data: []byte(strings.Repeat("c", sector)), at: 3 * sector}
	f.pending = append(f.pending, inFlight)

	seen := map[string]int{}
	r := rand.New(rand.NewPCG(1, 2))
	state := func() string {
		files := d.cut(newLuck(r))
		if len(files) != 1 {
			t.Fatalf("%d files", len(files))
		}
		for name, b := range files {
			var s strings.Builder
			for i := 0; i < len(b); i += sector {
				s.WriteByte(b[i])
			}
			return filepath.Base(name) + " " + s.String()
		}
		return ""
	}
	for range 3000 {
		seen[state()]++
	}
	for _, want := range []string{"new aa", "name aa", "new bbb", "name bbbc", "new ab", "new ba", "name abb", "name aa\x00c"} {
		if seen[want] == 0 {
			t.Errorf("never seen: %q", want)
		}
	}
	for s := range seen {
		if name, b, _ := strings.Cut(s, " "); name != "new" && name != "name" || len(b) < 2 || strings.Trim(b[:2], "ab") != "" {
			t.Errorf("impossible state %q", s)
		}
	}
	d.sync(f, "/d/name")() // does not reach what has not returned
	d.sync(d.nodes["/d"], "/d")()
	for range 500 {
		if s := state(); !strings.HasPrefix(s, "name bbb") {
			t.Fatalf("after the syncs: %q", s)
		}
	}
	if len(f.pending) != 1 || f.pending[0] != inFlight || len(d.names) != 0 {
		t.Error(fmt.Sprint("a call that has not returned was made safe: ", len(f.pending), len(d.names)))
	}
}
