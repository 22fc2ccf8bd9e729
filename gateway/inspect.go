package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/routing"
	"sallyport/seal"
)

// ResultFacts are what was measured on a result before anybody reads it: what
// a reviewer is shown and the record holds. There is no value of the result in
// it, nor the name of a column, which in a table without a header is one.
// The facts are hints for a person, no proof that a result is harmless.
type ResultFacts struct {
	Size     int64  `json:"size"`               // bytes
	Declared string `json:"declared,omitempty"` // media type that the algorithm is configured to give; "" unsaid
	Media    string `json:"media"`              // media type that it looks like
	// Records and Columns are those of a well-formed table with a header, or
	// the lines of JSON lines; 0 where it is neither.
	Records int64 `json:"records"`
	Columns int   `json:"columns"`
	// Malformed says why something that looks like a table is none.
	Malformed string `json:"malformed,omitempty"`
	// Released is how many records the job was given.
	Released int64 `json:"released"`
	// PerRecord says that the result has a line for every record that the job
	// was given (or one more, where there is no header): it may be one a person.
	PerRecord bool `json:"per_record"`
	// Searched says that Identifiers was looked for, which it is in text only.
	Searched bool `json:"searched"`
	// Identifiers counts lines with what looks like an identifier, by type.
	Identifiers map[string]int64 `json:"identifiers"`
	// CountColumns is how many columns have a name like "count" and hold
	// nothing but whole numbers; SmallCounts is how many of their values are
	// 1 to SmallBelow-1.
	CountColumns int   `json:"count_columns"`
	SmallCounts  int64 `json:"small_counts"`
	SmallBelow   int64 `json:"small_below"`
	// LogSize is that of what the module said, which is given out with the
	// result; LogIdentifiers is as Identifiers is for the result.
	LogSize        int64            `json:"log_size"`
	LogIdentifiers map[string]int64 `json:"log_identifiers,omitempty"`
	// Warnings say in sentences what of the above a reviewer should look at.
	Warnings []string `json:"warnings"`
}

// smallCell is the smallest count that is no small cell: the cell size
// suppression policy of the US Centers for Medicare & Medicaid Services shows
// no cell of 1 to 10. Where policy asks for larger classes, those count.
const smallCell = 11

// inspect measures the result that was accepted, and what the module said.
func (p *passage) inspect(ctx context.Context, v verified, key *seal.Key) (ResultFacts, error) {
	alg, err := p.g.algorithm(p.job.Algorithm)
	if err != nil {
		alg = Algorithm{} // it was taken out of the configuration while the job ran
	}
	f := ResultFacts{Declared: alg.Media, Released: v.Report.After.Records, SmallBelow: max(smallCell, v.Admit.Limits.MinClass)}
	open := func() (io.ReadCloser, error) { return p.g.resultReader(ctx, v.Winner.Result.Ref, key) }
	s, err := scanText(open, v.Winner.Claim)
	if err != nil {
		return f, err
	}
	f.Size, f.Media = s.n, s.media()
	if f.Media == "text/plain" || f.Media == csvMedia {
		if err := p.inspectTable(ctx, s.head, open, &f); err != nil {
			return f, err
		}
	}
	if f.Media == linesMedia {
		f.Records = s.lines
	}
	if f.Searched = s.text(); f.Searched {
		if f.Identifiers, err = identifiers(ctx, open); err != nil {
			return f, err
		}
	}
	f.PerRecord = f.Released > 1 && s.text() && slices.Contains([]int64{f.Released, f.Released + 1}, max(f.Records, s.lines))
	if v.Said != nil {
		open := func() (io.ReadCloser, error) { return p.g.resultReader(ctx, v.Said.Parcel.Ref, key) }
		log, err := scanText(open, v.Said.Digest)
		if err != nil {
			return f, err
		}
		if f.LogSize = log.n; log.text() {
			if f.LogIdentifiers, err = identifiers(ctx, open); err != nil {
				return f, err
			}
		}
	}
	f.Warnings = f.warnings()
	return f, nil
}

func (f ResultFacts) warnings() []string {
	out := []string{}
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if f.Declared != "" && f.Declared != f.Media && f.Size > 0 {
		warn("the algorithm declares %s, and this looks like %s", f.Declared, f.Media)
	}
	if f.Malformed != "" {
		warn("it is no well-formed table: %s", f.Malformed)
	}
	if f.PerRecord {
		warn("it has a line for each of the %d records that the job was given", f.Released)
	}
	if !f.Searched && f.Size > 0 {
		warn("it is not text, and was not searched for identifiers")
	}
	for _, m := range []struct {
		what string
		n    map[string]int64
	}{{"of it", f.Identifiers}, {"of the module's log", f.LogIdentifiers}} {
		for _, kind := range []string{"email", "phone", "ssn"} {
			if n := m.n[kind]; n > 0 {
				warn("%d lines %s hold what looks like %s", n, m.what, map[string]string{"email": "an e-mail address", "phone": "a phone number", "ssn": "a social security number"}[kind])
			}
		}
	}
	if f.SmallCounts > 0 {
		warn("%d counts are below %d", f.SmallCounts, f.SmallBelow)
	}
	if f.LogSize > 0 {
		warn("the module said something (%d bytes), which is given out too: read it with --log", f.LogSize)
	}
	return out
}

const (
	csvMedia   = "text/csv"
	jsonMedia  = "application/json"
	linesMedia = "application/x-ndjson"
)

// resultReader opens something that is sealed to a job's result key. Damage
// shows while it is read.
func (g *Gateway) resultReader(ctx context.Context, ref sallyport.Ref, key *seal.Key) (io.ReadCloser, error) {
	obj, err := g.parts.Hold.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	plain, err := seal.Reader(obj, key)
	if err != nil {
		obj.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{plain, obj}, nil
}

// proved is a stream that ends with an error unless all of it is what was
// promised.
type proved struct {
	io.ReadCloser
	sum  hash.Hash
	want sallyport.Digest
}

func prove(r io.ReadCloser, want sallyport.Digest) *proved { return &proved{r, sha256.New(), want} }

func (p *proved) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.sum.Write(b[:n])
	if err == io.EOF && sallyport.DigestSum(p.sum.Sum(nil)) != p.want {
		err = sallyport.Errorf("review", sallyport.Damaged, "Reject it, and look at who can write to the hold.", "what rests in the hold is not what was verified")
	}
	return n, err
}

// textScan is what one look at every byte tells.
type textScan struct {
	n       int64
	head    []byte // the first 4 KiB
	lines   int64  // that are not empty
	objects int64  // lines that begin with a brace
	rest    []byte // of a rune that the next bytes complete
	binary  bool   // holds what is no text
	begun   bool   // the line that is being read has begun
}

// scanText reads all that open opens and checks its digest.
func scanText(open func() (io.ReadCloser, error), want sallyport.Digest) (*textScan, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &textScan{}
	_, err = io.Copy(s, prove(r, want))
	return s, err
}

func (s *textScan) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	s.head = append(s.head, b[:min(len(b), 4096-len(s.head))]...)
	for _, c := range b {
		switch {
		case c == '\n':
			s.begun = false
		case !s.begun && c != ' ' && c != '\t' && c != '\r':
			s.begun = true
			s.lines++
			if c == '{' {
				s.objects++
			}
		}
		s.binary = s.binary || c < ' ' && c != '\n' && c != '\t' && c != '\r'
	}
	for t := append(s.rest, b...); ; {
		if len(t) == 0 || !utf8.FullRune(t) {
			s.rest = bytes.Clone(t)
			return len(b), nil
		}
		if c, n := utf8.DecodeRune(t); c == utf8.RuneError && n == 1 {
			s.binary = true
			s.rest = nil
			return len(b), nil
		} else {
			t = t[n:]
		}
	}
}

func (s *textScan) text() bool { return !s.binary && len(s.rest) == 0 }

func (s *textScan) media() string {
	first := strings.TrimLeft(string(s.head), " \t\r\n")
	switch {
	case s.n == 0:
		return "empty"
	case !s.text():
		if m := http.DetectContentType(s.head); !strings.HasPrefix(m, "text/") {
			return m
		}
		return "application/octet-stream"
	case s.lines > 1 && s.objects == s.lines:
		return linesMedia
	case strings.HasPrefix(first, "{"), strings.HasPrefix(first, "["):
		return jsonMedia
	}
	return "text/plain"
}

// inspectTable counts the records and columns of a table, and its small counts.
func (p *passage) inspectTable(ctx context.Context, head []byte, open func() (io.ReadCloser, error), f *ResultFacts) error {
	format, err := p.g.parts.Runner.Format("csv")
	if err != nil || !format.Sniff(head) && f.Declared != csvMedia {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	f.Media = csvMedia
	t := &tally{below: f.SmallBelow}
	src := &watched{r: r}
	switch err := format.Rewrite(ctx, io.Discard, src, t); {
	case src.err != nil:
		return src.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		f.Malformed = err.Error() // names the line, quotes nothing
		return nil
	}
	f.Records, f.Columns = t.records, t.columns
	for _, c := range t.counts {
		if !c.other && c.n > 0 {
			f.CountColumns++
			f.SmallCounts += c.small
		}
	}
	return nil
}

// tally is an Editor that counts, and lets nothing leave.
type tally struct {
	below   int64
	records int64
	columns int
	counts  []count
}

// count is a column that is named like a count.
type count struct {
	at       int
	n, small int64
	other    bool // it holds something that is no whole number
}

func (t *tally) Header(names []string) ([]string, error) {
	t.columns = len(names)
	for i, name := range names {
		if slices.Contains([]string{"n", "count", "counts", "cases", "freq", "frequency", "number", "records", "patients", "subjects", "people", "size"}, strings.ToLower(strings.TrimSpace(name))) {
			t.counts = append(t.counts, count{at: i})
		}
	}
	return names, nil
}

func (t *tally) Record(fields [][]byte) ([][]byte, error) {
	t.records++
	for i := range t.counts {
		c := &t.counts[i]
		v := bytes.TrimSpace(fields[c.at])
		if len(v) == 0 {
			continue
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			c.other = true
			continue
		}
		c.n++
		if n > 0 && n < t.below {
			c.small++
		}
	}
	return nil, nil
}

// identifiers counts the lines with what looks like an identifier, as the pass
// does for what leaves: the same detectors, over whole lines.
func identifiers(ctx context.Context, open func() (io.ReadCloser, error)) (map[string]int64, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	src := &watched{r: r}
	report, err := anonymize.NewRunner([]anonymize.Format{lines{longest}}, nil).Run(ctx, anonymize.Plan{Format: lines{}.Name(),
		Columns:     []sallyport.Column{{Name: "line", Role: sallyport.Insensitive}},
		Obligations: []sallyport.Obligation{{Column: "line"}}}, anonymize.PassEnv{}, io.Discard, src)
	if src.err != nil {
		err = src.err
	}
	return report.Residual, err
}

// lines reads any text as a table of one column. A line of more than most bytes
// is several.
type lines struct{ most int }

// longest is how long a line may be that is searched as one, in bytes.
const longest = 64 << 10

var _ anonymize.Format = lines{}

func (lines) Name() string      { return "lines" }
func (lines) Sniff([]byte) bool { return false }

func (l lines) Rewrite(ctx context.Context, _ io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	if _, err := edit.Header([]string{"line"}); err != nil {
		return err
	}
	buf, fields := make([]byte, 0, l.most), make([][]byte, 1)
	emit := func(line []byte) error {
		fields[0] = line
		_, err := edit.Record(fields)
		return err
	}
	for {
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			line, after, ok := bytes.Cut(rest, []byte{'\n'})
			if !ok {
				break
			}
			if err := emit(line); err != nil {
				return err
			}
			rest = after
		}
		end := errors.Is(err, io.EOF)
		if len(rest) > 0 && (end || len(rest) == cap(buf)) {
			if err := emit(rest); err != nil {
				return err
			}
			rest = nil
		}
		if end {
			return nil
		}
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		buf = buf[:copy(buf[:cap(buf)], rest)]
	}
}

// said is what a module said, sealed to the key of the job's results, because
// it may quote the data as the result may.
type said struct {
	Parcel sallyport.SealedRef `json:"parcel"`
	Digest sallyport.Digest    `json:"digest"` // of the text
}

// sealLog seals what the module said, where it is reviewed with the result.
func (p *passage) sealLog(ctx context.Context, r released, outcomes []routing.Outcome) (*said, error) {
	for _, oc := range outcomes {
		if oc.Log == "" {
			continue
		}
		lease, err := p.results(ctx, r)
		if err != nil {
			return nil, err
		}
		parcel, err := SealTo(ctx, p.g.parts.Hold, p.ref("log.age"), lease.Recipient, lease.Until, func(w io.Writer) error {
			_, err := io.WriteString(w, oc.Log)
			return err
		})
		return &said{Parcel: parcel, Digest: sallyport.DigestOf([]byte(oc.Log))}, err
	}
	return nil, nil
}

// watched remembers how reading failed. Formats that stream only Read.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

func (w *watched) ReadAt([]byte, int64) (int, error) {
	return 0, sallyport.Errorf("scan", sallyport.Unsupported, "", "a result can only be read as a stream")
}
