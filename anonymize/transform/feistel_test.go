package transform

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The nine samples that NIST publishes for FF1: csrc.nist.gov, Cryptographic
// Standards and Guidelines, examples, FF1samples.pdf. They are tried with
// numbers of 64 bits and with those of any size.
func TestFF1Samples(t *testing.T) {
	const (
		key128 = "2B7E151628AED2A6ABF7158809CF4F3C"
		key192 = key128 + "EF4359D8D580AA4F"
		key256 = key192 + "7F036D6F04FC6A94"
		tweak  = "39383736353433323130"
		other  = "3737373770717273373737"
	)
	for i, c := range []struct {
		key, tweak string
		alphabet   string
		plain      string
		want       string
	}{
		{key128, "", "digits", "0123456789", "2433477484"},
		{key128, tweak, "digits", "0123456789", "6124200773"},
		{key128, other, "lower_alnum", "0123456789abcdefghi", "a9tv40mll9kdu509eum"},
		{key192, "", "digits", "0123456789", "2830668132"},
		{key192, tweak, "digits", "0123456789", "2496655549"},
		{key192, other, "lower_alnum", "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"},
		{key256, "", "digits", "0123456789", "6657667009"},
		{key256, tweak, "digits", "0123456789", "1001623463"},
		{key256, other, "lower_alnum", "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"},
	} {
		key, err1 := hex.DecodeString(c.key)
		tw, err2 := hex.DecodeString(c.tweak)
		block, err3 := aes.NewCipher(key)
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		alphabet := alphabets()[c.alphabet]
		text := func(digits []byte) string {
			var b strings.Builder
			for _, d := range digits {
				b.WriteByte(alphabet[d])
			}
			return b.String()
		}
		for _, small := range []bool{true, false} {
			f := newFeistel(block, len(alphabet), tw)
			var digits []byte
			for _, r := range []byte(c.plain) {
				digits = append(digits, byte(strings.IndexByte(alphabet, r)))
			}
			if s := f.shape(len(digits)); !small {
				s.mu, s.mv = 0, 0
			} else if s.mv == 0 {
				t.Fatalf("sample %d does not fit 64 bits", i+1)
			}
			f.encrypt(digits)
			if got := text(digits); got != c.want {
				t.Errorf("sample %d, small %v: got %s, want %s", i+1, small, got, c.want)
			}
			f.decrypt(digits)
			if got := text(digits); got != c.plain {
				t.Errorf("sample %d, small %v: back to %s, want %s", i+1, small, got, c.plain)
			}
		}
	}
}

// Both arithmetics agree, at every length and radix, and decryption undoes
// encryption.
func TestFF1ArithmeticsAgree(t *testing.T) {
	block, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		radix := rapid.IntRange(2, 62).Draw(t, "radix")
		digits := rapid.SliceOfN(rapid.ByteRange(0, byte(radix-1)), 2, 80).Draw(t, "digits")
		tweak := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "tweak")
		f, g := newFeistel(block, radix, tweak), newFeistel(block, radix, tweak)
		s := g.shape(len(digits))
		s.mu, s.mv = 0, 0
		x, y := slices.Clone(digits), slices.Clone(digits)
		f.encrypt(x)
		g.encrypt(y)
		if !slices.Equal(x, y) {
			t.Fatalf("%v became %v and %v", digits, x, y)
		}
		if slices.ContainsFunc(x, func(d byte) bool { return int(d) >= radix }) {
			t.Fatalf("%v is beyond radix %d", x, radix)
		}
		f.decrypt(x)
		g.decrypt(y)
		if !slices.Equal(x, digits) || !slices.Equal(y, digits) {
			t.Fatalf("%v came back as %v and %v", digits, x, y)
		}
	})
}

// On a whole domain FF1 is a permutation: nothing is lost, nothing collides.
func TestFF1Permutes(t *testing.T) {
	block, err := aes.NewCipher(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	f := newFeistel(block, 10, []byte("t"))
	seen := make([]bool, 10000)
	for n := range uint64(len(seen)) {
		digits := make([]byte, 4)
		f.write(digits, n)
		f.encrypt(digits)
		if m := f.number(digits); seen[m] {
			t.Fatalf("two values became %d", m)
		} else {
			seen[m] = true
		}
	}
}

func TestShortest(t *testing.T) {
	for name, alphabet := range alphabets() {
		n := int64(shortest(len(alphabet)))
		power := func(n int64) int64 {
			return new(big.Int).Exp(big.NewInt(int64(len(alphabet))), big.NewInt(n), nil).Int64()
		}
		if power(n) < leastDomain || power(n-1) >= leastDomain {
			t.Errorf("%s: %d characters", name, n)
		}
		if len(alphabet) > 256 || len(slices.Compact(slices.Sorted(slices.Values([]byte(alphabet))))) != len(alphabet) {
			t.Errorf("%s: %q has a character twice", name, alphabet)
		}
	}
}

// The census has 894 prefixes, and those on a list are 000 under its vintage.
func TestZIP3Tables(t *testing.T) {
	count := func(t *[1000]bool) (n int) {
		for _, leaves := range t {
			if leaves {
				n++
			}
		}
		return n
	}
	if n := count(zip3Table("")); n != 894 {
		t.Errorf("%d prefixes have inhabitants, want 894", n)
	}
	for vintage, want := range map[string]int{"2000": 17, "2010": 18, "2020": 18} {
		list := strings.Fields(smallZIP3()[vintage])
		if len(list) != want || !slices.IsSorted(list) {
			t.Errorf("%s: %v", vintage, list)
		}
		if n := count(zip3Table(smallZIP3()[vintage])); n != 894-want {
			t.Errorf("%s: %d may leave, want %d", vintage, n, 894-want)
		}
	}
}
