package bench

import (
	"bufio"
	"compress/gzip"
	stdcsv "encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	peer "github.com/parquet-go/parquet-go"

	"sallyport"
)

// row of the bench's table, as the Parquet library wants it.
type row struct {
	MRN       string `parquet:"mrn,zstd" json:"mrn"`
	Encounter string `parquet:"encounter,zstd" json:"encounter"`
	Age       string `parquet:"age,zstd" json:"age"`
	Sex       string `parquet:"sex,zstd,dict" json:"sex"`
	ZIP       string `parquet:"zip,zstd" json:"zip"`
	Admitted  string `parquet:"admitted,zstd" json:"admitted"`
	Visit     string `parquet:"visit,zstd" json:"visit"`
	Diagnosis string `parquet:"diagnosis,zstd,dict" json:"diagnosis"`
	HbA1c     string `parquet:"hba1c,zstd" json:"hba1c"`
	Codes     string `parquet:"codes,zstd" json:"codes"`
}

func rowOf(r []string) row {
	return row{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9]}
}

// rowGroup is how many rows a row group of the bench's Parquet files has.
const rowGroup = 100_000

// kind is a file format with a file of the bench's table in it.
type kind struct {
	name, format, file string
	// copy reads the file and writes it again with the library that Go programs
	// would take, to dst.
	library string
	copy    func(dst io.Writer, src *os.File) error
}

// lay writes a table into folder in each format.
func (o TableOptions) lay(folder string, table *Table) ([]kind, error) {
	path := func(name string) string { return filepath.Join(folder, name) }
	plain := func(dst io.Writer, src *os.File) error { return copyCSV(dst, struct{ io.Reader }{src}) }
	kinds := []kind{
		{"CSV", "csv", path("table.csv"), "encoding/csv", plain},
		{"CSV, gzip", "csv", path("table.csv.gz"), "encoding/csv over compress/gzip, read and written", gzipped},
		{"CSV, zstd", "csv", path("table.csv.zst"), "encoding/csv over klauspost/compress, read and written", zstandard},
		{"JSON Lines", "jsonl", path("table.jsonl"), "encoding/json, decoded to maps and encoded", copyJSON},
		{"Parquet, zstd", "parquet", path("table.parquet"), "parquet-go, generic reader and writer of a struct", copyParquet},
	}
	o.say("writing a table of %.0f MB in %d formats", float64(table.Size())/MB, len(kinds))
	if err := create(kinds[0].file, func(w io.Writer) error {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{table}, make([]byte, buffer))
		return err
	}); err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name string
		fill func(io.Writer, *os.File) error
	}{
		{kinds[1].file, func(w io.Writer, src *os.File) error { return packed(gzip.NewWriter(w), src) }},
		{kinds[2].file, func(w io.Writer, src *os.File) error {
			z, err := zstd.NewWriter(w)
			if err != nil {
				return err
			}
			return packed(z, src)
		}},
		{kinds[3].file, asJSON}, {kinds[4].file, asParquet},
	} {
		if err := convert(file.name, kinds[0].file, file.fill); err != nil {
			return nil, err
		}
	}
	return kinds, nil
}

// create writes a file of the bench.
func create(name string, fill func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder with enough room by --dir.")
	}
	b := bufio.NewWriterSize(f, buffer)
	if err := errors.Join(fill(b), b.Flush(), f.Close()); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder with enough room by --dir.")
	}
	return nil
}

// convert writes the file to out of the file from.
func convert(to, from string, fill func(io.Writer, *os.File) error) error {
	f, err := os.Open(from)
	if err != nil {
		return failed(err)
	}
	defer f.Close()
	return create(to, func(w io.Writer) error { return fill(w, f) })
}

func packed(w io.WriteCloser, src *os.File) error {
	_, err := io.CopyBuffer(w, struct{ io.Reader }{src}, make([]byte, buffer))
	return errors.Join(err, w.Close())
}

func asJSON(w io.Writer, src *os.File) error {
	e := json.NewEncoder(w)
	return eachRow(src, func(r row) error { return e.Encode(r) })
}

func asParquet(w io.Writer, src *os.File) error {
	pq := peer.NewGenericWriter[row](w)
	n := 0
	if err := eachRow(src, func(r row) error {
		if _, err := pq.Write([]row{r}); err != nil {
			return err
		}
		if n++; n%rowGroup == 0 {
			return pq.Flush()
		}
		return nil
	}); err != nil {
		return err
	}
	return pq.Close()
}

func eachRow(src io.Reader, do func(row) error) error {
	r := stdcsv.NewReader(bufio.NewReaderSize(src, buffer))
	if _, err := r.Read(); err != nil {
		return err
	}
	for {
		record, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(rowOf(record)); err != nil {
			return err
		}
	}
}

func gzipped(dst io.Writer, src *os.File) error {
	r, err := gzip.NewReader(bufio.NewReaderSize(src, buffer))
	if err != nil {
		return err
	}
	w := gzip.NewWriter(dst)
	return errors.Join(copyCSV(w, r), w.Close())
}

func zstandard(dst io.Writer, src *os.File) error {
	r, err := zstd.NewReader(src)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := zstd.NewWriter(dst)
	if err != nil {
		return err
	}
	return errors.Join(copyCSV(w, r), w.Close())
}

func copyJSON(dst io.Writer, src *os.File) error {
	out := bufio.NewWriterSize(dst, buffer)
	d, e := json.NewDecoder(bufio.NewReaderSize(src, buffer)), json.NewEncoder(out)
	for {
		var v map[string]any
		if err := d.Decode(&v); err == io.EOF {
			return out.Flush()
		} else if err != nil {
			return err
		}
		if err := e.Encode(v); err != nil {
			return err
		}
	}
}

func copyParquet(dst io.Writer, src *os.File) error {
	r, w := peer.NewGenericReader[row](src), peer.NewGenericWriter[row](dst)
	defer r.Close()
	rows := make([]row, 1000)
	for total := 0; ; {
		n, err := r.Read(rows)
		if _, err := w.Write(rows[:n]); err != nil {
			return err
		}
		if total += n; total >= rowGroup {
			total = 0
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return w.Close()
		}
		if err != nil {
			return err
		}
	}
}
