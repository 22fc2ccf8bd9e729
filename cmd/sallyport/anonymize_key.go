package main

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sallyport"
)

// tableKey is the secret of the stand-alone commands. Each purpose gets a key
// of its own, by HKDF-SHA256 (RFC 5869), so that no verb learns another's.
type tableKey struct{ secret []byte }

const tableKeySize = 32 // bytes

// newTableKey makes a key file that only its owner can read. It never
// overwrites one: with the old key, the way back from old tokens would go.
func newTableKey(path string) (err error) {
	secret := make([]byte, tableKeySize)
	if _, err := rand.Read(secret); err != nil {
		return sallyport.E("new key", sallyport.Unavailable, err, "")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return sallyport.Errorf("new key", sallyport.Conflict, "Name a file that is not there yet; a key in use must not be lost.", "%s exists already", path)
	}
	if err != nil {
		return sallyport.E("new key", sallyport.Unavailable, err, "Name a file in a folder that you may write to.")
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			os.Remove(path)
			err = sallyport.E("new key", sallyport.Unavailable, err, "")
		}
	}()
	if _, err := f.WriteString(hex.EncodeToString(secret) + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// readTableKey reads a key file and refuses one that others can read.
func readTableKey(path string) (*tableKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, sallyport.E("read key", sallyport.NotFound, err, "`sallyport anonymize --new-key FILE` makes one.")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, sallyport.E("read key", sallyport.Unavailable, err, "")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, sallyport.Errorf("read key", sallyport.Invalid, "Run `chmod 600` on it, and ask who may have read it.", "%s can be read by others", path)
	}
	b := make([]byte, 2*tableKeySize+16)
	n, _ := f.Read(b)
	secret, err := hex.DecodeString(strings.TrimSpace(string(b[:n])))
	if err != nil || len(secret) != tableKeySize || info.Size() > int64(len(b)) {
		// The error of the decoder would quote a byte of the file.
		return nil, sallyport.Errorf("read key", sallyport.Invalid, "`sallyport anonymize --new-key FILE` makes one.", "%s does not hold %d bytes in hexadecimal", path, tableKeySize)
	}
	return &tableKey{secret}, nil
}

// derive gives the key for a purpose; the zero tableKey has none.
func (k *tableKey) derive(purpose string) []byte {
	if k == nil {
		return nil
	}
	out, err := hkdf.Key(sha256.New, k.secret, nil, "sallyport table key 1: "+purpose, tableKeySize)
	if err != nil { // only a length that SHA-256 cannot give
		return nil
	}
	return out
}
