// Package policies is the default policy bundle: Rego rules, the table they
// read (data.json), the schemas of what they see and their tests. README.md
// says what they mean.
package policies

import "embed"

// FS holds the bundle as `opa test` and the policy engine read it.
//
//go:embed README.md data.json schema/v1/*.json sallyport/*.rego
var FS embed.FS
