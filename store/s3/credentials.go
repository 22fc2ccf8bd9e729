package s3

import (
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport"
	"sallyport/internal/strict"
)

const credentialsHint = "Write a file of mode 0600 with access_key and secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."

// credentialsFor returns the credentials in file or, if there is none, in the
// environment. Nobody asks anonymously.
func credentialsFor(op, file string) (credentials.Provider, error) {
	if file == "" {
		v := credentials.Value{
			AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
			SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
			SessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
			SignerType:      credentials.SignatureV4,
		}
		if v.AccessKeyID == "" || v.SecretAccessKey == "" {
			return nil, sallyport.Errorf(op, sallyport.Invalid, credentialsHint, "no credentials: neither credentials_file nor the environment has them")
		}
		return &credentials.Static{Value: v}, nil
	}
	f := &fileCredentials{op: op, path: file}
	_, err := f.Retrieve()
	return f, err
}

// fileCredentials reads a file that something else, such as an agent that
// leases credentials, may write anew at any time.
type fileCredentials struct {
	op, path string

	mu   sync.Mutex
	seen fs.FileInfo
}

type credentialsFile struct {
	AccessKey    string `yaml:"access_key"`
	SecretKey    string `yaml:"secret_key"`
	SessionToken string `yaml:"session_token"`
}

func (f *fileCredentials) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return f.Retrieve()
}

// Retrieve reads the file. Its errors quote nothing of it.
func (f *fileCredentials) Retrieve() (credentials.Value, error) {
	bad := func(format string, args ...any) (credentials.Value, error) {
		return credentials.Value{}, sallyport.Errorf(f.op, sallyport.Invalid, credentialsHint, "credentials_file: "+format, args...)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return bad("%w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return bad("%w", err)
	}
	if !st.Mode().IsRegular() {
		return bad("%s is no file", f.path)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return bad("%s has mode %04o: others than its owner may use it", f.path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil {
		return bad("%w", err)
	}
	var c credentialsFile
	if d, err := strict.Parse("credentials", b); err != nil || d.Decode(&c) != nil { // whose errors show the line
		return bad("%s is not YAML with access_key, secret_key and session_token, and no others", f.path)
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return bad("%s lacks access_key or secret_key", f.path)
	}
	f.mu.Lock()
	f.seen = st
	f.mu.Unlock()
	return credentials.Value{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.SessionToken, SignerType: credentials.SignatureV4}, nil
}

// IsExpired reports whether the file is not the one that was read.
func (f *fileCredentials) IsExpired() bool {
	st, err := os.Stat(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	return err != nil || f.seen == nil || !os.SameFile(st, f.seen) || !st.ModTime().Equal(f.seen.ModTime()) || st.Size() != f.seen.Size()
}
