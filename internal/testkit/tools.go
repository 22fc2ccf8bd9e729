// Package testkit helps tests to use real outside servers.
package testkit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tool returns the path of a server built from internal/tools/NAME.
//
// Such a server takes minutes to compile, so a test builds it only when asked
// to: when CI=true, or when SALLYPORT_TOOLS names the folder for such programs.
// Else one that internal/tools/build left in the cache is used, and without it
// the test is skipped by name. Under CI=true nothing is skipped.
func Tool(t testing.TB, name string) string {
	t.Helper()
	ci := os.Getenv("CI") == "true"
	skip := func(why string) {
		t.Helper()
		if ci {
			t.Fatalf("needs %s: %s", name, why)
		}
		t.Skipf("needs %s: %s", name, why)
	}
	root, err := root()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, "internal", "tools", "build")
	path, err := output("sh", script, "-n", name)
	if err != nil {
		skip("internal/tools/build does not run here: " + err.Error())
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if !ci && os.Getenv("SALLYPORT_TOOLS") == "" {
		skip("run internal/tools/build " + name)
	}
	if path, err = output("sh", script, name); err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

// root finds the folder of the product's go.mod above the test's folder.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module sallyport\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod of sallyport above the test's folder")
		}
		dir = up
	}
}

// output runs a program; its error carries what the program said.
func output(program string, args ...string) (string, error) {
	var errOut strings.Builder
	c := exec.Command(program, args...)
	c.Stderr = &errOut
	out, err := c.Output()
	if err != nil {
		return "", errors.Join(err, errors.New(strings.TrimSpace(errOut.String())))
	}
	return strings.TrimSpace(string(out)), nil
}
