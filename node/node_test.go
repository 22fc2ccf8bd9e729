package node

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

func TestGPUs(t *testing.T) {
	// The form of nvidia-smi --format=csv,noheader,nounits: name, MiB.
	got := parseGPUs([]byte("NVIDIA A100-SXM4-40GB, 40960\nNVIDIA H100 80GB HBM3, 81559\nQuadro, odd, 1024\nTegra, [N/A]\n\nNo devices were found\n, 5\n"))
	want := []routing.GPU{{Model: "NVIDIA A100-SXM4-40GB", MemoryMB: 40960}, {Model: "NVIDIA H100 80GB HBM3", MemoryMB: 81559},
		{Model: "Quadro, odd", MemoryMB: 1024}, {Model: "Tegra"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestCPUAndMemory(t *testing.T) {
	for in, want := range map[string]string{
		"processor\t: 0\nvendor_id\t: X\nmodel\t\t: 1\nmodel name\t: Some CPU @ 3.00GHz\nmodel name\t: other\n": "Some CPU @ 3.00GHz",
		"processor\t: 0\nBogoMIPS\t: 50.00\n\nModel\t\t: Some Board Rev 1\n":                                    "Some Board Rev 1",
		"processor\t: 0\nBogoMIPS\t: 50.00\n":                                                                   "unknown",
		"":                                                                                                      "unknown",
	} {
		if got := cpuModel(strings.NewReader(in)); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
	for in, want := range map[string]int64{"MemTotal:       24683520 kB\nMemFree: 1 kB\n": 24105, "MemFree: 5 kB\n": 0, "MemTotal: x kB\n": 0, "MemTotal: 5\n": 0} {
		if got := memoryMB(strings.NewReader(in)); got != want {
			t.Errorf("%q: got %d", in, got)
		}
	}
}

func TestParseMoney(t *testing.T) {
	for s, want := range map[string]sallyport.Money{"0": 0, "0.25": 250_000, "1": sallyport.Unit, ".5": 500_000, "12.000001": 12_000_001} {
		if got, err := parseMoney(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "1e9", "0.0000001", "1/2", "x", ".", "1.2.3", "99999999999999999999"} {
		if got, err := parseMoney(s); sallyport.KindOf(err) != sallyport.Invalid || err == nil {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	k, err := openKeep(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openKeep(dir); sallyport.KindOf(err) != sallyport.Conflict {
		t.Fatalf("two nodes in one folder: %v", err)
	}
	want := outcome{Report: wire.Report{Exit: 1, Failure: "why", Log: "quoted a row"}, Result: true}
	if err := k.finish("j1", want); err != nil {
		t.Fatal(err)
	}
	k.close()
	if k, err = openKeep(dir); err != nil { // the same identity again
		t.Fatal(err)
	}
	defer k.close()
	if got, ok, err := k.finished("j1"); err != nil || !ok || got != want {
		t.Fatalf("%+v %v %v", got, ok, err)
	}
	if _, ok, err := k.finished("j2"); ok || err != nil {
		t.Fatal(ok, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "done", "j1.age"))
	if err != nil || bytes.Contains(b, []byte("row")) {
		t.Fatalf("the outcome lies open (%v)", err)
	}
	for _, name := range []string{"node.json", "identity.age", "done/j1.age"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		out    string
		err    string
	}{
		{"--help", 0, "Commands:", ""},
		{"run --help", 0, "Examples:", ""},
		{"hardware --help", 0, "sallyport-node hardware --json", ""},
		{"version", 0, "sallyport-node ", ""},
		{"hardware", 0, "system   ", ""},
		{"run", 2, "", "--dir"},
		{"nothing", 2, "", "nothing"},
		{"run --dir " + t.TempDir(), 1, "", "token"},
		{"run --dir " + t.TempDir() + " --price 1e9", 1, "", "price"},
	} {
		var out, errs bytes.Buffer
		if got := Main(strings.Fields(c.args), &out, &errs); got != c.status || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.err) {
			t.Errorf("%s: %d\n%s\n%s", c.args, got, &out, &errs)
		}
	}
	var out, errs bytes.Buffer
	var h routing.Hardware
	if Main([]string{"hardware", "--json"}, &out, &errs) != 0 || json.Unmarshal(out.Bytes(), &h) != nil || h.Cores < 1 || !slices.Equal(h.Runners, []string{"wasm"}) {
		t.Errorf("%s%s", &out, &errs)
	}
}

func TestRunNeedsAPlace(t *testing.T) {
	if err := Run(context.Background(), Config{Dir: t.TempDir()}); sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
		t.Error(err)
	}
	if err := Run(context.Background(), Config{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Error(err)
	}
}

func FuzzParseGPUs(f *testing.F) {
	f.Add([]byte("NVIDIA A100-SXM4-40GB, 40960\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, g := range parseGPUs(b) {
			if g.Model == "" || g.MemoryMB < 0 {
				t.Errorf("%q: %+v", b, g)
			}
		}
	})
}
