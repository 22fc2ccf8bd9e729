package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Python returns an interpreter that has the named packages of PyPI: that of the
// virtual environment which ./check makes. Without it the test is skipped by
// name, and fails under CI=true.
func Python(t testing.TB, packages ...string) string {
	t.Helper()
	dir := os.Getenv("SALLYPORT_TOOLS")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache", "sallyport", "tools")
	}
	python := filepath.Join(dir, "python", "bin", "python3")
	if out, err := exec.Command(python, "-c", "import "+strings.Join(packages, ", ")).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs %s of PyPI: %v %s", strings.Join(packages, ", "), err, out)
		}
		t.Skipf("needs %s of PyPI, which ./check installs", strings.Join(packages, ", "))
	}
	return python
}
