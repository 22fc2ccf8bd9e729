package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
)

// smallSegments opens a log whose index has segments of so few records.
func smallSegments(t testing.TB, path string, rows uint64) *Log {
	t.Helper()
	cfg := testConfig(path)
	cfg.segment = rows
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// indexAll makes the segments that can be made, here and now.
func indexAll(t testing.TB, x *index) {
	t.Helper()
	for {
		more, err := x.step()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

func search(t testing.TB, l *Log, f Filter) (out []Record) {
	t.Helper()
	for r, err := range l.Records(context.Background(), f) {
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		out = append(out, r)
	}
	return out
}

// scanAll is what search must answer: the slow and obvious way.
func scanAll(t testing.TB, l *Log, f Filter) (out []Record) {
	t.Helper()
	var all []Record
	for {
		recs, err := l.Read(uint64(len(all)), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			break
		}
		all = append(all, recs...)
	}
	if f.Newest {
		slices.Reverse(all)
	}
	for _, r := range all {
		if wants(f, r) && (f.Limit == 0 || len(out) < f.Limit) {
			out = append(out, r)
		}
	}
	return out
}

// wants says what a filter means, apart from the code that is tested.
func wants(f Filter, r Record) bool {
	e := r.Entry
	if r.Seq < f.From || f.Before > 0 && r.Seq >= f.Before || f.Step != "" && e.Step != f.Step ||
		!f.Since.IsZero() && e.Time.Before(f.Since) || !f.Until.IsZero() && !e.Time.Before(f.Until) {
		return false
	}
	asked := [][2]string{{string(f.Job), string(e.Job)}, {f.Dataset, e.Dataset}, {f.Subject, e.Subject}, {f.Project, e.Project},
		{f.Node, e.Node}, {f.Decision, e.Decision}, {f.Purpose, e.Purpose}, {f.Lease, e.Lease}}
	hidden := r.Sealed || r.Erased != nil
	for _, a := range asked {
		if a[0] != "" && (hidden || a[0] != a[1]) {
			return false
		}
	}
	if f.Rule != "" && (hidden || !slices.Contains(e.Rules, f.Rule)) {
		return false
	}
	if f.Text == "" {
		return true
	}
	have := strings.Fields(strings.ToLower(strings.NewReplacer(",", " ", "-", " ", ".", " ").Replace(e.Step + " " + strings.Join(e.Reasons, " "))))
	want := strings.Fields(strings.ToLower(strings.NewReplacer(",", " ", "-", " ", ".", " ").Replace(f.Text)))
	for _, w := range want {
		if hidden || !slices.Contains(have, w) {
			return false
		}
	}
	return len(want) > 0 && !hidden
}

func wantIDs(t interface {
	Fatalf(string, ...any)
	Helper()
}, what string, have, want []Record) {
	t.Helper()
	if diff := cmp.Diff(want, have); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

var (
	someSteps   = []string{"admit", "run", "hand over", "activate policy"}
	someReasons = []string{"Small cells", "no consent, at all", "consent given", "Größe paßt", "re-identified"}
	somePeople  = []string{"ada", "grace", "emmy", ""}
)

func someEntry(t *rapid.T) Entry {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	e := Entry{
		Time: testTime.Add(time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "time")) * time.Second / 3),
		Step: pick("step", someSteps...), Phase: rapid.SampledFrom([]Phase{Intent, Outcome, Note}).Draw(t, "phase"),
		Job: sallyport.JobID(pick("job", "", "a", "b", "c")), Subject: pick("subject", somePeople...), Dataset: pick("dataset", "", "d1", "d2"),
		Project: pick("project", "", "p1", "p2"), Node: pick("node", "", "n1"), Decision: pick("decision", "", "allow", "deny"),
		Purpose: pick("purpose", "", "care"), Lease: pick("lease", "", "l1", "l2"),
		Reasons: rapid.SliceOfN(rapid.SampledFrom(someReasons), 0, 2).Draw(t, "reasons"),
		Rules:   rapid.SliceOfN(rapid.SampledFrom([]string{"r1", "r2", "r3"}), 0, 2).Draw(t, "rules"),
	}
	if len(e.Reasons) == 0 {
		e.Reasons = nil
	}
	if len(e.Rules) == 0 {
		e.Rules = nil
	}
	return e
}

func someFilter(t *rapid.T, size uint64) Filter {
	maybe := func(label string, of ...string) string {
		if rapid.IntRange(0, 4).Draw(t, "ask "+label) > 0 {
			return ""
		}
		return rapid.SampledFrom(of).Draw(t, label)
	}
	f := Filter{
		Job: sallyport.JobID(maybe("job", "a", "b", "z")), Dataset: maybe("dataset", "d1", "d2"), Subject: maybe("subject", "ada", "grace", "nobody"),
		Project: maybe("project", "p1", "p2"), Node: maybe("node", "n1"), Step: maybe("step", someSteps...), Decision: maybe("decision", "allow", "deny"),
		Rule: maybe("rule", "r1", "r3"), Purpose: maybe("purpose", "care"), Lease: maybe("lease", "l1"),
		Text:   maybe("text", "consent", "small CELLS", "größe", "hand consent", "...", "admit", "policy"),
		Newest: rapid.Bool().Draw(t, "newest"), Limit: rapid.SampledFrom([]int{0, 0, 1, 5}).Draw(t, "limit"),
	}
	at := func(label string) time.Time {
		if rapid.IntRange(0, 3).Draw(t, "ask "+label) > 0 {
			return time.Time{}
		}
		return testTime.Add(time.Duration(rapid.IntRange(-6000, 6000).Draw(t, label)) * time.Second / 3)
	}
	f.Since, f.Until = at("since"), at("until")
	if rapid.Bool().Draw(t, "from") {
		f.From = rapid.Uint64Range(0, size).Draw(t, "from at")
	}
	if rapid.Bool().Draw(t, "before") {
		f.Before = rapid.Uint64Range(0, size+2).Draw(t, "before at")
	}
	return f
}

// Whatever the entries and the question, the index answers as reading
// everything does: while it lags, with merged segments, after an erasure,
// opened anew, for a reader.
func TestSearchIsAScan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, "audit.db")
		rows := rapid.Uint64Range(1, 9).Draw(rt, "segment")
		l := smallSegments(t, path, rows)
		defer func() { l.Close() }()
		for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
			for _, e := range rapid.SliceOfN(rapid.Custom(someEntry), 0, 60).Draw(rt, "entries") {
				appendAll(t, l, e)
			}
			switch rapid.IntRange(0, 4).Draw(rt, "then") {
			case 0:
				indexAll(t, l.index)
			case 1:
				who := rapid.SampledFrom(somePeople[:3]).Draw(rt, "erase")
				if _, err := l.Erase(context.Background(), erasureOf(who)); err != nil && sallyport.KindOf(err) != sallyport.NotFound {
					rt.Fatal(err)
				}
			case 2:
				l.Close()
				l = smallSegments(t, path, rows)
			case 3:
				if segs := *l.index.segs.Load(); len(segs) > 0 {
					l.index.bad(segs[len(segs)/2])
				}
			}
			for range 6 {
				f := someFilter(rt, l.Size())
				wantIDs(rt, fmt.Sprintf("%+v", f), search(t, l, f), scanAll(t, l, f))
			}
			have, err := l.Orphans()
			if err != nil {
				rt.Fatal(err)
			}
			_ = have // compared in TestOrphansIndexed: an erasure may take one side of an act
		}
		l.Close()
		ro, err := OpenReadOnly(path)
		if err != nil {
			rt.Fatal(err)
		}
		defer ro.Close()
		for range 6 {
			f := someFilter(rt, ro.Size())
			wantIDs(rt, fmt.Sprintf("read only %+v", f), search(t, ro, f), scanAll(t, ro, f))
		}
	})
}

// Open intents are the same with an index and without.
func TestOrphansIndexed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		l := smallSegments(t, filepath.Join(dir, "audit.db"), rapid.Uint64Range(1, 9).Draw(rt, "segment"))
		defer l.Close()
		for _, e := range rapid.SliceOfN(rapid.Custom(someEntry), 0, 120).Draw(rt, "entries") {
			appendAll(t, l, e)
		}
		indexAll(t, l.index)
		have, err := l.Orphans()
		if err != nil {
			rt.Fatal(err)
		}
		type act struct {
			job         sallyport.JobID
			step, lease string
		}
		open := map[act][]Record{}
		for _, r := range scanAll(t, l, Filter{}) {
			a := act{job: r.Entry.Job, step: r.Entry.Step}
			if a.job == "" {
				a.lease = r.Entry.Lease
			}
			switch r.Entry.Phase {
			case Intent:
				open[a] = append(open[a], r)
			case Outcome:
				delete(open, a)
			}
		}
		var want []Record
		for _, rs := range open {
			want = append(want, rs...)
		}
		slices.SortFunc(want, func(a, b Record) int { return int(a.Seq) - int(b.Seq) })
		wantIDs(rt, "orphans", have, want)
	})
}

func TestKeysetPages(t *testing.T) {
	l := smallSegments(t, newPath(t), 16)
	appendAll(t, l, people(500)...)
	indexAll(t, l.index)
	for _, newest := range []bool{false, true} {
		all := search(t, l, Filter{Subject: "grace hopper", Newest: newest})
		var paged []Record
		f := Filter{Subject: "grace hopper", Newest: newest, Limit: 7}
		for {
			page := search(t, l, f)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			if last := page[len(page)-1].Seq; newest {
				f.Before = last
			} else {
				f.From = last + 1
			}
			appendAll(t, l, Entry{Step: "run", Phase: Note}) // what comes meanwhile moves no page
		}
		wantIDs(t, "pages", paged, all)
	}
}

// A segment that was changed, cut, exchanged or taken away never makes an
// answer wrong: it is noticed, and made again.
func TestIndexMutations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	const rows = 8
	l := smallSegments(t, path, rows)
	appendAll(t, l, people(rows*(indexFan+3))...)
	indexAll(t, l.index)
	filters := []Filter{{Subject: "grace hopper"}, {Job: "job-3"}, {Dataset: "set-1", Step: "run", Newest: true}, {Text: "asked noether"},
		{Since: testTime.Add(20 * time.Second), Until: testTime.Add(40 * time.Second)}}
	var want [][]Record
	for _, f := range filters {
		want = append(want, scanAll(t, l, f))
		if len(want[len(want)-1]) == 0 {
			t.Fatal("a filter that finds nothing shows nothing")
		}
	}
	l.Close()
	folder := path + ".index"
	names, err := filepath.Glob(filepath.Join(folder, "*.seg"))
	if err != nil || len(names) != 4 { // one of 16 merged, three small ones
		t.Fatal(names, err)
	}
	whole := map[string][]byte{}
	for _, n := range names {
		if whole[n], err = os.ReadFile(n); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		t.Helper()
		left, _ := filepath.Glob(filepath.Join(folder, "*"))
		for _, n := range left {
			os.Remove(n)
		}
		for n, b := range whole {
			put(n, b)
		}
	}
	check := func(what string, l *Log) {
		t.Helper()
		for i, f := range filters {
			wantIDs(t, what, search(t, l, f), want[i])
		}
	}
	reader := func(what string) {
		t.Helper()
		l, err := OpenReadOnly(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		check(what, l)
		l.Close()
	}
	writer := func(what string) {
		t.Helper()
		l := smallSegments(t, path, rows)
		check(what, l)
		indexAll(t, l.index)
		check(what+", made again", l)
		if n, err := l.Indexed(); err != nil || n != rows*(indexFan+3) {
			t.Fatalf("%s: %d records are indexed, %v", what, n, err)
		}
		l.Close()
		reader(what + ", opened again")
		restore()
	}
	restore()
	for _, n := range names {
		step := 1 + len(whole[n])/150
		for at := 0; at < len(whole[n]); at += step {
			put(n, flip(whole[n], at))
			reader(fmt.Sprintf("flip %d", at))
		}
		for at := 0; at < len(whole[n]); at += 1 + len(whole[n])/20 {
			put(n, whole[n][:at])
			reader(fmt.Sprintf("cut at %d", at))
			put(n, flip(whole[n], at))
			writer(fmt.Sprintf("flip %d", at))
			put(n, bytes.Replace(whole[n], whole[n][at:at+1], nil, 1))
			writer("a byte less")
		}
		put(n, nil)
		writer("emptied")
		os.Remove(n)
		writer("taken away")
		for _, m := range names {
			put(n, whole[m])
			writer("exchanged")
		}
	}
	put(filepath.Join(folder, newPrefix+"1"), []byte("left over"))
	writer("a file left over")

	// An older index of the same log, and one of another log.
	l = smallSegments(t, path, rows)
	l.Close()
	other := smallSegments(t, newPath(t), rows)
	appendAll(t, other, people(rows*2)...)
	indexAll(t, other.index)
	other.Close()
	foreign, _ := filepath.Glob(filepath.Join(other.path+".index", "*.seg"))
	b, err := os.ReadFile(foreign[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		os.Remove(n)
	}
	put(filepath.Join(folder, filepath.Base(foreign[0])), b)
	writer("of another log")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	reader("no folder")
}

// While it is open, a segment that goes bad is noticed and made again.
func TestIndexGoesBad(t *testing.T) {
	path := newPath(t)
	l := smallSegments(t, path, 8)
	appendAll(t, l, people(100)...)
	indexAll(t, l.index)
	want := scanAll(t, l, Filter{Subject: "grace hopper"})
	for _, s := range *l.index.segs.Load() {
		f, err := os.OpenFile(s.path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xee}, 40), 3); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	wantIDs(t, "bad", search(t, l, Filter{Subject: "grace hopper"}), want)
	indexAll(t, l.index)
	if n, err := l.Indexed(); n != 96 || err != nil {
		t.Fatal(n, err)
	}
	wantIDs(t, "again", search(t, l, Filter{Subject: "grace hopper"}), want)
}

// The index names nobody, and after an erasure has no row of the erased.
func TestIndexForgets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	l := smallSegments(t, path, 16)
	appendAll(t, l, people(400)...)
	indexAll(t, l.index)
	x := l.index
	who := x.term(fieldSubject, "ada lovelace")
	word := x.term(fieldWord, "lovelace")
	has := func() (n int) {
		for _, s := range *x.segs.Load() {
			for _, t1 := range []term{who, word} {
				seqs, err := s.find(t1)
				if err != nil {
					t.Fatal(err)
				}
				n += len(seqs)
			}
		}
		return n
	}
	if has() == 0 {
		t.Fatal("nothing was indexed")
	}
	if _, err := l.Erase(t.Context(), erasureOf("ada lovelace")); err != nil {
		t.Fatal(err)
	}
	indexAll(t, x)
	if n := has(); n != 0 {
		t.Fatalf("%d rows of the erased", n)
	}
	l.Close()
	all := folderBytes(t, dir)
	for _, t1 := range []term{who, word} {
		if bytes.Contains(all, t1[:]) {
			t.Fatal("a term of the erased is in a file")
		}
	}
	for _, s := range []string{"lovelace", "grace hopper", "project-1"} {
		if bytes.Contains(all, []byte(s)) {
			t.Fatalf("%q is in a file", s)
		}
	}
	if bytes.Contains(all, x.key) {
		t.Fatal("the index key is in a file")
	}
}

// An index that still knows what was erased, as a crash between the erasure and
// the index leaves it, is cleaned when the log is opened.
func TestIndexForgetsLater(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	l := smallSegments(t, path, 16)
	appendAll(t, l, people(200)...)
	indexAll(t, l.index)
	old := copyFolder(t, path+".index")
	who := l.index.term(fieldSubject, "ada lovelace")
	if _, err := l.Erase(t.Context(), erasureOf("ada lovelace")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := errors.Join(os.RemoveAll(path+".index"), os.CopyFS(path+".index", os.DirFS(old))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(folderBytes(t, dir), who[:]) {
		t.Fatal("the old index does not know")
	}
	ro, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	if recs := search(t, ro, Filter{Subject: "ada lovelace"}); len(recs) != 0 {
		t.Fatal(recs)
	}
	ro.Close()
	l = smallSegments(t, path, 16)
	l.Close()
	if bytes.Contains(folderBytes(t, dir), who[:]) {
		t.Fatal("the index still knows")
	}
}

func FuzzSegment(f *testing.F) {
	tag := []byte("key")
	w, err := newSegmentWriter(f.TempDir(), tag, segmentInfo{from: 0, to: 3, times: []int64{1, 2}})
	if err != nil {
		f.Fatal(err)
	}
	w.add(term{1}, []uint64{0, 2})
	s, err := w.close()
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	path := filepath.Join(f.TempDir(), segmentName(0, 3))
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSegment(path, tag)
		if err != nil {
			if !errors.Is(err, errSegment) {
				t.Fatal(err)
			}
			return
		}
		defer s.file.Close()
		if seqs, err := s.find(term{1}); err == nil && !slices.Equal(seqs, []uint64{0, 2}) {
			t.Fatalf("found %v in a segment that nobody signed", seqs)
		}
	})
}
