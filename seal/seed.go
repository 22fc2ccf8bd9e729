package seal

import (
	"strings"

	"filippo.io/age"

	"sallyport"
)

// FromSeed makes the hybrid identity that belongs to 32 secret bytes: the same
// seed gives the same identity for good. The bytes are the identity's own
// secret, so they must be uniformly random, used for nothing else, and wiped
// by the caller.
func FromSeed(seed [32]byte) (*Key, error) {
	// age has no constructor from bytes: an identity is its seed in Bech32,
	// upper case (its Go API, and the file format's section on identities).
	id, err := age.ParseHybridIdentity(strings.ToUpper(bech32("age-secret-key-pq-", seed[:])))
	if err != nil {
		// Not err: it might repeat what was parsed.
		return nil, sallyport.Errorf("key from seed", sallyport.Internal, "", "age refused an identity made from 32 bytes")
	}
	return &Key{hybrid: id}, nil
}

// bech32 encodes bytes with a checksum, lower case, as BIP 173 has it, without
// that document's limit to 90 characters, which age ignores too.
func bech32(hrp string, data []byte) string {
	const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	// The checksum runs over the prefix, spread into high and low bits, and
	// the payload in groups of five bits.
	check := uint32(1)
	feed := func(v byte) {
		top := check >> 25
		check = (check&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				check ^= g
			}
		}
	}
	for _, c := range []byte(hrp) {
		feed(c >> 5)
	}
	feed(0)
	for _, c := range []byte(hrp) {
		feed(c & 31)
	}
	var out strings.Builder
	out.WriteString(hrp + "1")
	put := func(v byte) {
		feed(v)
		out.WriteByte(alphabet[v])
	}
	var bits uint
	var acc uint32
	for _, b := range data {
		acc = acc<<8 | uint32(b)
		for bits += 8; bits >= 5; {
			bits -= 5
			put(byte(acc >> bits & 31))
		}
	}
	if bits > 0 {
		put(byte(acc << (5 - bits) & 31))
	}
	for range 6 {
		feed(0)
	}
	check ^= 1
	for i := range 6 {
		out.WriteByte(alphabet[check>>(5*(5-i))&31])
	}
	return out.String()
}
