// Package source says where candidates for the rules in force come from: a
// folder, a commit of a Git repository on this machine, or an OPA bundle on a
// server.
//
// A candidate is only that. It has been read whole, once, into memory, and
// where its source can say who vouches for it, that has been verified; nothing
// of it is in force. Whoever fetches it decides what must happen first.
package source

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport"
	"sallyport/policy"
)

const (
	// MaxBytes bounds the files of one candidate together. The policy room
	// takes less; this bound is there so that reading ends.
	MaxBytes = 64 << 20
	// MaxFiles bounds how many files a candidate has.
	MaxFiles = 10_000

	maxEntries = 10 * MaxFiles // looked at, whether they count or not
	maxName    = 1024          // bytes of one path
	maxDepth   = 64            // folders within folders
)

// What a configuration leaves out.
const (
	DefaultDirInterval  = 5 * time.Second
	DefaultGitInterval  = 15 * time.Second
	DefaultHTTPInterval = 30 * time.Second

	minInterval = time.Second
)

// Candidate is a bundle that may come into force.
type Candidate struct {
	// FS holds the files that count (see [policy.Counts]), in memory. It never
	// changes.
	FS fs.FS
	// Digest is over path and content of these files; it is what
	// [policy.Bundle.Version] of the loaded bundle will be.
	Digest sallyport.Digest
	// Revision is what the source calls this version: a commit, or the
	// revision in an OPA bundle's manifest. Empty where there is none.
	Revision string
	// Origin names the source to people. It holds no secret.
	Origin string
	// Signed names the key whose signature over exactly these files was
	// verified. Empty: nobody vouches for them.
	Signed string
	// Issued is when the signer says that the signature was made; zero if the
	// signature does not say.
	Issued time.Time

	tag string // of the server that sent it
}

// Source is a place that candidates come from. It is safe for concurrent use.
type Source interface {
	// Fetch returns the candidate that the source has now. last is what the
	// former Fetch returned, or the zero Candidate. changed reports whether the
	// files are others than last's; the returned Candidate is the next last in
	// either case. On error it is last, unchanged.
	//
	// Errors: [sallyport.Unavailable] when the source cannot be reached,
	// [sallyport.NotFound] when there is nothing where it should be,
	// [sallyport.Conflict] when the files changed while they were read,
	// [sallyport.Damaged] for what is truncated, not signed as it must be, not
	// what was signed or older than last, [sallyport.Exhausted] for what is too large,
	// [sallyport.Invalid] for other faults of the files and
	// [sallyport.Canceled] when ctx ended.
	Fetch(ctx context.Context, last Candidate) (c Candidate, changed bool, err error)
	// Interval is how long to wait between two fetches.
	Interval() time.Duration
	// String names the source to people, as Origin does.
	String() string
}

const op = "fetch policy"

const hintKept = "What is in force stays in force."

func fault(kind sallyport.Kind, hint, format string, args ...any) error {
	return sallyport.Errorf(op, kind, strings.TrimSpace(hint+" "+hintKept), format, args...)
}

// ended tells a caller that gave up from a source that was too slow.
func ended(ctx, parent context.Context, what string, timeout time.Duration) error {
	if parent.Err() != nil {
		return sallyport.E(op, sallyport.Canceled, parent.Err(), "")
	}
	if ctx.Err() != nil {
		return fault(sallyport.Unavailable, "It will be asked again.", "%s did not answer within %v", what, timeout)
	}
	return nil
}

// interval returns the configured time between fetches.
func interval(configured, otherwise time.Duration) (time.Duration, error) {
	switch {
	case configured == 0:
		return otherwise, nil
	case configured < minInterval:
		return 0, sallyport.Errorf("open policy source", sallyport.Invalid, fmt.Sprintf("Leave interval out for %v.", otherwise),
			"an interval of %v is shorter than %v", configured, minInterval)
	}
	return configured, nil
}

// files are what has been read of a candidate, by path.
type files struct {
	by   map[string][]byte
	dirs map[string]bool
	size int64
}

func newFiles() *files { return &files{by: map[string][]byte{}, dirs: map[string]bool{}} }

// add reads one file to its end, within the bounds. name must be a path as
// [fs.ValidPath] wants, and new.
func (f *files) add(name string, r io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	if _, ok := f.by[name]; ok {
		return fault(sallyport.Invalid, "Pack each file once.", "%s is there twice", printable(name))
	}
	if f.dirs[name] {
		return fault(sallyport.Invalid, "Rename one of them.", "%s is a file and a folder", printable(name))
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if _, ok := f.by[name[:i]]; ok {
			return fault(sallyport.Invalid, "Rename one of them.", "%s is a file and a folder", printable(name[:i]))
		}
		f.dirs[name[:i]] = true
	}
	if len(f.by) >= MaxFiles {
		return tooMany()
	}
	src, err := io.ReadAll(io.LimitReader(r, MaxBytes-f.size+1))
	if err != nil {
		return err
	}
	if f.size += int64(len(src)); f.size > MaxBytes {
		return tooLarge(name)
	}
	f.by[name] = src
	return nil
}

func tooMany() error {
	return fault(sallyport.Exhausted, "A bundle of rules is smaller; is this another folder?", "there are more than %d files", MaxFiles)
}

func tooLarge(name string) error {
	return fault(sallyport.Exhausted, "Large data belong into the catalog, the site or the register.",
		"%s makes the bundle larger than %d MiB", printable(name), MaxBytes>>20)
}

// checkName refuses names that could mean another file elsewhere.
func checkName(name string) error {
	bad := len(name) > maxName || !fs.ValidPath(name) || name == "." || !utf8.ValidString(name) ||
		strings.Count(name, "/") > maxDepth || strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
	if bad {
		return fault(sallyport.Invalid, "Name files plainly; pack a bundle within its folder: opa build --bundle .", "%s is no path within a bundle", printable(name))
	}
	return nil
}

// hidden reports whether the last element of a path begins with a dot. Folders
// that do belong to tools (.git, and ..data of mounted volumes).
func hidden(name string) bool { return strings.HasPrefix(name[strings.LastIndex(name, "/")+1:], ".") }

func hiddenFile(name string) error {
	return fault(sallyport.Invalid, "Rename or remove it; an editor may have left it there.",
		"%s is hidden: it would count for some tools and not for others", printable(name))
}

// printable quotes what strangers named.
func printable(name string) string { return fmt.Sprintf("%.120q", name) }

// candidate makes one of what counts of the files.
func (f *files) candidate(origin string) (Candidate, error) {
	sum := sha256.New()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(f.by)) {
		if !policy.Counts(name) {
			continue
		}
		for _, part := range [][]byte{[]byte(name), f.by[name]} {
			sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			sum.Write(part)
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(f.by[name])
		}
		if err != nil {
			return Candidate{}, sallyport.E(op, sallyport.Internal, err, "")
		}
	}
	if err := z.Close(); err != nil {
		return Candidate{}, sallyport.E(op, sallyport.Internal, err, "")
	}
	r, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		return Candidate{}, sallyport.E(op, sallyport.Internal, err, "")
	}
	if len(r.File) == 0 {
		return Candidate{}, fault(sallyport.Invalid, "Name the folder that holds the rules.", "%s holds no rules and no data", origin)
	}
	return Candidate{FS: r, Digest: sallyport.DigestSum(sum.Sum(nil)), Origin: origin}, nil
}
