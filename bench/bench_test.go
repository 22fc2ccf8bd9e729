package bench_test

import (
	"bytes"
	"context"
	stdcsv "encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/bench"
)

const childEnv = "SALLYPORT_BENCH_TEST_CHILD"

// TestMain lets the test binary be the child whose memory is measured.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "1" {
		if err := bench.Child(context.Background(), os.Args[len(os.Args)-1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The figures themselves are not judged: a test machine is no bench.
func TestPassageFigures(t *testing.T) {
	t.Setenv(childEnv, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var progress bytes.Buffer
	figures, err := bench.Passage(t.Context(), bench.Options{Size: 1, Big: 2, Runs: 1, Dir: dir, Child: []string{self}, Progress: &progress})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{ // figure, up to the comma → how often
		"pass": 3, "CPU time of the pass": 2, "peak memory at 1 MB": 2, "peak memory at 2 MB": 2,
	}
	got := map[string]int{}
	for _, f := range figures {
		name, _, _ := strings.Cut(f.Figure, ",")
		got[name]++
		if f.Value <= 0 || f.Unit == "" || f.Note == "" {
			t.Errorf("%+v", f)
		}
		if f.Peer != "" && (f.PeerValue <= 0 || f.Ratio <= 0) {
			t.Errorf("a peer without its value: %+v", f)
		}
	}
	for name, n := range want {
		if got[name] != n && !(strings.HasPrefix(name, "CPU") && got[name] == 0) {
			t.Errorf("%d figures of %q, want %d", got[name], name, n)
		}
	}
	if !strings.Contains(progress.String(), "age.Encrypt") {
		t.Errorf("progress does not name the peer: %s", progress.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFigureJSON(t *testing.T) {
	for want, f := range map[string]bench.Figure{
		`{"figure":"f","value":2,"unit":"ms"}`:                                                        bench.New("f", 2, "ms", ""),
		`{"figure":"f","value":2,"unit":"ms","peer":"p","peer_value":8,"ratio":0.25,"note":"n"}`:      bench.New("f", 2, "ms", "n").Against("p", 8),
		`{"figure":"f","value":12350,"unit":"s","peer":"p","peer_value":0.0001235,"ratio":100000000}`: bench.New("f", 12345.6, "s", "").Against("p", 0.00012346),
		`{"figure":"f","value":0,"unit":"s","peer":"p"}`:                                              bench.New("f", 0, "s", "").Against("p", 0),
		`{"figure":"f","value":-0.001,"unit":"s","peer":"p","peer_value":1,"ratio":-0.001}`:           bench.New("f", -0.001, "s", "").Against("p", 1),
	} {
		got, err := json.Marshal(f)
		if err != nil || string(got) != want {
			t.Errorf("%s, want %s (%v)", got, want, err)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, v := range map[float64][]float64{0: nil, 5: {9, 5, 1}, 3: {4, 2}, 7: {7}} {
		if got := bench.Median(v); got != want {
			t.Errorf("median of %v is %v, want %v", v, got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []bench.Options{{Size: 0, Big: 1, Runs: 1}, {Size: 1, Big: -1, Runs: 1}, {Size: 1, Big: 1}} {
		if _, err := bench.Passage(t.Context(), o); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := bench.Child(t.Context(), "{}", io.Discard); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("child without a task: %v", err)
	}
}

// TestTableReads checks with the standard library's own rules for readers that
// Read and ReadAt agree, and with encoding/csv that it is a table.
func TestTableReads(t *testing.T) {
	for _, few := range []bool{false, true} {
		table := bench.NewTable(500_000, few)
		want, err := io.ReadAll(bench.NewTable(500_000, few))
		if err != nil || int64(len(want)) != table.Size() {
			t.Fatalf("%d bytes, Size says %d: %v", len(want), table.Size(), err)
		}
		type reader struct {
			io.Reader
			io.ReaderAt
		}
		if err := iotest.TestReader(reader{table, table}, want); err != nil {
			t.Error(err)
		}
		rows, err := stdcsv.NewReader(bytes.NewReader(want)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		classes := map[string]bool{}
		for _, r := range rows[1:] {
			if len(r) != 10 {
				t.Fatalf("a row has %d columns", len(r))
			}
			classes[strings.Join(r[2:6], "|")] = true
		}
		if n := len(rows) - 1; few && len(classes) > 2880 || !few && len(classes) < n*99/100 {
			t.Errorf("few=%v: %d classes in %d rows", few, len(classes), n)
		}
	}
}

// A read must leave what lies behind the caller's slice alone, also where its
// capacity reaches further.
func TestTableStaysInBounds(t *testing.T) {
	table := bench.NewTable(5_000, false)
	want, err := io.ReadAll(io.NewSectionReader(table, 0, table.Size()))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, table.Size()).Draw(t, "off")
		n := rapid.IntRange(0, 1000).Draw(t, "n")
		buf := bytes.Repeat([]byte{0xff}, 1200)
		got, err := table.ReadAt(buf[:n], off)
		if wantN := min(n, int(table.Size()-off)); got != wantN || (err == io.EOF) != (wantN < n) {
			t.Fatalf("read %d, %v; want %d", got, err, wantN)
		}
		if !bytes.Equal(buf[:got], want[off:off+int64(got)]) {
			t.Fatal("other bytes than Read gave")
		}
		if len(bytes.TrimLeft(buf[n:], "\xff")) > 0 {
			t.Fatal("wrote behind the slice")
		}
	})
}
