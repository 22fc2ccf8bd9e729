package bench

import (
	"bytes"
	"compress/gzip"
	stdcsv "encoding/csv"
	"encoding/json"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	peer "github.com/parquet-go/parquet-go"
)

// What is measured as copying copies: every row of every format is there, before
// and after.
func TestContendersCopy(t *testing.T) {
	table := NewTable(50_000, false)
	plain, err := io.ReadAll(NewTable(50_000, false))
	if err != nil {
		t.Fatal(err)
	}
	records, err := stdcsv.NewReader(bytes.NewReader(plain)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var want []row
	for _, r := range records[1:] {
		want = append(want, rowOf(r))
	}
	kinds, err := TableOptions{}.lay(t.TempDir(), table)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]func([]byte) ([]row, error){
		"CSV": func(b []byte) ([]row, error) { return csvRows(bytes.NewReader(b)) },
		"CSV, gzip": func(b []byte) ([]row, error) {
			r, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			return csvRows(r)
		},
		"CSV, zstd": func(b []byte) ([]row, error) {
			r, err := zstd.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return csvRows(r)
		},
		"JSON Lines": func(b []byte) (all []row, err error) {
			d := json.NewDecoder(bytes.NewReader(b))
			for {
				var r row
				if err := d.Decode(&r); err == io.EOF {
					return all, nil
				} else if err != nil {
					return nil, err
				}
				all = append(all, r)
			}
		},
		"Parquet, zstd": func(b []byte) ([]row, error) { return peer.Read[row](bytes.NewReader(b), int64(len(b))) },
	}
	for _, k := range kinds {
		laid, err := os.ReadFile(k.file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(k.file)
		if err != nil {
			t.Fatal(err)
		}
		var copied bytes.Buffer
		if err := k.copy(&copied, f); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		f.Close()
		for what, b := range map[string][]byte{"laid": laid, "copied": copied.Bytes()} {
			if got, err := rows[k.name](b); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s: %d rows of %d, %v", k.name, what, len(got), len(want), err)
			}
		}
	}
}

func csvRows(src io.Reader) (all []row, err error) {
	err = eachRow(src, func(r row) error { all = append(all, r); return nil })
	return all, err
}

func TestNotesNameSomebodyInOneOfFive(t *testing.T) {
	lines, naming := notes(100_000)
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	if size < 100_000 || size > 101_000 || naming != (len(lines)+4)/5 {
		t.Errorf("%d bytes in %d lines, %d of them with identifiers", size, len(lines), naming)
	}
}
