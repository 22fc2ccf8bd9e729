// Package examples holds the modules that come with sallyport, built from the
// source beside them.
//
// A module is built bit for bit the same by the Go version in
// features/GOVERSION; a test does it. After a change of the source or of the
// Go version, run "go generate ./examples" and commit what it writes.
package examples

import _ "embed"

//go:generate env GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 GOFLAGS= GOEXPERIMENT= GOWASM= go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o features/features.wasm ./features
//go:generate sh -c "go env GOVERSION > features/GOVERSION"

// FeaturesBuild is the command that builds [Features], to be run in the folder
// of this package.
const FeaturesBuild = `env GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 GOFLAGS= GOEXPERIMENT= GOWASM= go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o features/features.wasm ./features`

// FeaturesGo is the Go version that built [Features], and a line end.
//
//go:embed features/GOVERSION
var FeaturesGo string

// Features is a WASI preview 1 command: features of a CSV table, see
// features/main.go. It is to be read only.
//
//go:embed features/features.wasm
var Features []byte
