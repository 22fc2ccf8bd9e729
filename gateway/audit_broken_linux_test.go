package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/gateway/s3door"
)

// oneKey is ada's.
type oneKey struct{}

func (oneKey) Lookup(string) (string, gateway.Access, error) { return "a secret", ada(), nil }

// s3Client opens an S3 door to a gateway and returns a client of it.
func s3Client(t *testing.T, g *gateway.Gateway) *minio.Client {
	t.Helper()
	door, err := s3door.New(s3door.Parts{Views: g, Keys: oneKey{}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(door)
	t.Cleanup(srv.Close)
	c, err := minio.New(strings.TrimPrefix(srv.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("AKIDEXAMPLE", "a secret", ""), Region: "us-east-1", MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// breakSync puts /dev/null in the place of an open file: writes seem to
// succeed, and a sync fails (EINVAL), as on a disk that lost what it had taken.
func breakSync(t *testing.T, path string) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		fd, _ := strconv.Atoi(e.Name())
		if at, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && at == path {
			if err := syscall.Dup3(int(null.Fd()), fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s is not open", path)
}

// Invariant 1, for good: after an error of a sync of the audit log nothing is
// served and no job is taken, whatever the disk says later, until a restart.
func TestASyncErrorStopsServing(t *testing.T) {
	var path string
	l := newLab(t, func(l *lab) {
		path = filepath.Join(t.TempDir(), "broken.db")
		log, err := audit.Open(audit.Config{Path: path, Origin: "lab", Seed: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		l.parts.Audit = log
	})
	serve := map[string]func() error{
		"list":     func() error { _, err := l.g.Objects(t.Context(), ada(), "patients", ""); return err },
		"view":     func() error { return look(t, l, "patients", "patients.csv") },
		"raw view": func() error { return look(t, l, "open", "open.csv") },
	}
	for name, f := range serve {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	s3 := s3Client(t, l.g)
	get := func() (int, error) {
		_, err := s3.StatObject(t.Context(), "patients", "patients.csv", minio.StatObjectOptions{})
		return minio.ToErrorResponse(err).StatusCode, err
	}
	if _, err := get(); err != nil {
		t.Fatal(err)
	}
	whole := l.parts.Audit.Size()
	breakSync(t, path)
	l.issuer.onFetch = func(string) { t.Error("a key was fetched without a record") }
	for range 2 {
		for name, f := range serve {
			if err := f(); sallyport.KindOf(err) != sallyport.Unavailable {
				t.Errorf("%s after the error: %v", name, err)
			}
		}
	}
	if status, err := get(); status != http.StatusServiceUnavailable {
		t.Errorf("the S3 door answers %d: %v", status, err)
	}
	if l.parts.Audit.Err() == nil {
		t.Error("the log does not know of its error")
	}
	if _, err := l.g.Submit(t.Context(), request("late", "patients", sallyport.Outside)); sallyport.KindOf(err) != sallyport.Unavailable || sallyport.HintOf(err) == "" {
		t.Errorf("a job was taken that nothing can be recorded of: %v", err)
	}
	if _, err := l.g.Job("late"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("the refused job is there: %v", err)
	}

	// What was acknowledged is there after the restart.
	l.g.Stop()
	if err := l.parts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := audit.Verify(path, audit.VerifyOptions{})
	if err != nil || !v.Whole || v.Records < whole {
		t.Errorf("%d records were acknowledged: %+v, %v", whole, v, err)
	}
}

func look(t *testing.T, l *lab, dataset, key string) error {
	o, err := l.g.Open(t.Context(), ada(), dataset, key)
	if err != nil {
		return err
	}
	readAll(t, o)
	return o.Close()
}
