package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/identify"
	"sallyport/anonymize/planning"
	"sallyport/anonymize/risk"
	"sallyport/anonymize/transform"
)

// census counts records that are nearly all in classes of their own, in memory
// and with most of them spilled.
func (o TableOptions) census(ctx context.Context) ([]Figure, error) {
	count := func(memory int64) func() error {
		return func() error {
			c := risk.NewCensus(risk.Options{Memory: risk.NewMemory(memory), Dir: o.Dir})
			defer c.Close()
			batch := make([]risk.Key, 0, 512)
			for i := range o.Census {
				x := mix(uint64(i) % uint64(max(1, o.Census*7/8)))
				if batch = append(batch, risk.KeyOf(x, mix(x+1))); len(batch) == cap(batch) || i == o.Census-1 {
					if err := c.AddBatch(batch, nil); err != nil {
						return err
					}
					batch = batch[:0]
				}
			}
			sizes, err := c.Sizes(ctx)
			if err != nil {
				return err
			}
			var records int64
			for _, s := range sizes {
				records += s.Records * s.Classes
			}
			if records != o.Census {
				return sallyport.Errorf("bench", sallyport.Internal, "", "the census counted %d of %d records", records, o.Census)
			}
			return nil
		}
	}
	whole := 64 * o.Census // more than it takes
	spilled := max(8<<20, 4*o.Census)
	in, err := o.rate(ctx, "census in memory", float64(o.Census)/1e6, count(whole))
	if err != nil {
		return nil, err
	}
	out, err := o.rate(ctx, "census, spilling", float64(o.Census)/1e6, count(spilled))
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; %s; %d records, seven in eight in a class of their own, counted exactly and read out by size", Machine(), Times(o.Runs), o.Census)
	return []Figure{New("census in memory", in, "million records/s", note),
		New(fmt.Sprintf("census in %d MiB, the rest in sealed runs", spilled>>20), out, "million records/s", note).Against("the same in memory", in)}, nil
}

// search plans the Adult table for k=5 with four percent suppressed.
func (o TableOptions) search(ctx context.Context) ([]Figure, error) {
	if o.Adult == "" {
		o.say("left out: the search of the Adult table, which --adult names")
		return nil, nil
	}
	var r *planning.Result
	perSecond, err := o.rate(ctx, "search for a plan of Adult", 1, func() error {
		f, err := os.Open(filepath.Join(o.Adult, "adult.csv"))
		if err != nil {
			return sallyport.E("bench", sallyport.NotFound, err, "Name the folder of adult.csv and its hierarchies with --adult.")
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return failed(err)
		}
		quasi := []string{"sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation", "salary-class"}
		var names []string
		for _, q := range quasi {
			names = append(names, "adult_hierarchy_"+q+".csv")
		}
		r, err = planning.Make(ctx, csv.New(), io.NewSectionReader(f, 0, st.Size()), planning.Options{Target: planning.Target{K: 5, Limit: 0.04}, Quasi: quasi,
			Hierarchies: names, Hierarchy: func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(o.Adult, name)) }, Now: time.Now,
			Transforms: []anonymize.Transform{transform.Hierarchy{}, transform.Generalize{}, transform.Prefix{}, transform.Date{}, transform.Drop{}, transform.Pseudonym{}}})
		return err
	})
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; %s; 9 quasi-identifiers, k=5, up to 4 %% kept back; from the file to the plan, table scanned and read", Machine(), Times(o.Runs))
	return []Figure{New("plan of the Adult table", 1000/perSecond, "ms", note),
		New("treatments tried for it", float64(r.Checks), fmt.Sprintf("of %d", r.Nodes), "exact: the others are known to be worse, or not to do")}, nil
}

// identifiers are regular expressions for some of what the matcher looks for.
var identifiers = []string{
	`[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`,
	`(?:\+\d{1,3}[ -]?)?(?:\(\d{1,4}\)[ -]?)?\d{2,5}[ /.-]\d{2,4}[ .-]?\d{2,8}`,
	`\b\d{3}-\d{2}-\d{4}\b`,
	`\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b`,
	`\b[A-Z]{2}\d{2} ?(?:[A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}\b`,
	`\b(?:\d{4}[ -]?){3}\d{1,7}\b`,
	`\b(?:\d{1,3}\.){3}\d{1,3}\b`,
	`\b(?:https?|ftp|s3)://[^\s"<>]+|\bwww\.[^\s"<>]+`,
}

// matcher looks for identifiers in made-up notes of a ward.
func (o TableOptions) matcher(ctx context.Context) ([]Figure, error) {
	r := rand.New(rand.NewPCG(3, 4))
	var texts [][]byte
	size := 0
	for i := 0; size < 4*MB; i++ {
		s := fmt.Sprintf("The patient was seen on day %d after the operation and reported mild pain; blood pressure was %d/%d, heart rate %d, and the wound had healed.",
			i, 100+r.IntN(60), 60+r.IntN(30), 50+r.IntN(60))
		if i%5 == 0 {
			s += fmt.Sprintf(" To be reached at 030/%08d or by e-mail, p%d@example.org, since 12.03.20%02d.", r.IntN(1e8), i, i%20)
		}
		texts, size = append(texts, []byte(s)), size+len(s)
	}
	found := 0
	var room []identify.Hit
	ours, err := o.rate(ctx, "matcher", float64(size)/MB, func() error {
		found = 0
		for _, t := range texts {
			room = identify.Matcher{}.Find(room[:0], t)
			found += len(room)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var patterns []*regexp.Regexp
	for _, p := range identifiers {
		patterns = append(patterns, regexp.MustCompile(p))
	}
	theirs, err := o.rate(ctx, "regular expressions", float64(size)/MB, func() error {
		for _, t := range texts {
			for _, p := range patterns {
				p.FindAllIndex(t, -1)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []Figure{New("what looks like an identifier", ours, "MB/s", fmt.Sprintf("%s; %s; %d types in made-up notes, one in five with three of them; %d found; one core",
		Machine(), Times(o.Runs), identify.Count, found)).Against(fmt.Sprintf("%d of the types with Go's regexp, one after another", len(identifiers)), theirs)}, nil
}

// pythonScript does what the bench's plan says, as one would write it for
// pandas, and lets Presidio's structured engine do its own operators.
const pythonScript = `
import sys, time, json, hmac, hashlib, base64
import pandas as pd
source, target, what = sys.argv[1:4]
key = b"k" * 32
def token(s): return s.map(lambda v: base64.b32encode(hmac.new(key, v.encode(), hashlib.sha256).digest()[:16]).decode().lower().rstrip("="))
began = time.perf_counter()
d = pd.read_csv(source, dtype=str, keep_default_na=False)
if what == "pandas":
    shift = d["mrn"].map(lambda v: 1 + hmac.new(key, v.encode(), hashlib.sha256).digest()[0])
    d["visit"] = (pd.to_datetime(d["visit"]) + pd.to_timedelta(shift, unit="D")).dt.strftime("%Y-%m-%d")
    for c in ("mrn", "encounter"): d[c] = token(d[c])
    a = d["age"].astype(int) // 10 * 10
    d["age"] = "[" + a.astype(str) + "," + (a + 10).astype(str) + ")"
    d["zip"], d["admitted"] = d["zip"].str[:2], d["admitted"].str[:4]
    k = int(d.groupby(["age", "sex", "zip", "admitted"]).size().min())
else:
    from presidio_structured import StructuredEngine, StructuredAnalysis
    from presidio_anonymizer.entities import OperatorConfig
    cut = lambda n: OperatorConfig("custom", {"lambda": lambda v: v[:n]})
    d = StructuredEngine().anonymize(d, StructuredAnalysis(entity_mapping={"mrn": "MRN", "encounter": "ENC", "age": "AGE", "zip": "ZIP", "admitted": "ADM", "visit": "VIS"}),
        operators={"MRN": OperatorConfig("hash", {"hash_type": "sha256"}), "ENC": OperatorConfig("hash", {"hash_type": "sha256"}), "AGE": cut(1), "ZIP": cut(2), "ADM": cut(4), "VIS": cut(7)})
    k = int(d.groupby(["age", "sex", "zip", "admitted"]).size().min())
d.to_csv(target, index=False)
print(json.dumps({"seconds": time.perf_counter() - began, "records": len(d), "k": k}))
`

// python lets pandas and Presidio take the CSV that the pass took at speed ours.
// Their own clock counts: starting Python does not.
func (o TableOptions) python(ctx context.Context, file string, ours Figure) ([]Figure, error) {
	if o.Python == "" {
		o.say("left out: pandas and Presidio, which --python names an interpreter for")
		return nil, nil
	}
	var figures []Figure
	for _, peer := range []struct{ what, module, does string }{
		{"pandas", "pandas", "pandas: read, the same treatments, smallest class, written; all in memory"},
		{"presidio", "presidio_structured", "Presidio's structured engine: plain SHA-256 for pseudonyms, numbers and dates cut, no date shift; read, smallest class and written by pandas"},
	} {
		if err := exec.CommandContext(ctx, o.Python, "-c", "import "+peer.module).Run(); err != nil {
			o.say("left out: %s, which that interpreter does not have", peer.module)
			continue
		}
		var mbps []float64
		for run := range o.Runs {
			o.say("run %d of %d: %s", run+1, o.Runs, peer.what)
			c := exec.CommandContext(ctx, o.Python, "-c", pythonScript, file, filepath.Join(o.Dir, "python.csv"), peer.what)
			var errs bytes.Buffer
			c.Stderr = &errs
			out, err := c.Output()
			if err != nil {
				return nil, sallyport.Errorf("bench", sallyport.Unavailable, "", "%s: %w: %s", peer.module, err, strings.TrimSpace(errs.String()))
			}
			var said struct{ Seconds float64 }
			if err := json.Unmarshal(out, &said); err != nil {
				return nil, failed(err)
			}
			mbps = append(mbps, float64(o.Size)/said.Seconds)
		}
		figures = append(figures, ours.Against(peer.does, Median(mbps)))
	}
	return figures, nil
}
