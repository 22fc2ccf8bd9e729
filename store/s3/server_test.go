package s3_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport"
	"sallyport/internal/testkit"
	"sallyport/store"
	"sallyport/store/s3"
)

const (
	accessKey = "test-access-key"
	secretKey = "test-secret-key-not-for-logs"
	bucket    = "lab-data"
)

// server is a versitygw over a folder, with one bucket.
type server struct {
	addr  string
	admin minio.Core // sees what the store does not show
}

// serve starts a server that ends with the test.
func serve(t *testing.T, versions bool) *server {
	t.Helper()
	tool := testkit.Tool(t, "versitygw")
	root := t.TempDir()
	args := []string{"--quiet", "--keep-alive", "--region", "us-east-1", "posix"}
	for _, d := range []string{"objects", "versions"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if versions {
		args = append(args, "--versioning-dir", filepath.Join(root, "versions"))
	}
	args = append(args, filepath.Join(root, "objects"))
	var said string
	for range 3 { // somebody else may take the port between
		addr := freePort(t)
		cmd := exec.Command(tool, append([]string{"--port", addr}, args...)...)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+accessKey, "ROOT_SECRET_ACCESS_KEY="+secretKey)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		if !answers(addr, exited) {
			cmd.Process.Kill()
			<-exited
			said = out.String()
			continue
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			<-exited
		})
		core, err := minio.NewCore(addr, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := core.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		if versions {
			if err := core.EnableVersioning(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
		}
		return &server{addr: addr, admin: *core}
	}
	t.Fatalf("versitygw does not serve: %s", said)
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func answers(addr string, exited chan error) bool {
	for range 1000 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return true
		}
		select {
		case err := <-exited:
			exited <- err
			return false
		case <-time.After(10 * time.Millisecond): // it has no other way to say that it is there
		}
	}
	return false
}

// uploads are the multipart uploads that the server holds unfinished.
func (s *server) uploads(t *testing.T) []minio.ObjectMultipartInfo {
	t.Helper()
	r, err := s.admin.ListMultipartUploads(t.Context(), bucket, "", "", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return r.Uploads
}

// proxy stands between store and server and may change what passes.
func (s *server) proxy(t *testing.T, wrap func(forward http.Handler) http.Handler) string {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: s.addr}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		// A client that goes away is no news.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: wrap(p)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return l.Addr().String()
}

func secretFile(t *testing.T, access, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(path, []byte("access_key: "+access+"\nsecret_key: "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(t *testing.T, addr string) s3.Config {
	t.Helper()
	plain := false
	return s3.Config{Endpoint: addr, Bucket: bucket, Secure: &plain, CredentialsFile: secretFile(t, accessKey, secretKey)}
}

func open(t *testing.T, cfg s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.Open("lab", cfg)
	if err != nil {
		t.Fatal(err, sallyport.HintOf(err))
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ref(key string) sallyport.Ref { return sallyport.Ref{Store: "lab", Key: key} }

func put(t *testing.T, s store.Store, key, text string) store.Info {
	t.Helper()
	info, err := s.Put(t.Context(), ref(key), func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func get(t *testing.T, s store.Store, ref sallyport.Ref) string {
	t.Helper()
	o, err := s.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantKind also looks for what no error may tell.
func wantKind(t *testing.T, err error, kind sallyport.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || sallyport.KindOf(err) != kind {
		t.Fatalf("error %v of kind %q, want %q", err, sallyport.KindOf(err), kind)
	}
	for _, secret := range []string{secretKey, "Signature=", "X-Amz-Signature", "AWS4-HMAC", "session-token-not-for-logs"} {
		if strings.Contains(err.Error()+sallyport.HintOf(err), secret) {
			t.Fatalf("the error tells a secret: %v", err)
		}
	}
}
