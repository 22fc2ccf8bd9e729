package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The tree as RFC 6962, section 2.1, defines it, word by word and slowly.
func naiveRoot(leaves [][]byte) (h [32]byte) {
	if len(leaves) == 0 {
		return sha256.Sum256(nil)
	}
	if len(leaves) == 1 {
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	}
	k := naiveSplit(len(leaves))
	return naiveNode(naiveRoot(leaves[:k]), naiveRoot(leaves[k:]))
}

func naiveNode(l, r [32]byte) [32]byte {
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// naiveSplit is the largest power of two smaller than n.
func naiveSplit(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

// naivePath follows an audit path (RFC 6962, 2.1.1) from a leaf to the root.
func naivePath(h [32]byte, m, n int, path []tlog.Hash) [32]byte {
	if n == 1 {
		return h
	}
	last := len(path) - 1
	if k := naiveSplit(n); m < k {
		return naiveNode(naivePath(h, m, k, path[:last]), path[last])
	} else {
		return naiveNode(path[last], naivePath(h, m-k, n-k, path[:last]))
	}
}

// naiveConsistency returns the roots of the first m and of all n leaves that a
// consistency proof (RFC 6962, 2.1.2) leads to. known is the root of the first
// m, which the proof leaves out while it need not be worked out.
func naiveConsistency(m, n int, known [32]byte, outer bool, proof []tlog.Hash) (old, all [32]byte) {
	if m == n {
		if outer {
			return known, known
		}
		return proof[0], proof[0]
	}
	last := len(proof) - 1
	if k := naiveSplit(n); m <= k {
		old, left := naiveConsistency(m, k, known, outer, proof[:last])
		return old, naiveNode(left, proof[last])
	} else {
		old, right := naiveConsistency(m-k, n-k, known, false, proof[:last])
		return naiveNode(proof[last], old), naiveNode(proof[last], right)
	}
}

// Roots of the trees over the first 0 to 8 of these leaves are the well-known
// test vectors of Certificate Transparency implementations
// (github.com/google/certificate-transparency, merkle_tree_test).
var ctLeaves = [][]byte{{}, {0x00}, {0x10}, {0x20, 0x21}, {0x30, 0x31}, {0x40, 0x41, 0x42, 0x43},
	{0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57},
	{0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f}}

func TestTreeKnownAnswers(t *testing.T) {
	for n, want := range map[int]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	} {
		var tr tree
		for _, l := range ctLeaves[:n] {
			tr.add(tlog.RecordHash(l), nil)
		}
		var wantRoot tlog.Hash
		if err := parseHex(&wantRoot, want); err != nil {
			t.Fatal(err)
		}
		if tr.root() != wantRoot || naiveRoot(ctLeaves[:n]) != wantRoot {
			t.Errorf("root over %d leaves: %x and %x, want %s", n, tr.root(), naiveRoot(ctLeaves[:n]), want)
		}
	}
}

func TestTreeIsRFC6962(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 8), 0, 80).Draw(t, "leaves")
		var tr tree
		var stored []tlog.Hash
		for i, l := range leaves {
			row := tr.add(tlog.RecordHash(l), nil)
			want, err := tlog.StoredHashes(int64(i), l, tlog.HashReaderFunc(func(x []int64) (out []tlog.Hash, _ error) {
				for _, i := range x {
					out = append(out, stored[i])
				}
				return out, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			var flat []byte
			for _, h := range want {
				flat = append(flat, h[:]...)
			}
			if string(row) != string(flat) {
				t.Fatalf("hashes of record %d differ from x/mod's", i)
			}
			stored = append(stored, want...)
		}
		if tr.root() != naiveRoot(leaves) {
			t.Fatal("root")
		}
	})
}

// What a real log stores must prove every record to, and every past in, every
// checkpoint it ever gave out, to someone who has only the RFC.
func TestProofsAgainstTheRFC(t *testing.T) {
	const n = 75
	path := newPath(t)
	l := openLog(t, path)
	receipts := fill(t, l, n)
	key := l.VerifierKey()
	var leaves [][]byte
	if err := l.db.Load().View(func(tx *bbolt.Tx) error {
		r, err := openRows(tx)
		if err != nil {
			return err
		}
		if err := r.leaf.ForEach(func(k, v []byte) error {
			if binary.BigEndian.Uint64(k) != uint64(len(leaves)) {
				t.Fatalf("leaf %x out of order", k)
			}
			leaves = append(leaves, append([]byte{}, v...))
			return nil
		}); err != nil {
			return err
		}
		rapid.Check(t, func(t *rapid.T) {
			size := rapid.IntRange(1, n).Draw(t, "size")
			rec := rapid.IntRange(0, size-1).Draw(t, "record")
			old := rapid.IntRange(1, size).Draw(t, "old")
			cp, err := ParseCheckpoint(receipts[size-1].Checkpoint, key)
			if err != nil || cp.Root != naiveRoot(leaves[:size]) {
				t.Fatalf("checkpoint of %d: %v", size, err)
			}
			proof, err := tlog.ProveRecord(int64(size), int64(rec), r)
			if err != nil {
				t.Fatal(err)
			}
			leafHash := naiveRoot(leaves[rec : rec+1])
			if naivePath(leafHash, rec, size, proof) != cp.Root {
				t.Fatalf("record %d is not proved in %d", rec, size)
			}
			if size > 1 && naivePath(naiveRoot(leaves[(rec+1)%size:][:1]), rec, size, proof) == cp.Root {
				t.Fatal("the proof proves another record as well")
			}
			oldCP, err := ParseCheckpoint(receipts[old-1].Checkpoint, key)
			if err != nil {
				t.Fatal(err)
			}
			tp, err := tlog.ProveTree(int64(size), int64(old), r)
			if err != nil {
				t.Fatal(err)
			}
			if o, a := naiveConsistency(old, size, oldCP.Root, true, tp); o != oldCP.Root || a != cp.Root {
				t.Fatalf("%d is not proved a past of %d", old, size)
			}
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
