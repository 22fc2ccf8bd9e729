package parquet_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	peer "github.com/parquet-go/parquet-go"
)

type secretive struct {
	Name   string   `parquet:"name,dict"`
	Free   string   `parquet:"free,plain"`
	Kept   int64    `parquet:"kept"`
	Gone   string   `parquet:"withheld,dict"`
	Nested *inner   `parquet:"nested"`
	List   []string `parquet:"list,list"`
}

type inner struct {
	Seen *string `parquet:"seen"`
	Gone *string `parquet:"covert"`
}

// Nothing of the source goes over but the values that leave.
func TestNothingElseGoesOver(t *testing.T) {
	rows := []secretive{
		{"anna", "apple", 1111111111, "WITHHELD-1", &inner{text("yes"), text("COVERT-1")}, []string{"item"}},
		{"FILTERED-NAME", "FILTERED-FREE", 7777777777, "WITHHELD-2", &inner{text("FILTERED-SEEN"), text("COVERT-2")}, []string{"FILTERED-ITEM"}},
		{"zoe", "zebra", 2222222222, "WITHHELD-3", &inner{nil, text("COVERT-3")}, nil},
	}
	data := write(t, rows, peer.KeyValueMetadata("note", "KEY-VALUE"), peer.CreatedBy("WRITER-APP", "9", "x"),
		peer.BloomFilters(peer.SplitBlockFilter(10, "name"), peer.SplitBlockFilter(10, "withheld")), peer.DataPageStatistics(true),
		peer.SortingWriterConfig(peer.SortingColumns(peer.Ascending("kept"))))
	secrets := []string{"WITHHELD", "withheld", "COVERT", "covert", "FILTERED", "KEY-VALUE", "note", "WRITER-APP", "\x71\x78\x97\xcf\x01"}
	for _, s := range secrets {
		if !bytes.Contains(data, []byte(s)) {
			t.Fatalf("the source does not hold %q", s)
		}
	}
	for name, e := range map[string]*editor{
		"types kept": {},
		"as text":    {text: map[string]bool{"name": true, "free": true, "kept": true, "nested.seen": true, "list[]": true}},
	} {
		t.Run(name, func(t *testing.T) {
			e.drop = map[string]bool{"withheld": true, "nested.covert": true}
			e.keep = func(i int) bool { return i != 1 }
			out := rewrite(t, data, e)
			for _, s := range secrets {
				if bytes.Contains(out, []byte(s)) {
					t.Errorf("the output holds %q", s)
				}
			}
			f, err := peer.OpenFile(bytes.NewReader(out), int64(len(out)))
			if err != nil {
				t.Fatal(err)
			}
			m := f.Metadata()
			if len(m.KeyValueMetadata) != 0 || m.CreatedBy != "sallyport" || len(m.RowGroups) != 1 || len(m.RowGroups[0].SortingColumns) != 0 {
				t.Errorf("metadata went over: %+v", m)
			}
			for _, c := range m.RowGroups[0].Columns {
				s := c.MetaData.Statistics
				if c.MetaData.BloomFilterOffset != 0 || c.ColumnIndexOffset != 0 || c.OffsetIndexOffset != 0 || s.MinValue != nil || s.MaxValue != nil || s.Min != nil || s.Max != nil ||
					len(c.MetaData.KeyValueMetadata) != 0 {
					t.Errorf("%v has statistics or indexes", c.MetaData.PathInSchema)
				}
			}
			// Anna's struct is there. Zoe's held only what does not leave: it
			// must not tell that it was there.
			type seen struct {
				Nested *struct {
					Seen *string `parquet:"seen"`
				} `parquet:"nested"`
			}
			got := read[seen](t, out)
			if len(got) != 2 || got[0].Nested == nil || *got[0].Nested.Seen != "yes" || got[1].Nested != nil {
				t.Errorf("structs: %+v", got)
			}
		})
	}
	// Where all of a struct leaves, what was there is there.
	back := read[secretive](t, rewrite(t, data, &editor{}))
	if !reflect.DeepEqual(back, read[secretive](t, data)) {
		t.Errorf("a copy differs: %+v", back)
	}
}

// Records that do not leave are not told by the sizes of row groups.
func TestRowGroups(t *testing.T) {
	rows := make([]two, 1000)
	for i := range rows {
		rows[i] = two{strings.Repeat("x", i%50), "y"}
	}
	data := write(t, rows, peer.MaxRowsPerRowGroup(100))
	groups := func(e *editor) (sizes []int64) {
		out := rewrite(t, data, e)
		f, err := peer.OpenFile(bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range f.RowGroups() {
			sizes = append(sizes, g.NumRows())
		}
		return sizes
	}
	if got := groups(&editor{}); len(got) != 10 || got[0] != 100 || got[9] != 100 {
		t.Errorf("row groups of %d records, want ten of 100", got)
	}
	if got := groups(&editor{keep: func(i int) bool { return i%3 == 0 }}); !reflect.DeepEqual(got, []int64{100, 100, 100, 34}) {
		t.Errorf("row groups of %d records, want full ones", got)
	}
	if got := groups(&editor{keep: func(int) bool { return false }}); len(got) != 0 {
		t.Errorf("row groups of %d records without any", got)
	}
}
