package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize/planning"
)

// TestSpool: what comes back is what went in, at every place, whether it stayed
// in memory or went to disk, where nothing of it can be read.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		big := rapid.Bool().Draw(t, "big")
		data := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data"), 1+rapid.IntRange(0, 50).Draw(t, "times"))
		if big {
			data = append(bytes.Repeat([]byte("canary of the table\n"), 4000), data...)
		}
		s := newSpool(dir)
		s.most = 20_000
		defer s.Close()
		if err := s.fill(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if (s.file != nil) != (int64(len(data)) > s.most) || s.Size() != int64(len(data)) {
			t.Fatalf("%d bytes, size %d, on disk: %v", len(data), s.Size(), s.file != nil)
		}
		for range 20 {
			off := rapid.IntRange(0, len(data)).Draw(t, "off")
			b := make([]byte, rapid.IntRange(0, 5000).Draw(t, "n"))
			n, err := s.ReadAt(b, int64(off))
			if want := min(len(b), len(data)-off); n != want || (err == io.EOF) != (n < len(b) || off == len(data)) || err != nil && err != io.EOF {
				t.Fatalf("ReadAt(%d bytes at %d of %d): %d, %v", len(b), off, len(data), n, err)
			}
			if !bytes.Equal(b[:n], data[off:off+n]) {
				t.Fatalf("other bytes at %d", off)
			}
		}
		all, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(all, data) {
			t.Fatalf("read %d of %d bytes: %v", len(all), len(data), err)
		}
		if s.file != nil {
			raw := make([]byte, len(data))
			if _, err := s.file.ReadAt(raw, 0); err != nil || bytes.Contains(raw, []byte("canary")) {
				t.Fatalf("the file holds plaintext (%v)", err)
			}
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v left, %v", left, err)
	}
	s := newSpool(dir)
	if err := s.fill(iotest.ErrReader(errors.New("cut off"))); err == nil {
		t.Error("a stream that is cut off is whole")
	}
}

// outputs makes an output in both ways: without a name where the system can,
// and under a temporary one.
var outputs = map[string]func(string) (*output, error){"unnamed": createOutput, "named": createNamed}

func TestOutput(t *testing.T) {
	for name, create := range outputs {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.csv")
			write := func(text string) *output {
				o, err := create(path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := o.WriteString(text); err != nil {
					t.Fatal(err)
				}
				return o
			}
			only := func(want string) {
				t.Helper()
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				if len(entries) == 1 && entries[0].Name() == "out.csv" {
					b, _ := os.ReadFile(path)
					got = string(b)
				}
				if len(entries) > 1 || got != want {
					t.Fatalf("%v, %q; want %q", entries, got, want)
				}
			}
			o := write("thrown away")
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal("it is seen before it is whole")
			}
			o.discard()
			only("")
			if err := write("first").commit(false); err != nil {
				t.Fatal(err)
			}
			only("first")
			if err := write("second").commit(false); sallyport.KindOf(err) != sallyport.Conflict {
				t.Fatalf("overwritten: %v", err)
			}
			only("first")
			if err := write("third").commit(true); err != nil {
				t.Fatal(err)
			}
			only("third")
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			// Two at once: one of them wins, whole.
			a, b := write("a"), write("b")
			os.Remove(path)
			var failed sync.Map
			var both sync.WaitGroup
			for _, o := range []*output{a, b} {
				both.Go(func() {
					if err := o.commit(false); err != nil {
						failed.Store(o, err)
					}
				})
			}
			both.Wait()
			n := 0
			failed.Range(func(_, err any) bool {
				n++
				if sallyport.KindOf(err.(error)) != sallyport.Conflict {
					t.Error(err)
				}
				return true
			})
			if got, _ := os.ReadFile(path); n != 1 || len(got) != 1 {
				t.Errorf("%d failed, %q", n, got)
			}
		})
	}
}

// TestSweep: what a process that died left goes, what a living one writes stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	dead, other := filepath.Join(dir, tempPrefix+"DEAD"+tempSuffix), filepath.Join(dir, "out.csv.part")
	for _, p := range []string{dead, other} {
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := createNamed(filepath.Join(dir, "out.csv"))
	if err != nil {
		t.Fatal(err)
	}
	sweepOutputs(dir)
	sweepOutputs(filepath.Join(dir, "nowhere"))
	if _, err := os.Lstat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what died is still there")
	}
	if _, err := os.Lstat(other); err != nil {
		t.Error("somebody else's file is gone")
	}
	if err := o.commit(false); err != nil {
		t.Errorf("a living one was swept: %v", err)
	}
}

// TestTableKeyDerives is RFC 5869's HKDF-SHA256 with our info, so that another
// program could derive the same: PRK = HMAC(zeros, key), OKM = HMAC(PRK, info | 1),
// computed with Python's hmac.
func TestTableKeyDerives(t *testing.T) {
	secret, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	k := &tableKey{secret}
	if got := hex.EncodeToString(k.derive("pseudonym")); got != "7b23cb8c0c619c38fb3355dbf7a55b6e68f159c29819ac981b5197b5ef8fc0f2" {
		t.Errorf("pseudonym: %s", got)
	}
	if bytes.Equal(k.derive("pseudonym"), k.derive("encrypt")) {
		t.Error("two purposes share a key")
	}
	if (*tableKey)(nil).derive("pseudonym") != nil {
		t.Error("no key derives one")
	}
}

func TestReadTableKey(t *testing.T) {
	dir := t.TempDir()
	good := strings.Repeat("0a", 32)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		ok   bool
	}{
		"good":      {good + "\n", 0o600, true},
		"read only": {good, 0o400, true},
		"group":     {good, 0o640, false},
		"short":     {good[2:], 0o600, false},
		"long":      {good + "0a", 0o600, false},
		"a table":   {strings.Repeat("canary,", 1000), 0o600, false},
		"more":      {good + "\n" + strings.Repeat(" ", 100), 0o600, false},
		"empty":     {"", 0o600, false},
	} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := readTableKey(p)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
}

func TestProgressLine(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPassProgress(io.Discard, []tableFile{{size: 30e6}, {size: 10e6}}, true, func() time.Time { return now })
	p.at(0, 30e6, 20e6)
	p.at(0, 30e6, 5e6) // read once more: nothing goes back
	if got, want := p.line(2*time.Second), "anonymizing 0/2 files, 20.0 of 40.0 MB (50 %), 10.0 MB/s, 2s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p.end(0, 30e6, "a", "done")
	p.end(1, 10e6, "b", "failed")
	if got, want := p.line(4*time.Second), "anonymizing 2/2 files, 40.0 of 40.0 MB (100 %), 10.0 MB/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p = newPassProgress(io.Discard, []tableFile{{stdin: true}}, false, func() time.Time { return now })
	p.at(0, 0, 3e6)
	if got, want := p.line(time.Second), "anonymizing, 3.0 MB, 3.0 MB/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFitPlan: names that the file brings are values where the header is missing.
func TestFitPlan(t *testing.T) {
	file := planning.File{Columns: []planning.Column{{Name: "a", Role: sallyport.Quasi}, {Name: "b", Role: sallyport.Quasi}}}
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "canary-1", "canary-2"}), 0, 5).Draw(t, "columns")
		file := file
		file.DropOthers = rapid.Bool().Draw(t, "others")
		fitted, err := fitPlan(file, columns)
		if err != nil {
			if s := fmt.Sprint(err, sallyport.HintOf(err)); strings.Contains(s, "canary") {
				t.Fatalf("the error quotes the file: %s", s)
			}
			return
		}
		if len(fitted.Columns) != len(columns) {
			t.Fatalf("%d columns of %d", len(fitted.Columns), len(columns))
		}
		for i, c := range fitted.Columns {
			if c.Name != columns[i] || strings.HasPrefix(c.Name, "canary") && !c.Drops() {
				t.Fatalf("column %d is %+v", i, c)
			}
		}
	})
}

// TestRecordUse: lines of several uses at once stay whole, after a line that a
// crash cut short too.
func TestRecordUse(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(usesOf(key), []byte(`{"time":"cut sh`), 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := recordUse(key, keyUse{Values: i, Reason: strings.Repeat("x", 5000), Tokens: digestsOf([]string{"token"})}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b, err := os.ReadFile(usesOf(key))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	seen := map[int]bool{}
	for _, l := range lines[1:] {
		var u keyUse
		if err := json.Unmarshal([]byte(l), &u); err != nil {
			t.Fatal(err)
		}
		seen[u.Values] = true
	}
	if len(lines) != 21 || len(seen) != 20 {
		t.Errorf("%d lines, %d uses", len(lines), len(seen))
	}
	if err := os.Chmod(usesOf(key), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := recordUse(key, keyUse{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("a log that others can read: %v", err)
	}
}
