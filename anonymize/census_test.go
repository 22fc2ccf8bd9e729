package anonymize

import (
	"hash/maphash"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The census and a map of strings count alike, also where values run into each
// other ("ab","c" and "a","bc").
func TestCensusCountsAsAMapDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &hand{e: &editor{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}}
		places := []int{2, 0}
		c := newCensus(&budget{left: 1 << 30})
		model := map[[2]string]int64{}
		records := rapid.SliceOf(rapid.SliceOfN(rapid.StringMatching(`[ab,]{0,3}`), 3, 3)).Draw(t, "records")
		for _, record := range records {
			fields := [][]byte{[]byte(record[0]), []byte(record[1]), []byte(record[2])}
			if !c.add(h.class(fields, places)) {
				t.Fatal("no room")
			}
			model[[2]string{record[2], record[0]}]++
		}
		var unique, smallest int64
		for _, n := range model {
			if n == 1 {
				unique++
			}
			if smallest == 0 || n < smallest {
				smallest = n
			}
		}
		r := c.risk(int64(len(records)), nil)
		if r.Classes != int64(len(model)) || r.SmallestClass != smallest || r.Records != int64(len(records)) || !r.Exact {
			t.Fatalf("%+v, want %d classes, smallest %d", r, len(model), smallest)
		}
		if len(records) > 0 && r.Unique != float64(unique)/float64(len(records)) {
			t.Fatalf("unique share %v, want %d of %d", r.Unique, unique, len(records))
		}
	})
}

func TestCensusGrows(t *testing.T) {
	b := &budget{left: 64 << 20}
	c := newCensus(b)
	h := func(i int) class { return class{uint64(i) * 0x9e3779b97f4a7c15, uint64(i) * 0xd1342543de82ef95} }
	for range 2 {
		for i := range 200_000 {
			if !c.add(h(i)) {
				t.Fatal("no room")
			}
		}
	}
	if r := c.measure(); r.Classes != 200_000 || r.SmallestClass != 2 || r.Records != 400_000 {
		t.Errorf("%+v", r)
	}
	c.stop()
	if b.left != 64<<20 {
		t.Errorf("%d bytes are not given back", 64<<20-b.left)
	}
}

func TestResidual(t *testing.T) {
	for value, want := range map[string]string{
		"ann@example.org":                     "email",
		"write to a.b+c@sub.example.co today": "email",
		"ends with x@example.org.":            "email",
		"@example.org":                        "", "user@host": "", "a @ b.org": "", "1@2.3": "",
		"555-234-5678": "phone", "(555) 234-5678": "phone", "+49 30 1234567": "phone", "call 030/12345678 now": "phone",
		"01 23 45 67 89": "phone", "+15552345678": "phone", "1-555-234-5678": "phone", "079 123 45 67": "phone",
		"123-45-6789": "ssn", "ssn 219-09-9999.": "ssn", "000-12-3456": "", "666-12-3456": "", "912-34-5678": "",
		"2021-03-04": "", "2021-03-04 10:20:30": "", "2021-03-04T10:20:30.123456": "", "04.03.2021 10:20": "", "01/02/2021 10": "",
		"1234567890": "", "12345678901234": "", "3.14159265358979": "", "0.123456789012": "", "-12345.678901": "", "1e-1234567890": "",
		"[30,40)": "", "192.168.100.200": "ip", "10.0.0.1": "", "A123-456-7890": "", "*": "", "": "", "12 345 678": "",
		"0123456789012345678901234567890": "", "stable after day 39": "", "99999999999999999999-9": "",
		"Dr. Meier: born 1984-03-12, IBAN DE89 3704 0044 0532 0130 00": "date iban name",
		"a@example.org or b@example.org from 192.168.100.200":          "email ip",
	} {
		var r residual
		r.look([]byte(value))
		got := make([]string, 0, 1)
		for name := range r.counts() {
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%q: saw %q, want %q", value, got, want)
		}
	}
}
