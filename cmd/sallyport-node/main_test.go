package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSmall keeps out of the owner's binary what belongs to a gateway.
func TestSmall(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "sallyport/node") {
		t.Fatal("the list of dependencies is not one")
	}
	for _, dep := range deps {
		for _, no := range []string{"github.com/open-policy-agent/", "github.com/nats-io/nats-server/",
			"sallyport/policy", "sallyport/gateway", "sallyport/audit", "sallyport/anonymize", "sallyport/store", "sallyport/catalog"} {
			if dep == strings.TrimSuffix(no, "/") || strings.HasPrefix(dep, strings.TrimSuffix(no, "/")+"/") {
				t.Errorf("links %s", dep)
			}
		}
	}
}
