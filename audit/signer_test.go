package audit

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"testing"

	"sallyport"
)

// A signing key that lives elsewhere may be out of reach for a while: nothing
// is recorded then, and the log goes on afterwards without being opened anew.
func TestASignerThatIsAway(t *testing.T) {
	key := ed25519.NewKeyFromSeed(testSeed)
	away := error(nil)
	path := filepath.Join(t.TempDir(), "audit.db")
	l, err := Open(Config{Path: path, Origin: testOrigin, Public: key.Public().(ed25519.PublicKey),
		Sign: func(msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), away }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Append(t.Context(), Entry{Step: "one", Phase: Note}); err != nil {
		t.Fatal(err)
	}
	away = errors.New("sealed")
	if _, err := l.Append(t.Context(), Entry{Step: "two", Phase: Note}); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("recorded without a signature: %v", err)
	}
	if l.Size() != 1 || l.Err() != nil {
		t.Errorf("size %d, err %v", l.Size(), l.Err())
	}
	away = nil
	if r, err := l.Append(t.Context(), Entry{Step: "three", Phase: Note}); err != nil || r.Seq != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if v, err := l.Verify(VerifyOptions{}); err != nil || !v.Whole || v.Records != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A keeper that signs with another key than it showed is refused.
func TestASignerOfAnotherKey(t *testing.T) {
	key, other := ed25519.NewKeyFromSeed(testSeed), ed25519.NewKeyFromSeed(otherSeed)
	_, err := Open(Config{Path: filepath.Join(t.TempDir(), "audit.db"), Origin: testOrigin, Public: key.Public().(ed25519.PublicKey),
		Sign: func(msg []byte) ([]byte, error) { return ed25519.Sign(other, msg), nil }})
	if err == nil {
		t.Error("a log was made with signatures that do not verify")
	}
}
