// Package identity says who is asking. This first part knows the people of the
// configuration and recognizes them by the user ID that the kernel vouches for
// on a Unix socket.
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
	Credential string // e.g. "unix:uid=1000"
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
