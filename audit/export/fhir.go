package export

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
)

// FHIRVersion and BALPVersion are what AuditEvents are written for.
const (
	FHIRVersion = "4.0.1" // HL7 FHIR R4
	BALPVersion = "1.1.3" // IHE Basic Audit Log Patterns, 2024-02-16
)

// Profiles of BALP that events claim. One is claimed only where all that it
// requires is there.
const (
	balp = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"

	ProfileAuthZ    = balp + "IHE.BasicAudit.AuthZconsent"
	ProfileRead     = balp + "IHE.BasicAudit.Read"
	ProfileQuery    = balp + "IHE.BasicAudit.Query"
	ProfileDisclose = balp + "IHE.BasicAudit.PrivacyDisclosure.Source"
)

// Code systems, as FHIR R4 and BALP name them.
const (
	sysDICOM     = "http://dicom.nema.org/resources/ontology/DCM"
	sysType      = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	sysRest      = "http://hl7.org/fhir/restful-interaction"
	sysAuthZ     = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType"
	sysLifecycle = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
	sysPart      = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	sysRole      = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
	sysExtraRole = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
	sysSource    = "http://terminology.hl7.org/CodeSystem/security-source-type"
	sysEntity    = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	sysObject    = "http://terminology.hl7.org/CodeSystem/object-role"
	sysResource  = "http://hl7.org/fhir/resource-types"
	sysPurpose   = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	absentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

type coding struct {
	System  string `json:"system,omitempty"`
	Code    string `json:"code,omitempty"`
	Display string `json:"display,omitempty"`
}

type concept struct {
	Coding []coding `json:"coding,omitempty"`
	Text   string   `json:"text,omitempty"`
}

type extension struct {
	URL       string `json:"url"`
	ValueCode string `json:"valueCode,omitempty"`
}

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type reference struct {
	Extension  []extension `json:"extension,omitempty"`
	Type       string      `json:"type,omitempty"`
	Identifier *identifier `json:"identifier,omitempty"`
	Display    string      `json:"display,omitempty"`
}

// network says that an address is not known: the log holds none.
type network struct {
	Extension []extension `json:"extension,omitempty"`
}

type agent struct {
	Type      *concept   `json:"type,omitempty"`
	Role      []concept  `json:"role,omitempty"`
	Who       *reference `json:"who,omitempty"`
	Name      string     `json:"name,omitempty"`
	Requestor bool       `json:"requestor"`
	Policy    []string   `json:"policy,omitempty"`
	Network   *network   `json:"network,omitempty"`
	Purpose   []concept  `json:"purposeOfUse,omitempty"`
}

type source struct {
	Site     string    `json:"site,omitempty"`
	Observer reference `json:"observer"`
	Type     []coding  `json:"type,omitempty"`
}

type detail struct {
	Type        string `json:"type"`
	ValueString string `json:"valueString"`
}

type entity struct {
	What        *reference `json:"what,omitempty"`
	Type        *coding    `json:"type,omitempty"`
	Role        *coding    `json:"role,omitempty"`
	Name        string     `json:"name,omitempty"`
	Description string     `json:"description,omitempty"`
	Query       string     `json:"query,omitempty"`
	Detail      []detail   `json:"detail,omitempty"`
}

type meta struct {
	Profile []string `json:"profile,omitempty"`
}

// auditEvent is the resource of https://hl7.org/fhir/R4/auditevent.html, with
// the elements that are used here.
type auditEvent struct {
	ResourceType   string    `json:"resourceType"`
	ID             string    `json:"id"`
	Meta           *meta     `json:"meta,omitempty"`
	Type           coding    `json:"type"`
	Subtype        []coding  `json:"subtype,omitempty"`
	Action         string    `json:"action,omitempty"`
	Recorded       string    `json:"recorded"`
	Outcome        string    `json:"outcome,omitempty"`
	OutcomeDesc    string    `json:"outcomeDesc,omitempty"`
	PurposeOfEvent []concept `json:"purposeOfEvent,omitempty"`
	Agent          []agent   `json:"agent"`
	Source         source    `json:"source"`
	Entity         []entity  `json:"entity,omitempty"`
}

// FHIR writes AuditEvents as NDJSON, one resource a line. The first is that of
// the export itself: DICOM 110101, Audit Log Used.
//
//   - A decision of policy on a dataset follows BALP's AuthZconsent. The
//     patients are those of a dataset, of whom the log knows none: the reference
//     says so ("unknown"). The consent that it was decided by is the policy
//     bundle, named by its digest.
//   - A look at an object follows Read, one at names Query; one that failed is
//     neither by those profiles, and is the decision that it was.
//   - Data that leaves the site follows PrivacyDisclosure.Source.
//   - All else is an AuditEvent of R4 without a profile, of DICOM 110100,
//     Application Activity, and so is a record without a content.
func FHIR(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	return each(w, recs,
		func(b *bufio.Writer) error { return jsonLine(b, exportEvent(a)) },
		func(b *bufio.Writer, r audit.Record) error { return jsonLine(b, event(a, r)) }, nil)
}

// FHIRBundle writes the same as one Bundle of type collection.
func FHIRBundle(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	put := func(b *bufio.Writer, before string, e auditEvent) error {
		js, err := json.Marshal(map[string]any{"fullUrl": fullURL(a, e.ID), "resource": e})
		b.WriteString(before)
		b.Write(js)
		return err
	}
	return each(w, recs, func(b *bufio.Writer) error {
		fmt.Fprintf(b, `{"resourceType":"Bundle","type":"collection","timestamp":%q,"entry":[`+"\n", a.At.Format(time.RFC3339))
		return put(b, "", exportEvent(a))
	}, func(b *bufio.Writer, r audit.Record) error {
		return put(b, ",\n", event(a, r))
	}, func(b *bufio.Writer, _ Summary) error {
		_, err := b.WriteString("\n]}\n")
		return err
	})
}

// fullURL names a resource that is on no server, by its place in the log: a
// UUID of version 8 (RFC 9562, 5.8) made of origin and ID.
func fullURL(a About, id string) string {
	h := sallyport.DigestOf([]byte(a.Origin + "\n" + id))
	b := []byte(strings.TrimPrefix(string(h), "sha256:")[:32])
	b[12], b[16] = '8', '8'
	return fmt.Sprintf("urn:uuid:%s-%s-%s-%s-%s", b[:8], b[8:12], b[12:16], b[16:20], b[20:32])
}

// gateway is the system that recorded, and decided.
func gateway(a About) reference {
	return reference{Type: "Device", Identifier: &identifier{Value: text(a.Origin)}, Display: "sallyport " + text(a.Version)}
}

func unknown() []extension { return []extension{{absentReason, "unknown"}} }

func event(a About, r audit.Record) auditEvent {
	e := r.Entry
	ev := auditEvent{ResourceType: "AuditEvent", ID: "record-" + strconv.FormatUint(r.Seq, 10), Recorded: stamp(e.Time),
		Source: source{Site: text(a.Origin), Observer: gateway(a), Type: []coding{{sysSource, "4", "Application Server"}}}}
	switch e.Decision {
	case "allow":
		ev.Outcome = "0"
	case "deny", "error":
		ev.Outcome = "8"
		ev.OutcomeDesc = text(join(e.Reasons))
	case "":
		if e.Phase == audit.Outcome {
			ev.Outcome = "0"
		}
	}
	if e.Purpose != "" {
		ev.PurposeOfEvent = []concept{purpose(e.Purpose)}
	}
	switch kindOf(r) {
	case decided:
		ev.authorization(a, r)
	case read, listed:
		ev.look(a, r)
	case disclosed:
		ev.disclosure(a, r)
	case identified:
		ev.Type, ev.Subtype, ev.Action = coding{sysDICOM, "110114", "User Authentication"}, []coding{{sysDICOM, "110122", "Login"}}, "E"
		ev.Agent, ev.Entity = []agent{user(a, e)}, things(r)
	case logRead:
		ev.Type, ev.Subtype, ev.Action = coding{sysDICOM, "110101", "Audit Log Used"}, []coding{stepCode(e.Step)}, "R"
		ev.Agent, ev.Entity = []agent{user(a, e)}, things(r)
	default:
		ev.Type, ev.Subtype, ev.Action = coding{sysDICOM, "110100", "Application Activity"}, []coding{stepCode(e.Step)}, "E"
		switch kindOf(r) {
		case written:
			ev.Action = "C"
		case changed:
			ev.Action = "U"
		case destroyed:
			ev.Action = "D"
		}
		ev.Agent, ev.Entity = []agent{user(a, e)}, things(r)
	}
	return ev
}

// authorization follows IHE.BasicAudit.AuthZconsent. Its entities are closed:
// what else the decision was about stands in the details of the consent's.
func (ev *auditEvent) authorization(a About, r audit.Record) {
	e := r.Entry
	ev.Meta = &meta{[]string{ProfileAuthZ}}
	ev.Type, ev.Subtype, ev.Action = coding{sysDICOM, "110113", "Security Alert"}, []coding{{sysAuthZ, "AuthZ-Consent", "Authorization Decision using Roles and Consent"}}, "E"
	gate := gateway(a)
	org := reference{Type: "Organization", Identifier: &identifier{Value: text(a.Origin)}}
	ev.Agent = []agent{
		{Type: code(sysDICOM, "110150", "Application"), Who: client(e), Policy: policyURIs(e), Network: &network{unknown()}},
		user(a, e),
		{Type: code(sysRole, "PROV", "healthcare provider"), Who: &org},
		{Type: code(sysExtraRole, "authserver", "authorization server"), Who: &gate},
	}
	ev.Entity = []entity{patients(e), {
		Type:   &coding{sysResource, "Consent", "Consent"},
		What:   &reference{Type: "Consent", Identifier: &identifier{"urn:ietf:rfc:3986", hashURI(e.Policy)}, Display: "policy bundle " + string(e.Policy)},
		Detail: details(r),
	}}
}

// look follows IHE.BasicAudit.Read or Query.
func (ev *auditEvent) look(a About, r audit.Record) {
	e := r.Entry
	gate := gateway(a)
	ev.Type, ev.Outcome = coding{sysType, "rest", "Restful Operation"}, "0"
	// The client is where data goes for a read, and where the question comes from
	// for a query: BALP follows DICOM there.
	in, out := code(sysDICOM, "110152", "Destination Role ID"), code(sysDICOM, "110153", "Source Role ID")
	if kindOf(r) == listed {
		in, out = out, in
		ev.Meta = &meta{[]string{ProfileQuery}}
		ev.Subtype, ev.Action = []coding{{sysRest, "search", "search"}, stepCode(e.Step)}, "E"
		asked, _ := json.Marshal(map[string]any{"list": e.Dataset, "objects": e.Objects})
		ev.Entity = []entity{{Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysObject, "24", "Query"},
			Query: base64.StdEncoding.EncodeToString(asked), Description: text("list " + e.Dataset)}, recordEntity(r)}
	} else {
		ev.Meta = &meta{[]string{ProfileRead}}
		ev.Subtype, ev.Action = []coding{{sysRest, "read", "read"}, stepCode(e.Step)}, "R"
		ev.Entity = []entity{{What: &reference{Identifier: &identifier{Value: text(e.Dataset)}, Display: text("dataset " + e.Dataset)},
			Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysObject, "4", "Domain Resource"}, Detail: details(r)}}
	}
	ev.Agent = []agent{
		{Type: in, Who: client(e), Network: &network{unknown()}, Policy: policyURIs(e)},
		{Type: out, Who: &gate, Network: &network{unknown()}},
	}
	if e.Subject != "" {
		ev.Agent = append(ev.Agent, user(a, e))
	}
}

// disclosure follows IHE.BasicAudit.PrivacyDisclosure.Source: with the key,
// the machine that it goes to has the data.
func (ev *auditEvent) disclosure(a About, r audit.Record) {
	e := r.Entry
	gate := gateway(a)
	ev.Meta = &meta{[]string{ProfileDisclose}}
	ev.Type, ev.Action, ev.Outcome = coding{sysDICOM, "110106", "Export"}, "R", "0"
	ev.Subtype = []coding{{sysLifecycle, "disclose", "Disclose Record Lifecycle Event"}, stepCode(e.Step)}
	to := reference{Type: "Device", Identifier: &identifier{Value: text(orUnknown(e.Node))}}
	ev.Agent = []agent{
		{Type: code(sysDICOM, "110153", "Source Role ID"), Who: &gate, Network: &network{unknown()}, Policy: policyURIs(e)},
		{Type: code(sysDICOM, "110152", "Destination Role ID"), Who: &to, Network: &network{unknown()}},
		user(a, e),
	}
	ev.Entity = append([]entity{patients(e)}, things(r)...)
}

func user(a About, e audit.Entry) agent {
	if e.Subject == "" {
		gate := gateway(a)
		return agent{Type: code(sysDICOM, "110150", "Application"), Who: &gate}
	}
	u := agent{Type: code(sysPart, "IRCP", "information recipient"), Who: &reference{Identifier: &identifier{Value: text(e.Subject)}}, Name: text(e.Subject), Requestor: true}
	for _, r := range e.Roles {
		u.Role = append(u.Role, concept{Text: text(r)})
	}
	if e.Purpose != "" {
		u.Purpose = []concept{purpose(e.Purpose)}
	}
	return u
}

// client is the program that asked, of which the log knows the credential.
func client(e audit.Entry) *reference {
	if e.Credential == "" {
		return &reference{Extension: unknown(), Display: "client"}
	}
	return &reference{Identifier: &identifier{Value: text(e.Credential)}, Display: "client"}
}

// patients are those whom a dataset is about.
func patients(e audit.Entry) entity {
	return entity{Type: &coding{sysEntity, "1", "Person"}, Role: &coding{sysObject, "1", "Patient"},
		What: &reference{Extension: unknown(), Type: "Patient", Display: text("persons in dataset " + e.Dataset + ", not known to the log")}}
}

// things are what an act without a profile was about.
func things(r audit.Record) []entity {
	e := r.Entry
	var out []entity
	if e.Dataset != "" {
		out = append(out, entity{What: &reference{Identifier: &identifier{Value: text(e.Dataset)}}, Type: &coding{sysEntity, "2", "System Object"},
			Role: &coding{sysObject, "4", "Domain Resource"}, Name: text(e.Dataset)})
	}
	if e.Job != "" {
		out = append(out, entity{What: &reference{Identifier: &identifier{Value: string(e.Job)}}, Type: &coding{sysEntity, "2", "System Object"},
			Role: &coding{sysObject, "20", "Job"}, Name: string(e.Job)})
	}
	return append(out, recordEntity(r))
}

// recordEntity is the record itself: it says where all this can be proved.
func recordEntity(r audit.Record) entity {
	return entity{Type: &coding{sysEntity, "4", "Other"}, Role: &coding{sysObject, "13", "Security Resource"},
		What: &reference{Identifier: &identifier{"urn:ietf:rfc:3986", hashURI(r.Leaf)}, Display: "record " + strconv.FormatUint(r.Seq, 10) + " of the audit log"}, Detail: details(r)}
}

func details(r audit.Record) []detail {
	out := []detail{{"seq", strconv.FormatUint(r.Seq, 10)}, {"step", text(r.Entry.Step)}}
	for _, v := range values(r) {
		if s := text(v[1]); s != "" {
			out = append(out, detail{v[0], s})
		}
	}
	if len(r.Entry.Detail) > 0 {
		out = append(out, detail{"detail", string(r.Entry.Detail)})
	}
	return out
}

func code(system, c, display string) *concept {
	return &concept{Coding: []coding{{system, c, display}}}
}

// stepCode is the gateway's own word, which is in no code system.
func stepCode(step string) coding { return coding{Display: text(step)} }

// purpose maps the words that the value set v3-PurposeOfUse has too. Its
// binding is extensible: other words stand as text.
func purpose(p string) concept {
	c := concept{Text: text(p)}
	switch strings.ToLower(p) {
	case "research":
		c.Coding = []coding{{sysPurpose, "HRESCH", "healthcare research"}}
	case "treatment", "care":
		c.Coding = []coding{{sysPurpose, "TREAT", "treatment"}}
	case "operations":
		c.Coding = []coding{{sysPurpose, "HOPERAT", "healthcare operations"}}
	case "public health":
		c.Coding = []coding{{sysPurpose, "PUBHLTH", "public health"}}
	case "payment":
		c.Coding = []coding{{sysPurpose, "HPAYMT", "healthcare payment"}}
	}
	return c
}

func policyURIs(e audit.Entry) []string {
	if e.Policy == "" {
		return nil
	}
	return []string{hashURI(e.Policy)}
}

// hashURI writes a digest as a URI (RFC 6920).
func hashURI(d sallyport.Digest) string {
	b, err := hex.DecodeString(strings.TrimPrefix(string(d), "sha256:"))
	if err != nil || len(b) != 32 {
		return "urn:uuid:00000000-0000-0000-0000-000000000000" // no digest: the log does not write such
	}
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(b)
}

// text makes a FHIR string: no control characters but line breaks and tabs, and
// never only white space.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\r' && r != '\t' {
			return 0x2400 + r
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimSpace(s)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// exportEvent says that, and for what, the log was read.
func exportEvent(a About) auditEvent {
	asked, _ := json.Marshal(a.Asked)
	return auditEvent{ResourceType: "AuditEvent", ID: "export", Type: coding{sysDICOM, "110101", "Audit Log Used"}, Subtype: []coding{stepCode("export")}, Action: "R",
		Recorded: stamp(a.At), Outcome: "0",
		Agent:  []agent{user(a, audit.Entry{Subject: a.By})},
		Source: source{Site: text(a.Origin), Observer: gateway(a), Type: []coding{{sysSource, "4", "Application Server"}}},
		Entity: []entity{{Type: &coding{sysEntity, "2", "System Object"}, Role: &coding{sysObject, "24", "Query"}, Query: base64.StdEncoding.EncodeToString(asked),
			Description: text(a.Asked.String()), Detail: []detail{{"size", strconv.FormatUint(a.Size, 10)}, {"root", a.Root}, {"verifier key", a.Key}, {"sallyport", text(a.Version)}}}}}
}
