package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway/identity"
	"sallyport/gateway/rulebook"
	"sallyport/internal/strict"
)

// Config is sallyport.yaml. Paths are relative to the folder of the file.
// Secrets are never in it, only paths to files. Unknown keys are errors.
type Config struct {
	// Site names the lab; it is the origin of the audit log's checkpoints.
	// Changing it later starts a log that old checkpoints do not match.
	Site string `yaml:"site"`

	// Audit is the log's file.
	Audit string `yaml:"audit"`
	// State is the folder of the journal, the ledger and the modules.
	State string `yaml:"state"`
	// Socket is where the command line meets the running gateway.
	Socket string `yaml:"socket"`
	// Catalog is the folder of dataset entries, one YAML file each.
	Catalog string `yaml:"catalog"`
	// Register is the file of grants, consents and exceptions. Empty:
	// register.json in the state folder.
	Register string `yaml:"register"`
	// Policy is where Rego bundles come from: a folder, or a section with a kind.
	// Empty: the bundle built into this binary. What is there becomes a draft
	// when it changes; it comes into force when people approve it.
	Policy PolicyConfig `yaml:"policy"`
	// Hierarchies is the folder of generalization hierarchies (CSV).
	Hierarchies string `yaml:"hierarchies"`

	// Stores are where datasets lie, by the name that catalog entries use.
	Stores map[string]Kind `yaml:"stores"`
	// Hold is the chamber between the doors; it only ever holds ciphertext.
	Hold Kind `yaml:"hold"`
	// Results is where opened results go.
	Results Kind `yaml:"results"`
	// Issuer mints and destroys the per-release keys.
	Issuer Kind `yaml:"issuer"`
	// Backends are where jobs can run.
	Backends []Kind `yaml:"backends"`

	// Algorithms are what jobs may name besides the built-in ones.
	Algorithms map[string]AlgorithmConfig `yaml:"algorithms"`
	// Limits bound every job, whatever policy allows.
	Limits Limits `yaml:"limits"`

	// People may ask; who is not here is nobody.
	People map[string]PersonConfig `yaml:"people"`
	// Projects are what people work for, with a budget for outside nodes.
	Projects map[string]ProjectConfig `yaml:"projects"`

	// Retention is how long contents of audit records are kept, by step; "*" is
	// every other step. What is not named is kept for good.
	Retention map[string]Age `yaml:"retention"`

	// S3 is the door for S3 clients.
	S3 S3Config `yaml:"s3"`
	// Witness says who vouches for the audit log.
	Witness WitnessConfig `yaml:"witness"`
	// Console is the address reserved for the web console.
	Console ConsoleConfig `yaml:"console"`

	dir string
	doc *strict.Document
}

// Kind names one of the kinds that `sallyport kinds` lists; the other keys of
// its section are that kind's own.
type Kind struct {
	Kind   string
	Config map[string]any
}

// UnmarshalYAML reads a section whose keys, but for kind, are the kind's own.
func (k *Kind) UnmarshalYAML(decode func(any) error) error {
	k.Config = nil
	if err := decode(&k.Config); err != nil {
		return err
	}
	kind, ok := k.Config["kind"].(string)
	if !ok {
		return errors.New("kind is required")
	}
	k.Kind = kind
	delete(k.Config, "kind")
	return nil
}

// AlgorithmConfig is code that a job may name.
type AlgorithmConfig struct {
	Wasm   string `yaml:"wasm"`   // a WASI preview 1 module; runs anywhere
	Native string `yaml:"native"` // a program of this machine; runs on local backends only
	Doc    string `yaml:"doc"`
	Media  string `yaml:"media"` // media type of its result, e.g. text/csv; reviewers are told if it looks different
}

// Limits bound every job.
type Limits struct {
	MemoryMB int64         `yaml:"memory_mb"` // a module's memory
	Walltime time.Duration `yaml:"walltime"`  // a module's time
	Patience time.Duration `yaml:"patience"`  // how long a job waits for nodes
	Parallel int           `yaml:"parallel"`  // jobs at once
	// ReviewWithin is how long a result waits for people where policy asks for
	// them; then it is destroyed.
	ReviewWithin time.Duration `yaml:"review_within"`
	// PolicyCoverage is the share of lines, in percent, that a policy draft's
	// tests must reach; PolicyReplay is how far back a draft is replayed.
	PolicyCoverage float64       `yaml:"policy_coverage"`
	PolicyReplay   time.Duration `yaml:"policy_replay"`
}

// PersonConfig is somebody who may ask.
type PersonConfig struct {
	Roles    []string `yaml:"roles"`    // researcher, officer, reviewer, admin, steward
	Projects []string `yaml:"projects"` // they are a member of
	Users    []string `yaml:"users"`    // operating system users who are this person
}

// ProjectConfig is what people work for.
type ProjectConfig struct {
	Purposes []string `yaml:"purposes"`
	// Budget in units of account, for all outside work of the project.
	Budget float64 `yaml:"budget"`
	// Rows bounds which records of a dataset the project sees, in views and in
	// jobs: dataset → column → values. A record is seen only if its value, as it
	// stands in the file, is listed for every column named; an empty list shows
	// none. A dataset that is not named is not bounded.
	Rows map[string]map[string][]string `yaml:"rows"`
}

// ConsoleConfig is the web console's address.
type ConsoleConfig struct {
	Listen string `yaml:"listen"`
}

// loadConfig reads and checks a configuration file.
func loadConfig(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.Errorf("configuration", sallyport.NotFound,
			"Make one with `sallyport init DIR`, or name one with --config FILE.", "no file %s", path)
	}
	if err != nil {
		return nil, sallyport.E("configuration", sallyport.Unavailable, err, "")
	}
	return parseConfig(path, src)
}

func parseConfig(path string, src []byte) (*Config, error) {
	invalid := func(err error) error {
		return sallyport.E("configuration", sallyport.Invalid, err, "`sallyport init DIR` writes one with a comment on every key.")
	}
	doc, err := strict.Parse(filepath.Base(path), src)
	if err != nil {
		return nil, invalid(err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, invalid(err)
	}
	c := &Config{
		Audit: "audit.db", State: "state", Socket: "gateway.sock", Catalog: "catalog", Hierarchies: "hierarchies",
		Hold: Kind{Kind: "dir", Config: map[string]any{"path": "hold"}}, Results: Kind{Kind: "dir", Config: map[string]any{"path": "results"}},
		Issuer: Kind{Kind: "keyfile", Config: map[string]any{"dir": "keys"}},
		Limits: Limits{MemoryMB: 512, Walltime: 10 * time.Minute, Patience: 30 * time.Second, Parallel: 2, ReviewWithin: 7 * 24 * time.Hour,
			PolicyCoverage: rulebook.DefaultCoverage, PolicyReplay: 90 * 24 * time.Hour},
		dir: dir, doc: doc,
	}
	if err := doc.Decode(c); err != nil {
		return nil, invalid(err)
	}
	switch {
	case c.Site == "":
		return nil, invalid(doc.Errorf("$.site", "site is required"))
	case len(c.Stores) == 0:
		return nil, invalid(doc.Errorf("$.stores", "stores is empty: no dataset could be read"))
	case len(c.Backends) == 0:
		return nil, invalid(doc.Errorf("$.backends", "backends is empty: nothing could run"))
	case c.Limits.MemoryMB <= 0 || c.Limits.MemoryMB > 4096:
		return nil, invalid(doc.Errorf("$.limits.memory_mb", "memory_mb is %d: a WebAssembly module has 1 to 4096", c.Limits.MemoryMB))
	case c.Limits.Walltime <= 0 || c.Limits.Patience < 0 || c.Limits.Parallel <= 0 || c.Limits.ReviewWithin <= 0 || c.Limits.PolicyCoverage <= 0 || c.Limits.PolicyCoverage > 100 || c.Limits.PolicyReplay <= 0:
		return nil, invalid(doc.Errorf("$.limits", "limits must be positive"))
	}
	if err := audit.CheckRetention(c.retention()); err != nil {
		return nil, invalid(doc.Errorf("$.retention", "%v", err))
	}
	for name, a := range c.Algorithms {
		if (a.Wasm == "") == (a.Native == "") {
			return nil, invalid(doc.Errorf("$.algorithms."+name, "algorithm %s needs exactly one of wasm and native", name))
		}
	}
	for where, people := range map[string]map[string]string{"$.s3.oidc.people": c.S3.OIDC.People, "$.s3.tls.people": c.S3.TLS.People} {
		for _, who := range people {
			if _, ok := c.People[who]; !ok {
				return nil, invalid(doc.Errorf(where, "%q is nobody under people", who))
			}
		}
	}
	for name, p := range c.Projects {
		for dataset, columns := range p.Rows {
			if len(columns) == 0 {
				return nil, invalid(doc.Errorf("$.projects."+name+".rows", "rows of dataset %q names no column; name one, or leave the dataset out to show all of it", dataset))
			}
		}
	}
	for name, p := range c.People {
		for _, pr := range p.Projects {
			if _, ok := c.Projects[pr]; !ok {
				return nil, invalid(doc.Errorf("$.people."+name+".projects", "%s is in project %q, which is not under projects", name, pr))
			}
		}
	}
	return c, nil
}

// path resolves a path of the file.
func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// site is data.site, as policy sees it.
func (c *Config) site() map[string]any {
	people, projects := map[string]any{}, map[string]any{}
	members := map[string][]string{}
	for id, p := range c.People {
		people[id] = map[string]any{"roles": nonNil(p.Roles), "projects": nonNil(p.Projects)}
		for _, pr := range p.Projects {
			members[pr] = append(members[pr], id)
		}
	}
	for id, p := range c.Projects {
		project := map[string]any{"members": nonNil(members[id]), "purposes": nonNil(p.Purposes), "budget": money(p.Budget)}
		if len(p.Rows) > 0 {
			project["rows"] = rows(p.Rows)
		}
		projects[id] = project
	}
	return map[string]any{"people": people, "projects": projects}
}

// rows are a project's row filters as policy sees them: a list is never null.
func rows(filters map[string]map[string][]string) map[string]any {
	out := map[string]any{}
	for dataset, columns := range filters {
		values := map[string]any{}
		for column, in := range columns {
			values[column] = nonNil(in)
		}
		out[dataset] = values
	}
	return out
}

func (c *Config) people() []identity.Person {
	var out []identity.Person
	for id, p := range c.People {
		out = append(out, identity.Person{ID: id, Roles: nonNil(p.Roles), Projects: nonNil(p.Projects), Users: p.Users})
	}
	return out
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func money(units float64) sallyport.Money { return sallyport.Money(units * float64(sallyport.Unit)) }
