package main

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"sallyport"
)

// keyUse is one line of the log of a key's uses. It holds no value and no
// token: the digest of a token can be compared with one that somebody asks about.
type keyUse struct {
	Time   time.Time          `json:"time"`
	User   string             `json:"user"`
	Reason string             `json:"reason"`
	Column string             `json:"column"`
	Plan   sallyport.Digest   `json:"plan"` // of the plan file
	File   string             `json:"file,omitempty"`
	Values int                `json:"values"`
	Tokens []sallyport.Digest `json:"tokens"`
}

// usesOf is the log beside a key.
func usesOf(key string) string { return key + ".uses.jsonl" }

// recordUse appends a line and returns when it is on disk: without a record, no
// act. A line that a crash cut short stays as it is, and the next begins anew.
func recordUse(key string, use keyUse) (err error) {
	path := usesOf(key)
	fail := func(err error) error {
		return sallyport.E("record the use of the key", sallyport.Unavailable, err, "Nothing was turned back. See that "+path+" can be written to.")
	}
	line, err := json.Marshal(use)
	if err != nil {
		return fail(err)
	}
	_, err = os.Lstat(path)
	fresh := os.IsNotExist(err)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fail(e)
		}
	}()
	if err := lockWait(f); err != nil { // until it is closed
		return fail(err)
	}
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return sallyport.Errorf("record the use of the key", sallyport.Invalid, "Nothing was turned back. Run `chmod 600` on it.", "%s must be a file that its owner alone can read", path)
	}
	if size := info.Size(); size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], size-1); err != nil {
			return fail(err)
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	if fresh {
		if err := syncFolder(filepath.Dir(path)); err != nil {
			return fail(err)
		}
	}
	return nil
}

func digestsOf(tokens []string) []sallyport.Digest {
	out := make([]sallyport.Digest, len(tokens))
	for i, t := range tokens {
		out[i] = sallyport.DigestOf([]byte(t))
	}
	return out
}

// localUser names who runs the command, as the system knows them.
func localUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}
