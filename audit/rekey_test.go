package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport"
)

func TestChangeKey(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	before := fill(t, l, 5)
	first := l.VerifierKey()
	third := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{11}, 32))
	_, err := l.ChangeKey(t.Context(), "admin", "yearly", SigningKey{Seed: testSeed})
	wantKind(t, err, sallyport.Invalid)
	_, err = l.ChangeKey(t.Context(), "admin", "yearly", SigningKey{Sign: func(m []byte) ([]byte, error) { return nil, errors.New("away") }, Public: third.Public().(ed25519.PublicKey)})
	wantKind(t, err, sallyport.Unavailable)
	if l.VerifierKey() != first {
		t.Fatal("the key changed though the new one does not sign")
	}
	r2, err := l.ChangeKey(t.Context(), "admin", "yearly", SigningKey{Seed: otherSeed})
	if err != nil {
		t.Fatal(err)
	}
	second := l.VerifierKey()
	if _, err := ParseCheckpoint(r2.Checkpoint, second); err != nil || second == first {
		t.Fatal(err)
	}
	mid := fill(t, l, 4)
	if _, err := l.ChangeKey(t.Context(), "admin", "stolen", SigningKey{Sign: func(m []byte) ([]byte, error) { return ed25519.Sign(third, m), nil }, Public: third.Public().(ed25519.PublicKey)}); err != nil {
		t.Fatal(err)
	}
	last := fill(t, l, 3)
	keys := l.VerifierKeys()
	if !slices.Equal(keys[:2], []string{first, second}) || len(keys) != 3 || keys[2] != l.VerifierKey() {
		t.Fatal(keys)
	}
	log := snapshot(t, l)
	n := int(l.Size())
	l.Close()
	_, err = Open(testConfig(path))
	wantKind(t, err, sallyport.Conflict)
	for _, key := range append(keys, "") {
		for _, r := range slices.Concat(before, mid, last) {
			wantWhole(t, path, VerifyOptions{VerifierKey: key, Checkpoint: r.Checkpoint}, n)
		}
	}
	stranger, _ := newSigner(Config{Origin: testOrigin, Seed: bytes.Repeat([]byte{12}, 32)})
	if v, err := Verify(path, VerifyOptions{VerifierKey: stranger.verifier}); err != nil || v.Damage != SignatureWrong {
		t.Fatalf("%+v, %v", v, err)
	}
	cfg := testConfig(path)
	cfg.Seed = bytes.Repeat([]byte{11}, 32)
	l, err = Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, people(3)...)
	if _, err := l.Erase(t.Context(), erasureOf("ada lovelace")); err != nil { // carries the handovers over
		t.Fatal(err)
	}
	n2 := int(l.Size())
	l.Close()
	wantWhole(t, path, VerifyOptions{VerifierKey: first, Checkpoint: before[2].Checkpoint}, n2)

	// A handover that the key before did not sign for convinces nobody.
	seq := int(r2.Seq)
	head := func(change func(b *bbolt.Bucket) error) string {
		return mutate(t, log, func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(bucketHead))) })
	}
	row := []byte(handoverKey(r2.Seq))
	wantDamage(t, "no handover", head(func(b *bbolt.Bucket) error { return b.Delete(row) }), first, seq, SignatureWrong)
	wantDamage(t, "handover signed by the new key", head(func(b *bbolt.Bucket) error { return b.Put(row, []byte(r2.Checkpoint)) }), first, seq, SignatureWrong)
	wantDamage(t, "handover of another time", head(func(b *bbolt.Bucket) error { return b.Put(row, []byte(before[3].Checkpoint)) }), first, seq, Forked)
	for at := range r2.Checkpoint {
		wantDamage(t, "flipped handover", head(func(b *bbolt.Bucket) error { return b.Put(row, flip(b.Get(row), at)) }), first, seq, SignatureWrong)
	}
	wantDamage(t, "one more", head(func(b *bbolt.Bucket) error { return b.Put([]byte(handoverKey(2)), b.Get(row)) }), first, -1, Added)
	wantDamage(t, "unlisted", mutate(t, log, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketAct)).Delete(seqKey(r2.Seq)) }), first, -2)
}
