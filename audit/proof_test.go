package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/audit"
)

const origin = "lab.example/sallyport"

func seed(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// newLog returns a log of n records. Their order is not fixed.
func newLog(t testing.TB, n int) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "audit.db"), Origin: origin, Seed: seed(7)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	grow(t, l, n)
	return l
}

func grow(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note, Subject: "ada"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func at(t interface{ Fatal(...any) }, l *audit.Log, size uint64) audit.Checkpoint {
	root, err := l.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Checkpoint{Origin: origin, Size: size, Root: root}
}

func raw(path []tlog.Hash) [][]byte {
	var out [][]byte
	for _, h := range path {
		out = append(out, slices.Clone(h[:]))
	}
	return out
}

func hash(t testing.TB, s string) (h tlog.Hash) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		t.Fatalf("%q is no hash", s)
	}
	copy(h[:], b)
	return h
}

// Proofs over the first leaves of Certificate Transparency's reference tree:
// the answers of github.com/google/certificate-transparency (merkle_tree_test)
// and github.com/transparency-dev/merkle (proof/verify_test.go).
func TestProofKnownAnswers(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := map[uint64]string{
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	cp := func(size uint64) audit.Checkpoint {
		return audit.Checkpoint{Origin: origin, Size: size, Root: hash(t, roots[size])}
	}
	path := func(s ...string) (out []tlog.Hash) {
		for _, h := range s {
			out = append(out, hash(t, h))
		}
		return out
	}
	first := path("96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
		"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
		"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4")
	for _, c := range []struct {
		seq, size uint64
		path      []tlog.Hash
	}{
		{0, 1, nil},
		{0, 8, first},
		{5, 8, path("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7")},
		{2, 3, path("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")},
	} {
		leaf, err := hex.DecodeString(leaves[c.seq])
		if err != nil {
			t.Fatal(err)
		}
		if err := audit.CheckInclusion(c.path, leaf, c.seq, cp(c.size)); err != nil {
			t.Errorf("leaf %d of %d: %v", c.seq, c.size, err)
		}
		if err := audit.CheckInclusion(c.path, append(leaf, 0), c.seq, cp(c.size)); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("another leaf %d of %d: %v", c.seq, c.size, err)
		}
	}
	for _, c := range []struct {
		old, size uint64
		path      []tlog.Hash
	}{
		{1, 1, nil},
		{1, 8, first},
		{6, 8, path("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7")},
	} {
		if err := audit.CheckConsistency(c.path, cp(c.old), cp(c.size)); err != nil {
			t.Errorf("%d → %d: %v", c.old, c.size, err)
		}
		if c.old == c.size {
			continue
		}
		forged := cp(c.old)
		forged.Root[0] ^= 1
		if err := audit.CheckConsistency(c.path, forged, cp(c.size)); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("forged %d → %d: %v", c.old, c.size, err)
		}
	}
}

// The log's proofs verify with an implementation that is not the one that made
// them, and both agree about proofs that were changed.
func TestProofsAgainstAnotherImplementation(t *testing.T) {
	const n = 700
	l := newLog(t, n)
	leaves, err := l.Leaves(0, n+1)
	if err != nil || len(leaves) != n {
		t.Fatalf("%d leaves, %v", len(leaves), err)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, n).Draw(t, "size")
		seq := rapid.Uint64Range(0, size-1).Draw(t, "seq")
		cp := at(t, l, size)
		path, err := l.Inclusion(seq, size)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "spoil") {
			spoil(t, &path, &seq, &cp, n)
		}
		mine := audit.CheckInclusion(path, leaves[min(seq, n-1)], seq, cp)
		theirs := proof.VerifyInclusion(rfc6962.DefaultHasher, seq, cp.Size, rfc6962.DefaultHasher.HashLeaf(leaves[min(seq, n-1)]), raw(path), cp.Root[:])
		if (mine == nil) != (theirs == nil) {
			t.Fatalf("record %d of %d: we say %v, they %v", seq, cp.Size, mine, theirs)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, n).Draw(t, "size")
		old := rapid.Uint64Range(1, size).Draw(t, "old")
		from, to := at(t, l, old), at(t, l, size)
		path, err := l.Consistency(old, size)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "spoil") {
			spoil(t, &path, &from.Size, &to, n)
		}
		mine := audit.CheckConsistency(path, from, to)
		if from.Size == 0 {
			return // theirs takes any root of no records for consistent
		}
		theirs := proof.VerifyConsistency(rfc6962.DefaultHasher, from.Size, to.Size, raw(path), from.Root[:], to.Root[:])
		if (mine == nil) != (theirs == nil) {
			t.Fatalf("%d → %d: we say %v, they %v", from.Size, to.Size, mine, theirs)
		}
	})
}

// spoil changes one thing of a proof.
func spoil(t *rapid.T, path *[]tlog.Hash, n *uint64, cp *audit.Checkpoint, limit uint64) {
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		if len(*path) > 0 {
			i := rapid.IntRange(0, len(*path)-1).Draw(t, "hash")
			*path = slices.Clone(*path)
			(*path)[i][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		}
	case 1:
		if len(*path) > 0 {
			*path = (*path)[:len(*path)-1]
		}
	case 2:
		*path = append(slices.Clone(*path), tlog.Hash{1})
	case 3:
		*n = rapid.Uint64Range(0, limit).Draw(t, "other")
	case 4:
		cp.Root[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
	}
}

func TestNoProofOfWhatIsNot(t *testing.T) {
	l := newLog(t, 3)
	for _, c := range [][2]uint64{{3, 3}, {0, 4}, {1 << 63, 1<<63 + 1}, {0, 0}} {
		if _, err := l.Inclusion(c[0], c[1]); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("record %d of %d: %v", c[0], c[1], err)
		}
	}
	for _, c := range [][2]uint64{{3, 2}, {0, 4}} {
		if _, err := l.Consistency(c[0], c[1]); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%d → %d: %v", c[0], c[1], err)
		}
	}
	empty := at(t, l, 0)
	if err := audit.CheckConsistency(nil, empty, at(t, l, 3)); err != nil {
		t.Error(err)
	}
	empty.Root[0] ^= 1
	if err := audit.CheckConsistency(nil, empty, at(t, l, 3)); err == nil {
		t.Error("a false root of no records passes")
	}
	other := at(t, l, 3)
	other.Origin = "elsewhere"
	if err := audit.CheckConsistency(nil, at(t, l, 3), other); err == nil {
		t.Error("another log passes")
	}
}

// A proof file is read alike by another implementation of C2SP tlog-proof, its
// cosignatures by another one of tlog-cosignature.
func TestProofFile(t *testing.T) {
	l := newLog(t, 70)
	signed, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1679315147, 0)
	var keys []audit.WitnessKey
	for i, name := range []string{"witness.example/a", "witness.example/b"} {
		c, err := audit.NewCosigner(name, seed(byte(20+i)))
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(signed, "\n\n")
		line, err := c.Cosign(text+"\n", now)
		if err != nil {
			t.Fatal(err)
		}
		signed += line
		keys = append(keys, c.WitnessKey)
		v, err := fnote.NewVerifierForCosignatureV1(c.String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := note.Open([]byte(signed), note.VerifierList(v))
		if err != nil || len(n.Sigs) != 1 {
			t.Fatalf("another verifier: %v", err)
		}
		if ts, err := fnote.CoSigV1Timestamp(n.Sigs[0]); err != nil || !ts.Equal(now) {
			t.Errorf("timestamp %v, %v", ts, err)
		}
	}
	p, err := l.Prove(42, signed)
	if err != nil {
		t.Fatal(err)
	}
	file := p.Format()
	var theirs fproof.TLogProof
	if err := theirs.Unmarshal(file); err != nil {
		t.Fatal(err)
	}
	if theirs.Index != 42 || !bytes.Equal(theirs.Marshal(), file) || string(theirs.Checkpoint) != signed {
		t.Errorf("they read another proof: %+v", theirs)
	}
	back, err := audit.ParseProof(file)
	if err != nil {
		t.Fatal(err)
	}
	trust := audit.Trust{VerifierKey: l.VerifierKey(), Witnesses: keys, Quorum: 2}
	got, err := back.Check(trust)
	if err != nil || got.Seq != 42 || len(got.Cosignatures) != 2 || !got.Cosignatures[0].Time.Equal(now) {
		t.Fatalf("%+v, %v", got, err)
	}
	if !strings.Contains(got.Leaf, "\nseq "+strconv.Itoa(42)+"\n") {
		t.Errorf("leaf %q", got.Leaf)
	}

	trust.Quorum = 3
	if _, err := back.Check(trust); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("two cosignatures satisfy three: %v", err)
	}
	trust.Quorum = 0
	stranger, err := audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "audit.db"), Origin: origin, Seed: seed(8)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := back.Check(audit.Trust{VerifierKey: stranger.VerifierKey()}); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another log's key: %v", err)
	}
	if _, err := stranger.Prove(0, signed); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another log proves under this checkpoint: %v", err)
	}
	for name, change := range map[string]func(*audit.Proof){
		"index": func(p *audit.Proof) { p.Index++ },
		"leaf":  func(p *audit.Proof) { p.Extra[len(p.Extra)-2] ^= 1 },
		"path":  func(p *audit.Proof) { p.Path[0][0] ^= 1 },
		"size":  func(p *audit.Proof) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n70\n", "\n71\n", 1) },
		"cosignature": func(p *audit.Proof) {
			i := strings.Index(p.Checkpoint, "— witness.example/b ")
			j := i + len("— witness.example/b ") + 20
			c := byte('A')
			if p.Checkpoint[j] == c {
				c = 'B'
			}
			p.Checkpoint = p.Checkpoint[:j] + string(c) + p.Checkpoint[j+1:]
		},
	} {
		bad, err := audit.ParseProof(file)
		if err != nil {
			t.Fatal(err)
		}
		change(&bad)
		if _, err := bad.Check(trust); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestWitnessKey(t *testing.T) {
	c, err := audit.NewCosigner("witness.example/a", seed(1))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := audit.ParseWitnessKey(c.String()); err != nil || k.String() != c.String() {
		t.Errorf("%v, %v", k, err)
	}
	plain, err := note.NewEd25519VerifierKey("witness.example/a", bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "a+b", plain, c.String() + "=", strings.Replace(c.String(), "example/a", "example/b", 1), strings.ToUpper(c.String())} {
		if _, err := audit.ParseWitnessKey(bad); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%q is a key: %v", bad, err)
		}
	}
	if _, err := c.Cosign("x\n", time.Time{}); err == nil {
		t.Error("cosigned without a time")
	}
}

func TestCheckpointLine(t *testing.T) {
	signed, err := newLog(t, 2).Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	line := audit.CheckpointLine(signed)
	if strings.ContainsAny(line, "\r\n ") {
		t.Errorf("%q is not one line", line)
	}
	if back, err := audit.ParseCheckpointLine(line); err != nil || back != signed {
		t.Errorf("%q, %v", back, err)
	}
	for _, bad := range []string{"!", line + "\n", line[:1] + "\n" + line[1:], strings.Repeat("A", 1<<20)} {
		if _, err := audit.ParseCheckpointLine(bad); err == nil {
			t.Errorf("%.20q passes", bad)
		}
	}
}

// What ParseProof takes is what Format writes.
func FuzzParseProof(f *testing.F) {
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\nlab\n1\nAA==\n\n— lab AAAA\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra YQ==\nindex 5\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\nx\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 00\n\nx\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := audit.ParseProof(b)
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(p.Format(), b) {
			t.Fatalf("%q is read as %+v", b, p)
		}
		_, _ = p.Check(audit.Trust{VerifierKey: "lab+00000000+AA=="})
	})
}

func FuzzParseWitnessKey(f *testing.F) {
	c, err := audit.NewCosigner("w", seed(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.String())
	f.Add("w+00000000+BA==")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := audit.ParseWitnessKey(s); err == nil && k.String() != s {
			t.Fatalf("%q is read as %s", s, k)
		}
	})
}

// The content of a record opens the commitment in its leaf, also after a JSON
// tool has laid it out anew; changed in anything, it does not.
func TestOpening(t *testing.T) {
	l, err := audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "audit.db"), Origin: origin, Seed: seed(7)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	grow(t, l, 1)
	r, err := l.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note, Subject: "ada", Reasons: []string{"a <b> & \u2028 c"}, Detail: []byte(`{"x":[1.50,"y z"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	o, err := l.Opening(r.Seq)
	if err != nil {
		t.Fatal(err)
	}
	leaves, err := l.Leaves(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.MarshalIndent(o, "", "   ")
	if err != nil {
		t.Fatal(err)
	}
	var back audit.Opening
	if err := json.Unmarshal(file, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Check(leaves[1]); err != nil {
		t.Errorf("%v\n%s", err, file)
	}
	if err := back.Check(leaves[0]); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another leaf: %v", err)
	}
	for _, change := range []func(*audit.Opening){
		func(o *audit.Opening) { o.Seq-- },
		func(o *audit.Opening) { o.Salt = append([]byte{o.Salt[0] ^ 1}, o.Salt[1:]...) },
		func(o *audit.Opening) { o.Salt = o.Salt[1:] },
		func(o *audit.Opening) { o.Entry = bytes.Replace(o.Entry, []byte("ada"), []byte("eve"), 1) },
		func(o *audit.Opening) { o.Entry = []byte("{") },
	} {
		bad := back
		change(&bad)
		if err := bad.Check(leaves[1]); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := l.Opening(2); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("a record that is not there: %v", err)
	}
}
