package bench_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport"
	"sallyport/bench"
)

// adultDir is where ARX's copy of the Adult table lies, outside the repository.
const adultDir = "../../shared/data/adult"

// interpreter is the one that ./check installs; "" where there is none.
func interpreter(t *testing.T) string {
	t.Helper()
	tools := os.Getenv("SALLYPORT_TOOLS")
	if tools == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		tools = filepath.Join(home, ".cache", "sallyport", "tools")
	}
	python := filepath.Join(tools, "python", "bin", "python3")
	if _, err := os.Stat(python); err != nil {
		return ""
	}
	return python
}

// absent skips a test of a part that is not here, or fails it where all must be.
func absent(t *testing.T, part string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(part + " is absent, and CI needs it")
	}
	t.Skip(part + " is absent: its rows of `bench tables` are not checked")
}

// The figures themselves are not judged: a test machine is no bench.
func TestTablesFigures(t *testing.T) {
	t.Setenv(childEnv, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := bench.TableOptions{Options: bench.Options{Size: 1, Big: 2, Runs: 1, Dir: t.TempDir(), Child: []string{self}}, Census: 150_000, Python: interpreter(t)}
	var progress bytes.Buffer
	o.Progress = &progress
	if _, err := os.Stat(adultDir); err == nil {
		o.Adult = adultDir
	}
	figures, err := bench.Tables(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	find := func(name, peer string) (found []bench.Figure) {
		for _, f := range figures {
			if strings.HasPrefix(f.Figure, name) && strings.HasPrefix(f.Peer, peer) {
				found = append(found, f)
			}
		}
		return found
	}
	for _, f := range figures {
		if f.Value <= 0 || f.Unit == "" || f.Note == "" {
			t.Errorf("%+v", f)
		}
		if f.Peer != "" && (f.PeerValue <= 0 || f.Ratio <= 0) {
			t.Errorf("a peer without its value: %+v", f)
		}
	}
	for _, format := range []string{"CSV", "CSV, gzip", "CSV, zstd", "JSON Lines", "Parquet, zstd"} {
		if n := len(find(format+", the pass", "age.Encrypt alone")); n != 2 {
			t.Errorf("%s: %d rows beside age, want one of the pass and one of the sealed pass", format, n)
		}
		if format != "CSV" && len(find("peak memory, "+format, "the same pass at")) != 1 {
			t.Errorf("%s: no peak memory", format)
		}
	}
	for _, want := range []struct{ figure, peer, target string }{
		{"CSV, the pass, sealed", "age.Encrypt alone", "target: 0.25 times"}, {"CSV, the pass, sealed", "encoding/csv", "target: 3 times"},
		{"CSV, gzip, the pass, sealed", "encoding/csv over compress/gzip", ""}, {"CSV, zstd, the pass, sealed", "encoding/csv over klauspost", ""},
		{"JSON Lines, the pass, sealed", "encoding/json", ""}, {"Parquet, zstd, the pass, sealed", "parquet-go", ""},
		{"census in memory", "", ""}, {"census at a limit of", "the same in memory", "spilled"},
		{"matcher of identifiers", "Go's regexp, 17 patterns", "target: 20 times"}, {"matcher of identifiers", "Go's regexp, the patterns as one", ""},
		{"peak memory at 2 MB, raw", "the same pass at 1 MB", "target: flat"}, {"peak memory at 2 MB, few", "the same pass at 1 MB", "target: flat"},
	} {
		if f := find(want.figure, want.peer); len(f) != 1 && want.peer != "" || len(f) == 0 || !strings.Contains(f[0].Note, want.target) {
			t.Errorf("%s beside %q: %+v", want.figure, want.peer, f)
		}
	}
	if f := find("census at a limit of", ""); len(f) == 1 && strings.Contains(f[0].Note, "; 0.0 MB spilled") {
		t.Error("a census that spills nothing was called spilling")
	}
	left, err := os.ReadDir(o.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	t.Run("python", func(t *testing.T) {
		if o.Python == "" {
			if !strings.Contains(progress.String(), "left out: pandas and Presidio") {
				t.Error("left out, and not by name")
			}
			absent(t, "the Python environment of ./check")
		}
		for peer, module := range map[string]string{"pandas in Python": "pandas", "Presidio's structured engine": "presidio_structured"} {
			t.Run(module, func(t *testing.T) {
				if f := find("CSV, the pass", peer); len(f) == 1 {
					return
				}
				if !strings.Contains(progress.String(), "left out: "+peer) {
					t.Errorf("%s is neither measured nor left out by name", peer)
				}
				absent(t, module)
			})
		}
	})
	t.Run("adult", func(t *testing.T) {
		if o.Adult == "" {
			if !strings.Contains(progress.String(), "left out: the search in the Adult table") {
				t.Error("left out, and not by name")
			}
			absent(t, "data/adult")
		}
		for limit, levels := range map[string]string{"4": "levels [1 0 1 1 3 2 2 0 1], 906 records", "0": "levels [1 2 1 1 3 2 2 1 1], 0 records"} { // ARX's answers
			name := "search in the Adult table, k=5, limit " + limit + " %"
			if f := find(name, ""); len(f) != 2 || f[0].Unit != "ms" || f[1].Unit != "of 12960" || !strings.Contains(f[1].Note, levels) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	})
}

func TestTableOptionsAreChecked(t *testing.T) {
	good := bench.TableOptions{Options: bench.Options{Size: 1, Big: 2, Runs: 1, Dir: t.TempDir(), Child: []string{"child"}}, Census: 1000}
	for name, c := range map[string]struct {
		spoil func(*bench.TableOptions)
		want  sallyport.Kind
	}{
		"no size":               {func(o *bench.TableOptions) { o.Size = 0 }, sallyport.Invalid},
		"no runs":               {func(o *bench.TableOptions) { o.Runs = 0 }, sallyport.Invalid},
		"no census":             {func(o *bench.TableOptions) { o.Census = -1 }, sallyport.Invalid},
		"no such Python":        {func(o *bench.TableOptions) { o.Python = filepath.Join(o.Dir, "python3") }, sallyport.NotFound},
		"no such Adult":         {func(o *bench.TableOptions) { o.Adult = filepath.Join(o.Dir, "adult") }, sallyport.NotFound},
		"no such folder":        {func(o *bench.TableOptions) { o.Dir = filepath.Join(o.Dir, "none") }, sallyport.Unavailable},
		"no command of a child": {func(o *bench.TableOptions) { o.Child = nil }, sallyport.Internal},
	} {
		o := good
		c.spoil(&o)
		if _, err := bench.Tables(t.Context(), o); sallyport.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
