package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The committed module is what its source says.
func TestFeaturesRebuilds(t *testing.T) {
	recorded := strings.TrimSpace(FeaturesGo)
	if recorded != runtime.Version() {
		if os.Getenv("CI") == "true" {
			t.Fatalf("features.wasm was built by %s, this is %s: run go generate ./examples", recorded, runtime.Version())
		}
		t.Skipf("features.wasm was built by %s, this is %s: only the same version gives the same bits", recorded, runtime.Version())
	}
	out := filepath.Join(t.TempDir(), "features.wasm")
	command := split(FeaturesBuild)
	for i, word := range command {
		if word == "features/features.wasm" {
			command[i] = out
		}
	}
	if text, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", FeaturesBuild, err, text)
	}
	built, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, Features) {
		t.Fatalf("features.wasm (%d bytes) is not what its source builds (%d bytes): run go generate ./examples", len(Features), len(built))
	}
}

// What go generate runs is what the constant says.
func TestFeaturesBuildIsWhatGenerateRuns(t *testing.T) {
	source, err := os.ReadFile("examples.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), "\n//go:generate "+FeaturesBuild+"\n") {
		t.Fatal("the go:generate line and FeaturesBuild differ")
	}
}

// split splits at spaces outside double quotes.
func split(command string) (words []string) {
	for i, part := range strings.Split(command, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
