package vault

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport"
)

func TestWrapped(t *testing.T) {
	st := newSite(t, sharedServer(t))
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	i := st.open(t, func() time.Time { return at })
	l := issue(t, i, "job-1")
	far := Config{Address: st.cfg.Address} // the other end has no rights of its own
	token, err := i.Wrapped(t.Context(), l.ID, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Unwrap(t.Context(), far, token)
	if err != nil || k.Recipient() != l.Recipient {
		t.Fatal("another key", err)
	}
	_, err = Unwrap(t.Context(), far, token)
	wantKind(t, err, sallyport.Denied, "somebody else")
	if strings.Contains(err.Error()+sallyport.HintOf(err), token) {
		t.Fatal("the message holds the token")
	}
	for _, bad := range []string{"hvs.nosuch", "x"} {
		_, err = Unwrap(t.Context(), far, bad)
		wantKind(t, err, sallyport.Denied)
	}
	_, err = Unwrap(t.Context(), far, "")
	wantKind(t, err, sallyport.Invalid)

	// A token that waits is recalled with the lease, after a restart too.
	token, err = i.Wrapped(t.Context(), l.ID, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(i.path("leases", l.ID+".json"))
	if err != nil || strings.Contains(string(b), token) {
		t.Fatal("the lease's file holds the token", err)
	}
	i.Close()
	i = st.open(t, func() time.Time { return at })
	if err := i.Destroy(t.Context(), l.ID, "over"); err != nil {
		t.Fatal(err)
	}
	_, err = Unwrap(t.Context(), far, token)
	wantKind(t, err, sallyport.Denied)
	_, err = i.Wrapped(t.Context(), l.ID, time.Minute)
	wantKind(t, err, sallyport.NotFound)

	// The lease's end bounds the token's.
	short, err := i.Issue(t.Context(), "job-2", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	token, err = i.Wrapped(t.Context(), short.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	info, err := st.root.Logical().Write("sys/wrapping/lookup", map[string]any{"token": token})
	if err != nil || fmt.Sprint(info.Data["creation_ttl"]) != "30" {
		t.Fatal(info, err)
	}
	at = at.Add(29*time.Second + time.Millisecond)
	_, err = i.Wrapped(t.Context(), short.ID, time.Hour)
	wantKind(t, err, sallyport.Invalid)
}

func TestDerive(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	i := st.open(t, func() time.Time { return at })
	one, err := i.Derive(t.Context(), "pseudonym/project-7")
	if err != nil {
		t.Fatal(err)
	}
	// By hand, what a site would do to compute it without us.
	key := "transit/hmac/" + st.cfg.Prefix + "derive"
	answer := st.write(t, key, map[string]any{"input": base64.StdEncoding.EncodeToString([]byte("sallyport/derive/v1\x00pseudonym/project-7"))})
	if want := "vault:v1:" + base64.StdEncoding.EncodeToString(one); answer.Data["hmac"] != want {
		t.Fatal("not the HMAC of the purpose")
	}
	// Rotation changes nothing, the time in memory over or not.
	st.write(t, "transit/keys/"+st.cfg.Prefix+"derive/rotate", nil)
	at = at.Add(time.Hour)
	if two, err := i.Derive(t.Context(), "pseudonym/project-7"); err != nil || !bytes.Equal(one, two) {
		t.Fatal("the secret has changed", err)
	}
	i.Close()
	// Another key of the same name: after a restart it is noticed.
	st.write(t, "transit/keys/"+st.cfg.Prefix+"derive/config", map[string]any{"deletion_allowed": true})
	if _, err := st.root.Logical().Delete("transit/keys/" + st.cfg.Prefix + "derive"); err != nil {
		t.Fatal(err)
	}
	i = st.open(t, nil)
	_, err = i.Derive(t.Context(), "pseudonym/project-7")
	wantKind(t, err, sallyport.Unavailable, "restore Vault")
	st.write(t, "transit/keys/"+st.cfg.Prefix+"derive", map[string]any{"type": "aes256-gcm96"})
	_, err = i.Derive(t.Context(), "pseudonym/project-7")
	wantKind(t, err, sallyport.Damaged, "not the one")
}

func TestSign(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	msg := []byte("a checkpoint\n")
	sig, err := i.Sign(t.Context(), "checkpoint", msg)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := i.PublicKey(t.Context(), "checkpoint")
	if err != nil || !ed25519.Verify(pub, msg, sig) || ed25519.Verify(pub, []byte("another"), sig) {
		t.Fatal("not a signature", err)
	}
	for _, name := range []string{"", "../derive", "A", "a/b"} {
		_, err := i.Sign(t.Context(), name, msg)
		wantKind(t, err, sallyport.Invalid)
		_, err = i.PublicKey(t.Context(), name)
		wantKind(t, err, sallyport.Invalid)
	}
	_, err = i.Sign(t.Context(), "nosuch", msg)
	wantKind(t, err, sallyport.NotFound, "type=ed25519")
	_, err = i.PublicKey(t.Context(), "nosuch")
	wantKind(t, err, sallyport.NotFound)

	// Never exported: not to us, and not to Vault's own administrator.
	for _, kind := range []string{"signing-key", "encryption-key", "hmac-key"} {
		path := "transit/export/" + kind + "/" + st.cfg.signKey("checkpoint")
		if _, err := st.root.Logical().Read(path); !answered(err, http.StatusBadRequest, "exportable") {
			t.Fatalf("%s: %v", kind, err)
		}
		in, err := i.session.signedIn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.client.Logical().Read(path); !answered(err, http.StatusForbidden, "") {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	if _, err := st.root.Logical().Read("transit/backup/" + st.cfg.signKey("checkpoint")); err == nil {
		t.Fatal("backed up in plain text")
	}
	// One that could be is not taken.
	st.write(t, "transit/keys/"+st.cfg.signKey("loose"), map[string]any{"type": "ed25519", "exportable": true})
	_, err = i.PublicKey(t.Context(), "loose")
	wantKind(t, err, sallyport.Denied, "exportable")
	st.write(t, "transit/keys/"+st.cfg.signKey("rsa"), map[string]any{"type": "ecdsa-p256"})
	_, err = i.PublicKey(t.Context(), "rsa")
	wantKind(t, err, sallyport.Invalid, "ed25519")
	_, err = i.Sign(t.Context(), "rsa", msg)
	wantKind(t, err, sallyport.Unavailable, "ed25519")
}

// Each role can do its job and nothing else.
func TestRoles(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	wrapped, err := os.ReadFile(i.wrappedPath(l.ID))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := map[string]any{"ciphertext": strings.TrimSpace(string(wrapped))}
	input := map[string]any{"input": "AAAA"}
	none := map[string]any{}
	p := st.cfg.Prefix
	mine := p + "release-" + l.ID
	spare := p + "release-spare"
	st.write(t, "transit/keys/other-site-release-x", map[string]any{"type": "aes256-gcm96"})
	foreign := "other-site-release-x"

	const may, mayNot = true, false
	type call struct {
		method, path            string
		data                    map[string]any
		gateway, operator, node bool
	}
	calls := []call{
		// the jobs
		{"PUT", "transit/keys/" + spare, map[string]any{"type": "aes256-gcm96"}, may, mayNot, mayNot},
		{"PUT", "transit/keys/" + spare + "/config", map[string]any{"deletion_allowed": true}, may, mayNot, mayNot},
		{"PUT", "transit/datakey/plaintext/" + mine, map[string]any{"bits": 256}, may, mayNot, mayNot},
		{"PUT", "transit/decrypt/" + mine, ciphertext, may, mayNot, mayNot},
		{"PUT", "transit/hmac/" + p + "derive/sha2-256", input, may, mayNot, mayNot},
		{"PUT", "transit/sign/" + p + "sign-checkpoint", input, may, mayNot, mayNot},
		{"GET", "transit/keys/" + p + "sign-checkpoint", nil, may, mayNot, mayNot},
		{"PUT", "auth/token/revoke-accessor", map[string]any{"accessor": "nosuch"}, may, mayNot, mayNot},
		{"LIST", "transit/keys", nil, mayNot, may, mayNot},
		{"GET", "transit/keys/" + spare, nil, mayNot, may, mayNot},
		{"DELETE", "transit/keys/" + spare, nil, may, may, mayNot},
		{"GET", "auth/token/lookup-self", nil, may, may, mayNot},
		{"PUT", "auth/token/renew-self", none, may, may, mayNot},
		{"PUT", "sys/wrapping/wrap", map[string]any{"x": 1}, mayNot, mayNot, mayNot},
		// nobody's job
		{"GET", "transit/export/encryption-key/" + mine, nil, mayNot, mayNot, mayNot},
		{"GET", "transit/backup/" + mine, nil, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "release-loose", map[string]any{"type": "aes256-gcm96", "exportable": true}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "release-loose", map[string]any{"type": "rsa-2048"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + mine + "/config", map[string]any{"exportable": true}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + mine + "/config", map[string]any{"allow_plaintext_backup": true}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + mine + "/config", map[string]any{"min_decryption_version": 1}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + mine + "/trim", map[string]any{"min_available_version": 1}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "release-in/import", map[string]any{"ciphertext": "AAAA", "type": "aes256-gcm96"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/restore/" + p + "release-x", map[string]any{"backup": "AAAA"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/encrypt/" + mine, map[string]any{"plaintext": "AAAA"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/rewrap/" + mine, ciphertext, mayNot, mayNot, mayNot},
		{"PUT", "transit/decrypt/" + foreign, ciphertext, mayNot, mayNot, mayNot},
		{"PUT", "transit/datakey/plaintext/" + foreign, map[string]any{"bits": 256}, mayNot, mayNot, mayNot},
		{"DELETE", "transit/keys/" + foreign, nil, mayNot, mayNot, mayNot},
		{"PUT", "transit/decrypt/" + p + "derive", ciphertext, mayNot, mayNot, mayNot},
		{"GET", "transit/keys/" + p + "derive", nil, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "derive", map[string]any{"type": "aes256-gcm96"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "derive/rotate", none, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "derive/config", map[string]any{"deletion_allowed": true}, mayNot, mayNot, mayNot},
		{"DELETE", "transit/keys/" + p + "derive", nil, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "sign-new", map[string]any{"type": "ed25519"}, mayNot, mayNot, mayNot},
		{"PUT", "transit/keys/" + p + "sign-checkpoint/rotate", none, mayNot, mayNot, mayNot},
		{"DELETE", "transit/keys/" + p + "sign-checkpoint", nil, mayNot, mayNot, mayNot},
		{"GET", "transit/export/signing-key/" + p + "sign-checkpoint", nil, mayNot, mayNot, mayNot},
		{"PUT", "auth/token/create", none, mayNot, mayNot, mayNot},
		{"PUT", "auth/token/revoke", map[string]any{"token": "nosuch"}, mayNot, mayNot, mayNot},
		{"LIST", "auth/token/accessors", nil, mayNot, mayNot, mayNot},
		{"GET", "auth/approle/role/" + st.role + "/role-id", nil, mayNot, mayNot, mayNot},
		{"PUT", "auth/approle/role/" + st.role + "/secret-id", none, mayNot, mayNot, mayNot},
		{"GET", "sys/policies/acl/" + st.policy("gateway"), nil, mayNot, mayNot, mayNot},
		{"PUT", "sys/policies/acl/" + st.policy("gateway"), map[string]any{"policy": `path "*" { capabilities = ["read"] }`}, mayNot, mayNot, mayNot},
		{"GET", "sys/mounts", nil, mayNot, mayNot, mayNot},
		{"PUT", "sys/seal", none, mayNot, mayNot, mayNot},
		{"GET", "cubbyhole/x", nil, mayNot, mayNot, mayNot},
	}
	for _, role := range Roles() {
		c, err := clientOf(st.Address, st.token(t, role, "1h"))
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range calls {
			want := map[string]bool{"gateway": call.gateway, "operator": call.operator, "node": call.node}[role]
			if strings.HasSuffix(call.path, spare) && want && call.method != "PUT" { // it may have been deleted
				st.write(t, "transit/keys/"+spare, map[string]any{"type": "aes256-gcm96"})
				st.write(t, "transit/keys/"+spare+"/config", map[string]any{"deletion_allowed": true})
			}
			err := ask(c, call.method, call.path, call.data)
			forbidden := answered(err, http.StatusForbidden, "")
			if forbidden == want {
				t.Errorf("%s: %s %s %v: %v", role, call.method, call.path, call.data, err)
			}
			// What a role may do works, but for the questions about nothing.
			if want && err != nil && !strings.Contains(fmt.Sprint(call.data), "nosuch") {
				t.Errorf("%s: %s %s: %v", role, call.method, call.path, err)
			}
		}
	}
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("something above had an effect", err)
	}
	// The node's job, with a token of its own.
	token, err := i.Wrapped(t.Context(), l.ID, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientOf(st.Address, st.token(t, "node", "1h"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Logical().Unwrap(token)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := identity("test", got); err != nil || k.Recipient() != l.Recipient {
		t.Fatal("another key", err)
	}
}

func ask(c *api.Client, method, path string, data map[string]any) error {
	var err error
	switch method {
	case "PUT":
		_, err = c.Logical().Write(path, data)
	case "DELETE":
		_, err = c.Logical().Delete(path)
	case "LIST":
		_, err = c.Logical().List(path)
	default:
		_, err = c.Logical().Read(path)
	}
	return err
}

func TestPolicyForOtherNames(t *testing.T) {
	for _, role := range Roles() {
		plain, err := Policy(role, Config{})
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile("policies/" + role + ".hcl")
		if err != nil || plain != string(file) {
			t.Fatal("the shipped file is not that of the defaults", err)
		}
		other, err := Policy(role, Config{Mount: "team/keys", Prefix: "lab-"})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(other) {
			if strings.HasPrefix(line, "path") && (strings.Contains(line, "transit") || strings.Contains(line, "sallyport")) {
				t.Errorf("%s: %s", role, line)
			}
		}
		if role == "gateway" && !strings.Contains(other, `path "team/keys/decrypt/lab-release-*"`) {
			t.Error(other)
		}
	}
	_, err := Policy("../gateway", Config{})
	wantKind(t, err, sallyport.NotFound)
	_, err = Policy("gateway", Config{Prefix: `x" { }`})
	wantKind(t, err, sallyport.Invalid)
}
