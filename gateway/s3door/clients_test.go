package s3door

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// TestMinioClient drives the door with minio-go, in the clear (where it signs
// each chunk) and over TLS (where it sends trailing checksums).
func TestMinioClient(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, trailing := range []bool{false, true} {
			name := map[bool]string{false: "http", true: "https"}[secure] + map[bool]string{true: "-trailing"}[trailing]
			t.Run(name, func(t *testing.T) {
				l := startLab(t, secure)
				c, err := minio.New(l.srv.Listener.Addr().String(), &minio.Options{
					Creds: credentials.NewStaticV4(testKey, testSecret, ""), Secure: secure, TrailingHeaders: trailing,
					Transport: l.srv.Client().Transport, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
				})
				if err != nil {
					t.Fatal(err)
				}
				minioTour(t, l, c)
			})
		}
	}
}

func minioTour(t *testing.T, l *lab, c *minio.Client) {
	ctx := t.Context()
	buckets, err := c.ListBuckets(ctx)
	if err != nil || len(buckets) != 2 {
		t.Fatal(buckets, err)
	}
	if ok, err := c.BucketExists(ctx, "ward"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if ok, err := c.BucketExists(ctx, "nowhere"); err != nil || ok {
		t.Fatal(ok, err)
	}
	for name, size := range map[string]int{"empty": 0, "one": 1, "täglich a+b.csv": 200000, "big": 20 << 20} {
		data := bytes.Repeat([]byte{'x'}, size)
		up, err := c.PutObject(ctx, "inbox", "dir/"+name, bytes.NewReader(data), int64(size), minio.PutObjectOptions{PartSize: 8 << 20, UserMetadata: map[string]string{"mtime": "1"}})
		if err != nil {
			t.Errorf("put %s: %v", name, err)
			continue
		}
		st, err := c.StatObject(ctx, "inbox", "dir/"+name, minio.StatObjectOptions{})
		if err != nil || st.Size != int64(size) {
			t.Errorf("stat %s: %d %v (%s)", name, st.Size, err, up.ETag)
		}
		o, err := c.GetObject(ctx, "inbox", "dir/"+name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("get %s: %d bytes, %v", name, len(got), err)
		}
	}
	o, err := c.GetObject(ctx, "inbox", "dir/big", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := o.ReadAt(make([]byte, 10), 20<<20-5); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("a range at the end: %d %v", n, err)
	}
	n := 0
	for o := range c.ListObjects(ctx, "inbox", minio.ListObjectsOptions{Prefix: "dir/", Recursive: true, MaxKeys: 2}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
	}
	if n != 4 {
		t.Errorf("%d objects listed", n)
	}
	for o := range c.ListObjects(ctx, "inbox", minio.ListObjectsOptions{UseV1: true}) {
		if o.Err != nil || o.Key != "dir/" {
			t.Errorf("%+v", o)
		}
	}
	u, err := c.PresignedGetObject(ctx, "inbox", "dir/one", time.Minute, url.Values{"response-content-type": {"text/x"}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.srv.Client().Get(u.String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/x" {
		t.Error(res.Status, res.Header)
	}
	if u, err = c.PresignedPutObject(ctx, "inbox", "presigned", time.Minute); err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(ctx, "PUT", u.String(), strings.NewReader("hello"))
	if res, err = l.srv.Client().Do(r); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, _ := l.mem.object("inbox", "presigned"); res.StatusCode != 200 || string(got) != "hello" {
		t.Error(res.Status, string(got))
	}
	l.mem.deny("ward", "not for you")
	_, err = c.StatObject(ctx, "ward", "a", minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).Code != "AccessDenied" {
		t.Error(err)
	}
	if o, err = c.GetObject(ctx, "ward", "a", minio.GetObjectOptions{}); err == nil {
		_, err = io.ReadAll(o)
	}
	if e := minio.ToErrorResponse(err); e.Code != "AccessDenied" || !strings.Contains(e.Message, "not for you") {
		t.Error(err)
	}
	objects := make(chan minio.ObjectInfo, 2)
	objects <- minio.ObjectInfo{Key: "dir/one"}
	objects <- minio.ObjectInfo{Key: "dir/empty"}
	close(objects)
	for e := range c.RemoveObjects(ctx, "inbox", objects, minio.RemoveObjectsOptions{}) {
		t.Error(e)
	}
	if err := c.RemoveObject(ctx, "inbox", "dir/big", minio.RemoveObjectOptions{}); err != nil {
		t.Error(err)
	}
	if n := l.mem.count("inbox"); n != 2 {
		t.Errorf("%d objects are left", n)
	}
	if err := c.MakeBucket(ctx, "another", minio.MakeBucketOptions{}); minio.ToErrorResponse(err).Code != "NotImplemented" {
		t.Error(err)
	}
}

// program returns the path of a client that the test needs, or skips. Where
// ./check installs it, its absence is a failure in CI.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err == nil {
		return p
	}
	if check, _ := os.ReadFile("../../check"); os.Getenv("CI") == "true" && bytes.Contains(check, []byte("need "+name+" ")) {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run runs a client of the door.
func (l *lab) run(dir string, name string, args ...string) (string, error) {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), name, args...)
	cmd.Dir = dir
	ca := filepath.Join(dir, "ca.pem")
	if cert := l.srv.Certificate(); cert != nil {
		writeFile(l.t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret, "AWS_DEFAULT_REGION=us-east-1", "AWS_CA_BUNDLE="+ca,
		"AWS_CONFIG_FILE="+filepath.Join(dir, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(dir, "none"), "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1",
		"HOME="+dir, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "ENDPOINT="+l.srv.URL)
	if l.srv.Certificate() == nil {
		cmd.Env = append(cmd.Env, "AWS_CA_BUNDLE=")
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const boto = `
import os, sys, io, boto3
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'], config=Config(s3={'addressing_style': 'path'}, signature_version='s3v4', retries={'max_attempts': 1}))
assert sorted(b['Name'] for b in s3.list_buckets()['Buckets']) == ['inbox', 'ward']
s3.head_bucket(Bucket='ward')
for name, size in [('empty', 0), ('t\u00e4glich a+b.csv', 200000), ('big', 20 << 20)]:
    data = os.urandom(size)
    s3.upload_fileobj(io.BytesIO(data), 'inbox', 'dir/' + name)
    out = io.BytesIO()
    s3.download_fileobj('inbox', 'dir/' + name, out)
    assert out.getvalue() == data, name
    assert s3.get_object(Bucket='inbox', Key='dir/' + name)['Body'].read() == data
for algorithm in ['CRC32', 'SHA1', 'SHA256']:
    try:
        s3.put_object(Bucket='inbox', Key='sum', Body=b'hello', ChecksumAlgorithm=algorithm)
    except TypeError:
        pass
    except Exception as e:
        if 'Unknown parameter' not in str(e): raise
assert s3.get_object(Bucket='inbox', Key='dir/big', Range='bytes=5-9')['ContentRange'] == 'bytes 5-9/%d' % (20 << 20)
keys = [o['Key'] for p in s3.get_paginator('list_objects_v2').paginate(Bucket='inbox', Prefix='dir/', PaginationConfig={'PageSize': 2}) for o in p['Contents']]
assert keys == ['dir/big', 'dir/empty', 'dir/t\u00e4glich a+b.csv'], keys
assert [p['Prefix'] for p in s3.list_objects(Bucket='inbox', Delimiter='/')['CommonPrefixes']] == ['dir/']
import urllib.request, ssl
ctx = ssl.create_default_context(cafile=os.environ['AWS_CA_BUNDLE']) if os.environ['AWS_CA_BUNDLE'] else None
url = s3.generate_presigned_url('get_object', Params={'Bucket': 'inbox', 'Key': 'dir/big'}, ExpiresIn=60)
assert len(urllib.request.urlopen(url, context=ctx).read()) == 20 << 20
def code(f, **k):
    try: f(**k)
    except ClientError as e: return e.response['Error']['Code'] + ' ' + e.response['Error']['Message']
    return 'none'
assert code(s3.get_object, Bucket='ward', Key='a').startswith('AccessDenied open view: not for you'), code(s3.get_object, Bucket='ward', Key='a')
assert code(s3.get_object, Bucket='inbox', Key='gone').startswith('NoSuchKey')
assert code(s3.create_bucket, Bucket='another').startswith('NotImplemented')
assert code(s3.get_object, Bucket='inbox', Key='dir/empty', Range='bytes=5-').startswith('InvalidRange')
s3.delete_objects(Bucket='inbox', Delete={'Objects': [{'Key': k} for k in keys]})
assert 'Contents' not in s3.list_objects_v2(Bucket='inbox', Prefix='dir/')
print('boto3', boto3.__version__, 'done')
`

func TestBoto3(t *testing.T) {
	python := program(t, "python3")
	if err := exec.Command(python, "-c", "import boto3").Run(); err != nil {
		t.Skip("boto3 is not installed")
	}
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			l := startLab(t, secure)
			l.mem.deny("ward", "not for you")
			out, err := l.run(t.TempDir(), python, "-c", boto)
			if err != nil || !strings.Contains(out, "done") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestAWSCommand(t *testing.T) {
	aws := program(t, "aws")
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			l, dir := startLab(t, secure), t.TempDir()
			writeFile(t, filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 20<<16))
			if err := os.Mkdir(filepath.Join(dir, "src"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "src", "a b.csv"), []byte("x,y\n"))
			writeFile(t, filepath.Join(dir, "src", "ä.csv"), []byte("x,y\n1,2\n"))
			s3 := func(args ...string) string {
				t.Helper()
				out, err := l.run(dir, aws, append([]string{"--endpoint-url", l.srv.URL, "s3"}, args...)...)
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
				return out
			}
			s3("ls")
			s3("cp", "big", "s3://inbox/big")
			s3("cp", "s3://inbox/big", "back")
			if a, b := read(t, dir, "big"), read(t, dir, "back"); !bytes.Equal(a, b) {
				t.Error("other bytes came back")
			}
			s3("sync", "src", "s3://inbox/src")
			s3("sync", "s3://inbox/src", "dst")
			if out := s3("sync", "s3://inbox/src", "dst"); strings.Contains(out, "download") {
				t.Errorf("the second sync copies again: %s", out)
			}
			if string(read(t, dir, "dst", "ä.csv")) != "x,y\n1,2\n" {
				t.Error("other bytes came back")
			}
			s3("rm", "--recursive", "s3://inbox/")
			if l.mem.count("inbox") != 0 {
				t.Error("objects are left")
			}
			l.mem.deny("ward", "not for you")
			if out, err := l.run(dir, aws, "--endpoint-url", l.srv.URL, "s3", "ls", "s3://ward/"); err == nil || !strings.Contains(out, "not for you") {
				t.Errorf("%v %s", err, out)
			}
		})
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestS3cmd(t *testing.T) {
	s3cmd := program(t, "s3cmd")
	l, dir := newLab(t), t.TempDir()
	writeFile(t, filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 20<<16))
	s3 := func(args ...string) {
		t.Helper()
		host := l.srv.Listener.Addr().String()
		out, err := l.run(dir, s3cmd, append([]string{"--config", "none", "--no-ssl", "--access_key", testKey, "--secret_key", testSecret, "--region", "us-east-1",
			"--host", host, "--host-bucket", host, "--no-progress"}, args...)...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	writeFile(t, filepath.Join(dir, "none"), nil)
	writeFile(t, filepath.Join(dir, "small"), []byte("x,y\n"))
	s3("ls")
	s3("put", "small", "s3://inbox/s p.csv")
	s3("put", "--multipart-chunk-size-mb=8", "big", "s3://inbox/big")
	s3("ls", "s3://inbox/")
	s3("get", "s3://inbox/big", "back")
	s3("get", "s3://inbox/s p.csv", "small2")
	if !bytes.Equal(read(t, dir, "big"), read(t, dir, "back")) || string(read(t, dir, "small2")) != "x,y\n" {
		t.Error("other bytes came back")
	}
	s3("del", "s3://inbox/big")
}

func TestRclone(t *testing.T) {
	rclone := program(t, "rclone")
	l, dir := newLab(t), t.TempDir()
	writeFile(t, filepath.Join(dir, "rclone.conf"), []byte("[gate]\ntype = s3\nprovider = Other\naccess_key_id = "+testKey+"\nsecret_access_key = "+testSecret+
		"\nendpoint = "+l.srv.URL+"\nregion = us-east-1\nforce_path_style = true\nno_check_bucket = true\n"))
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "src", "a b.csv"), []byte("x,y\n"))
	writeFile(t, filepath.Join(dir, "src", "big"), bytes.Repeat([]byte("0123456789abcdef"), 20<<16))
	for _, args := range [][]string{
		{"lsd", "gate:"}, {"copy", "--s3-upload-cutoff", "8M", "--s3-chunk-size", "8M", "src", "gate:inbox/src"},
		{"check", "src", "gate:inbox/src"}, {"copy", "--checksum", "gate:inbox/src", "dst"}, {"ls", "gate:inbox"}, {"delete", "gate:inbox"},
	} {
		out, err := l.run(dir, rclone, append([]string{"--config", filepath.Join(dir, "rclone.conf"), "--retries", "1", "--low-level-retries", "1"}, args...)...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if !bytes.Equal(read(t, dir, "src", "big"), read(t, dir, "dst", "big")) {
		t.Error("other bytes came back")
	}
	if l.mem.count("inbox") != 0 {
		t.Error("objects are left")
	}
}
