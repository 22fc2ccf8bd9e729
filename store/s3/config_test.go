package s3_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/internal/strict"
	"sallyport/store/s3"
)

type (
	httpWriter  = http.ResponseWriter
	httpRequest = http.Request
	httpHandler = http.Handler
	httpFunc    = http.HandlerFunc
)

func fetch(t *testing.T, link string) string {
	t.Helper()
	return request(t, http.MethodGet, link)
}

func request(t *testing.T, method, link string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b = nil
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, b))
}

func TestLink(t *testing.T) {
	srv := serve(t, false)
	s := open(t, config(t, srv.addr))
	put(t, s, "a b/größe.csv", "text")
	put(t, s, "other", "another text")
	link, err := s.Link(t.Context(), ref("a b/größe.csv"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(link, secretKey) {
		t.Fatal("the link tells the secret key")
	}
	if got := fetch(t, link); got != "200 text" {
		t.Fatal(got)
	}
	_, query, _ := strings.Cut(link, "?")
	if got := fetch(t, "http://"+srv.addr+"/"+bucket+"/other?"+query); got != "403" {
		t.Fatalf("it opens another object: %s", got)
	}
	if got := request(t, http.MethodPut, link); got != "403" {
		t.Fatalf("it writes: %s", got)
	}
	if got := fetch(t, strings.Replace(link, "X-Amz-Expires=60", "X-Amz-Expires=6000", 1)); got != "403" {
		t.Fatalf("it can be prolonged: %s", got)
	}
	for _, ttl := range []time.Duration{0, -time.Second, time.Second - 1, 7*24*time.Hour + 1} {
		_, err := s.Link(t.Context(), ref("other"), ttl)
		wantKind(t, err, sallyport.Invalid)
	}
	_, err = s.Link(t.Context(), ref("../x"), time.Minute)
	wantKind(t, err, sallyport.Invalid)
	_, err = s.Link(t.Context(), sallyport.Ref{Store: "lab", Key: "k", Version: "1"}, time.Minute)
	wantKind(t, err, sallyport.Unsupported)
}

func TestBadConfig(t *testing.T) {
	plain, secure := false, true
	good := s3.Config{Endpoint: "127.0.0.1:1", Bucket: bucket, Secure: &plain, CredentialsFile: secretFile(t, accessKey, secretKey)}
	for what, change := range map[string]func(*s3.Config){
		"no endpoint":         func(c *s3.Config) { c.Endpoint = "" },
		"a scheme":            func(c *s3.Config) { c.Endpoint = "http://127.0.0.1:1" },
		"a path":              func(c *s3.Config) { c.Endpoint = "127.0.0.1:1/path" },
		"credentials in it":   func(c *s3.Config) { c.Endpoint = "user:pw@127.0.0.1:1" },
		"plain HTTP":          func(c *s3.Config) { c.Endpoint = "192.0.2.1:9000" },
		"plain HTTP, name":    func(c *s3.Config) { c.Endpoint = "s3.example.org" },
		"plain HTTP, local":   func(c *s3.Config) { c.Endpoint = "localhost:9000" },
		"plain HTTP, any":     func(c *s3.Config) { c.Endpoint = "0.0.0.0:9000" },
		"plain HTTP, trick":   func(c *s3.Config) { c.Endpoint = "127.0.0.1.example.org:9000" },
		"no bucket":           func(c *s3.Config) { c.Bucket = "" },
		"bucket with a slash": func(c *s3.Config) { c.Bucket = "a/b" },
		"bucket in capitals":  func(c *s3.Config) { c.Bucket = "Bucket" },
		"prefix that leaves":  func(c *s3.Config) { c.Prefix = "a/../../b" },
		"absolute prefix":     func(c *s3.Config) { c.Prefix = "/a" },
		"empty in prefix":     func(c *s3.Config) { c.Prefix = "a//" },
		"small parts":         func(c *s3.Config) { c.PartSize = 1 << 20 },
		"large parts":         func(c *s3.Config) { c.PartSize = 1 << 40 },
		"negative parts":      func(c *s3.Config) { c.PartSize = -1 },
		"unknown sse":         func(c *s3.Config) { c.SSE = "S3" },
		"sse without key":     func(c *s3.Config) { c.SSE = "kms:" },
		"no CA file":          func(c *s3.Config) { c.CAFile = filepath.Join(t.TempDir(), "none") },
		"CA file of secrets":  func(c *s3.Config) { c.CAFile = c.CredentialsFile },
		"no credentials":      func(c *s3.Config) { c.CredentialsFile = filepath.Join(t.TempDir(), "none") },
		"credentials folder":  func(c *s3.Config) { c.CredentialsFile = t.TempDir() },
		"TLS, then no host":   func(c *s3.Config) { c.Secure, c.Endpoint = &secure, ":" },
	} {
		c := good
		change(&c)
		_, err := s3.Open("lab", c)
		if err == nil {
			t.Errorf("%s is accepted", what)
			continue
		}
		wantKind(t, err, sallyport.Invalid)
		if strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s, err := s3.Open("lab", good); err != nil { // nobody listens there: that may change
		t.Fatal(err)
	} else {
		_, err := s.Open(t.Context(), ref("k"))
		wantKind(t, err, sallyport.Unavailable)
	}
}

func TestConfigIsYAML(t *testing.T) {
	d, err := strict.Parse("test", []byte("endpoint: s3.example.org\nbucket: lab\nprefix: hold\nregion: eu-central-1\nsecure: true\nca_file: ca.pem\ncredentials_file: s3.yaml\nsse: kms:lab\nversioned: true\npart_size: 33554432\nstale_uploads: 72h\n"))
	if err != nil {
		t.Fatal(err)
	}
	var c s3.Config
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if c.Endpoint != "s3.example.org" || c.Secure == nil || !*c.Secure || c.PartSize != 32<<20 || c.StaleUploads != 72*time.Hour || c.SSE != "kms:lab" || !c.Versioned {
		t.Fatalf("%+v", c)
	}
}

func TestBadCredentials(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	for what, file := range map[string]string{"secret": secretFile(t, accessKey, "not-the-"+secretKey), "access key": secretFile(t, "nobody", secretKey)} {
		cfg.CredentialsFile = file
		_, err := s3.Open("lab", cfg)
		if err == nil {
			t.Fatalf("a wrong %s is accepted", what)
		}
		wantKind(t, err, sallyport.Denied)
		if !strings.Contains(sallyport.HintOf(err), "credentials_file") {
			t.Errorf("%s: hint %q", what, sallyport.HintOf(err))
		}
	}
	for what, text := range map[string]string{
		"half a file":    "access_key: a\n",
		"unknown key":    "access_key: a\nsecret_key: " + secretKey + "\nsecret: " + secretKey + "\n",
		"not YAML":       "access_key: [" + secretKey,
		"another format": "[default]\naws_secret_access_key = " + secretKey + "\n",
		"empty":          "",
	} {
		if err := os.WriteFile(cfg.CredentialsFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s3.Open("lab", cfg)
		if err == nil {
			t.Fatalf("%s is accepted", what)
		}
		wantKind(t, err, sallyport.Invalid)
	}
	cfg.CredentialsFile = secretFile(t, accessKey, secretKey)
	if err := os.Chmod(cfg.CredentialsFile, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := s3.Open("lab", cfg)
	wantKind(t, err, sallyport.Invalid)
	if !strings.Contains(sallyport.HintOf(err), "0600") {
		t.Fatal(sallyport.HintOf(err))
	}
}

func TestCredentialsOfTheEnvironment(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	cfg.CredentialsFile = ""
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SESSION_TOKEN", "")
	_, err := s3.Open("lab", cfg)
	wantKind(t, err, sallyport.Invalid)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	put(t, open(t, cfg), "k", "text")
}

// TestCredentialsThatChange: leased credentials are written anew while the
// store is open.
func TestCredentialsThatChange(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	s := open(t, cfg)
	put(t, s, "k", "text")
	write := func(text string) {
		t.Helper()
		// As an agent does it: aside, then in place.
		next := cfg.CredentialsFile + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, cfg.CredentialsFile); err != nil {
			t.Fatal(err)
		}
	}
	write("access_key: revoked\nsecret_key: " + secretKey + "\n")
	_, err := s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Denied)
	write("half")
	_, err = s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Invalid)
	if err := os.Remove(cfg.CredentialsFile); err != nil {
		t.Fatal(err)
	}
	_, err = s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Invalid)
	write("access_key: " + accessKey + "\nsecret_key: " + secretKey + "\n")
	if got := get(t, s, ref("k")); got != "text" {
		t.Fatal(got)
	}
}

// TestTLS: only the authority that is named is believed.
func TestTLS(t *testing.T) {
	srv := serve(t, false)
	var forward http.Handler
	srv.proxy(t, func(f http.Handler) http.Handler { forward = f; return f })
	front := httptest.NewUnstartedServer(forward)
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // refusals are what is tested
	front.StartTLS()
	defer front.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t, front.Listener.Addr().String())
	cfg.Secure = nil
	s := open(t, cfg) // as with any server that does not answer as it should
	_, err := s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Unavailable)
	if !strings.Contains(sallyport.HintOf(err), "ca_file") {
		t.Fatalf("%v: hint %q", err, sallyport.HintOf(err))
	}
	cfg.CAFile = ca
	s = open(t, cfg)
	put(t, s, "k", "text")
	if got := get(t, s, ref("k")); got != "text" {
		t.Fatal(got)
	}
	// A server without TLS is none.
	cfg.Endpoint = srv.addr
	_, err = open(t, cfg).Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Unavailable)
}

func TestAbsentBucket(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	cfg.Bucket = "absent-bucket"
	s := open(t, cfg)
	_, err := s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Unavailable)
	if !strings.Contains(sallyport.HintOf(err), "Create the bucket") {
		t.Fatal(sallyport.HintOf(err))
	}
}
