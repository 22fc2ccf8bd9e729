package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader/filter"

	"sallyport"
)

// Files of an OPA bundle that are about the bundle. OPA reads a manifest from
// any file whose name ends so, and only this exact name as signatures.
const (
	manifestFile   = ".manifest"
	manifestProto  = ".manifest.pb"
	signaturesFile = ".signatures.json"
)

// verifier says whose signature counts.
type verifier struct {
	keys     *bundle.VerificationConfig // nil: no key is known
	signer   string                     // what a candidate says of it
	unsigned bool                       // a bundle without signature is taken
	maxAge   time.Duration              // of the signature; 0: any
	now      func() time.Time
}

// readBundle reads a gzipped tar as OPA's documentation describes under
// "Bundles: bundle file format", and verifies it. The archive is unpacked here
// once, strictly; OPA's own reader then verifies and checks the very bytes that
// the candidate will hold.
func readBundle(r io.Reader, v verifier, origin string) (Candidate, error) {
	all, err := untar(r)
	if err != nil {
		return Candidate{}, err
	}
	for name, src := range all.by {
		if err := checkFile(name, src); err != nil {
			return Candidate{}, err
		}
	}
	signed, issued, err := v.verify(all)
	if err != nil {
		return Candidate{}, err
	}
	// First, as rules in another language do not parse.
	var m bundle.Manifest
	if json.Unmarshal(all.by[manifestFile], &m) == nil {
		if err := checkLanguage(m); err != nil {
			return Candidate{}, err
		}
	}
	reader := bundle.NewCustomReader(&loader{files: all, names: all.names()}).
		WithSizeLimitBytes(MaxBytes).WithRegoVersion(ast.RegoV1).WithLazyLoadingMode(false)
	if signed {
		reader = reader.WithBundleVerificationConfig(v.keys)
	} else {
		reader = reader.WithSkipBundleVerification(true)
	}
	b, err := reader.Read()
	if err != nil {
		return Candidate{}, refused(err)
	}
	if err := checkManifest(b.Manifest); err != nil {
		return Candidate{}, err
	}
	c, err := all.candidate(origin)
	if err != nil {
		return Candidate{}, err
	}
	c.Revision = strings.ToValidUTF8(b.Manifest.Revision, "?")
	if signed {
		c.Signed, c.Issued = v.signer, issued
	}
	return c, nil
}

// refused sorts what OPA's reader says. By now the signature itself has been
// verified, so what is left are files that are not what was signed, and rules
// that cannot be read.
func refused(err error) error {
	var list ast.Errors
	if errors.As(err, &list) {
		var lines []error
		for _, e := range list[:min(len(list), 10)] {
			at := ""
			if e.Location != nil {
				at = fmt.Sprintf("%s:%d: ", e.Location.File, e.Location.Row)
			}
			lines = append(lines, errors.New(at+e.Message))
		}
		return fault(sallyport.Invalid, "Correct the rule at that line.", "%w", errors.Join(lines...))
	}
	text := err.Error()
	for _, sign := range []string{"digest mismatch", "not included in bundle signature", "specified in bundle signatures", "hashing algorithm"} {
		if strings.Contains(text, sign) {
			return fault(sallyport.Damaged, "Sign the bundle again, after its last change.", "the bundle is not what was signed: %.500s", text)
		}
	}
	return fault(sallyport.Invalid, "Build the bundle with opa build.", "%.500s", text)
}

// untar unpacks a gzipped tar within the bounds.
func untar(r io.Reader) (*files, error) {
	broken := func(err error) (*files, error) {
		if _, ok := errors.AsType[*sallyport.Error](err); ok {
			return nil, err
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fault(sallyport.Damaged, "It will be fetched again.", "the bundle is truncated")
		}
		return nil, fault(sallyport.Damaged, "Build the bundle with opa build.", "the bundle is no gzipped tar: %w", err)
	}
	gz, err := gzip.NewReader(r)
	if err != nil {
		return broken(err)
	}
	// Beside the files there are headers and padding.
	t := tar.NewReader(&bounded{r: gz, left: 2 * MaxBytes})
	all := newFiles()
	for seen := 0; ; seen++ {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return broken(err)
		}
		if seen >= maxEntries {
			return nil, fault(sallyport.Exhausted, "A bundle of rules is smaller.", "the bundle holds more than %d entries", maxEntries)
		}
		// opa build writes /a.rego, tar writes ./a.rego.
		name := strings.TrimPrefix(strings.TrimPrefix(h.Name, "./"), "/")
		switch h.Typeflag {
		case tar.TypeReg:
			if h.Size > MaxBytes {
				return nil, tooLarge(name)
			}
			if err := all.add(name, t); err != nil {
				return broken(err)
			}
		case tar.TypeDir, tar.TypeXGlobalHeader: // git archive writes the latter
		default:
			return nil, fault(sallyport.Invalid, "Pack only files and folders.", "%s is a link or a device", printable(h.Name))
		}
	}
	// To the end, where gzip's checksum is.
	if _, err := io.Copy(io.Discard, &bounded{r: gz, left: MaxBytes}); err != nil {
		return broken(err)
	}
	return all, nil
}

// bounded fails, unlike io.LimitReader, where the bound is passed.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fault(sallyport.Exhausted, "Large data belong into the catalog, the site or the register.",
			"the bundle is larger than %d MiB", MaxBytes>>20)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (f *files) names() []string {
	var list []string
	for name := range f.by {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// checkFile refuses what OPA would read otherwise than we do, or use although
// we do not.
func checkFile(name string, src []byte) error {
	base := path.Base(name)
	root := name == base
	switch {
	case base == "patch.json":
		return fault(sallyport.Unsupported, "Serve snapshots: a change must be reviewed as a whole.", "this is a delta bundle (%s)", printable(name))
	case path.Ext(base) == ".wasm", base == "plan.json", base == "plan.pb":
		return fault(sallyport.Unsupported, "Build with opa build --target rego: rules must be readable to be explained.", "the bundle holds compiled rules (%s)", printable(name))
	case base == "data.yaml", base == "data.yml":
		return fault(sallyport.Invalid, "Write data.json.", "%s: data are read from data.json only", printable(name))
	case strings.HasSuffix(base, manifestFile) && !(root && base == manifestFile),
		strings.HasSuffix(base, manifestProto) && !(root && base == manifestProto),
		base == signaturesFile && !root:
		return fault(sallyport.Invalid, "Move it to the top, or leave it out.", "%s does not stand at the top of the bundle", printable(name))
	case base == "data.json", base == manifestFile, base == signaturesFile:
		// OPA reads YAML where JSON does not parse.
		if !json.Valid(src) {
			return fault(sallyport.Invalid, "Correct the file.", "%s is not JSON", printable(name))
		}
	}
	return nil
}

func checkLanguage(m bundle.Manifest) error {
	if m.RegoVersion != nil && *m.RegoVersion != 1 {
		return fault(sallyport.Unsupported, "Build it with opa build of OPA 1.0 or later, without --v0-compatible.", "the bundle is written in Rego v%d", *m.RegoVersion)
	}
	for _, n := range m.FileRegoVersions {
		if n != 1 {
			return fault(sallyport.Unsupported, "Build it with opa build of OPA 1.0 or later, without --v0-compatible.", "a file of the bundle is written in Rego v%d", n)
		}
	}
	return nil
}

func checkManifest(m bundle.Manifest) error {
	if err := checkLanguage(m); err != nil {
		return err
	}
	if len(m.WasmResolvers) > 0 {
		return fault(sallyport.Unsupported, "Build with opa build --target rego.", "the bundle's manifest names compiled rules")
	}
	if len(m.Revision) > 256 {
		return fault(sallyport.Invalid, "Shorten it.", "the bundle's revision is longer than 256 bytes")
	}
	for _, need := range []string{"sallyport/admit", "sallyport/release"} {
		if m.Roots != nil && !bundle.RootPathsContain(*m.Roots, need) {
			return fault(sallyport.Invalid, "Add \"sallyport\" to roots in .manifest.", "the manifest's roots do not cover %s", need)
		}
	}
	return nil
}

// claims are what a signature says beside the files. OPA does not look at the
// times, which a claims file may set (RFC 7519, sections 4.1.4 to 4.1.6).
type claims struct {
	Files     []bundle.FileInfo `json:"files"`
	IssuedAt  *float64          `json:"iat"`
	NotBefore *float64          `json:"nbf"`
	Expires   *float64          `json:"exp"`
}

// verify verifies the signature over the list of files; that the files are as
// listed is for OPA's reader to see. It reports whether there is a signature.
func (v verifier) verify(all *files) (signed bool, issued time.Time, err error) {
	forged := func(hint, format string, args ...any) (bool, time.Time, error) {
		return false, time.Time{}, fault(sallyport.Damaged, hint, format, args...)
	}
	src, ok := all.by[signaturesFile]
	switch {
	case !ok && v.unsigned:
		return false, time.Time{}, nil
	case !ok:
		return forged("Build it with opa build --signing-key, of OPA 1.22 or later.", "the bundle is not signed: it has no %s", signaturesFile)
	case v.keys == nil: // unsigned bundles are taken, and there is no key to verify others with
		return false, time.Time{}, nil
	}
	var list bundle.SignaturesConfig
	if err := json.Unmarshal(src, &list); err != nil {
		return forged("Sign the bundle again.", "%s does not hold signatures", signaturesFile)
	}
	if list.Plugin != "" && list.Plugin != "_default" { // the latter is what opa writes
		return forged("Sign with opa itself.", "the signature asks for the plugin %.80q, which this binary does not have", list.Plugin)
	}
	if _, err := bundle.VerifyBundleSignature(list, v.keys); err != nil {
		return forged("Is it signed with the key that the configuration names, of that algorithm and scope?", "the bundle's signature is not valid: %.300s", err.Error())
	}
	var c claims
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(list.Signatures[0], ".")[1]) // verified: there are three parts
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil {
		return forged("Sign the bundle again.", "the signature's claims cannot be read")
	}
	listed := map[string]bool{}
	for _, f := range c.Files {
		if listed[f.Name] {
			return forged("Sign the bundle again.", "the signature lists %s twice", printable(f.Name))
		}
		listed[f.Name] = true
		if strings.HasPrefix(f.Algorithm, "MD5") || strings.EqualFold(f.Algorithm, "SHA-1") {
			return forged("Sign with SHA-256, as opa does by default.", "%s is signed by its %.20s digest, which can be forged", printable(f.Name), f.Algorithm)
		}
	}
	now := v.now()
	at := func(seconds *float64) time.Time {
		if seconds == nil || *seconds < 0 || *seconds > 1<<40 {
			return time.Time{}
		}
		return time.Unix(int64(*seconds), 0).UTC()
	}
	issued = at(c.IssuedAt)
	switch {
	case c.Expires != nil && !now.Before(at(c.Expires)):
		return forged("Sign it again.", "the signature expired at %s", at(c.Expires).Format(time.RFC3339))
	case c.NotBefore != nil && now.Before(at(c.NotBefore)):
		return forged("Check this machine's clock.", "the signature is valid from %s only", at(c.NotBefore).Format(time.RFC3339))
	case issued.After(now.Add(5 * time.Minute)):
		return forged("Check this machine's clock.", "the signature was made at %s, which is yet to come", issued.Format(time.RFC3339))
	case v.maxAge > 0 && issued.IsZero():
		return forged("Sign with a claims file that sets iat, or leave max_age out.", "the signature does not say when it was made")
	case v.maxAge > 0 && now.Sub(issued) > v.maxAge:
		return forged("Sign it again.", "the signature was made at %s, longer than %v ago", issued.Format(time.RFC3339), v.maxAge)
	}
	return true, issued, nil
}

// loader gives OPA's reader the files that were unpacked here.
type loader struct {
	files *files
	names []string
}

func (l *loader) NextFile() (*bundle.Descriptor, error) {
	if len(l.names) == 0 {
		return nil, io.EOF
	}
	name := l.names[0]
	l.names = l.names[1:]
	return bundle.NewDescriptor(name, name, bytes.NewBuffer(l.files.by[name])), nil
}

func (l *loader) WithFilter(filter.LoaderFilter) bundle.DirectoryLoader   { return l }
func (l *loader) WithPathFormat(bundle.PathFormat) bundle.DirectoryLoader { return l }
func (l *loader) WithSizeLimitBytes(int64) bundle.DirectoryLoader         { return l }
func (l *loader) WithFollowSymlinks(bool) bundle.DirectoryLoader          { return l }

var _ bundle.DirectoryLoader = (*loader)(nil)
