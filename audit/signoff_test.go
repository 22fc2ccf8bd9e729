package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport"
	"sallyport/audit"
)

var reviewSeed = audit.SigningKey{Seed: seed(7)}

func signedOff(t testing.TB, l *audit.Log, from, to uint64, previous string) audit.SignedRange {
	t.Helper()
	r, err := l.SignRange(reviewSeed, audit.SignOff{From: from, To: to, Previous: previous, Time: time.Date(2026, 11, 3, 9, 0, 0, 5, time.UTC),
		Name: "officer", Meaning: "reviewed, nothing to object to"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reviewKey(t testing.TB, l *audit.Log) string {
	t.Helper()
	key, err := audit.ReviewKey(reviewSeed, at(t, l, 1).Origin)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSignOffTiesWordsToRecords(t *testing.T) {
	l := newLog(t, 12)
	key := reviewKey(t, l)
	first := signedOff(t, l, 0, 5, "")
	grow(t, l, 3)
	second := signedOff(t, l, 5, 15, audit.DigestOfSignOff(first.SignOff))
	var all []audit.SignOff
	for _, r := range []audit.SignedRange{first, second} {
		b, err := r.Format()
		if err != nil {
			t.Fatal(err)
		}
		back, err := audit.ParseSignedRange(b)
		if err != nil {
			t.Fatal(err)
		}
		s, err := back.Check(key, l.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if s := all[0]; s.Name != "officer" || s.From != 0 || s.To != 5 || s.Root != at(t, l, 5).Root || s.Time.Nanosecond() != 0 {
		t.Errorf("%+v", s)
	}
	if !all[1].Follows(all[0], first.SignOff) {
		t.Error("the second does not follow the first")
	}
	if all[1].Follows(all[0], second.SignOff) || all[0].Follows(all[1], second.SignOff) {
		t.Error("what does not follow seems to")
	}

	other := newLog(t, 20) // the same name and key, other records
	if _, err := (audit.SignedRange{SignOff: first.SignOff, Checkpoint: signedOff(t, other, 0, 5, "").Checkpoint,
		Consistency: signedOff(t, other, 0, 5, "").Consistency}).Check(key, other.VerifierKey()); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("a sign-off over records that the log does not have: %v", err)
	}
}

// TestSignOffIsCheckedByStockTools: the note package alone, not this program,
// finds the signature good.
func TestSignOffIsCheckedByStockTools(t *testing.T) {
	l := newLog(t, 3)
	signed := signedOff(t, l, 0, 3, "").SignOff
	pub := ed25519.NewKeyFromSeed(seed(7)).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(at(t, l, 1).Origin+"/review", pub)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	root := at(t, l, 3).Root
	want := "sallyport-review/1\n" + at(t, l, 1).Origin + "\n0\n3\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n-\n2026-11-03T09:00:00Z\nofficer\nreviewed, nothing to object to\n"
	if n.Text != want {
		t.Errorf("signed\n%s\nnot\n%s", n.Text, want)
	}
}

func TestSignOffAltered(t *testing.T) {
	l := newLog(t, 9)
	key := reviewKey(t, l)
	signed := signedOff(t, l, 0, 9, "").SignOff
	for i := range signed {
		for bit := range 8 {
			b := []byte(signed)
			b[i] ^= 1 << bit
			if s, err := audit.ParseSignOff(string(b), key); err == nil {
				t.Errorf("bit %d of byte %d was changed, and it still says %+v", bit, i, s)
			}
		}
	}
}

// TestNotesAreNotTakenForEachOther: a checkpoint signed by the key of reviews is
// no sign-off, nor is a sign-off a checkpoint.
func TestNotesAreNotTakenForEachOther(t *testing.T) {
	l := newLog(t, 4)
	key := reviewKey(t, l)
	cp, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.ParseSignOff(cp, key); err == nil {
		t.Error("a checkpoint is taken for a sign-off")
	}
	if _, err := audit.ParseSignOff(cp, l.VerifierKey()); err == nil {
		t.Error("a checkpoint under its own key is taken for a sign-off")
	}
	signed := signedOff(t, l, 0, 4, "").SignOff
	if _, err := audit.ParseCheckpoint(signed, key); err == nil {
		t.Error("a sign-off is taken for a checkpoint")
	}
}

func TestSignOffRefuses(t *testing.T) {
	l := newLog(t, 4)
	ok := audit.SignOff{From: 0, To: 4, Time: time.Now(), Name: "officer", Meaning: "reviewed"}
	for name, change := range map[string]func(*audit.SignOff){
		"nothing":                      func(s *audit.SignOff) { s.From = 4 },
		"more than there is":           func(s *audit.SignOff) { s.To = 5 },
		"two lines":                    func(s *audit.SignOff) { s.Meaning = "reviewed\nbut not by me" },
		"no name":                      func(s *audit.SignOff) { s.Name = "" },
		"spaces around":                func(s *audit.SignOff) { s.Name = "officer " },
		"a previous that is no digest": func(s *audit.SignOff) { s.Previous = "the last one" },
		"no time":                      func(s *audit.SignOff) { s.Time = time.Time{} },
	} {
		s := ok
		change(&s)
		if _, err := l.SignRange(reviewSeed, s); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	away := audit.SigningKey{Public: ed25519.NewKeyFromSeed(seed(7)).Public().(ed25519.PublicKey), Sign: func([]byte) ([]byte, error) { return nil, errors.New("away") }}
	if _, err := l.SignRange(away, ok); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("a keeper that is away: %v", err)
	}
	wrong := away
	wrong.Sign = func([]byte) ([]byte, error) { return bytes.Repeat([]byte{1}, 64), nil }
	if _, err := l.SignRange(wrong, ok); err == nil {
		t.Error("a signature that does not verify was given out")
	}
}

func FuzzParseSignOff(f *testing.F) {
	key, err := audit.ReviewKey(reviewSeed, origin)
	if err != nil {
		f.Fatal(err)
	}
	// The same in every process that fuzzes.
	good, err := audit.SignOff{Origin: origin, To: 2, Time: time.Unix(1, 0), Name: "officer", Meaning: "reviewed"}.Sign(reviewSeed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(strings.Replace(good, "officer", "offizer", 1))
	f.Add("sallyport-review/1\n\n\n\n\n\n\n\n\n\n— x y\n")
	f.Add(`{"sign_off": "", "checkpoint": "", "consistency": []}`)
	f.Fuzz(func(t *testing.T, signed string) {
		if s, err := audit.ParseSignOff(signed, key); err == nil && signed != good {
			t.Errorf("signed by nobody, and taken: %+v", s)
		}
		r, err := audit.ParseSignedRange([]byte(signed))
		if err == nil {
			if _, err := r.Check(key, ""); err == nil && r.SignOff != good {
				t.Errorf("taken: %+v", r)
			}
		}
	})
}
