package export

import (
	"bufio"
	"encoding/json"
	"io"
	"iter"
	"strconv"

	"sallyport"
	"sallyport/audit"
)

// OCSFVersion is the version of the schema that events are written for. Later
// ones of 1.x read them too (https://schema.ocsf.io/1.6.0).
const OCSFVersion = "1.6.0"

const (
	classAPI       = 6003 // API Activity
	classDatastore = 6005 // Datastore Activity
	categoryApp    = 6
)

type ocsfProduct struct {
	Name    string `json:"name"`
	Vendor  string `json:"vendor_name"`
	Version string `json:"version"`
}

type ocsfMetadata struct {
	Version      string      `json:"version"`
	Product      ocsfProduct `json:"product"`
	LogName      string      `json:"log_name"`
	LogProvider  string      `json:"log_provider"`
	UID          string      `json:"uid"`
	EventCode    string      `json:"event_code"`
	Correlation  string      `json:"correlation_uid,omitempty"` // the job
	OriginalTime string      `json:"original_time"`
	Profiles     []string    `json:"profiles,omitempty"`
}

type ocsfEntity struct {
	UID    string `json:"uid,omitempty"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type,omitempty"`
	TypeID *int   `json:"type_id,omitempty"`
}

type ocsfUser struct {
	UID        string       `json:"uid"`
	Name       string       `json:"name"`
	TypeID     int          `json:"type_id"`
	Credential string       `json:"credential_uid,omitempty"`
	Groups     []ocsfEntity `json:"groups,omitempty"`
}

type ocsfActor struct {
	User    *ocsfUser `json:"user,omitempty"`
	AppName string    `json:"app_name,omitempty"`
}

type ocsfAPI struct {
	Operation string     `json:"operation"`
	Service   ocsfEntity `json:"service"`
}

type ocsfPolicy struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name"`
}

type ocsfAuthorization struct {
	Decision string      `json:"decision"`
	Policy   *ocsfPolicy `json:"policy,omitempty"`
}

type ocsfTrace struct {
	UID string `json:"uid"`
}

type ocsfEvent struct {
	ActivityID     int                 `json:"activity_id"`
	ActivityName   string              `json:"activity_name"`
	CategoryUID    int                 `json:"category_uid"`
	CategoryName   string              `json:"category_name"`
	ClassUID       int                 `json:"class_uid"`
	ClassName      string              `json:"class_name"`
	TypeUID        int                 `json:"type_uid"`
	TypeName       string              `json:"type_name"`
	Time           int64               `json:"time"` // ms since 1970
	SeverityID     int                 `json:"severity_id"`
	Severity       string              `json:"severity"`
	StatusID       int                 `json:"status_id"`
	Status         string              `json:"status"`
	StatusDetail   string              `json:"status_detail,omitempty"`
	Message        string              `json:"message"`
	Metadata       ocsfMetadata        `json:"metadata"`
	Actor          ocsfActor           `json:"actor"`
	API            *ocsfAPI            `json:"api,omitempty"`
	Src            ocsfEntity          `json:"src_endpoint"`
	Dst            *ocsfEntity         `json:"dst_endpoint,omitempty"`
	Databucket     *ocsfEntity         `json:"databucket,omitempty"`
	StoreType      string              `json:"type,omitempty"`
	StoreTypeID    int                 `json:"type_id,omitempty"`
	Resources      []ocsfEntity        `json:"resources,omitempty"`
	ActionID       *int                `json:"action_id,omitempty"`
	Action         string              `json:"action,omitempty"`
	DispositionID  *int                `json:"disposition_id,omitempty"`
	Disposition    string              `json:"disposition,omitempty"`
	Authorizations []ocsfAuthorization `json:"authorizations,omitempty"`
	Policy         *ocsfPolicy         `json:"policy,omitempty"`
	Trace          *ocsfTrace          `json:"trace,omitempty"`
	Unmapped       map[string]any      `json:"unmapped"`
}

// activities of the two classes, by their numbers in the schema.
func apiActivity(k act) (int, string) {
	switch k {
	case written:
		return 1, "Create"
	case read, listed, logRead:
		return 2, "Read"
	case changed:
		return 3, "Update"
	case destroyed:
		return 4, "Delete"
	}
	return 99, "Other"
}

func storeActivity(k act) (int, string) {
	switch k {
	case read:
		return 1, "Read"
	case written:
		return 5, "Write"
	case listed:
		return 8, "List"
	}
	return 99, "Other"
}

// OCSF writes events as NDJSON. A look at a dataset, one at its names, and what
// is put into the inbox are Datastore Activity (6005); all else is API Activity
// (6003), whose operation is the gateway's step. A decision also carries the
// profile security_control: action, disposition, authorizations, policy. What
// the schema has no place for stands in unmapped, under the names of the log.
// The first event is that of the export itself.
func OCSF(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	return each(w, recs,
		func(b *bufio.Writer) error { return jsonLine(b, ocsfExport(a)) },
		func(b *bufio.Writer, r audit.Record) error { return jsonLine(b, ocsf(a, r)) }, nil)
}

func ocsfBase(a About, class int, uid string) ocsfEvent {
	name := "API Activity"
	if class == classDatastore {
		name = "Datastore Activity"
	}
	return ocsfEvent{CategoryUID: categoryApp, CategoryName: "Application Activity", ClassUID: class, ClassName: name, SeverityID: 1, Severity: "Informational",
		Metadata: ocsfMetadata{Version: OCSFVersion, Product: ocsfProduct{"sallyport", "sallyport", a.Version}, LogName: "audit", LogProvider: a.Origin, UID: a.Origin + "#" + uid},
		// The log holds no address of who asks; the schema wants an endpoint.
		Src: ocsfEntity{Name: "not recorded"}, Unmapped: map[string]any{}}
}

func (e *ocsfEvent) activity(id int, name string) {
	e.ActivityID, e.ActivityName = id, name
	e.TypeUID, e.TypeName = e.ClassUID*100+id, e.ClassName+": "+name
}

func ocsf(a About, r audit.Record) ocsfEvent {
	in, k := r.Entry, kindOf(r)
	class := classAPI
	if in.Dataset != "" && (k == read || k == listed || k == written && in.Job == "") {
		class = classDatastore
	}
	e := ocsfBase(a, class, strconv.FormatUint(r.Seq, 10))
	if class == classDatastore {
		e.activity(storeActivity(k))
		e.Databucket = &ocsfEntity{UID: in.Dataset, Name: in.Dataset, Type: "dataset", TypeID: new(99)}
		e.StoreType, e.StoreTypeID = "Databucket", 2
	} else {
		e.activity(apiActivity(k))
		e.API = &ocsfAPI{in.Step, ocsfEntity{Name: "sallyport"}}
	}
	if e.ActivityID == 99 {
		e.ActivityName = in.Step // the schema wants the source's word then
		e.TypeName = e.ClassName + ": Other"
	}
	e.Time, e.Message = in.Time.UnixMilli(), said(r)
	e.Metadata.EventCode, e.Metadata.Correlation, e.Metadata.OriginalTime = in.Step, string(in.Job), stamp(in.Time)
	e.Actor = ocsfActor{AppName: "sallyport"}
	if in.Subject != "" {
		e.Actor = ocsfActor{User: &ocsfUser{UID: in.Subject, Name: in.Subject, TypeID: 1, Credential: in.Credential}}
		for _, role := range in.Roles {
			e.Actor.User.Groups = append(e.Actor.User.Groups, ocsfEntity{Name: role, Type: "role"})
		}
	}
	e.StatusID, e.Status = 0, "Unknown" // of an intent
	if in.Phase != audit.Intent {
		e.StatusID, e.Status = 1, "Success"
	}
	if in.Decision != "" {
		e.decision(in)
	}
	if in.Node != "" {
		e.Dst = &ocsfEntity{Name: in.Node}
	}
	for _, x := range []ocsfEntity{{UID: in.Dataset, Type: "dataset"}, {UID: string(in.Job), Type: "job"}, {UID: in.Lease, Type: "key lease"}} {
		if x.UID != "" && class == classAPI {
			e.Resources = append(e.Resources, x)
		}
	}
	if in.Trace != "" {
		e.Trace = &ocsfTrace{in.Trace}
		e.Metadata.Profiles = append(e.Metadata.Profiles, "trace")
	}
	e.Unmapped = unmapped(r)
	return e
}

func (e *ocsfEvent) decision(in audit.Entry) {
	e.Metadata.Profiles = append(e.Metadata.Profiles, "security_control")
	e.StatusDetail = join(in.Reasons)
	action, disposition := 0, 0
	e.Action, e.Disposition = "Unknown", "Unknown"
	switch in.Decision {
	case "allow":
		action, e.Action, disposition, e.Disposition = 1, "Allowed", 1, "Allowed"
	case "deny":
		action, e.Action, disposition, e.Disposition = 2, "Denied", 2, "Blocked"
		e.StatusID, e.Status, e.SeverityID, e.Severity = 2, "Failure", 2, "Low"
	case "error": // what cannot be decided is denied
		action, e.Action, disposition, e.Disposition = 2, "Denied", 2, "Blocked"
		e.StatusID, e.Status, e.SeverityID, e.Severity = 2, "Failure", 3, "Medium"
	}
	e.ActionID, e.DispositionID = &action, &disposition
	if in.Policy != "" {
		e.Policy = &ocsfPolicy{UID: string(in.Policy), Name: "policy bundle"}
	}
	e.Authorizations = []ocsfAuthorization{{in.Decision, e.Policy}}
}

func unmapped(r audit.Record) map[string]any {
	in := r.Entry
	u := map[string]any{"seq": r.Seq, "leaf": r.Leaf, "phase": in.Phase}
	put := func(name string, v any, there bool) {
		if there {
			u[name] = v
		}
	}
	put("project", in.Project, in.Project != "")
	put("purpose", in.Purpose, in.Purpose != "")
	put("objects", in.Objects, len(in.Objects) > 0)
	put("columns", in.Columns, len(in.Columns) > 0)
	put("reasons", in.Reasons, len(in.Reasons) > 0)
	put("rules", in.Rules, len(in.Rules) > 0)
	put("destination", in.Destination, in.Destination != "")
	for name, d := range map[string]sallyport.Digest{"data": in.Data, "request": in.Request, "result": in.Result} {
		put(name, d, d != "")
	}
	put("cost", in.Cost.String(), in.Cost != 0)
	put("lease", in.Lease, in.Lease != "")
	put("job", in.Job, in.Job != "")
	put("dataset", in.Dataset, in.Dataset != "")
	put("sealed", true, r.Sealed)
	put("erased", r.Erased, r.Erased != nil)
	put("detail", json.RawMessage(in.Detail), len(in.Detail) > 0)
	return u
}

func ocsfExport(a About) ocsfEvent {
	e := ocsfBase(a, classAPI, "export")
	e.activity(2, "Read")
	e.API = &ocsfAPI{"audit export", ocsfEntity{Name: "sallyport"}}
	e.Time, e.Message, e.StatusID, e.Status = a.At.UnixMilli(), "export of the audit log: "+a.Asked.String(), 1, "Success"
	e.Metadata.EventCode, e.Metadata.OriginalTime = "export", stamp(a.At)
	e.Actor = ocsfActor{AppName: "sallyport"}
	if a.By != "" {
		e.Actor = ocsfActor{User: &ocsfUser{UID: a.By, Name: a.By, TypeID: 1}}
	}
	e.Unmapped = map[string]any{"export": a}
	return e
}
