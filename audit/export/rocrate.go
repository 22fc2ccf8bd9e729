package export

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
)

// What a crate conforms to: RO-Crate 1.2, and its profile for runs of
// processes (https://w3id.org/ro/wfrun/process/0.5).
const (
	CrateVersion = "https://w3id.org/ro/crate/1.2"
	CrateProfile = "https://w3id.org/ro/wfrun/process/0.5"

	crateContext = CrateVersion + "/context"
	crateTerms   = "https://w3id.org/ro/terms/workflow-run"
)

type node map[string]any

func ref(id string) node { return node{"@id": id} }

// job is what a crate keeps of a job while records go by.
type job struct {
	id                  sallyport.JobID
	subject, project    string
	purpose, dataset    string
	algorithm           string
	module, source      sallyport.Digest
	result              sallyport.Digest
	resultName          string
	resultSize          int64
	node                string
	began, ended        time.Time
	kept, refused, over bool
	reasons             []string
	decisions           []decision
}

type decision struct {
	seq    uint64
	step   string
	answer string
	policy sallyport.Digest
	at     time.Time
}

// facts are those of a record's detail that a crate tells.
type facts struct {
	Input *struct {
		Request struct {
			Algorithm string           `json:"algorithm"`
			Module    sallyport.Digest `json:"module"`
		} `json:"request"`
	} `json:"input"`
	Report *struct {
		Source sallyport.Digest `json:"source"`
	} `json:"report"`
	Digest sallyport.Digest `json:"digest"`
	Size   int64            `json:"size"`
	Result json.RawMessage  `json:"result"`
}

// ROCrate writes the ro-crate-metadata.json of a project: jobs as CreateActions
// with who ran them (agent), by which algorithm (instrument, by its module's
// digest), on which dataset (object, by the digest of what was read) and with
// which result; and each decision as an AuthorizeAction whose instrument is the
// policy bundle by its digest. It holds no data: datasets and results are named
// by digest (ni: URIs, RFC 6920) and stay where they are. It keeps a line a job
// in memory.
func ROCrate(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	jobs := map[sallyport.JobID]*job{}
	return each(w, recs, nil, func(_ *bufio.Writer, r audit.Record) error {
		if r.Entry.Job != "" {
			j := jobs[r.Entry.Job]
			if j == nil {
				j = &job{id: r.Entry.Job}
				jobs[j.id] = j
			}
			j.add(r)
		}
		return nil
	}, func(b *bufio.Writer, s Summary) error { return crate(b, a, s, jobs) })
}

func (j *job) add(r audit.Record) {
	e := r.Entry
	set(&j.subject, e.Subject)
	set(&j.project, e.Project)
	set(&j.purpose, e.Purpose)
	set(&j.dataset, e.Dataset)
	set(&j.node, e.Node)
	if j.began.IsZero() || e.Time.Before(j.began) {
		j.began = e.Time
	}
	if e.Time.After(j.ended) {
		j.ended = e.Time
	}
	if e.Policy != "" && e.Decision != "" {
		j.decisions = append(j.decisions, decision{r.Seq, e.Step, e.Decision, e.Policy, e.Time})
	}
	if e.Decision == "deny" || e.Decision == "error" {
		j.refused, j.reasons = true, e.Reasons
	}
	step := baseStep(e.Step)
	if e.Phase == audit.Outcome && (step == "close" || step == "discard") {
		j.over = true
	}
	var f facts
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &f) != nil {
		return // a detail of another shape tells a crate nothing
	}
	if f.Input != nil {
		set(&j.algorithm, f.Input.Request.Algorithm)
		set(&j.module, f.Input.Request.Module)
	}
	if f.Report != nil {
		set(&j.source, f.Report.Source)
	}
	if step == "keep" && e.Phase == audit.Outcome && e.Decision != "deny" && e.Decision != "error" && f.Digest != "" {
		j.kept, j.result, j.resultSize = true, f.Digest, f.Size
		var at sallyport.Ref
		if json.Unmarshal(f.Result, &at) == nil {
			j.resultName = at.Key
		}
	}
	if e.Result != "" {
		j.result = e.Result
	}
}

// set keeps the first value that is there.
func set[T ~string](to *T, v T) { *to = cmp.Or(*to, v) }

func crate(b *bufio.Writer, a About, s Summary, jobs map[sallyport.JobID]*job) error {
	const gate = "#gateway"
	title := "Jobs of the audit log of " + a.Origin
	if a.Asked.Project != "" {
		title = "Project " + a.Asked.Project + " at " + a.Origin
	}
	more := map[string]node{} // contextual entities, by ID
	actions := []node{}
	for _, j := range slices.SortedFunc(maps.Values(jobs), func(x, y *job) int {
		return cmp.Or(x.began.Compare(y.began), cmp.Compare(x.id, y.id))
	}) {
		actions = append(actions, j.nodes(more, gate)...)
	}
	mentions := []node{ref("#export")}
	for _, n := range actions {
		mentions = append(mentions, ref(n["@id"].(string)))
	}
	about, err := json.Marshal(a.Asked)
	if err != nil {
		return err
	}
	by := person(more, a.By)
	parts := []node{}
	for _, id := range slices.Sorted(maps.Keys(more)) {
		if t := more[id]["@type"]; t == "File" || t == "Dataset" {
			parts = append(parts, ref(id))
		}
	}
	graph := []node{
		{"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": ref("./"), "conformsTo": ref(CrateVersion)},
		{"@id": "./", "@type": "Dataset", "name": title, "datePublished": a.At.Format(time.RFC3339), "conformsTo": ref(CrateProfile), "hasPart": parts, "mentions": mentions,
			"description": fmt.Sprintf("What the audit log of %s says of jobs: %d records, of which %d are erased and %d sealed. No data is in this crate; datasets and results are named by their SHA-256.",
				a.Origin, s.Records, s.Erased, s.Sealed),
			"license": ref("#terms")},
		{"@id": "#terms", "@type": "CreativeWork", "name": "Not licensed", "description": "This metadata names people and is for those who were given it. It grants no right to the data that it names."},
		{"@id": CrateProfile, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
		{"@id": gate, "@type": "SoftwareApplication", "name": "sallyport", "version": a.Version, "softwareVersion": a.Version},
		{"@id": "#export", "@type": "SearchAction", "name": "export of the audit log", "agent": by, "instrument": ref(gate), "query": string(about),
			"startTime": a.At.Format(time.RFC3339), "endTime": a.At.Format(time.RFC3339), "actionStatus": "http://schema.org/CompletedActionStatus",
			"object": ref("#log")},
		{"@id": "#log", "@type": "CreativeWork", "name": "audit log of " + a.Origin, "size": strconv.FormatUint(a.Size, 10) + " records",
			"description": "RFC 6962 tree with root " + a.Root + ", signed by " + a.Key, "identifier": a.Checkpoint},
	}
	graph = append(graph, actions...)
	for _, id := range slices.Sorted(maps.Keys(more)) {
		graph = append(graph, more[id])
	}
	js, err := json.MarshalIndent(node{"@context": []any{crateContext, node{"sha256": crateTerms + "#sha256"}}, "@graph": graph}, "", "  ")
	if err != nil {
		return err
	}
	b.Write(js)
	return b.WriteByte('\n')
}

// nodes are the job's action and its decisions. What they name goes to more.
func (j *job) nodes(more map[string]node, gate string) []node {
	id := "#job-" + string(j.id)
	n := node{"@id": id, "@type": "CreateAction", "name": "job " + string(j.id), "startTime": stamp(j.began), "agent": person(more, j.subject)}
	if j.algorithm != "" || j.module != "" {
		tool := "#algorithm-" + fragment(j.algorithm)
		if j.module != "" {
			tool = hashURI(j.module)
		}
		more[tool] = node{"@id": tool, "@type": "SoftwareApplication", "name": cmp.Or(j.algorithm, "module"), "version": cmp.Or(string(j.module), "unknown")}
		if j.module != "" {
			more[tool]["sha256"] = hex64(j.module)
		}
		n["instrument"] = ref(tool)
	} else {
		n["instrument"] = ref(gate)
	}
	if j.dataset != "" {
		data := "#dataset-" + fragment(j.dataset)
		d := node{"@type": "Dataset", "name": j.dataset}
		if j.source != "" {
			data = hashURI(j.source)
			d["sha256"] = hex64(j.source)
		}
		d["@id"] = data
		more[data] = d
		n["object"] = ref(data)
	}
	if j.result != "" && j.kept {
		out := hashURI(j.result)
		f := node{"@id": out, "@type": "File", "name": cmp.Or(j.resultName, "result of job "+string(j.id)), "sha256": hex64(j.result)}
		if j.resultSize > 0 {
			f["contentSize"] = strconv.FormatInt(j.resultSize, 10)
		}
		if more[out] == nil {
			more[out] = f
		}
		n["result"] = ref(out)
	}
	switch {
	case j.kept:
		n["actionStatus"], n["endTime"] = "http://schema.org/CompletedActionStatus", stamp(j.ended)
	case j.refused || j.over:
		n["actionStatus"], n["endTime"] = "http://schema.org/FailedActionStatus", stamp(j.ended)
		if len(j.reasons) > 0 {
			n["error"] = join(j.reasons)
		}
	default:
		n["actionStatus"] = "http://schema.org/ActiveActionStatus"
	}
	var about []string
	for _, v := range [][2]string{{"project", j.project}, {"purpose", j.purpose}, {"node", j.node}} {
		if v[1] != "" {
			about = append(about, v[0]+" "+v[1])
		}
	}
	if len(about) > 0 {
		n["description"] = strings.Join(about, ", ")
	}
	out := []node{n}
	for _, d := range j.decisions {
		policy := hashURI(d.policy)
		more[policy] = node{"@id": policy, "@type": "CreativeWork", "name": "policy bundle " + d.policy.Short(), "sha256": hex64(d.policy)}
		status := "http://schema.org/CompletedActionStatus"
		if d.answer != "allow" {
			status = "http://schema.org/FailedActionStatus"
		}
		out = append(out, node{"@id": "#record-" + strconv.FormatUint(d.seq, 10), "@type": "AuthorizeAction", "name": d.step + ": " + d.answer, "agent": ref(gate),
			"instrument": ref(policy), "object": ref(id), "startTime": stamp(d.at), "endTime": stamp(d.at), "actionStatus": status})
	}
	return out
}

func person(more map[string]node, who string) node {
	if who == "" {
		return ref("#gateway")
	}
	id := "#person-" + fragment(who)
	more[id] = node{"@id": id, "@type": "Person", "name": who}
	return ref(id)
}

// hex64 is a digest's hexadecimal part.
func hex64(d sallyport.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }

// fragment writes a name as part of a URI, all that is not unreserved in it
// percent-encoded (RFC 3986).
func fragment(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
