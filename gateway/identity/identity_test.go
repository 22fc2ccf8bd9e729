package identity

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"sallyport"
)

func TestPeerIsWhoTheKernelSays(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	uid, err := Peer(s)
	if err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("got %d, %v", uid, err)
	}
}

func TestUnknownIsNobody(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid := Operator()
	d := NewDirectory([]Person{{ID: "researcher", Users: []string{me.Username}}, {ID: "officer"}}, uid)
	for _, tt := range []struct {
		name string
		uid  uint32
		as   string
		want string // "" is a denial
	}{
		{"by user", uid, "", "researcher"},
		{"operator as another", uid, "officer", "officer"},
		{"operator as nobody", uid, "stranger", ""},
		{"stranger", uid + 12345, "", ""},
		{"stranger as another", uid + 12345, "officer", ""},
	} {
		c, err := d.Identify(tt.uid, tt.as)
		if (err == nil) != (tt.want != "") || c.ID != tt.want {
			t.Errorf("%s: got %q, %v", tt.name, c.ID, err)
		}
		if err != nil && sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%s: kind %s", tt.name, sallyport.KindOf(err))
		}
	}
	two := NewDirectory([]Person{{ID: "a", Users: []string{me.Username}}, {ID: "b", Users: []string{me.Username}}}, uid)
	if _, err := two.Identify(uid, ""); err == nil {
		t.Error("one user passed for two people")
	}
}
