package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/audit"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	testTime   = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	testPolicy = sallyport.DigestOf([]byte("rules"))
	testData   = sallyport.DigestOf([]byte("data"))
	testModule = sallyport.DigestOf([]byte("module"))
	testSource = sallyport.DigestOf([]byte("ward.csv"))
	testResult = sallyport.DigestOf([]byte("result.csv"))
)

// entries are a day of a small lab: a job that goes out, one that is refused,
// looks at data, acts of officers, and texts that try to break formats.
func entries() []audit.Entry {
	ask := fmt.Sprintf(`{"input":{"request":{"algorithm":"features","module":%q}}}`, testModule)
	j := audit.Entry{Job: "one", Subject: "ada", Credential: "unix:uid=1000", Roles: []string{"researcher"}, Project: "pilot", Purpose: "research", Dataset: "ward"}
	of := func(e audit.Entry, step string, phase audit.Phase, more ...func(*audit.Entry)) audit.Entry {
		e.Step, e.Phase = step, phase
		for _, f := range more {
			f(&e)
		}
		return e
	}
	decide := func(d string, rules ...string) func(*audit.Entry) {
		return func(e *audit.Entry) { e.Decision, e.Rules, e.Policy, e.Data = d, rules, testPolicy, testData }
	}
	detail := func(s string) func(*audit.Entry) { return func(e *audit.Entry) { e.Detail = json.RawMessage(s) } }
	reasons := func(r ...string) func(*audit.Entry) { return func(e *audit.Entry) { e.Reasons = r } }
	at := func(node, lease string) func(*audit.Entry) {
		return func(e *audit.Entry) { e.Node, e.Lease = node, lease }
	}
	two := j
	two.Job, two.Subject, two.Project = "two", "eve", "marketing"
	view := j
	view.Job, view.Objects, view.Trace = "v-1", []string{"ward.csv"}, "0af7651916cd43dd8448eb211c80319c"
	list := []audit.Entry{
		{Step: "activate policy", Phase: audit.Outcome, Subject: "operator", Decision: "allow"},
		of(j, "admit", audit.Intent),
		of(j, "admit", audit.Outcome, decide("allow", "admit.grant", "admit.purpose"), detail(ask)),
		of(j, "hold", audit.Outcome, at("", "lease1"), detail(fmt.Sprintf(`{"report":{"source":%q}}`, testSource))),
		of(j, "release", audit.Outcome, decide("allow", "release.class"), at("", "lease1")),
		of(j, "place", audit.Outcome, at("gpu-7", "")),
		of(j, "hand over", audit.Outcome, at("gpu-7", "lease1"), detail(`{"assignments":[{"task":{"side":"outside"}}]}`)),
		of(j, "run", audit.Outcome, at("gpu-7", "lease1"), func(e *audit.Entry) { e.Cost = 1_250_000 }),
		of(j, "keep", audit.Outcome, detail(fmt.Sprintf(`{"digest":%q,"result":{"store":"results","key":"one/result.csv"},"size":1007}`, testResult))),
		of(j, "close", audit.Outcome),
		of(two, "admit", audit.Outcome, decide("deny", "admit.project"), reasons("project marketing is not known here")),
		of(two, "discard", audit.Outcome),
		of(view, "look", audit.Note, decide("allow", "admit.grant")),
		of(view, "list", audit.Note, decide("allow", "admit.grant")),
		of(view, "look 2", audit.Note, decide("error"), reasons("policy took too long")),
		{Step: "identify", Phase: audit.Note, Subject: "unix:uid=1234", Dataset: "ward", Decision: "deny", Reasons: []string{"nobody has this account"}},
		{Step: "expire", Phase: audit.Outcome, Lease: "lease1"},
		{Step: "read audit log", Phase: audit.Note, Subject: "olga", Roles: []string{"officer"}, Reasons: []string{"job one"}},
		{Step: `odd "step" | = ]`, Phase: audit.Note, Subject: "=cmd|' /C calc'!A0", Project: "+1", Purpose: "-2", Dataset: "@SUM(1)", Node: "\tx",
			Reasons: []string{"a \"quoted\"\nline, with \\ and ] and = and |", "second\r\nline\x00\x1b[31m"}, Objects: []string{"'quoted"}},
		of(j, "admit", audit.Outcome, decide("allow")), // will be erased
		of(j, "admit", audit.Outcome, decide("allow")), // will be sealed
	}
	for i := range list {
		list[i].Time = testTime.Add(time.Duration(i) * time.Second)
	}
	return list
}

func records() []audit.Record {
	var out []audit.Record
	for i, e := range entries() {
		out = append(out, audit.Record{Seq: uint64(i), Entry: e, Leaf: sallyport.DigestOf(fmt.Appendf(nil, "leaf %d", i))})
	}
	n := len(out)
	bare := func(e audit.Entry) audit.Entry { return audit.Entry{Time: e.Time, Step: e.Step, Phase: e.Phase} }
	tomb := uint64(40)
	out[n-2].Entry, out[n-2].Erased = bare(out[n-2].Entry), &tomb
	out[n-1].Entry, out[n-1].Sealed = bare(out[n-1].Entry), true
	return out
}

func about() About {
	return About{Format: "test", Asked: asked(audit.Filter{Project: "pilot", Since: testTime}), At: testTime.Truncate(time.Second), By: "olga", Origin: "lab.example/sallyport",
		Size: 42, Root: "cm9vdA==", Key: "lab.example/sallyport+0a0b0c0d+AQ==", Checkpoint: "signed\n", Version: "0.1.0"}
}

func seq(recs []audit.Record) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for _, r := range recs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func exported(t testing.TB, w Writer, recs []audit.Record) (string, Summary) {
	t.Helper()
	var b bytes.Buffer
	s, err := w(&b, about(), seq(recs))
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), s
}

var writers = map[string]Writer{"records.jsonl": JSONLines, "records.csv": CSV, "records.fhir.ndjson": FHIR, "bundle.fhir.json": FHIRBundle,
	"records.ocsf.ndjson": OCSF, "ro-crate-metadata.json": ROCrate, "records.syslog": Syslog, "records.cef": CEF}

// TestGolden pins every format over one small log.
func TestGolden(t *testing.T) {
	for name, w := range writers {
		t.Run(name, func(t *testing.T) {
			got, s := exported(t, w, records())
			file := filepath.Join("testdata", "golden", name)
			if *update {
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(got), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run go test -update to accept (-want +got):\n%s", diff)
			}
			if s.Records != uint64(len(records())) || s.Erased != 1 || s.Sealed != 1 || *s.First != 0 || *s.Last != s.Records-1 {
				t.Errorf("summary: %+v", s)
			}
			again, _ := exported(t, w, records())
			if again != got {
				t.Error("two exports of the same differ")
			}
		})
	}
}

// TestEachSaysWhatWasAsked: every output names the filter, the person, the log
// and its root, also when there is nothing to export.
func TestEachSaysWhatWasAsked(t *testing.T) {
	for name, w := range writers {
		for _, recs := range [][]audit.Record{nil, records()} {
			got, _ := exported(t, w, recs)
			got = strings.ReplaceAll(got, `\=`, "=")
			for _, want := range []string{"olga", "lab.example/sallyport", "cm9vdA==", "0a0b0c0d", "2026-03-04T05:06:07"} {
				if name == "records.cef" && want == "2026-03-04T05:06:07" {
					want = "rt=1772600767000"
				}
				if !strings.Contains(got, want) {
					t.Errorf("%s of %d records does not say %q", name, len(recs), want)
				}
			}
			plain := strings.NewReplacer(`\"`, `"`, `""`, `"`, `\\`, `\`).Replace(got)
			if !strings.Contains(plain, `"project":"pilot"`) {
				t.Errorf("%s of %d records does not say what was asked for", name, len(recs))
			}
		}
	}
}

// TestErrorEndsExport: an error of the log or of the disk is not swallowed.
func TestErrorEndsExport(t *testing.T) {
	boom := sallyport.Errorf("read", sallyport.Damaged, "", "boom")
	for name, w := range writers {
		_, err := w(io.Discard, about(), func(yield func(audit.Record, error) bool) {
			_ = yield(records()[0], nil) && yield(audit.Record{}, boom)
		})
		if !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w(fullDisk{}, about(), seq(records())); sallyport.KindOf(err) != sallyport.Unavailable {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestKinds(t *testing.T) {
	want := []act{changed, other, decided, other, decided, other, disclosed, other, written, destroyed, decided, destroyed, read, listed, decided, identified, destroyed, logRead, other, other, other}
	for i, r := range records() {
		if got := kindOf(r); got != want[i] {
			t.Errorf("%d %s: %d, want %d", i, r.Entry.Step, got, want[i])
		}
	}
	local := records()[6]
	local.Entry.Destination = sallyport.Local
	if kindOf(local) == disclosed {
		t.Error("a hand-over inside the lab is a disclosure")
	}
}
