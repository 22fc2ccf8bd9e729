package export

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit"
)

// What follows states, as tables, what R4 and BALP ask of an AuditEvent.
// Sources: https://hl7.org/fhir/R4/auditevent.html (4.0.1) for elements,
// cardinalities, types and the required bindings; the definitions of IHE BALP
// 1.1.3 (https://profiles.ihe.net/ITI/BALP/) for patterns and slices.

// element is one row of a resource's table: max -1 is *.
type element struct {
	name     string
	min, max int
	kind     string
}

var r4 = map[string][]element{
	"AuditEvent": {{"resourceType", 1, 1, "code"}, {"id", 0, 1, "id"}, {"meta", 0, 1, "Meta"}, {"type", 1, 1, "Coding"}, {"subtype", 0, -1, "Coding"}, {"action", 0, 1, "action"},
		{"recorded", 1, 1, "instant"}, {"outcome", 0, 1, "outcome"}, {"outcomeDesc", 0, 1, "string"}, {"purposeOfEvent", 0, -1, "CodeableConcept"},
		{"agent", 1, -1, "agent"}, {"source", 1, 1, "source"}, {"entity", 0, -1, "entity"}},
	"agent": {{"type", 0, 1, "CodeableConcept"}, {"role", 0, -1, "CodeableConcept"}, {"who", 0, 1, "Reference"}, {"altId", 0, 1, "string"}, {"name", 0, 1, "string"},
		{"requestor", 1, 1, "boolean"}, {"location", 0, 1, "Reference"}, {"policy", 0, -1, "uri"}, {"media", 0, 1, "Coding"}, {"network", 0, 1, "network"}, {"purposeOfUse", 0, -1, "CodeableConcept"}},
	"network":         {{"extension", 0, -1, "Extension"}, {"address", 0, 1, "string"}, {"type", 0, 1, "network-type"}},
	"source":          {{"site", 0, 1, "string"}, {"observer", 1, 1, "Reference"}, {"type", 0, -1, "Coding"}},
	"entity":          {{"what", 0, 1, "Reference"}, {"type", 0, 1, "Coding"}, {"role", 0, 1, "Coding"}, {"lifecycle", 0, 1, "Coding"}, {"securityLabel", 0, -1, "Coding"}, {"name", 0, 1, "string"}, {"description", 0, 1, "string"}, {"query", 0, 1, "base64Binary"}, {"detail", 0, -1, "detail"}},
	"detail":          {{"type", 1, 1, "string"}, {"valueString", 1, 1, "string"}}, // value[x] is string or base64Binary; strings are used
	"Meta":            {{"profile", 0, -1, "uri"}},
	"Coding":          {{"system", 0, 1, "uri"}, {"code", 0, 1, "code"}, {"display", 0, 1, "string"}},
	"CodeableConcept": {{"coding", 0, -1, "Coding"}, {"text", 0, 1, "string"}},
	"Reference":       {{"extension", 0, -1, "Extension"}, {"type", 0, 1, "resource"}, {"identifier", 0, 1, "Identifier"}, {"display", 0, 1, "string"}},
	"Identifier":      {{"system", 0, 1, "uri"}, {"value", 0, 1, "string"}},
	"Extension":       {{"url", 1, 1, "uri"}, {"valueCode", 0, 1, "code"}},
}

// primitives are regular expressions of the data types page, and the codes of
// required bindings.
var primitives = map[string]string{
	"code": `[^\s]+(\s[^\s]+)*`, "id": `[A-Za-z0-9\-.]{1,64}`, "uri": `\S+`, "string": `(?s)\s*\S.*`,
	"instant": `\d{4}-(0[1-9]|1[0-2])-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`,
	"action":  `[CRUDE]`, "outcome": `0|4|8|12`, "network-type": `[1-5]`, "resource": `Device|Organization|Patient|Consent`, "base64Binary": `[A-Za-z0-9+/]+={0,2}`,
}

// codes are those that are used of each system, as the system defines them.
var codes = map[string]map[string]string{
	sysDICOM: {"110100": "Application Activity", "110101": "Audit Log Used", "110106": "Export", "110113": "Security Alert", "110114": "User Authentication",
		"110122": "Login", "110150": "Application", "110152": "Destination Role ID", "110153": "Source Role ID"},
	sysType:      {"rest": "Restful Operation"},
	sysRest:      {"read": "read", "search": "search"},
	sysAuthZ:     {"AuthZ-Consent": "Authorization Decision using Roles and Consent"},
	sysLifecycle: {"disclose": "Disclose Record Lifecycle Event"},
	sysPart:      {"IRCP": "information recipient"},
	sysRole:      {"PROV": "healthcare provider"},
	sysExtraRole: {"authserver": "authorization server"},
	sysSource:    {"4": "Application Server"},
	sysEntity:    {"1": "Person", "2": "System Object", "4": "Other"},
	sysObject:    {"1": "Patient", "4": "Domain Resource", "13": "Security Resource", "20": "Job", "24": "Query"},
	sysResource:  {"Consent": "Consent"},
	sysPurpose:   {"HRESCH": "healthcare research", "TREAT": "treatment", "HOPERAT": "healthcare operations", "PUBHLTH": "public health", "HPAYMT": "healthcare payment"},
}

// conforms holds a value against the table of its type, deeply.
func conforms(kind string, v any, at string) (out []string) {
	bad := func(format string, args ...any) { out = append(out, at+": "+fmt.Sprintf(format, args...)) }
	if p, ok := primitives[kind]; ok {
		s, isText := v.(string)
		if !isText || !regexp.MustCompile("^(?:"+p+")$").MatchString(s) || len(s) > 1<<20 {
			bad("%v is no %s", v, kind)
		}
		return out
	}
	if kind == "boolean" {
		if _, ok := v.(bool); !ok {
			bad("%v is no boolean", v)
		}
		return out
	}
	table, ok := r4[kind]
	obj, isObj := v.(map[string]any)
	if !ok || !isObj {
		bad("%v is no %s", v, kind)
		return out
	}
	if len(obj) == 0 {
		bad("an element must have a value or children (ele-1)")
	}
	left := maps.Clone(obj)
	for _, e := range table {
		x, there := obj[e.name]
		delete(left, e.name)
		list, many := x.([]any)
		switch {
		case !there && e.min > 0:
			bad("%s is missing", e.name)
		case !there:
		case many != (e.max != 1):
			bad("%s is a list, or is none", e.name)
		case many:
			if len(list) == 0 {
				bad("%s is an empty list", e.name)
			}
			for i, y := range list {
				out = append(out, conforms(e.kind, y, fmt.Sprintf("%s.%s[%d]", at, e.name, i))...)
			}
		default:
			out = append(out, conforms(e.kind, x, at+"."+e.name)...)
		}
	}
	for name := range left {
		bad("there is no element %s", name)
	}
	if kind == "Coding" {
		if system, _ := obj["system"].(string); system != "" {
			if d, ok := codes[system][fmt.Sprint(obj["code"])]; !ok || d != obj["display"] {
				bad("%v is not in %s", obj, system)
			}
		}
	}
	if kind == "entity" && obj["name"] != nil && obj["query"] != nil {
		bad("either a name or a query (sev-1)")
	}
	return out
}

// slice is a rule on the elements of a list that have a code as their type.
type slice struct {
	system, code string
	min, max     int
	must, no     []string       // elements
	is           map[string]any // fixed values, or codes as "system|code"
}

// profile is what a profile of BALP adds.
type profile struct {
	typ, action, outcome string // "": not fixed
	subtype              string // one of them
	agents, entities     []slice
	least                [2]int // of agents, of entities
	closed               bool   // no entity but those of the slices
	observer             string // code of the agent that is the source (val-audit-source)
}

var person1 = slice{sysEntity, "1", 1, 1, []string{"what", "role"}, nil, map[string]any{"role": sysObject + "|1", "what.type": "Patient"}}

var balpProfiles = map[string]profile{
	ProfileAuthZ: {typ: sysDICOM + "|110113", action: "E", subtype: sysAuthZ + "|AuthZ-Consent", least: [2]int{4, 2}, closed: true, observer: "authserver",
		agents: []slice{
			{sysDICOM, "110150", 1, 1, []string{"who", "network"}, []string{"role", "altId", "name", "location", "media", "purposeOfUse"}, nil},
			{sysPart, "IRCP", 1, 1, []string{"who"}, []string{"altId", "location", "media", "network"}, map[string]any{"requestor": true}},
			{sysRole, "PROV", 1, 1, []string{"who"}, []string{"role", "altId", "name", "location", "policy", "media", "network"}, map[string]any{"requestor": false}},
			{sysExtraRole, "authserver", 1, 1, []string{"who"}, []string{"role", "altId", "name", "location", "policy", "media", "network", "purposeOfUse"}, map[string]any{"requestor": false}},
		},
		entities: []slice{person1, {sysResource, "Consent", 1, -1, []string{"what"}, nil, nil}}},
	ProfileRead: {typ: sysType + "|rest", action: "R", outcome: "0", subtype: sysRest + "|read", least: [2]int{2, 1},
		agents: []slice{
			{sysDICOM, "110152", 1, 1, []string{"who", "network"}, []string{"media"}, nil},
			{sysDICOM, "110153", 1, 1, []string{"who", "network"}, []string{"media"}, nil},
			{sysPart, "IRCP", 0, 1, []string{"who"}, []string{"media", "network"}, map[string]any{"requestor": true}},
		},
		entities: []slice{{sysEntity, "2", 1, 1, []string{"what", "role"}, nil, map[string]any{"role": sysObject + "|4"}}}},
	ProfileQuery: {typ: sysType + "|rest", action: "E", outcome: "0", subtype: sysRest + "|search", least: [2]int{2, 1},
		agents: []slice{
			{sysDICOM, "110153", 1, 1, []string{"who", "network"}, []string{"media"}, nil},
			{sysDICOM, "110152", 1, 1, []string{"who", "network"}, []string{"media"}, nil},
			{sysPart, "IRCP", 0, 1, []string{"who"}, []string{"media", "network"}, map[string]any{"requestor": true}},
		},
		entities: []slice{{sysEntity, "2", 1, 1, []string{"query", "role"}, []string{"what", "lifecycle", "detail"}, map[string]any{"role": sysObject + "|24"}}}},
	ProfileDisclose: {typ: sysDICOM + "|110106", action: "R", subtype: sysLifecycle + "|disclose", least: [2]int{2, 2}, observer: "110153",
		agents: []slice{
			{sysDICOM, "110153", 1, 1, []string{"who", "network"}, nil, nil},
			{sysDICOM, "110152", 1, 1, []string{"who", "network"}, nil, nil},
		},
		entities: []slice{person1}},
}

// codeOf returns system|code of a Coding, or of a CodeableConcept's first.
func codeOf(v any) string {
	obj, _ := v.(map[string]any)
	if list, ok := obj["coding"].([]any); ok && len(list) > 0 {
		obj, _ = list[0].(map[string]any)
	}
	return fmt.Sprintf("%v|%v", obj["system"], obj["code"])
}

func (p profile) check(ev map[string]any) (out []string) {
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if codeOf(ev["type"]) != p.typ || ev["action"] != p.action || p.outcome != "" && ev["outcome"] != p.outcome || ev["outcome"] == nil {
		bad("type %s, action %v, outcome %v", codeOf(ev["type"]), ev["action"], ev["outcome"])
	}
	if list, _ := ev["subtype"].([]any); !slices.ContainsFunc(list, func(v any) bool { return codeOf(v) == p.subtype }) {
		bad("no subtype %s", p.subtype)
	}
	for i, part := range []struct {
		name   string
		slices []slice
	}{{"agent", p.agents}, {"entity", p.entities}} {
		list, _ := ev[part.name].([]any)
		if len(list) < p.least[i] {
			bad("%d of %s", len(list), part.name)
		}
		in := 0
		for _, s := range part.slices {
			n := 0
			for _, v := range list {
				x := v.(map[string]any)
				if codeOf(x["type"]) != s.system+"|"+s.code {
					continue
				}
				n++
				for _, name := range s.must {
					if x[name] == nil {
						bad("%s %s has no %s", part.name, s.code, name)
					}
				}
				for _, name := range s.no {
					if x[name] != nil {
						bad("%s %s has %s", part.name, s.code, name)
					}
				}
				for name, want := range s.is {
					got := x[name]
					switch name {
					case "role":
						got = codeOf(got)
					case "what.type":
						got = x["what"].(map[string]any)["type"]
					}
					if got != want {
						bad("%s %s: %s is %v, not %v", part.name, s.code, name, got, want)
					}
				}
				if s.code == p.observer && !reflect.DeepEqual(x["who"], ev["source"].(map[string]any)["observer"]) {
					bad("val-audit-source: agent %s is not the observer", s.code)
				}
			}
			if n < s.min || s.max >= 0 && n > s.max {
				bad("%d %s of type %s", n, part.name, s.code)
			}
			in += n
		}
		if part.name == "entity" && p.closed && in != len(list) {
			bad("an entity is of no slice, and they are closed")
		}
	}
	return out
}

// TestFHIR holds every event against the tables, and says which follow which profile.
func TestFHIR(t *testing.T) {
	out, _ := exported(t, FHIR, records())
	claimed := map[string][]int{}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(records())+1 {
		t.Fatalf("%d resources of %d records", len(lines), len(records()))
	}
	for i, l := range lines {
		var ev map[string]any
		if err := json.Unmarshal([]byte(l), &ev); err != nil {
			t.Fatal(err)
		}
		for _, fault := range conforms("AuditEvent", ev, "AuditEvent") {
			t.Errorf("line %d: %s", i, fault)
		}
		if m, ok := ev["meta"].(map[string]any); ok {
			for _, name := range m["profile"].([]any) {
				claimed[name.(string)] = append(claimed[name.(string)], i-1)
				p, ok := balpProfiles[name.(string)]
				if !ok {
					t.Errorf("line %d claims %s", i, name)
				}
				for _, fault := range p.check(ev) {
					t.Errorf("line %d, %s: %s", i, name, fault)
				}
			}
		}
	}
	want := map[string][]int{ProfileAuthZ: {2, 4, 10, 14}, ProfileRead: {12}, ProfileQuery: {13}, ProfileDisclose: {6}}
	if !reflect.DeepEqual(claimed, want) {
		t.Errorf("profiles claimed: %v, want %v", claimed, want)
	}
	// The first is the export itself, with what was asked.
	var first auditEvent
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first.Type.Code != "110101" {
		t.Fatalf("%v: %+v", err, first)
	}
	query, err := base64.StdEncoding.DecodeString(first.Entity[0].Query)
	if err != nil || !strings.Contains(string(query), `"project":"pilot"`) {
		t.Errorf("%v: asked %s", err, query)
	}
	// A denial is a failure and says why; an allowed one is a success.
	for i, want := range map[int]string{2: "0", 10: "8", 14: "8", 15: "8"} {
		var ev auditEvent
		if err := json.Unmarshal([]byte(lines[i+1]), &ev); err != nil || ev.Outcome != want || want == "8" && ev.OutcomeDesc == "" {
			t.Errorf("record %d: %v, outcome %q %q", i, err, ev.Outcome, ev.OutcomeDesc)
		}
	}
}

// TestFHIRValidatorFinds: the tables reject what breaks them.
func TestFHIRValidatorFinds(t *testing.T) {
	good := func() map[string]any {
		js, _ := json.Marshal(event(about(), records()[2]))
		var ev map[string]any
		if err := json.Unmarshal(js, &ev); err != nil {
			t.Fatal(err)
		}
		return ev
	}
	agents := func(ev map[string]any, i int) map[string]any { return ev["agent"].([]any)[i].(map[string]any) }
	for name, spoil := range map[string]func(map[string]any){
		"no agent":        func(ev map[string]any) { ev["agent"] = []any{} },
		"no requestor":    func(ev map[string]any) { delete(agents(ev, 0), "requestor") },
		"no network":      func(ev map[string]any) { delete(agents(ev, 0), "network") },
		"role of client":  func(ev map[string]any) { agents(ev, 0)["role"] = []any{map[string]any{"text": "x"}} },
		"other observer":  func(ev map[string]any) { ev["source"].(map[string]any)["observer"] = map[string]any{"display": "x"} },
		"no patient":      func(ev map[string]any) { ev["entity"] = ev["entity"].([]any)[1:] },
		"another entity":  func(ev map[string]any) { ev["entity"] = append(ev["entity"].([]any), map[string]any{"name": "x"}) },
		"unknown code":    func(ev map[string]any) { ev["type"].(map[string]any)["code"] = "1" },
		"unknown element": func(ev map[string]any) { ev["severity"] = "high" },
		"bad outcome":     func(ev map[string]any) { ev["outcome"] = "1" },
		"empty string":    func(ev map[string]any) { ev["outcomeDesc"] = " " },
		"no time":         func(ev map[string]any) { ev["recorded"] = "yesterday" },
	} {
		ev := good()
		spoil(ev)
		if len(conforms("AuditEvent", ev, ""))+len(balpProfiles[ProfileAuthZ].check(ev)) == 0 {
			t.Errorf("%s passes", name)
		}
	}
	if ev := good(); len(conforms("AuditEvent", ev, ""))+len(balpProfiles[ProfileAuthZ].check(ev)) != 0 {
		t.Error("a good one does not pass")
	}
}

// TestFHIRModels holds every resource against the models of fhir.resources
// (PyPI), which are generated from HL7's own definitions. They are those of R4B,
// whose AuditEvent is R4's.
func TestFHIRModels(t *testing.T) {
	py := testkit.Python(t, "fhir.resources")
	out, _ := exported(t, FHIR, records())
	bundle, _ := exported(t, FHIRBundle, records())
	script := `
import sys
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
*lines, bundle = open(sys.argv[1], encoding="utf-8").read().splitlines()
for line in lines: AuditEvent.model_validate_json(line)
print(len(lines), len(Bundle.model_validate_json(bundle).entry))
`
	check := func(text string) (string, error) {
		file := filepath.Join(t.TempDir(), "export")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), py, "-c", script, file).CombinedOutput()
		return string(said), err
	}
	var flat bytes.Buffer
	if err := json.Compact(&flat, []byte(bundle)); err != nil {
		t.Fatal(err)
	}
	n := len(records()) + 1
	if said, err := check(out + flat.String()); err != nil || said != fmt.Sprintln(n, n) {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := check(strings.Replace(out, `"requestor":true`, `"requester":true`, 1) + flat.String()); err == nil {
		t.Error("an element that R4 does not have passes")
	}
}

// TestFHIRBundle: bdl-7, fullUrls are unique; bdl-1 to bdl-4, no total, search,
// request or response in a collection.
func TestFHIRBundle(t *testing.T) {
	out, _ := exported(t, FHIRBundle, records())
	var b struct {
		ResourceType, Type, Timestamp string
		Entry                         []struct {
			FullURL  string `json:"fullUrl"`
			Resource map[string]any
		}
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, b.Timestamp); err != nil || b.ResourceType != "Bundle" || b.Type != "collection" || len(b.Entry) != len(records())+1 {
		t.Fatalf("%v: %s %s of %d", err, b.ResourceType, b.Type, len(b.Entry))
	}
	seen := map[string]bool{}
	for _, e := range b.Entry {
		if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(e.FullURL) || seen[e.FullURL] {
			t.Errorf("fullUrl %q", e.FullURL)
		}
		seen[e.FullURL] = true
		for _, fault := range conforms("AuditEvent", e.Resource, "") {
			t.Error(fault)
		}
	}
}
