package audit

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"sallyport"
)

func TestLeafForm(t *testing.T) {
	l := leaf{Seq: 42, Time: testTime, Step: "hand over", Phase: Intent}
	l.Prev[0], l.Body[31], l.Sealed[1] = 0xab, 1, 0xcd
	want := "sallyport-audit-leaf/2\nseq 42\ntime 2026-03-04T05:06:07.000008Z\nstep hand over\nphase intent\n" +
		"prev ab" + strings.Repeat("00", 31) + "\nbody " + strings.Repeat("00", 31) + "01\nsealed 00cd" + strings.Repeat("00", 30) + "\n"
	if have := string(l.append(nil)); have != want {
		t.Fatalf("%q", have)
	}
	for what, bad := range map[string]string{
		"empty":       "",
		"cut":         want[:len(want)-1],
		"longer":      want + "\n",
		"zero":        strings.Replace(want, "seq 42", "seq 042", 1),
		"sign":        strings.Replace(want, "seq 42", "seq +42", 1),
		"zone":        strings.Replace(want, "05:06:07.000008Z", "06:06:07.000008+01:00", 1),
		"zeros":       strings.Replace(want, ".000008Z", ".00000800Z", 1),
		"upper case":  strings.Replace(want, "prev ab", "prev AB", 1),
		"version":     strings.Replace(want, "leaf/2", "leaf/1", 1),
		"phase":       strings.Replace(want, "phase intent", "phase x", 1),
		"space":       strings.Replace(want, "step hand over", "step hand over ", 1),
		"carriage":    strings.ReplaceAll(want, "\n", "\r\n"),
		"other order": strings.Replace(want, "step hand over\nphase intent", "phase intent\nstep hand over", 1),
	} {
		if _, err := parseLeaf([]byte(bad)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestLeafRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := leaf{
			Seq:   rapid.Uint64().Draw(t, "seq"),
			Time:  time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC(),
			Step:  rapid.StringMatching(`[a-z]([a-z -]{0,30}[a-zé])?`).Draw(t, "step"),
			Phase: rapid.SampledFrom([]Phase{Intent, Outcome, Note}).Draw(t, "phase"),
		}
		copy(l.Prev[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
		copy(l.Body[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "body"))
		copy(l.Sealed[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sealed"))
		have, err := parseLeaf(l.append(nil))
		if err != nil || have != l {
			t.Fatalf("%+v: %+v, %v", l, have, err)
		}
	})
}

func FuzzLeaf(f *testing.F) {
	f.Add(leaf{Seq: 1, Time: testTime, Step: "run", Phase: Outcome}.append(nil))
	f.Add([]byte("sallyport-audit-leaf/2\nseq 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLeaf(b); err == nil && !bytes.Equal(l.append(nil), b) {
			t.Fatalf("%q is taken for %q", b, l.append(nil))
		}
	})
}

func testCheckpoint(t testing.TB) (*signer, string) {
	s, err := newSigner(Config{Origin: testOrigin, Seed: testSeed})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := s.checkpoint(3, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return s, cp
}

func TestParseCheckpoint(t *testing.T) {
	s, cp := testCheckpoint(t)
	want := Checkpoint{Origin: testOrigin, Size: 3, Root: [32]byte{1}}
	if have, err := ParseCheckpoint(cp, s.verifier); err != nil || have != want {
		t.Fatalf("%+v, %v", have, err)
	}
	if !strings.HasPrefix(cp, testOrigin+"\n3\nAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— "+testOrigin+" ") {
		t.Fatalf("%q", cp)
	}

	// A witness's signature beside the log's does no harm, and does not replace it.
	wkey, _, err := note.GenerateKey(nil, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := note.NewSigner(wkey)
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(&note.Note{Text: want.text()}, s, witness)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := ParseCheckpoint(string(both), s.verifier); err != nil || have != want {
		t.Fatalf("cosigned: %+v, %v", have, err)
	}
	alone, _ := note.Sign(&note.Note{Text: want.text()}, witness)
	_, err = ParseCheckpoint(string(alone), s.verifier)
	wantKind(t, err, sallyport.Damaged)

	other, _ := newSigner(Config{Origin: testOrigin, Seed: otherSeed})
	_, err = ParseCheckpoint(cp, other.verifier)
	wantKind(t, err, sallyport.Damaged)
	_, err = ParseCheckpoint(strings.Replace(cp, "\n3\n", "\n4\n", 1), s.verifier)
	wantKind(t, err, sallyport.Damaged)
	_, err = ParseCheckpoint(cp, "key")
	wantKind(t, err, sallyport.Invalid)
	_, err = ParseCheckpoint(cp[:20], s.verifier)
	wantKind(t, err, sallyport.Invalid)

	// The last character before the padding has two bits that carry nothing.
	at := strings.LastIndex(cp, "=") - 1
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	_, err = ParseCheckpoint(cp[:at]+string(digits[strings.IndexByte(digits, cp[at])|1])+cp[at+1:], s.verifier)
	wantKind(t, err, sallyport.Invalid)

	// Well signed, but not what a checkpoint is.
	for _, text := range []string{
		"x\n", testOrigin + "\n03\n" + strings.Repeat("A", 43) + "=\n", testOrigin + "\n-1\n" + strings.Repeat("A", 43) + "=\n",
		testOrigin + "\n3\nAAAA\n", testOrigin + "\n3\n" + strings.Repeat("A", 42) + "B=\n", want.text() + "more\n",
		testOrigin + "\n18446744073709551615\n" + strings.Repeat("A", 43) + "=\n",
	} {
		b, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseCheckpoint(string(b), s.verifier)
		wantKind(t, err, sallyport.Invalid)
	}
	foreign, _ := note.Sign(&note.Note{Text: "other.example\n3\n" + strings.Repeat("A", 43) + "=\n"}, s)
	_, err = ParseCheckpoint(string(foreign), s.verifier)
	wantKind(t, err, sallyport.Damaged)
}

func FuzzCheckpoint(f *testing.F) {
	s, cp := testCheckpoint(f)
	f.Add(cp)
	f.Add(Checkpoint{Origin: "a", Size: 1}.text())
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCheckpointText(text); err == nil && c.text() != text {
			t.Fatalf("%q is taken for %q", text, c.text())
		}
		// Nobody but the holder of the key gets a text past it.
		if c, err := ParseCheckpoint(text, s.verifier); err == nil && !strings.HasPrefix(cp, c.text()) {
			t.Fatalf("%q is taken for signed", text)
		}
	})
}
