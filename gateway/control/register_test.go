package control

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"sallyport/gateway"
)

// A misspelled field of a change is refused: a grant must not come out wider
// because "people" was written "peoples".
func TestAChangeIsDecodedStrictly(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"change":{"dataset":"d","project":"p","purposes":["x"],"until":"2027-01-01T00:00:00Z","reason":"r"}}`: true,
		`{"change":{"dataset":"d","peoples":["ada"]}}`:                                                          false,
		`{"dataset":"d"}`:                    false,
		`{"change":{"until":"tomorrow"}}`:    false,
		`{"change":{"purposes":"research"}}`: false,
		`{"as":["steward"],"change":{}}`:     false,
	} {
		var in asked[gateway.GrantRequest]
		err := decode(httptest.NewRequest("POST", "/v1/grants", strings.NewReader(body)), &in)
		if (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A request that goes over the socket comes back the same, times included.
func TestChangesCrossTheSocket(t *testing.T) {
	b, err := json.Marshal(asked[gateway.ConsentRequest]{"steward", gateway.ConsentRequest{Dataset: "d", Purpose: "research", Basis: "form 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "since") || strings.Contains(string(b), "until") {
		t.Errorf("a time that was not given is sent: %s", b)
	}
	var in asked[gateway.ConsentRequest]
	if err := decode(httptest.NewRequest("POST", "/v1/consents", strings.NewReader(string(b))), &in); err != nil {
		t.Fatal(err)
	}
	if !in.Change.Until.IsZero() || in.As != "steward" || in.Change.Basis != "form 3" {
		t.Errorf("got %+v", in)
	}
}
