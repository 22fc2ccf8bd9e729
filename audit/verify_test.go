package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// compactLog returns a snapshot of a log of n records, and their receipts.
func compactLog(t testing.TB, n int) ([]byte, []Receipt, string) {
	t.Helper()
	l := openLog(t, newPath(t))
	receipts := fill(t, l, n)
	return snapshot(t, l), receipts, l.VerifierKey()
}

func snapshot(t testing.TB, l *Log) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// keyFolders holds the folder of keys of each test's latest log, so that copies
// of the log can be given it.
var keyFolders sync.Map

func rootName(t testing.TB) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return name
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := newPath(t)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, ok := keyFolders.Load(rootName(t)); ok {
		if err := os.Symlink(keys.(string), path+".keys"); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// mutate changes a copy of a log with the means of the database.
func mutate(t testing.TB, log []byte, change func(tx *bbolt.Tx) error) string {
	t.Helper()
	path := writeFile(t, log)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// freePage tells whether nothing in the log depends on a page's bytes.
func freePage(t testing.TB, log []byte, page int) bool {
	b := bytes.Clone(log)
	clear(b[page*os.Getpagesize():][:os.Getpagesize()])
	_, err := checkPages(writeFile(t, b))
	return err == nil
}

func swap(b *bbolt.Bucket, i, j uint64) error {
	vi, vj := bytes.Clone(b.Get(seqKey(i))), bytes.Clone(b.Get(seqKey(j)))
	if err := b.Put(seqKey(i), vj); err != nil {
		return err
	}
	return b.Put(seqKey(j), vi)
}

var recordBuckets = []string{bucketBody, bucketLeaf, bucketHash}

// each applies f to every bucket of records.
func each(tx *bbolt.Tx, f func(b *bbolt.Bucket) error) error {
	for _, name := range recordBuckets {
		if err := f(tx.Bucket([]byte(name))); err != nil {
			return err
		}
	}
	return nil
}

// wantDamage verifies with the right verifier key and without one, with the
// keys of contents and without.
func wantDamage(t testing.TB, what, path, key string, first int, damage ...string) {
	t.Helper()
	wantDamageWith(t, what, path, first, damage, VerifyOptions{VerifierKey: key}, VerifyOptions{},
		VerifyOptions{VerifierKey: key, Keys: "none"})
}

func wantDamageWith(t testing.TB, what, path string, first int, damage []string, opts ...VerifyOptions) {
	t.Helper()
	for _, o := range opts {
		v, err := Verify(path, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if v.Whole || v.Explain == "" || len(damage) > 0 && !slices.Contains(damage, v.Damage) {
			t.Errorf("%s: found %q (%s), want %q", what, v.Damage, v.Explain, damage)
		}
		switch {
		case first == -1 && v.FirstBad != nil:
			t.Errorf("%s: names record %d, which nothing speaks against", what, *v.FirstBad)
		case first >= 0 && (v.FirstBad == nil || *v.FirstBad != uint64(first)):
			t.Errorf("%s: first bad %v, want %d (%s: %s)", what, v.FirstBad, first, v.Damage, v.Explain)
		}
	}
}

func TestMutations(t *testing.T) {
	const n = 11
	log, receipts, key := compactLog(t, n)
	wantWhole(t, writeFile(t, log), VerifyOptions{VerifierKey: key}, n)

	for _, name := range recordBuckets {
		t.Run(name, func(t *testing.T) {
			row := func(seq int, change func(b *bbolt.Bucket, k, v []byte) error) string {
				return mutate(t, log, func(tx *bbolt.Tx) error {
					b := tx.Bucket([]byte(name))
					k := seqKey(uint64(seq))
					return change(b, k, bytes.Clone(b.Get(k)))
				})
			}
			for seq := range n {
				length := 0
				row(seq, func(_ *bbolt.Bucket, _, v []byte) error { length = len(v); return nil })
				for at := 0; at < length; at += 1 + length/9*min(seq, 1) { // of record 0 every byte
					path := row(seq, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(k, flip(v, at)) })
					wantDamage(t, fmt.Sprintf("flip byte %d of record %d", at, seq), path, key, seq)
				}
				path := row(seq, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(k, v[:len(v)-1]) })
				wantDamage(t, fmt.Sprintf("shorten record %d", seq), path, key, seq, Changed)
				path = row(seq, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(k, append(v, 0)) })
				wantDamage(t, fmt.Sprintf("lengthen record %d", seq), path, key, seq, Changed)
				path = row(seq, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(k, nil) })
				wantDamage(t, fmt.Sprintf("empty record %d", seq), path, key, seq, Changed)
				path = row(seq, func(b *bbolt.Bucket, k, v []byte) error { return b.Delete(k) })
				wantDamage(t, fmt.Sprintf("remove part of record %d", seq), path, key, seq, Removed)
				if seq+1 < n {
					path = row(seq, func(b *bbolt.Bucket, k, v []byte) error { return swap(b, uint64(seq), uint64(seq+1)) })
					want := Reordered
					if name == bucketHash {
						want = Changed
					}
					wantDamage(t, fmt.Sprintf("swap %d and %d", seq, seq+1), path, key, seq, want)
				}
			}
			path := row(n-1, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(seqKey(n), v) })
			wantDamage(t, "a row too many", path, key, n, Added)
			path = row(4, func(b *bbolt.Bucket, k, v []byte) error { return b.Put(append(k, 1), v) })
			wantDamage(t, "a row without a number", path, key, 5, Added)
			path = row(0, func(b *bbolt.Bucket, k, v []byte) error { return b.Put([]byte{0}, v) })
			wantDamage(t, "a row before the first", path, key, 0, Added)
			path = row(4, func(b *bbolt.Bucket, k, v []byte) error {
				if err := b.Delete(k); err != nil {
					return err
				}
				_, err := b.CreateBucket(k)
				return err
			})
			wantDamage(t, "a bucket for a row", path, key, 4, Changed)
			path = mutate(t, log, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(name)) })
			wantDamage(t, "no bucket", path, key, -1, Removed)
			path = mutate(t, log, func(tx *bbolt.Tx) error {
				if err := tx.DeleteBucket([]byte(name)); err != nil {
					return err
				}
				_, err := tx.CreateBucket([]byte(name))
				return err
			})
			wantDamage(t, "empty bucket", path, key, 0, Removed)
		})
	}

	t.Run("whole records", func(t *testing.T) {
		for seq := uint64(0); seq < n; seq++ {
			path := mutate(t, log, func(tx *bbolt.Tx) error {
				return each(tx, func(b *bbolt.Bucket) error { return b.Delete(seqKey(seq)) })
			})
			want := Removed
			if seq == n-1 {
				want = Truncated
			}
			wantDamage(t, fmt.Sprintf("remove %d", seq), path, key, int(seq), want)
			path = mutate(t, log, func(tx *bbolt.Tx) error {
				return each(tx, func(b *bbolt.Bucket) error {
					for s := seq; s < n; s++ {
						if err := b.Delete(seqKey(s)); err != nil {
							return err
						}
					}
					return nil
				})
			})
			wantDamage(t, fmt.Sprintf("cut off at %d", seq), path, key, int(seq), Truncated)
			if seq == n-1 {
				continue
			}
			path = mutate(t, log, func(tx *bbolt.Tx) error {
				return each(tx, func(b *bbolt.Bucket) error { return swap(b, seq, seq+1) })
			})
			wantDamage(t, fmt.Sprintf("swap %d and %d", seq, seq+1), path, key, int(seq), Reordered)
			path = mutate(t, log, func(tx *bbolt.Tx) error { // take out and close the gap
				return each(tx, func(b *bbolt.Bucket) error {
					for s := seq; s < n-1; s++ {
						if err := b.Put(seqKey(s), bytes.Clone(b.Get(seqKey(s+1)))); err != nil {
							return err
						}
					}
					return b.Delete(seqKey(n - 1))
				})
			})
			wantDamage(t, fmt.Sprintf("close the gap at %d", seq), path, key, int(seq), Removed)
			// One leaf rewritten with its hash, but not what follows from it.
			path = mutate(t, log, func(tx *bbolt.Tx) error { return rewrite(tx, seq, seq) })
			wantDamage(t, fmt.Sprintf("rewrite %d alone", seq), path, key, int(seq), Changed)
		}
	})

	t.Run("head", func(t *testing.T) {
		put := func(cp string) string {
			return mutate(t, log, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketHead)).Put([]byte(keyCheckpoint), []byte(cp)) })
		}
		own := receipts[n-1].Checkpoint
		for at := range own {
			wantDamage(t, fmt.Sprintf("flip byte %d", at), put(string(flip([]byte(own), at))), key, -1, SignatureWrong)
		}
		wantDamage(t, "empty", put(""), key, -1, Removed)
		wantDamage(t, "earlier", put(receipts[6].Checkpoint), key, 7, Added)
		other, _ := newSigner(Config{Origin: testOrigin, Seed: otherSeed})
		c, err := ParseCheckpoint(own, key)
		if err != nil {
			t.Fatal(err)
		}
		forged, _ := other.checkpoint(c.Size, c.Root)
		wantDamage(t, "signed by another", put(forged), key, -1, SignatureWrong)
		wantDamage(t, "no bucket", mutate(t, log, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketHead)) }), key, -1, Removed)
		wantDamage(t, "more rows", mutate(t, log, func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bucketHead)).Put([]byte("x"), []byte("y"))
		}), key, -1, Added)
	})

	t.Run("about", func(t *testing.T) {
		for _, k := range []string{keyFormat, keyOrigin, keyVerifier} {
			b := []byte(bucketAbout)
			path := mutate(t, log, func(tx *bbolt.Tx) error {
				return tx.Bucket(b).Put([]byte(k), flip(tx.Bucket(b).Get([]byte(k)), 3))
			})
			wantDamage(t, "flip "+k, path, key, -1, Changed, SignatureWrong)
			path = mutate(t, log, func(tx *bbolt.Tx) error { return tx.Bucket(b).Delete([]byte(k)) })
			wantDamage(t, "remove "+k, path, key, -1, Removed, SignatureWrong)
		}
		wantDamage(t, "no bucket", mutate(t, log, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketAbout)) }), key, -1, Removed, SignatureWrong)
		wantDamage(t, "another bucket", mutate(t, log, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }), key, -1, Added)
	})
}

// rewrite forges the entry of record seq and makes the leaves, chain and tree
// of the records up to last follow from it, as one who has no signing key can.
// The forger has the keys of contents.
func rewrite(tx *bbolt.Tx, seq, last uint64, lie ...func(*leaf)) error {
	r, err := openRows(tx)
	if err != nil {
		return err
	}
	folder, _ := filepath.EvalSymlinks(tx.DB().Path() + ".keys")
	keys, err := openKeyring(folder, nil)
	if err != nil {
		return err
	}
	c, err := newChecker(r, seq, Checkpoint{})
	if err != nil {
		return err
	}
	for s := seq; s <= last; s++ {
		body := bytes.Clone(r.body.Get(seqKey(s)))
		salt, js, err := openBody(keys, body)
		if err != nil {
			return err
		}
		l, err := parseLeaf(r.leaf.Get(seqKey(s)))
		if err != nil {
			return err
		}
		if s == seq {
			var e Entry
			if err := json.Unmarshal(js, &e); err != nil {
				return err
			}
			e.Subject = "someone else"
			js, _ = json.Marshal(e)
			k, err := keys.subject("ada")
			if err != nil {
				return err
			}
			body = sealBody(k, append(salt, js...))
			for _, f := range lie {
				f(&l)
			}
		}
		l.Prev, l.Body, l.Sealed = c.prev, commitment(salt, js), sha256.Sum256(body)
		raw := l.append(nil)
		c.prev = tlog.RecordHash(raw)
		for b, v := range map[*bbolt.Bucket][]byte{r.body: body, r.leaf: raw, r.hash: c.tree.add(c.prev, nil)} {
			if err := b.Put(seqKey(s), v); err != nil {
				return err
			}
		}
	}
	return nil
}

func resign(tx *bbolt.Tx, s *signer, n uint64) error {
	r, err := openRows(tx)
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(int64(n), r)
	if err != nil {
		return err
	}
	cp, err := s.checkpoint(n, root)
	if err != nil {
		return err
	}
	if err := tx.Bucket([]byte(bucketAbout)).Put([]byte(keyVerifier), []byte(s.verifier)); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketHead)).Put([]byte(keyCheckpoint), []byte(cp))
}

func TestAgainstAnOldCheckpoint(t *testing.T) {
	const n = 11
	log, receipts, key := compactLog(t, n)
	check := func(path, key, old string) Verification {
		t.Helper()
		v, err := Verify(path, VerifyOptions{VerifierKey: key, Checkpoint: old})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	thief, _ := newSigner(Config{Origin: testOrigin, Seed: testSeed})
	other, _ := newSigner(Config{Origin: testOrigin, Seed: otherSeed})
	for seq := uint64(0); seq < n; seq++ {
		// All that follows from a forged record is forged too: without the key
		// the signed root convicts, though it cannot say which record.
		path := mutate(t, log, func(tx *bbolt.Tx) error { return rewrite(tx, seq, n-1) })
		wantDamage(t, fmt.Sprintf("rewrite from %d", seq), path, key, -1, Changed)

		// With the key the log convinces by itself, and an old checkpoint convicts.
		path = mutate(t, log, func(tx *bbolt.Tx) error {
			if err := rewrite(tx, seq, n-1); err != nil {
				return err
			}
			return resign(tx, thief, n)
		})
		wantWhole(t, path, VerifyOptions{VerifierKey: key}, n)
		for i, r := range receipts {
			v := check(path, key, r.Checkpoint)
			if want := uint64(i) >= seq; want != (v.Damage == Forked) || want == v.Whole {
				t.Fatalf("forged from %d, held against %d records: %+v", seq, i+1, v)
			}
		}

		// A leaf that says of its content what it does not say.
		for what, lie := range map[string]func(*leaf){
			"time":  func(l *leaf) { l.Time = l.Time.Add(1) },
			"step":  func(l *leaf) { l.Step = "release" },
			"phase": func(l *leaf) { l.Phase = map[Phase]Phase{Intent: Note, Note: Outcome, Outcome: Intent}[l.Phase] },
		} {
			path = mutate(t, log, func(tx *bbolt.Tx) error {
				if err := rewrite(tx, seq, n-1, lie); err != nil {
					return err
				}
				return resign(tx, thief, n)
			})
			wantDamageWith(t, what, path, int(seq), []string{Changed}, VerifyOptions{VerifierKey: key})
			if v, err := Verify(path, VerifyOptions{VerifierKey: key, Keys: "none"}); err != nil || !v.Whole || v.Sealed != n {
				t.Fatalf("without keys nobody can tell: %+v, %v", v, err)
			}
		}

		// Signed anew with another key, also in the file.
		path = mutate(t, log, func(tx *bbolt.Tx) error {
			if err := rewrite(tx, seq, n-1); err != nil {
				return err
			}
			return resign(tx, other, n)
		})
		if v := check(path, key, ""); v.Damage != SignatureWrong {
			t.Fatalf("signed by another: %+v", v)
		}
		if v := check(path, "", receipts[0].Checkpoint); v.Damage != SignatureWrong {
			t.Fatalf("key in file replaced: %+v", v)
		}

		// An honest but older copy.
		path = mutate(t, log, func(tx *bbolt.Tx) error {
			if err := each(tx, func(b *bbolt.Bucket) error {
				for s := seq; s < n; s++ {
					if err := b.Delete(seqKey(s)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			return resign(tx, thief, seq)
		})
		wantWhole(t, path, VerifyOptions{VerifierKey: key}, int(seq))
		for i, r := range receipts {
			v := check(path, key, r.Checkpoint)
			if newer := uint64(i+1) > seq; newer && (v.Damage != RolledBack || v.FirstBad == nil || *v.FirstBad != seq) || !newer && !v.Whole {
				t.Fatalf("rolled back to %d, held against %d: %+v", seq, i+1, v)
			}
		}
	}

	path := writeFile(t, log)
	_, err := Verify(path, VerifyOptions{VerifierKey: key, Checkpoint: "no checkpoint"})
	wantKind(t, err, sallyport.Invalid)
	_, err = Verify(path, VerifyOptions{Checkpoint: "no checkpoint"})
	wantKind(t, err, sallyport.Invalid)
	_, err = Verify(path, VerifyOptions{VerifierKey: "no key"})
	wantKind(t, err, sallyport.Invalid)
	if v := check(path, other.verifier, ""); v.Damage != SignatureWrong || v.Whole {
		t.Fatalf("another's key: %+v", v)
	}
}

// Open must not go on with a log whose end is not what was signed.
func TestOpenChecksTheTail(t *testing.T) {
	const n = 11
	log, receipts, _ := compactLog(t, n)
	for what, change := range map[string]func(tx *bbolt.Tx) error{
		"cut off": func(tx *bbolt.Tx) error {
			return each(tx, func(b *bbolt.Bucket) error { return b.Delete(seqKey(n - 1)) })
		},
		"content": func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucketBody))
			return b.Put(seqKey(n-1), flip(b.Get(seqKey(n-1)), 50))
		},
		"old head": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(bucketHead)).Put([]byte(keyCheckpoint), []byte(receipts[4].Checkpoint))
		},
		"no head":   func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketHead)) },
		"no leaves": func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketLeaf)) },
		"format":    func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketAbout)).Put([]byte(keyFormat), []byte("x/2")) },
		"rewritten": func(tx *bbolt.Tx) error { return rewrite(tx, 9, n-1) },
	} {
		path := mutate(t, log, change)
		for i := range 2 { // a refused Open lets go of the file
			_, err := Open(testConfig(path))
			if wantKind(t, err, sallyport.Damaged); sallyport.HintOf(err) == "" {
				t.Errorf("%s, time %d: no hint", what, i)
			}
		}
	}
}

// A reader is not shown a record that the log does not stand for.
func TestReadingChecks(t *testing.T) {
	l := openLog(t, newPath(t))
	fillFast(t, l, maxBatch+10)
	var log bytes.Buffer
	if err := l.Snapshot(&log); err != nil {
		t.Fatal(err)
	}
	path := mutate(t, log.Bytes(), func(tx *bbolt.Tx) error { // before the tail that opening checks
		b := tx.Bucket([]byte(bucketBody))
		return b.Put(seqKey(3), flip(b.Get(seqKey(3)), 70))
	})
	l, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, err = l.Get(3)
	wantKind(t, err, sallyport.Damaged)
	_, err = l.Read(0, 10)
	wantKind(t, err, sallyport.Damaged)
	if strings.Contains(err.Error(), "ada") {
		t.Errorf("the error quotes the record: %v", err)
	}
	n := 0
	for _, err = range l.Records(t.Context(), Filter{}) {
		n++
	}
	if wantKind(t, err, sallyport.Damaged); n != 4 {
		t.Fatalf("%d records before and with the damage", n)
	}
}
