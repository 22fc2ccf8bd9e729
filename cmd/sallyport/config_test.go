package main

import (
	"encoding/json"
	"testing"
)

// What policy sees of the projects: rows only where there are some, and never null.
func TestSiteHasTheRowFilters(t *testing.T) {
	c, err := parseConfig("sallyport.yaml", []byte(`site: a
stores: {data: {kind: dir, path: data}}
backends: [{kind: local}]
projects:
  whole: {purposes: [research]}
  part:
    rows:
      ward: {site: [north, "1"], year: []}
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(c.site())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"people":{},"projects":{` +
		`"part":{"budget":0,"members":[],"purposes":[],"rows":{"ward":{"site":["north","1"],"year":[]}}},` +
		`"whole":{"budget":0,"members":[],"purposes":["research"]}}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
