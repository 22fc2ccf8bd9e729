package keyfile_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/issuertest"
	"sallyport/seal/keyfile"
)

// TestRotatingConformance: an issuer that rotates before it gives a key out and
// before it ends one is the same issuer to everyone.
func TestRotatingConformance(t *testing.T) {
	issuertest.Run(t, func(t *testing.T, now func() time.Time) seal.Issuer {
		i, err := keyfile.Open(keyfile.Config{Dir: filepath.Join(t.TempDir(), "keys")}, now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { i.Close() })
		return rotating{i}
	})
}

type rotating struct{ *keyfile.Issuer }

func (r rotating) Fetch(ctx context.Context, id string) (*seal.Key, error) {
	if err := r.Rotate(ctx); err != nil {
		return nil, err
	}
	return r.Issuer.Fetch(ctx, id)
}

func (r rotating) Destroy(ctx context.Context, id, reason string) error {
	if err := r.Rotate(ctx); err != nil {
		return err
	}
	return r.Issuer.Destroy(ctx, id, reason)
}

// snapshot reads every file below dir; a folder has an entry with a nil value.
func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil || d.IsDir() {
			out[rel] = nil
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = append([]byte{}, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lay makes a key folder with the files of a snapshot.
func lay(t *testing.T, snap map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, rel := range slices.Sorted(maps.Keys(snap)) { // a folder sorts before what is in it
		p := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if snap[rel] == nil {
			err = os.MkdirAll(p, 0o700)
		} else {
			err = os.WriteFile(p, snap[rel], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lab is a key folder before and after a rotation.
type lab struct {
	before, after map[string][]byte
	live          []seal.Lease // of two epochs
	dead          seal.Lease
	derived       []byte
	file          []byte // sealed to live[0] before the rotation
}

func rotate(t *testing.T) lab {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	var b lab
	issue := func(now time.Time, releases ...string) {
		i := open(t, dir, now)
		defer i.Close()
		for _, r := range releases {
			l, err := i.Issue(t.Context(), r, 5*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			b.live = append(b.live, l)
		}
	}
	issue(noon.Add(-time.Hour), "a", "b", "dead")
	issue(noon, "c")
	b.dead = b.live[2]
	b.live = slices.Delete(b.live, 2, 3)

	i := open(t, dir, noon)
	if err := i.Destroy(t.Context(), b.dead.ID, "done"); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.derived, err = i.Derive(t.Context(), "pseudonym/p"); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := seal.Writer(&file, b.live[0].Recipient)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "sealed before")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.file = file.Bytes()
	b.before = snapshot(t, dir)
	if err := i.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.check(t, i)
	i.Close()
	b.after = snapshot(t, dir)
	if got, want := slices.Sorted(maps.Keys(b.after)), slices.Sorted(maps.Keys(b.before)); !slices.Equal(got, want) {
		t.Fatalf("the folder has other files than before: %v, before %v", got, want)
	}
	return b
}

// check demands that every lease is as it was.
func (b lab) check(t *testing.T, i *keyfile.Issuer) {
	t.Helper()
	for _, l := range b.live {
		k, err := i.Fetch(t.Context(), l.ID)
		if err != nil || k.Recipient() != l.Recipient {
			t.Fatalf("%s: %v", l.Release, err)
		}
		if l.ID != b.live[0].ID {
			continue
		}
		r, err := seal.Reader(bytes.NewReader(b.file), k)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "sealed before" {
			t.Fatal(string(got), err)
		}
	}
	if _, err := i.Fetch(t.Context(), b.dead.ID); sallyport.KindOf(err) != sallyport.NotFound {
		t.Fatal("a destroyed key came back", err)
	}
	if got, err := i.Derive(t.Context(), "pseudonym/p"); err != nil || !bytes.Equal(got, b.derived) {
		t.Fatal("pseudonyms would change", err)
	}
}

// changed lists the files that a rotation replaces.
func (b lab) changed() []string {
	var out []string
	for _, rel := range slices.Sorted(maps.Keys(b.after)) {
		if filepath.Ext(rel) == ".key" {
			out = append(out, rel)
		}
	}
	return out
}

func TestRotate(t *testing.T) {
	b := rotate(t)
	if n := len(b.changed()); n != 1+2+3 {
		t.Fatalf("%d key files", n)
	}
	for rel, was := range b.before {
		if same := bytes.Equal(was, b.after[rel]); same == slices.Contains(b.changed(), rel) {
			t.Errorf("%s: same as before is %v", rel, same)
		}
	}
	i := open(t, lay(t, b.after), noon)
	b.check(t, i)
	// Life goes on: again, and with new leases, which a second opening finds.
	if _, err := i.Issue(t.Context(), "later", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := i.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.check(t, i)
	for _, l := range b.live {
		if err := i.Destroy(t.Context(), l.ID, "done"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldAndNewDoNotMix: whoever has the old root with all old wrapping keys,
// or the new root alone, opens nothing of the other side.
func TestOldAndNewDoNotMix(t *testing.T) {
	b := rotate(t)
	old, next := opened(t, b.before), opened(t, b.after)
	for _, rel := range b.changed()[:5] { // all but root.key
		for what, keys := range map[string]map[string]*seal.Key{"old keys, new file": old, "new keys, old file": next} {
			file := b.after[rel]
			if what == "new keys, old file" {
				file = b.before[rel]
			}
			for name, k := range keys {
				if strings.HasPrefix(name, "leases") {
					continue // the releases' own identities are the same on both sides
				}
				if got, err := k.Unwrap(file); err == nil || got != nil || sallyport.KindOf(err) != sallyport.Denied {
					t.Errorf("%s: %s opens %s: %v", what, name, rel, err)
				}
			}
		}
	}
	// And the issuer itself, with files of the two put together, gives nothing.
	for what, rels := range map[string][]string{
		"old root":        {"root.key"},
		"old epochs":      b.changed()[:2],
		"old root+epochs": append(slices.Clone(b.changed()[:2]), "root.key"),
		"old leases":      b.changed()[2:5],
	} {
		mix := maps.Clone(b.after)
		for _, rel := range rels {
			mix[rel] = b.before[rel]
		}
		dir := lay(t, mix)
		i := open(t, dir, noon)
		for _, l := range b.live {
			if _, err := i.Fetch(t.Context(), l.ID); sallyport.KindOf(err) != sallyport.Damaged {
				t.Errorf("%s: %v, want damaged", what, err)
			}
		}
		before := snapshot(t, dir)
		if err := i.Rotate(t.Context()); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%s: rotated over keys that do not open: %v", what, err)
		}
		i.Close()
		if after := snapshot(t, dir); !maps.EqualFunc(before, after, bytes.Equal) {
			t.Errorf("%s: a refused rotation changed the folder", what)
		}
	}
}

// opened returns every identity that a folder's files hold, by file.
func opened(t *testing.T, snap map[string][]byte) map[string]*seal.Key {
	t.Helper()
	root, err := seal.Load(filepath.Join(lay(t, snap), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*seal.Key{"root.key": root}
	for _, outer := range []string{"epochs", "leases"} {
		for rel, b := range snap {
			if filepath.Dir(rel) != outer || filepath.Ext(rel) != ".key" {
				continue
			}
			for name, k := range maps.Clone(out) {
				if strings.HasPrefix(name, "leases") {
					continue
				}
				if inner, err := k.Unwrap(b); err == nil {
					out[rel] = inner
				}
			}
			if out[rel] == nil {
				t.Fatalf("%s does not open", rel)
			}
		}
	}
	return out
}

// TestRotationCutAtEveryPoint lays out every state that a crash can leave: the
// second set half written, and each file of the old set replaced in turn.
func TestRotationCutAtEveryPoint(t *testing.T) {
	b := rotate(t)
	try := func(name string, snap map[string][]byte, want map[string][]byte) {
		t.Run(name, func(t *testing.T) {
			dir := lay(t, snap)
			i := open(t, dir, noon)
			b.check(t, i)
			got := snapshot(t, dir)
			for rel, bytesWant := range want {
				if !bytes.Equal(got[rel], bytesWant) {
					t.Errorf("%s is of the other set", rel)
				}
			}
			for rel := range got {
				if _, ok := want[rel]; !ok {
					t.Errorf("%s was left", rel)
				}
			}
		})
	}
	changed := b.changed()
	slices.Reverse(changed) // root.key, leases, epochs: Rotate writes the root first
	staged := func(base map[string][]byte, rels []string, cut bool) map[string][]byte {
		snap := maps.Clone(base)
		snap["rotation"], snap["rotation/epochs"], snap["rotation/leases"] = nil, nil, nil
		for n, rel := range rels {
			snap["rotation/"+rel] = b.after[rel]
			if cut && n == len(rels)-1 {
				delete(snap, "rotation/"+rel)
				snap[filepath.Join("rotation", filepath.Dir(rel), ".tmp-1")] = b.after[rel][:100]
			}
		}
		return snap
	}
	for n := range len(changed) + 1 {
		try(fmt.Sprintf("staging %d", n), staged(b.before, changed[:n], false), b.before)
		if n > 0 {
			try(fmt.Sprintf("staging %d cut", n), staged(b.before, changed[:n], true), b.before)
		}
	}
	half := staged(b.before, changed[:1], false)
	half["rotation/.key-1"] = b.after["root.key"] // Save's second name for the root
	try("second name of the root", half, b.before)
	delete(half, "rotation/leases")
	delete(half, "rotation/epochs")
	try("folders not yet made", half, b.before)

	// Past ready, in the order of finishRotation.
	order := slices.Concat(b.changed()[2:5], b.changed()[:2], []string{"root.key"})
	for n, rel := range order {
		mixed := maps.Clone(b.before)
		for _, done := range order[:n] {
			mixed[done] = b.after[done]
		}
		snap := staged(mixed, order[n:], false)
		snap["rotation/ready"] = []byte{}
		try(fmt.Sprintf("ready, %d replaced", n), snap, b.after)
		zeroed := maps.Clone(snap)
		zeroed[rel] = make([]byte, len(b.before[rel]))
		try(fmt.Sprintf("ready, %d replaced, next zeroed", n), zeroed, b.after)
		gone := maps.Clone(snap)
		delete(gone, rel)
		try(fmt.Sprintf("ready, %d replaced, next unlinked", n), gone, b.after)
	}
	end := staged(b.after, nil, false)
	try("all replaced, ready gone", end, b.after)
	end["rotation/ready"] = []byte{}
	try("all replaced", end, b.after)
	delete(end, "rotation/ready")
	delete(end, "rotation/epochs")
	try("folders half removed", end, b.after)
}

// TestRotationStuck: the disk refuses in the middle of the exchange. Nothing is
// given out of the mixture, nothing is lost, and the next call goes on.
func TestRotationStuck(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "keys")
		i := open(t, dir, noon)
		l, err := i.Issue(t.Context(), "a", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		// The issuer has the epoch's identity in memory, so only the exchange
		// finds that its file cannot be replaced.
		epoch := files(t, dir, "epochs/*.key")[0]
		if err := os.Remove(epoch); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(epoch, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := i.Rotate(t.Context()); sallyport.KindOf(err) != sallyport.Unavailable {
			t.Fatal(err)
		}
		_, fetch := i.Fetch(t.Context(), l.ID)
		_, issue := i.Issue(t.Context(), "b", time.Hour)
		for _, err := range []error{fetch, issue, i.Destroy(t.Context(), l.ID, "r"), i.Rotate(t.Context())} {
			if sallyport.KindOf(err) != sallyport.Unavailable {
				t.Fatal("a half-rotated folder was used:", err)
			}
		}
		if err := os.Remove(epoch); err != nil {
			t.Fatal(err)
		}
		if reopen {
			i.Close()
			i = open(t, dir, noon)
		}
		if k, err := i.Fetch(t.Context(), l.ID); err != nil || k.Recipient() != l.Recipient {
			t.Fatal(err)
		}
		if len(files(t, dir, "rotation")) != 0 {
			t.Fatal("the rotation folder is left")
		}
	}
}

func TestRotationGivenUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	l, err := i.Issue(t.Context(), "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	// The context ends while the set is being written: its second look says so.
	ctx := &endsAfter{Context: t.Context(), looks: 1}
	if err := i.Rotate(ctx); sallyport.KindOf(err) != sallyport.Canceled || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if after := snapshot(t, dir); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Fatal("a rotation that was given up changed the folder")
	}
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	i.Close()
	if err := i.Rotate(t.Context()); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatal("a closed issuer rotates:", err)
	}
}

type endsAfter struct {
	context.Context
	looks int
}

func (e *endsAfter) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

// TestOldRootIsOverwritten looks at the blocks of the old files through
// descriptors that were open before.
func TestOldRootIsOverwritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	if _, err := i.Issue(t.Context(), "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	for _, p := range slices.Concat(files(t, dir, "*.key"), files(t, dir, "*/*.key")) {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		held = append(held, f)
	}
	if len(held) != 3 {
		t.Fatalf("%d key files", len(held))
	}
	if err := i.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range held {
		b, err := io.ReadAll(f)
		if err != nil || len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s was unlinked without being overwritten (%v)", filepath.Base(f.Name()), err)
		}
	}
}

// spin issues a few keys and rotates until it is killed.
func spin(dir string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	i, err := keyfile.Open(keyfile.Config{Dir: dir}, at(noon))
	if err != nil {
		fail(err)
	}
	for n := range 3 {
		l, err := i.Issue(context.Background(), fmt.Sprint("r", n), time.Hour)
		if err != nil {
			fail(err)
		}
		fmt.Println("issued", l.ID, l.Recipient)
	}
	secret, err := i.Derive(context.Background(), "p")
	if err != nil {
		fail(err)
	}
	fmt.Printf("derived %x\n", secret)
	for {
		if err := i.Rotate(context.Background()); err != nil {
			fail(err)
		}
	}
}

// TestKillRotation kills a process in the middle of rotations, each time once
// it is seen at another point, and checks that nothing is lost.
func TestKillRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	there := func(pattern string, want int) func() bool {
		return func() bool { return len(files(t, dir, pattern)) >= want }
	}
	fewer := func(pattern string, n int) func() bool { // than n
		return func() bool { return len(files(t, dir, pattern)) < n }
	}
	points := []func() bool{
		there("rotation", 1), there("rotation/root.key", 1), there("rotation/epochs/*.key", 1), there("rotation/leases/*.key", 2),
		there("rotation/ready", 1), fewer("rotation/leases/*.key", 3), fewer("root.key", 1), there("rotation/ready", 1), fewer("epochs/*.key", 1), fewer("rotation", 1),
	}
	want := ""
	for n, seen := range points {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "KEYFILE_TEST_SPIN="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&said, lines.Text())
			if f := strings.Fields(lines.Text()); f[0] == "derived" || f[0] == "error" {
				break
			}
		}
		if want == "" {
			want = said.String()
		}
		if said.String() != want || !strings.Contains(want, "derived") {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("after kill %d the leases are %q, want %q", n, said.String(), want)
		}
		ended := make(chan string, 1) // should the process end by itself
		go func() {
			rest, _ := io.ReadAll(out)
			ended <- string(rest)
		}()
		for died, looks := false, 0; !died && !seen() && looks < 20000; looks++ {
			select {
			case rest := <-ended:
				died = true
				t.Errorf("the process ended by itself: %s", rest)
			default:
			}
		}
		cmd.Process.Kill()
		cmd.Wait()

		i := open(t, dir, noon)
		for line := range strings.Lines(want) {
			if f := strings.Fields(line); f[0] == "issued" {
				if k, err := i.Fetch(t.Context(), f[1]); err != nil || k.Recipient() != f[2] {
					t.Fatalf("kill %d: an issued key is lost: %v", n, err)
				}
			}
		}
		if len(files(t, dir, "rotation")) != 0 {
			t.Fatalf("kill %d: the rotation folder is left", n)
		}
		i.Close()
	}
}
