package export

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What OCSF 1.6.0 asks of the two classes and the objects in them: attributes
// that are there, of which those with a * are required. Source:
// https://schema.ocsf.io/1.6.0/classes/api_activity and /datastore_activity,
// with the profiles security_control and trace.
var ocsfTables = map[string]string{
	"base": "activity_id* activity_name category_uid* category_name class_uid* class_name type_uid* type_name time* severity_id* severity status_id status status_detail " +
		"message metadata* actor* api src_endpoint* dst_endpoint unmapped action_id action disposition_id disposition authorizations policy trace",
	"6003":           "api* resources",
	"6005":           "databucket type type_id",
	"metadata":       "version* product* log_name log_provider uid event_code correlation_uid original_time profiles",
	"product":        "name vendor_name version",
	"actor":          "user app_name",
	"user":           "uid name type_id credential_uid groups",
	"groups":         "name type uid",
	"api":            "operation* service",
	"service":        "name uid",
	"src_endpoint":   "name uid",
	"dst_endpoint":   "name uid",
	"databucket":     "uid name type type_id*",
	"resources":      "uid name type",
	"authorizations": "decision policy",
	"policy":         "uid name",
	"trace":          "uid*",
}

// ocsfEnums are values that the schema allows.
var ocsfEnums = map[string][]float64{
	"6003.activity_id": {0, 1, 2, 3, 4, 99}, "6005.activity_id": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99}, "severity_id": {0, 1, 2, 3, 4, 5, 6, 99}, "status_id": {0, 1, 2, 99},
	"action_id": {0, 1, 2, 3, 4, 99}, "disposition_id": {0, 1, 2}, "category_uid": {6}, "class_uid": {6003, 6005}, "6005.type_id": {0, 1, 2, 3, 99}, "databucket.type_id": {0, 1, 2, 3, 99}, "user.type_id": {0, 1, 2, 3, 4, 99},
}

func ocsfCheck(kind string, tables []string, obj map[string]any) (out []string) {
	known := map[string]bool{}
	for _, table := range tables {
		for f := range strings.FieldsSeq(ocsfTables[table]) {
			name, required := strings.CutSuffix(f, "*")
			known[name] = true
			if _, there := obj[name]; required && !there {
				out = append(out, kind+": "+name+" is missing")
			}
		}
	}
	for name, v := range obj {
		if !known[name] {
			out = append(out, kind+" has no "+name)
		}
		for _, enum := range []string{kind + "." + name, name} {
			if allowed, ok := ocsfEnums[enum]; ok {
				if n, isNumber := v.(float64); !isNumber || !slices.Contains(allowed, n) {
					out = append(out, fmt.Sprintf("%s.%s is %v", kind, name, v))
				}
				break
			}
		}
		switch x := v.(type) {
		case map[string]any:
			if name != "unmapped" {
				out = append(out, ocsfCheck(name, []string{name}, x)...)
			}
		case []any:
			for _, y := range x {
				if obj, ok := y.(map[string]any); ok {
					out = append(out, ocsfCheck(name, []string{name}, obj)...)
				}
			}
		}
	}
	return out
}

func TestOCSF(t *testing.T) {
	out, _ := exported(t, OCSF, records())
	recs := records()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(recs)+1 {
		t.Fatalf("%d events of %d records", len(lines), len(recs))
	}
	for i, l := range lines {
		var ev map[string]any
		if err := json.Unmarshal([]byte(l), &ev); err != nil {
			t.Fatal(err)
		}
		class := fmt.Sprint(ev["class_uid"])
		for _, fault := range ocsfCheck(class, []string{"base", class}, ev) {
			t.Errorf("line %d: %s", i, fault)
		}
		if ev["type_uid"] != ev["class_uid"].(float64)*100+ev["activity_id"].(float64) {
			t.Errorf("line %d: type_uid %v", i, ev["type_uid"])
		}
		md := ev["metadata"].(map[string]any)
		if md["version"] != "1.6.0" {
			t.Errorf("line %d: version %v", i, md["version"])
		}
		profiles := fmt.Sprint(md["profiles"])
		if (ev["action_id"] != nil) != strings.Contains(profiles, "security_control") || (ev["trace"] != nil) != strings.Contains(profiles, "trace") {
			t.Errorf("line %d: profiles %s", i, profiles)
		}
		actor := ev["actor"].(map[string]any)
		if actor["user"] == nil && actor["app_name"] == nil {
			t.Errorf("line %d: nobody acted", i)
		}
		if class == "6005" && ev["databucket"] == nil {
			t.Errorf("line %d: at least one of database, databucket, table", i)
		}
		if i == 0 {
			continue
		}
		r := recs[i-1]
		if ev["time"] != float64(r.Entry.Time.UnixMilli()) {
			t.Errorf("line %d: time %v", i, ev["time"])
		}
		u := ev["unmapped"].(map[string]any)
		if u["leaf"] != string(r.Leaf) || u["seq"] != float64(r.Seq) || r.Sealed != (u["sealed"] != nil) || (r.Erased != nil) != (u["erased"] != nil) {
			t.Errorf("line %d: unmapped %v", i, u)
		}
	}
	for i, want := range map[int]string{2: "600399", 6: "600399", 8: "600301", 9: "600304", 12: "600501", 13: "600508", 0: "600303", 17: "600302"} {
		if !strings.Contains(lines[i+1], `"type_uid":`+want+`,`) {
			t.Errorf("record %d is no %s: %s", i, want, lines[i+1])
		}
	}
}
