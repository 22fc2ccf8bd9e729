package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport/gateway/control"
	"sallyport/internal/testkit"
)

// s3Lab is a real gateway with an S3 door, and an access key for it.
type s3Lab struct {
	*lab
	client   *control.Client
	endpoint string
	env      []string
}

func newS3Lab(t *testing.T) *s3Lab { return newS3LabWith(t, "plain: true") }

func newS3LabWith(t *testing.T, how string) *s3Lab {
	t.Helper()
	l := newLab(t)
	file := filepath.Join(l.dir, "sallyport.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	b = append(b, fmt.Sprintf("\ns3:\n  listen: 127.0.0.1:%d\n  %s\n", port, how)...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if l.cfg, err = loadConfig(file); err != nil {
		t.Fatal(err)
	}
	s := &s3Lab{lab: l, client: l.start(""), endpoint: fmt.Sprintf("http://127.0.0.1:%d", port)}
	k, err := s.client.NewAccess(t.Context(), control.AccessRequest{As: "researcher", Project: "pilot", Purpose: "research", Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(without(os.Environ(), "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), "AWS_ACCESS_KEY_ID="+k.ID, "AWS_SECRET_ACCESS_KEY="+k.Secret, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ENDPOINT_URL="+s.endpoint, "ENDPOINT="+s.endpoint, "HOME="+t.TempDir(), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
	return s
}

// run runs a client and returns what it printed.
func (s *s3Lab) run(name string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env, c.Dir = s.env, s.t.TempDir()
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// need skips a client's test by name where the client is absent; ./check
// installs it, so that under CI it is there.
func need(t *testing.T, program string) string {
	t.Helper()
	p, err := exec.LookPath(program)
	if err == nil {
		return p
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is absent: %v", program, err)
	}
	t.Skipf("needs %s", program)
	return ""
}

// TestS3Clients runs the clients that researchers have, unchanged, against a
// real gateway: what they are given passed both doors.
func TestS3Clients(t *testing.T) {
	s := newS3Lab(t)
	pat := func(t *testing.T, got string) {
		t.Helper()
		if strings.Contains(got, "M0000") || !strings.Contains(got, "mrn,age,sex,zip") && !strings.Contains(got, "mrn,contact") {
			t.Errorf("not the view: %.200s", got)
		}
	}
	big := filepath.Join(t.TempDir(), "big.bin")
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 1<<20), 0o600); err != nil { // 16 MiB: several parts
		t.Fatal(err)
	}
	same := func(t *testing.T, file string) {
		t.Helper()
		a, err := os.ReadFile(big)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s came back different", file)
		}
	}
	t.Run("aws", func(t *testing.T) {
		aws := need(t, "aws")
		s := &s3Lab{&lab{t: t}, s.client, s.endpoint, s.env}
		do := func(args ...string) string {
			return s.run(aws, append([]string{"--endpoint-url", s.endpoint, "s3"}, args...)...)
		}
		if out := do("ls"); !strings.Contains(out, "patients") || !strings.Contains(out, "scratch") {
			t.Errorf("ls: %s", out)
		}
		dir := t.TempDir()
		do("sync", "s3://patients", dir)
		b, err := os.ReadFile(filepath.Join(dir, "patients.csv"))
		if err != nil {
			t.Fatal(err)
		}
		pat(t, string(b))
		if out := do("sync", "s3://patients", dir); strings.Contains(out, "download") {
			t.Errorf("a second sync copied again: %s", out)
		}
		do("cp", big, "s3://scratch/aws/big.bin")
		do("cp", "s3://scratch/aws/big.bin", filepath.Join(dir, "back.bin"))
		same(t, filepath.Join(dir, "back.bin"))
		do("cp", filepath.Join(dir, "patients.csv"), "s3://patients/inbox/more.csv")
		do("rm", "s3://scratch/aws/big.bin")
	})
	t.Run("rclone", func(t *testing.T) {
		rclone := need(t, "rclone")
		s := &s3Lab{&lab{t: t}, s.client, s.endpoint, s.env}
		dir := t.TempDir()
		do := func(args ...string) string {
			return s.run(rclone, append([]string{"--config", os.DevNull, "--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", s.endpoint, "--s3-force-path-style"}, args...)...)
		}
		do("copy", "--checksum", ":s3:patients", dir)
		b, err := os.ReadFile(filepath.Join(dir, "patients.csv"))
		if err != nil {
			t.Fatal(err)
		}
		pat(t, string(b))
		do("copyto", "--s3-no-check-bucket", big, ":s3:scratch/rclone/big.bin")
		do("copyto", ":s3:scratch/rclone/big.bin", filepath.Join(dir, "back.bin"))
		same(t, filepath.Join(dir, "back.bin"))
	})
	t.Run("s3cmd", func(t *testing.T) {
		s3cmd := need(t, "s3cmd")
		s := &s3Lab{&lab{t: t}, s.client, s.endpoint, s.env}
		host := strings.TrimPrefix(s.endpoint, "http://")
		do := func(args ...string) string {
			return s.run(s3cmd, append([]string{"--host", host, "--host-bucket", host, "--no-ssl", "--region", "us-east-1", "--config", os.DevNull,
				"--access_key", value(s.env, "AWS_ACCESS_KEY_ID"), "--secret_key", value(s.env, "AWS_SECRET_ACCESS_KEY")}, args...)...)
		}
		file := filepath.Join(t.TempDir(), "p.csv")
		do("get", "s3://patients/patients.csv", file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pat(t, string(b))
		do("put", file, "s3://scratch/s3cmd/p.csv")
		do("del", "s3://scratch/s3cmd/p.csv")
	})
	t.Run("python", func(t *testing.T) {
		py := testkit.Python(t, "boto3", "s3fs", "pandas", "duckdb")
		s := &s3Lab{&lab{t: t}, s.client, s.endpoint, s.env}
		out := s.run(py, "-c", `
import os, io, boto3, pandas, s3fs, duckdb
from boto3.s3.transfer import TransferConfig
e = os.environ["ENDPOINT"]
from botocore.config import Config # presigned links of boto3 are SigV2 for such an endpoint otherwise
s3 = boto3.client("s3", endpoint_url=e, config=Config(signature_version="s3v4"))
s3.download_file("patients", "patients.csv", "p.csv")
assert "M0000" not in open("p.csv").read()
head = s3.head_object(Bucket="patients", Key="patients.csv")
assert head["ContentLength"] == os.path.getsize("p.csv")
part = s3.get_object(Bucket="patients", Key="patients.csv", Range="bytes=10-19")
assert part["Body"].read() == open("p.csv", "rb").read()[10:20]
url = s3.generate_presigned_url("get_object", Params={"Bucket": "patients", "Key": "patients.csv"}, ExpiresIn=60)
import urllib.request
assert urllib.request.urlopen(url).read() == open("p.csv", "rb").read()
s3.upload_file("p.csv", "scratch", "py/p.csv")
try:
    s3.put_object(Bucket="patients", Key="patients.csv", Body=b"x")
    raise SystemExit("a dataset was overwritten")
except s3.exceptions.ClientError as err:
    assert err.response["Error"]["Code"] == "AccessDenied", err
    assert "inbox" in err.response["Error"]["Message"], err
so = {"endpoint_url": e}
df = pandas.read_csv("s3://patients/patients.csv", storage_options=so)
assert len(df) == 6000, len(df)
duckdb.register_filesystem(s3fs.S3FileSystem(endpoint_url=e))
(n,), = duckdb.sql("select count(*) from read_csv('s3://patients/patients.csv') where age > 40").fetchall()
print("rows", len(df), "older", n)
`)
		if !strings.Contains(out, "rows 6000") {
			t.Errorf("%s", out)
		}
	})
	s.stop()
	s.noPlaintext("after the clients")
}

// TestS3KeyEnds: a revoked key is refused at once, and a stranger is recorded.
func TestS3KeyEnds(t *testing.T) {
	s := newS3Lab(t)
	aws := need(t, "aws")
	s.run(aws, "--endpoint-url", s.endpoint, "s3", "ls", "s3://patients")
	if err := s.client.Revoke(t.Context(), value(s.env, "AWS_ACCESS_KEY_ID"), ""); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), aws, "--endpoint-url", s.endpoint, "s3", "ls", "s3://patients")
	c.Env = s.env
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "InvalidAccessKeyId") {
		t.Errorf("%v %s", err, out)
	}
}

// TestS3OverTLS trusts the certificate that the gateway made for itself, and
// nobody else's.
func TestS3OverTLS(t *testing.T) {
	s := newS3LabWith(t, "region: us-east-1")
	pem, err := os.ReadFile(filepath.Join(s.dir, "state", "tls", "certificate.pem"))
	if err != nil {
		list, _ := filepath.Glob(filepath.Join(s.dir, "state", "tls", "*"))
		t.Fatalf("%v, there is %v", err, list)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}
	host := strings.TrimPrefix(s.endpoint, "http://")
	for name, trusted := range map[string]*x509.CertPool{"its own": pool, "nobody's": x509.NewCertPool()} {
		m, err := minio.New(host, &minio.Options{Creds: credentials.NewStaticV4(value(s.env, "AWS_ACCESS_KEY_ID"), value(s.env, "AWS_SECRET_ACCESS_KEY"), ""),
			Secure: true, Region: "us-east-1", MaxRetries: 1, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}})
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.StatObject(t.Context(), "patients", "patients.csv", minio.StatObjectOptions{})
		if trusted == pool && (err != nil || info.Size == 0) || trusted != pool && err == nil {
			t.Errorf("trusting %s: %+v, %v", name, info, err)
		}
	}
}

// without leaves variables out: clients of an endpoint without TLS refuse some.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(names, name)
	})
}

// freePort returns a port of loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func value(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
