package gateway_test

import (
	"testing"
	"testing/fstest"

	"io/fs"

	"sallyport"
	"sallyport/gateway"
	"sallyport/policies"
	"sallyport/policy"
)

func TestADestroyedKeyEndsItsView(t *testing.T) {
	l := newLab(t, nil)
	if _, err := l.g.Prepare(t.Context(), ada(), "patients", nil); err != nil {
		t.Fatal(err)
	}
	keys, err := l.g.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].What != "view" || keys[0].Dataset != "patients" {
		t.Fatalf("%+v, %v", keys, err)
	}
	officer := gateway.Subject{ID: "officer"}
	if err := l.g.DestroyKey(t.Context(), officer, keys[0].ID, "test"); err != nil {
		t.Fatal(err)
	}
	if err := l.g.DestroyKey(t.Context(), officer, keys[0].ID, "test"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("destroyed twice: %v", err)
	}
	o, err := l.g.Open(t.Context(), ada(), "patients", "patients.csv")
	if err != nil {
		t.Fatalf("the view is not made anew: %v", err)
	}
	o.Close()
}

func TestTwoPeopleWherePolicyWantsThem(t *testing.T) {
	bundle := fstest.MapFS{}
	err := fs.WalkDir(policies.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(policies.FS, p)
		bundle[p] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	data := string(bundle["data.json"].Data)
	bundle["data.json"] = &fstest.MapFile{Data: []byte(replaceOnce(t, data, `"two_person": [`, `"two_person": ["key.destroy", `))}
	l := newLab(t, func(l *lab) {
		l.parts.Policy, err = policy.New(t.Context(), policy.Config{Bundle: bundle, Overlay: map[string]any{"catalog": l.parts.Catalog.Data(), "site": l.parts.Site}})
		if err != nil {
			t.Fatal(err)
		}
	})
	if _, err := l.g.Prepare(t.Context(), ada(), "patients", nil); err != nil {
		t.Fatal(err)
	}
	keys, err := l.g.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	for _, who := range []string{"first", "first"} {
		if err := l.g.DestroyKey(t.Context(), gateway.Subject{ID: who}, keys[0].ID, "test"); sallyport.KindOf(err) != sallyport.Denied {
			t.Fatalf("one person was enough: %v", err)
		}
	}
	if err := l.g.DestroyKey(t.Context(), gateway.Subject{ID: "second"}, keys[0].ID, "test"); err != nil {
		t.Fatal(err)
	}
	if l.liveKeys() != 0 {
		t.Error("the key lives on")
	}
}
