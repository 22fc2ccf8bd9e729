package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"filippo.io/age"
)

// The valid strings of BIP 173, those whose payload is whole bytes.
func TestBech32(t *testing.T) {
	for _, v := range []struct{ hrp, data, want string }{
		{"a", "", "a12uel5l"},
		{"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio", "", "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs"},
		{"abcdef", "00443214c74254b635cf84653a56d7c675be77df", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"},
		{"split", "c5f38b70305f519bf66d85fb6cf03058f3dde463ecd7918f2dc743918f2d", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"},
	} {
		data, err := hex.DecodeString(v.data)
		if err != nil {
			t.Fatal(err)
		}
		if got := bech32(v.hrp, data); got != v.want {
			t.Errorf("%s: %s, want %s", v.hrp, got, v.want)
		}
	}
}

func TestFromSeed(t *testing.T) {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(i)
	}
	k, err := FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	// age itself reads it back to the same identity.
	id, err := age.ParseHybridIdentity(k.secret())
	if err != nil || id.Recipient().String() != k.Recipient() || !strings.HasPrefix(k.Recipient(), "age1pq1") {
		t.Fatalf("recipient %.20s…, %v", k.Recipient(), err)
	}
	again, err := FromSeed(seed)
	if err != nil || again.Recipient() != k.Recipient() {
		t.Fatal("one seed, two identities", err)
	}
	seed[31]++
	other, err := FromSeed(seed)
	if err != nil || other.Recipient() == k.Recipient() {
		t.Fatal("two seeds, one identity", err)
	}
	// Pinned with age v1.3.2: a change would close every parcel sealed before.
	sum := sha256.Sum256([]byte(k.Recipient()))
	if got := hex.EncodeToString(sum[:8]); got != "e1704ce7caadaa4e" {
		t.Fatalf("the identity of a seed has changed: %s", got)
	}
}

func FuzzBech32(f *testing.F) {
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seed := sha256.Sum256(b)
		k, err := FromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		if k2, err := FromSeed(seed); err != nil || k2.Recipient() != k.Recipient() {
			t.Fatal("not stable")
		}
	})
}
