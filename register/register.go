// Package register keeps what policy must know that changes while the gateway
// runs: which project was granted a dataset until when, what a dataset's
// subjects consented to, and which exceptions two people agreed to. Policy sees
// it as data.register.
//
// The register is one JSON file, written as a whole or not at all. A digest
// over its canonical JSON names each state, so that a record can say from which
// state to which a change led, and so that a change meant for another state is
// refused.
package register

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sallyport"
)

// The fields of the types below stand in the order of their JSON names: the
// canonical JSON of a state has sorted keys.

// Grant lets a project use a dataset for a while.
type Grant struct {
	By string `json:"by"` // the person who gave it
	// People are the members that it is for; nil is every member. An empty list
	// is refused, because it could be read as either.
	People   []string  `json:"people,omitempty"`
	Purposes []string  `json:"purposes"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"` // not included
}

// Consent is what a dataset's subjects agreed to, for one purpose.
type Consent struct {
	Basis     string    `json:"basis"` // what was consented to, and where it is filed
	By        string    `json:"by"`    // the person who put it on record
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until,omitzero"` // not included; zero: no end
	Withdrawn bool      `json:"withdrawn,omitempty"`
}

// Exception lets named checks of policy pass for one dataset and project. One
// person asks for it and another approves; until then policy does not see it.
type Exception struct {
	ApprovedBy string    `json:"approved_by,omitempty"`
	AskedBy    string    `json:"asked_by"`
	Checks     []string  `json:"checks"` // labels, such as admit.project_purpose
	Dataset    string    `json:"dataset"`
	Project    string    `json:"project"`
	Purpose    string    `json:"purpose,omitempty"` // empty: whatever purpose
	Reason     string    `json:"reason"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until"` // not included
}

// Register is the file and what it holds. Methods are safe for concurrent use;
// one process may write.
type Register struct {
	path string

	writing sync.Mutex
	file    sallyport.Digest // of the bytes last read or written; "" where there is no file
	mu      sync.RWMutex
	now     *state

	// point, if set, is called between the parts of a write; an error stands
	// for the process's end there.
	point func(string) error
}

// Open reads the register at path. A file that is not there is an empty
// register; one that cannot be read as one is a [sallyport.Invalid] that names
// the value. Nothing is written.
func Open(path string) (*Register, error) {
	r := &Register{path: path, now: empty()}
	src, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, r.now.sum()
	}
	if err != nil {
		return nil, err
	}
	if r.now, err = parse(src); err != nil {
		return nil, sallyport.Errorf("read register", sallyport.Invalid,
			"Correct that value, or put back the copy that was last in force; the audit log has every change.", "%s: %w", filepath.Base(path), err)
	}
	r.file = sallyport.DigestOf(src)
	return r, r.now.sum()
}

// Digest names the present state: SHA-256 over its JSON with sorted keys and no
// white space, a line feed at the end, without the version.
func (r *Register) Digest() sallyport.Digest { return r.state().digest }

// Data is the register as policy sees it, data.register: grants by dataset and
// project, consents by dataset and purpose, approved exceptions by ID. All
// three are always there. The caller may not change what is in them.
func (r *Register) Data() map[string]any { return r.state().data() }

// Granted is a grant and where it stands.
type Granted struct {
	Dataset string `json:"dataset"`
	Project string `json:"project"`
	Grant
}

// Consented is a consent and where it stands.
type Consented struct {
	Dataset string `json:"dataset"`
	Purpose string `json:"purpose"`
	Consent
}

// Excepted is an exception and its ID.
type Excepted struct {
	ID string `json:"id"`
	Exception
}

// Contents are all that the register holds, sorted.
type Contents struct {
	Digest     sallyport.Digest `json:"digest"`
	Grants     []Granted        `json:"grants"`
	Consents   []Consented      `json:"consents"`
	Exceptions []Excepted       `json:"exceptions"`
	Pending    []Excepted       `json:"pending"` // asked for, not approved
}

// Contents lists the present state.
func (r *Register) Contents() Contents {
	s := r.state()
	c := Contents{Digest: s.digest, Grants: []Granted{}, Consents: []Consented{}, Exceptions: excepted(s.Exceptions), Pending: excepted(s.Pending)}
	for dataset, projects := range s.Grants {
		for project, g := range projects {
			c.Grants = append(c.Grants, Granted{dataset, project, g.clone()})
		}
	}
	for dataset, purposes := range s.Consents {
		for purpose, k := range purposes {
			c.Consents = append(c.Consents, Consented{dataset, purpose, k})
		}
	}
	slices.SortFunc(c.Grants, func(a, b Granted) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Project, b.Project))
	})
	slices.SortFunc(c.Consents, func(a, b Consented) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Purpose, b.Purpose))
	})
	return c
}

func excepted(m map[string]Exception) []Excepted {
	out := []Excepted{}
	for _, id := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Excepted{id, m[id].clone()})
	}
	return out
}

// Grant returns one grant.
func (r *Register) Grant(dataset, project string) (Grant, bool) {
	g, ok := r.state().Grants[dataset][project]
	return g.clone(), ok
}

// Consent returns one consent.
func (r *Register) Consent(dataset, purpose string) (Consent, bool) {
	c, ok := r.state().Consents[dataset][purpose]
	return c, ok
}

// Exception returns one exception, and whether it waits for approval.
func (r *Register) Exception(id string) (e Exception, pending, ok bool) {
	s := r.state()
	if e, ok := s.Pending[id]; ok {
		return e.clone(), true, true
	}
	e, ok = s.Exceptions[id]
	return e.clone(), false, ok
}

func (r *Register) state() *state {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.now
}

// state is what the file holds. It is changed only while it is made.
type state struct {
	Consents   map[string]map[string]Consent `json:"consents"`
	Exceptions map[string]Exception          `json:"exceptions"`
	Grants     map[string]map[string]Grant   `json:"grants"`
	Pending    map[string]Exception          `json:"pending"`

	digest sallyport.Digest
}

func empty() *state {
	return &state{Consents: map[string]map[string]Consent{}, Exceptions: map[string]Exception{},
		Grants: map[string]map[string]Grant{}, Pending: map[string]Exception{}}
}

func (s *state) clone() *state {
	c := &state{Consents: make(map[string]map[string]Consent, len(s.Consents)), Exceptions: maps.Clone(s.Exceptions),
		Grants: make(map[string]map[string]Grant, len(s.Grants)), Pending: maps.Clone(s.Pending)}
	for k, v := range s.Consents {
		c.Consents[k] = maps.Clone(v)
	}
	for k, v := range s.Grants {
		c.Grants[k] = maps.Clone(v)
	}
	return c
}

func (s *state) data() map[string]any {
	c := s.clone()
	return map[string]any{"grants": c.Grants, "consents": c.Consents, "exceptions": c.Exceptions}
}

// sum names the state.
func (s *state) sum() error {
	h := sha256.New()
	enc := json.NewEncoder(h)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return sallyport.E("register", sallyport.Internal, err, "")
	}
	s.digest = sallyport.DigestSum(h.Sum(nil))
	return nil
}

func (g Grant) clone() Grant {
	g.People, g.Purposes = slices.Clone(g.People), slices.Clone(g.Purposes)
	return g
}

func (e Exception) clone() Exception {
	e.Checks = slices.Clone(e.Checks)
	return e
}

// maxFile bounds the file: 5,000 grants take less than 2 MiB.
const maxFile = 64 << 20

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, sallyport.Errorf("read register", sallyport.Invalid, "Look at what it holds.", "%s is larger than %d MiB, which no register is", path, maxFile>>20)
	}
	var src []byte
	if err == nil {
		src, err = os.ReadFile(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.E("read register", sallyport.Unavailable, err, "Make it readable for the gateway.")
	}
	return src, err
}
