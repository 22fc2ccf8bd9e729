package strict

import (
	"strings"
	"testing"
)

type config struct {
	Site   string `yaml:"site"`
	Issuer struct {
		Kind string `yaml:"kind"`
	} `yaml:"issuer"`
	Backends []map[string]any `yaml:"backends"`
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"unknown key", "site: a\nissur:\n  kind: x\n", `c.yaml:2: unknown field "issur"`},
		{"unknown key below", "site: a\nissuer:\n  kind: x\n  dirr: y\n", `c.yaml:4: unknown field "dirr"`},
		{"repeated key", "site: a\nsite: b\n", "c.yaml:2: "},
		{"wrong type", "site: [a]\n", "c.yaml:1: "},
		{"not yaml", "site: \"a\n", "c.yaml:1: "},
		{"two documents", "site: a\n---\nsite: b\n", "2 YAML documents"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c config
			d, err := Parse("c.yaml", []byte(tt.src))
			if err == nil {
				err = d.Decode(&c)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestErrorfPointsAtTheValueOrItsParent(t *testing.T) {
	d, err := Parse("c.yaml", []byte("site: a\nissuer:\n  kind: x\nbackends:\n  - kind: local\n  - kind: nope\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"$.issuer.kind":      "c.yaml:3: bad",
		"$.issuer.dir":       "c.yaml:3: bad",
		"$.backends[1].kind": "c.yaml:6: bad",
		"$.nothing":          "c.yaml: bad",
	} {
		if got := d.Errorf(path, "bad").Error(); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestSectionIsStrictAndMayBeAbsent(t *testing.T) {
	d, err := Parse("c.yaml", []byte("issuer:\n  kind: x\n  nope: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Kind string `yaml:"kind"`
	}
	if err := d.Section("$.issuer")(&s); err == nil || !strings.Contains(err.Error(), "c.yaml:3") {
		t.Errorf("got %v, want an error at line 3", err)
	}
	if err := d.Section("$.store")(&s); err != nil {
		t.Errorf("absent section: %v", err)
	}
}

func TestSectionWithout(t *testing.T) {
	d, err := Parse("c.yaml", []byte("issuer:\n  kind: x\n  dir: y\nbackends:\n  - kind: local\n    slots: 2\n    nope: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Dir string `yaml:"dir"`
	}
	if err := d.Section("$.issuer", "kind")(&s); err != nil || s.Dir != "y" {
		t.Errorf("got %+v, %v", s, err)
	}
	var b struct {
		Slots int `yaml:"slots"`
	}
	if err := d.Section("$.backends[0]", "kind")(&b); err == nil || !strings.Contains(err.Error(), `c.yaml:7: unknown field "nope"`) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("site: a\nissuer: {kind: x}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		var c config
		if d, err := Parse("c.yaml", src); err == nil {
			_ = d.Decode(&c)
			_ = d.Errorf("$.issuer.kind", "x")
		}
	})
}
