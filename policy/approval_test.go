package policy_test

import (
	"testing"
	"testing/fstest"

	"sallyport/policies"
	"sallyport/policy"
)

func TestTwoPeopleUnlessTheBundleSaysOne(t *testing.T) {
	doors := "package sallyport.admit\ndefault verdict := {\"allow\": false, \"reasons\": [\"no\"], \"rules\": [\"no\"]}\n"
	release := "package sallyport.release\ndefault verdict := {\"allow\": false, \"reasons\": [\"no\"], \"rules\": [\"no\"]}\n"
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, tt := range map[string]struct {
		approval string
		want     bool
	}{
		"no rule":        {"", true},
		"not listed":     {"package sallyport.approval\ntwo_person contains \"other\"\n", false},
		"listed":         {"package sallyport.approval\ntwo_person contains \"key.destroy\"\n", true},
		"everything":     {"package sallyport.approval\ntwo_person contains \"*\"\n", true},
		"not a set":      {"package sallyport.approval\ntwo_person := \"no\"\n", true},
		"built-in error": {"package sallyport.approval\ntwo_person contains \"x\" if to_number(\"x\") > 1\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			fs := fstest.MapFS{"a.rego": file(doors), "r.rego": file(release)}
			if tt.approval != "" {
				fs["p.rego"] = file(tt.approval)
			}
			e, err := policy.New(t.Context(), policy.Config{Bundle: fs})
			if err != nil {
				t.Fatal(err)
			}
			if got := e.TwoPeople(t.Context(), "key.destroy"); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
	e, err := policy.New(t.Context(), policy.Config{Bundle: policies.FS})
	if err != nil {
		t.Fatal(err)
	}
	if e.TwoPeople(t.Context(), "key.destroy") {
		t.Error("the default bundle lets one officer destroy a key in an emergency")
	}
}
