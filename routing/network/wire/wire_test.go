package wire_test

import (
	"strings"
	"testing"

	"sallyport"
	"sallyport/routing/network/wire"
)

func TestToken(t *testing.T) {
	want := wire.Token{Address: "127.0.0.1:4443", Pin: strings.Repeat("ab", 32), Secret: strings.Repeat("c", 64)}
	got, err := wire.ParseToken(" " + want.String() + "\n")
	if err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for what, s := range map[string]string{
		"nothing": "", "cut": want.String()[:60], "other version": strings.Replace(want.String(), "node-1", "node-9", 1),
		"no port":   wire.Token{Address: "127.0.0.1", Pin: want.Pin, Secret: want.Secret}.String(),
		"no host":   wire.Token{Address: ":1", Pin: want.Pin, Secret: want.Secret}.String(),
		"no pin":    wire.Token{Address: want.Address, Secret: want.Secret}.String(),
		"bad pin":   wire.Token{Address: want.Address, Pin: "xyz", Secret: want.Secret}.String(),
		"no secret": wire.Token{Address: want.Address, Pin: want.Pin}.String(),
	} {
		if _, err := wire.ParseToken(s); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	var a wire.Ask
	if err := wire.Decode([]byte(` {"state":"take"} `), &a); err != nil || a.State != wire.Take {
		t.Fatal(a, err)
	}
	for _, s := range []string{"", "{", `{"state":"take","more":1}`, `{"state":"take"}{}`, `[]`, `{"state":1}`, strings.Repeat(" ", wire.MaxDocument) + "{}"} {
		if err := wire.Decode([]byte(s), &wire.Ask{}); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%.40q: %v", s, err)
		}
	}
}

func TestValid(t *testing.T) {
	for id, want := range map[string]bool{"j1-1-n2": true, "": false, "-a": false, "a.b": false, "a*": false, "a>": false, "A": false, "a/b": false, "a\n": false,
		strings.Repeat("a", 200): true, strings.Repeat("a", 201): false} {
		if wire.ValidID(id) != want {
			t.Errorf("ValidID(%q) = %v", id, !want)
		}
	}
	good := string(sallyport.DigestOf(nil))
	for d, want := range map[string]bool{good: true, strings.ToUpper(good): false, good + "0": false, good[7:]: false, "": false, "sha256:" + strings.Repeat("g", 64): false} {
		if wire.ValidDigest(sallyport.Digest(d)) != want {
			t.Errorf("ValidDigest(%q) = %v", d, !want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(wire.Token{Address: "127.0.0.1:4443", Pin: strings.Repeat("ab", 32), Secret: strings.Repeat("c", 64)}.String())
	f.Add("sallyport-node-1.e30")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := wire.ParseToken(s)
		if err != nil {
			return
		}
		if again, err := wire.ParseToken(tok.String()); err != nil || again != tok {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"a","node":"n","module":{},"walltime":1}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var j wire.Job
		if wire.Decode(b, &j) == nil {
			var again wire.Job
			if err := wire.Decode(wire.Encode(j), &again); err != nil {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}
