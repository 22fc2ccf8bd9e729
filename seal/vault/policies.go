package vault

import (
	"embed"
	"slices"
	"strings"

	"sallyport"
)

//go:embed policies/*.hcl
var policies embed.FS

// Roles are the parties for whom this package ships a Vault policy.
func Roles() []string { return []string{"gateway", "operator", "node"} }

// Policy returns the Vault policy of a role, in HCL, for the mount and prefix
// of cfg. The files as shipped are those of the defaults.
func Policy(role string, cfg Config) (string, error) {
	cfg.Address, cfg.Auth, cfg.CertFile, cfg.KeyFile = "https://localhost", Auth{TokenFile: "none"}, "", "" // not in a policy
	cfg, err := cfg.complete()
	if err != nil {
		return "", err
	}
	if !slices.Contains(Roles(), role) {
		return "", sallyport.Errorf("vault policy", sallyport.NotFound, "There are: "+strings.Join(Roles(), ", ")+".", "no policy for %q", role)
	}
	b, err := policies.ReadFile("policies/" + role + ".hcl")
	if err != nil {
		return "", sallyport.E("vault policy", sallyport.Internal, err, "")
	}
	return strings.NewReplacer(`"transit/`, `"`+cfg.Mount+`/`, `/sallyport-`, `/`+cfg.Prefix).Replace(string(b)), nil
}
