// Package identity says who is asking. It knows the people of the configuration
// and recognizes them by
//
//   - the user ID that the kernel vouches for on a Unix socket ([Peer]),
//   - an access key that the gateway issued ([KeyStore]),
//   - a bearer token of an OpenID provider ([Verifier]),
//   - a client certificate of a trusted CA ([TLS]).
//
// Each ends in a [Caller], whose Credential names the proof without revealing
// it. What the person may do is policy's business, not this package's: a person
// who left a project, for example, still holds a key for it, and is refused at
// the first door.
//
// What goes wrong is refused. The text of a refusal is fit for the one refused;
// [Reason] gives the text for the gateway's own log, which may say more.
package identity

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sallyport"
)

// Person is somebody who may ask, as the configuration names them.
type Person struct {
	ID       string
	Roles    []string
	Projects []string
	Users    []string // names of operating system users who are this person
}

// Directory is everybody.
type Directory struct {
	people   map[string]Person
	operator uint32 // user ID that the gateway runs as
}

// NewDirectory returns the directory of people. operator is the user ID of the
// gateway's own process.
func NewDirectory(people []Person, operator uint32) *Directory {
	d := &Directory{people: map[string]Person{}, operator: operator}
	for _, p := range people {
		d.people[p.ID] = p
	}
	return d
}

// Caller is an identified person and how they were identified.
type Caller struct {
	Person
	// Credential names the proof: "unix:uid=1000", "key:AK…",
	// "oidc:ISSUER/SUBJECT" or "mtls:cn=NAME". It is no secret.
	Credential string
}

// Person returns the person with that ID. The answer is the caller's own copy.
func (d *Directory) Person(id string) (Person, bool) {
	p, ok := d.people[id]
	p.Roles, p.Projects, p.Users = slices.Clone(p.Roles), slices.Clone(p.Projects), slices.Clone(p.Users)
	return p, ok
}

// ByKey returns who holds an access key that [KeyStore.Lookup] found. Somebody
// who is no longer in the directory is nobody, whatever keys they hold.
func (d *Directory) ByKey(k AccessKey) (Caller, error) {
	p, ok := d.Person(k.Person)
	if !ok {
		return Caller{}, badKey("key %s belongs to %q, who is nobody now", k.ID, k.Person)
	}
	return Caller{p, "key:" + k.ID}, nil
}

// ByToken returns who a token that [Verifier.Verify] accepted speaks for.
func (d *Directory) ByToken(t Token) (Caller, error) {
	p, ok := d.Person(t.Person)
	if !ok || t.Issuer == "" || t.Subject == "" {
		return Caller{}, refuse("identify", "Ask the gateway's administrator to add you under `people:`.",
			"the token is good, but its subject is nobody here", "subject %q of %s maps to %q, who is nobody", t.Subject, t.Issuer, t.Person)
	}
	return Caller{p, "oidc:" + t.Issuer + "/" + t.Subject}, nil
}

// ByCertificate returns who a client certificate that [TLS.Client] accepted
// speaks for.
func (d *Directory) ByCertificate(c Certificate) (Caller, error) {
	p, ok := d.Person(c.Person)
	if !ok || c.Name == "" {
		return Caller{}, refuse("identify", "Ask the gateway's administrator to add you under `people:`.",
			"the certificate is good, but its subject is nobody here", "certificate %s maps to %q, who is nobody", c.Name, c.Person)
	}
	return Caller{p, "mtls:" + c.Name}, nil
}

// Peer returns the user ID at the other end of a Unix socket.
func Peer(c net.Conn) (uint32, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, sallyport.Errorf("identify", sallyport.Denied, "", "not a Unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, sallyport.E("identify", sallyport.Denied, err, "")
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, sallyport.E("identify", sallyport.Denied, err, "")
	}
	if credErr != nil {
		return 0, sallyport.E("identify", sallyport.Denied, credErr, "")
	}
	return cred.Uid, nil
}

// Identify returns the person with that user ID. Who runs the gateway itself
// may act as another person, by name: they could edit the configuration
// anyway, and the credential says so in every record.
func (d *Directory) Identify(uid uint32, as string) (Caller, error) {
	credential := fmt.Sprintf("unix:uid=%d", uid)
	if as != "" {
		if uid != d.operator {
			return Caller{}, sallyport.Errorf("identify", sallyport.Denied, "Leave out --as.", "only the gateway's operator may act as somebody else")
		}
		p, ok := d.people[as]
		if !ok {
			return Caller{}, sallyport.Errorf("identify", sallyport.Denied, "Add them under `people:` in the configuration.", "nobody is called %q", as)
		}
		return Caller{p, credential + " as " + as}, nil
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	var found []Person
	for _, p := range d.people {
		if slices.Contains(p.Users, name) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return Caller{found[0], credential}, nil
	case 0:
		return Caller{}, sallyport.Errorf("identify", sallyport.Denied,
			"Add the user name under `people:` in the configuration, or say --as PERSON if you run the gateway.", "user %s is nobody's", name)
	default:
		return Caller{}, sallyport.Errorf("identify", sallyport.Denied, "One user, one person: mend `people:` in the configuration.", "user %s is %d people", name, len(found))
	}
}

// Operator returns the user ID of this process.
func Operator() uint32 { return uint32(os.Getuid()) }
