package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"sallyport"
)

// pythonScript does what the bench's plan says, as one would write it for
// pandas, and lets Presidio's structured engine do its own operators. Neither
// pays for the start of Python or for imports.
const pythonScript = `
import sys, time, json, hmac, base64
import pandas as pd
source, target, what = sys.argv[1:4]
key = b"k" * 32
def mac(v): return hmac.digest(key, v.encode(), "sha256")
def token(s):
    made = {v: base64.b32encode(mac(v)[:16]).decode().lower().rstrip("=") for v in s.unique()}
    return s.map(made)
if what == "presidio":
    from presidio_structured import StructuredEngine, StructuredAnalysis
    from presidio_anonymizer.entities import OperatorConfig
began = time.perf_counter()
d = pd.read_csv(source, dtype=str, keep_default_na=False)
if what == "pandas":
    shift = d["mrn"].map({v: int.from_bytes(mac(v)[:4], "big") % 731 - 365 for v in d["mrn"].unique()})
    d["visit"] = (pd.to_datetime(d["visit"], format="%Y-%m-%d") + pd.to_timedelta(shift, unit="D")).dt.strftime("%Y-%m-%d")
    for c in ("mrn", "encounter"): d[c] = token(d[c])
    a = d["age"].astype(int) // 10 * 10
    d["age"] = "[" + a.astype(str) + "," + (a + 10).astype(str) + ")"
    d["zip"], d["admitted"] = d["zip"].str[:2], d["admitted"].str[:4]
else:
    cut = lambda n: OperatorConfig("custom", {"lambda": lambda v: v[:n]})
    d = StructuredEngine().anonymize(d, StructuredAnalysis(entity_mapping={"mrn": "MRN", "encounter": "ENC", "age": "AGE", "zip": "ZIP", "admitted": "ADM", "visit": "VIS"}),
        operators={"MRN": OperatorConfig("hash", {"hash_type": "sha256"}), "ENC": OperatorConfig("hash", {"hash_type": "sha256"}), "AGE": cut(1), "ZIP": cut(2), "ADM": cut(4), "VIS": cut(7)})
k = int(d.groupby(["age", "sex", "zip", "admitted"]).size().min())
d.to_csv(target, index=False)
print(json.dumps({"seconds": time.perf_counter() - began, "records": len(d), "k": k}))
`

// python lets pandas and Presidio take the CSV that the pass took at speed
// ours, once each: they are slow enough for one run to be its own mean.
func (o TableOptions) python(ctx context.Context, file string, table *Table, ours Figure) ([]Figure, error) {
	if o.Python == "" {
		o.say("left out: pandas and Presidio, as no interpreter of Python was named")
		return nil, nil
	}
	var figures []Figure
	for _, peer := range []struct{ what, module, does, note string }{
		{"pandas", "pandas", "pandas in Python", "the peer takes the same treatments, HMAC from the standard library once a value, the smallest class by groupby, and writes a file; all in memory"},
		{"presidio", "presidio_structured", "Presidio's structured engine in Python", "the peer hashes what becomes a pseudonym, cuts what is generalized, and does not shift dates; read, smallest class and written by pandas; all in memory; target: 50 times at least"},
	} {
		if err := exec.CommandContext(ctx, o.Python, "-c", "import "+peer.module).Run(); err != nil {
			if ctx.Err() != nil {
				return nil, sallyport.E("bench", sallyport.Canceled, ctx.Err(), "")
			}
			o.say("left out: %s, as the interpreter that was named does not have %s", peer.does, peer.module)
			continue
		}
		o.say("run 1 of 1: %s", peer.does)
		c := exec.CommandContext(ctx, o.Python, "-c", pythonScript, file, filepath.Join(o.Dir, "python.csv"), peer.what)
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil {
			return nil, sallyport.Errorf("bench", sallyport.Unavailable, "", "%s: %w: %s", peer.module, err, strings.TrimSpace(errs.String()))
		}
		var said struct {
			Seconds float64
			Records int64
		}
		if err := json.Unmarshal(out, &said); err != nil {
			return nil, failed(err)
		}
		if said.Records != table.rows {
			return nil, sallyport.Errorf("bench", sallyport.Internal, "", "%s wrote %d of %d records", peer.module, said.Records, table.rows)
		}
		f := ours.Against(peer.does, float64(table.Size())/MB/said.Seconds)
		f.Note = fmt.Sprintf("%s; %s; the peer one run, without its start and imports", f.Note, peer.note)
		figures = append(figures, f)
	}
	return figures, nil
}
