// Package archive keeps, by digest, what decisions were made by: every bundle
// and all data that were ever in force. A record of the audit log names the
// digests of both; with the archive its decision can be explained and replayed
// years later, also by somebody who has only a copy of log and folder.
//
// The folder needs no lock: files are written whole, under the name of their
// digest, and never changed. What is read is held against that name.
//
//	versions/<digest>.zip    a bundle: rules, tests, data, schemas
//	rules/<digest>           the version of a bundle with these rules
//	data/<digest>.json       the roots of one state of the data, by digest
//	roots/<digest>.json.gz   one root; states share what did not change
package archive

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"sallyport"
	"sallyport/policy"
)

// maxFile bounds one file as it is read, unpacked, in bytes.
const maxFile = 256 << 20

const op = "policy archive"

// Archive is such a folder. Its methods are safe for concurrent use.
type Archive struct {
	dir string
	mu  sync.Mutex // one writer at a time
}

// Open returns the archive in dir, which need not exist before something is kept.
func Open(dir string) *Archive { return &Archive{dir: dir} }

// Keep stores a bundle and data before they come into force; it has the shape
// of [policy.Config.Keep]. It returns when both are durable.
func (a *Archive) Keep(ctx context.Context, b *policy.Bundle, rules, data sallyport.Digest, roots map[string]any) error {
	if err := a.KeepBundle(b); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	index := state{Roots: map[string]sallyport.Digest{}}
	for root, v := range roots {
		raw, err := encode(v)
		if err != nil {
			return sallyport.E(op, sallyport.Internal, err, "")
		}
		d := sallyport.DigestOf(raw)
		index.Roots[root] = d
		err = a.write("roots", d, ".json.gz", func(w io.Writer) error {
			z := gzip.NewWriter(w)
			_, err := z.Write(raw)
			return errors.Join(err, z.Close())
		})
		if err != nil {
			return err
		}
	}
	return a.write("data", data, ".json", func(w io.Writer) error { return json.NewEncoder(w).Encode(index) })
}

// KeepBundle stores a bundle that is not in force, such as a draft.
func (a *Archive) KeepBundle(b *policy.Bundle) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.write("versions", b.Version(), ".zip", b.WriteZip); err != nil {
		return err
	}
	return a.write("rules", b.Rules(), "", func(w io.Writer) error {
		_, err := fmt.Fprintln(w, b.Version())
		return err
	})
}

// state is what a file of data/ holds.
type state struct {
	Roots map[string]sallyport.Digest `json:"roots"`
}

// Version returns the files of a bundle by its version.
func (a *Archive) Version(version sallyport.Digest) (fs.FS, error) {
	raw, err := a.read("versions", version, ".zip", "no bundle of version %s is kept here")
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, damaged("versions", version, err)
	}
	got, _, err := policy.Digests(z)
	if err == nil && got != version {
		err = fmt.Errorf("its content has the digest %s", got.Short())
	}
	if err != nil {
		return nil, damaged("versions", version, err)
	}
	return z, nil
}

// Rules returns the files of a bundle with these rules; its own data may be
// others than those of a decision that names the rules.
func (a *Archive) Rules(rules sallyport.Digest) (fs.FS, error) {
	raw, err := a.read("rules", rules, "", "no rules %s are kept here")
	if err != nil {
		return nil, err
	}
	files, err := a.Version(sallyport.Digest(strings.TrimSpace(string(raw))))
	if err != nil {
		return nil, err
	}
	_, got, err := policy.Digests(files)
	if err == nil && got != rules {
		err = fmt.Errorf("it names a bundle with the rules %s", got.Short())
	}
	if err != nil {
		return nil, damaged("rules", rules, err)
	}
	return files, nil
}

// Data returns all data of one state, by root, numbers as written.
func (a *Archive) Data(data sallyport.Digest) (map[string]any, error) {
	index, err := a.roots(data)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(index))
	for root, d := range index {
		v, err := a.root(d)
		if err != nil {
			return nil, err
		}
		out[root] = v
	}
	got, err := policy.DataDigest(out)
	if err == nil && got != data {
		err = fmt.Errorf("its content has the digest %s", got.Short())
	}
	if err != nil {
		return nil, damaged("data", data, err)
	}
	return out, nil
}

// Roots returns the digest of every root of one state of the data: two states
// differ only where these differ.
func (a *Archive) Roots(data sallyport.Digest) (map[string]sallyport.Digest, error) {
	return a.roots(data)
}

func (a *Archive) roots(data sallyport.Digest) (map[string]sallyport.Digest, error) {
	raw, err := a.read("data", data, ".json", "no data %s are kept here")
	if err != nil {
		return nil, err
	}
	var s state
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, damaged("data", data, err)
	}
	return s.Roots, nil
}

func (a *Archive) root(d sallyport.Digest) (any, error) {
	packed, err := a.read("roots", d, ".json.gz", "no data root %s is kept here")
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, damaged("roots", d, err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	if err == nil && sallyport.DigestOf(raw) != d {
		err = errors.New("its content has another digest")
	}
	var v any
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		err = dec.Decode(&v)
	}
	if err != nil {
		return nil, damaged("roots", d, err)
	}
	return v, nil
}

// encode is canonical JSON: sorted keys, no white space, numbers as written.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return buf.Bytes(), err
}

func damaged(folder string, d sallyport.Digest, err error) error {
	return sallyport.Errorf(op, sallyport.Damaged, "Restore the folder from a backup; the audit log tells what it must hold.",
		"%s/%s is not what was kept: %w", folder, d.Short(), err)
}

func (a *Archive) path(folder string, d sallyport.Digest, ext string) (string, error) {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", sallyport.Errorf(op, sallyport.Invalid, "", "%q is no digest", d)
	}
	return filepath.Join(a.dir, folder, hex+ext), nil
}

func (a *Archive) read(folder string, d sallyport.Digest, ext, absent string) ([]byte, error) {
	name, err := a.path(folder, d, ext)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "It is kept in the folder state/policy of the gateway that decided.", absent, d.Short())
	}
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	return raw, nil
}

// write makes a file under the name of its digest, once. A file that is there
// is whole: it got its name when it was durable.
func (a *Archive) write(folder string, d sallyport.Digest, ext string, fill func(io.Writer) error) (err error) {
	name, err := a.path(folder, d, ext)
	if err != nil {
		return err
	}
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	defer func() {
		if err != nil {
			err = sallyport.E(op, sallyport.Exhausted, err, "Make state/policy writable and free disk space; policy cannot change before.")
		}
	}()
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(fill(tmp), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
