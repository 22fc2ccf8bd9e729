package audit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// allRows reads everything that a log says.
func allRows(t testing.TB, path string) map[string]string {
	t.Helper()
	db, err := bbolt.Open(path, 0o400, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	out := map[string]string{}
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error { out[string(name)+"/"+string(k)] = string(v); return nil })
		})
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever bytes a file has, Verify answers, and what it calls whole says what
// was recorded. It needs a checkpoint for that: the pages of the transactions
// before the last are still in the file, and one copied over another can turn
// back the log as any older copy does.
func TestDamagedFile(t *testing.T) {
	const n = 60 // several pages a bucket
	log, receipts, key := compactLog(t, n)
	page := os.Getpagesize()
	want := allRows(t, writeFile(t, log))
	path := filepath.Join(t.TempDir(), "damaged.db")
	whole := 0
	check := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(path, VerifyOptions{VerifierKey: key, Checkpoint: receipts[n-1].Checkpoint})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if v.Whole == (v.Damage != "") || v.Explain == "" {
			t.Fatalf("%s: %+v", what, v)
		}
		if v.Whole {
			whole++
			if diff := cmp.Diff(want, allRows(t, path)); diff != "" {
				t.Fatalf("%s: called whole, but: %s", what, diff)
			}
		}
	}
	for at := 0; at < len(log); at += 1 + at%101 {
		b := flip(log, at)
		if at%2 == 0 {
			b[at] = 0xff
		}
		check(fmt.Sprintf("byte %d", at), b)
	}
	for p := range 2 { // bbolt would quietly go on with the other head
		path := writeFile(t, flip(log, p*page+pageHeader+20))
		if v, err := Verify(path, VerifyOptions{}); err != nil || v.Whole || v.Damage != Unreadable || v.Records != n {
			t.Fatalf("head page %d damaged: %+v, %v", p, v, err)
		}
	}
	pages := len(log) / page
	for p := range pages {
		b := bytes.Clone(log)
		clear(b[p*page : (p+1)*page])
		check(fmt.Sprintf("page %d cleared", p), b)
		check(fmt.Sprintf("cut at page %d", p), log[:p*page])
		check(fmt.Sprintf("cut in page %d", p), log[:p*page+100])
		for q := range pages {
			b := bytes.Clone(log)
			copy(b[p*page:(p+1)*page], log[q*page:])
			if q == (p+1)%pages {
				check(fmt.Sprintf("page %d over page %d", q, p), b)
			}
			binary.LittleEndian.PutUint64(b[p*page:], uint64(p)) // with the right number
			check(fmt.Sprintf("page %d over page %d, renumbered", q, p), b)
			if b[p*page+8] == pageBranch && b[p*page+10] > 1 && p == q { // one page under two branches
				b := bytes.Clone(b)
				at := p*page + pageHeader + 8
				copy(b[at+pageElement:], b[at:at+8])
				check(fmt.Sprintf("two branches of page %d are one", p), b)
				if _, err := checkPages(path); err == nil && !freePage(t, log, p) {
					t.Errorf("page %d leads to one page twice, unnoticed", p)
				}
			}
			if b[p*page+8] == pageBranch { // a branch that leads to itself
				binary.LittleEndian.PutUint64(b[p*page+pageHeader+8:], uint64(p))
				check(fmt.Sprintf("page %d in a circle", p), b)
			}
		}
	}
	if whole == 0 {
		t.Error("no change hit an unused byte: the test does not test what it says")
	}
}
