package export

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"sallyport"
	"sallyport/audit"
)

// Bounds of what is read of a pack that anybody may have made.
const (
	maxPackFile = 64 << 20 // a file that is read whole
	maxPackLine = 4*audit.MaxEntry + 4096
)

// IsPack says whether a file begins as a zip archive does, and so may be an
// evidence pack: the file of a log never does.
func IsPack(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [4]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && string(head[:2]) == "PK"
}

// VerifyPack checks an evidence pack from end to end, as verify.py in it does:
// the signature, each record's content against its leaf and each leaf against
// the checkpoint, the policy bundles by their digests, the counts. verifierKey
// is the log's, from somebody trusted; "": the one in the pack.
//
// What it finds has the words of [audit.Verify]. Records counts those of the
// pack, and FirstBad is a number in the log. Damage is a finding; the error is
// for what kept it from looking.
func VerifyPack(path, verifierKey string) (audit.Verification, error) {
	const op = "verify evidence pack"
	v := audit.Verification{KeySource: audit.KeyGiven}
	file, err := zip.OpenReader(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, sallyport.E(op, sallyport.NotFound, err, "Name an evidence pack.")
	case errors.Is(err, zip.ErrFormat), errors.Is(err, zip.ErrChecksum), errors.Is(err, zip.ErrAlgorithm), errors.Is(err, io.ErrUnexpectedEOF):
		v.Damage, v.Explain = audit.Unreadable, "the file is no zip archive: "+err.Error()
		return v, nil
	case err != nil:
		return v, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	defer file.Close()
	p := &packReader{files: map[string]*zip.File{}, v: &v}
	err = p.verify(&file.Reader, verifierKey)
	var f *packFault
	switch {
	case err == nil:
		v.Whole = true
		v.Explain = fmt.Sprintf("%d records of the pack are in the log, and say what was recorded", v.Records)
	case errors.As(err, &f):
		v.Damage, v.FirstBad, v.Explain = f.damage, f.seq, f.explain
	default:
		return audit.Verification{}, err
	}
	return v, nil
}

type packFault struct {
	damage  string
	seq     *uint64
	explain string
}

func (f *packFault) Error() string { return f.explain }

func bad(damage, format string, args ...any) error {
	return &packFault{damage, nil, fmt.Sprintf(format, args...)}
}

func badRecord(seq uint64, damage, format string, args ...any) error {
	return &packFault{damage, &seq, fmt.Sprintf(format, args...)}
}

type packReader struct {
	files      map[string]*zip.File
	v          *audit.Verification
	key        string
	checkpoint string
	head       audit.Checkpoint
	policies   map[sallyport.Digest]bool
	data       map[sallyport.Digest]bool
	seqs       map[uint64]bool
}

func (p *packReader) verify(z *zip.Reader, verifierKey string) error {
	for _, f := range z.File {
		if p.files[f.Name] != nil {
			return bad(audit.Added, "%s is there twice", f.Name)
		}
		p.files[f.Name] = f
	}
	if err := p.sums(); err != nil {
		return err
	}
	key, err := p.read(packKey)
	if err != nil {
		return err
	}
	if p.key = verifierKey; verifierKey == "" {
		p.v.KeySource, p.key = audit.KeyInFile, strings.TrimSpace(string(key))
	}
	signed, err := p.read(packCheckpoint)
	if err != nil {
		return err
	}
	p.checkpoint = string(signed)
	if p.head, err = p.open(p.checkpoint, verifierKey != ""); err != nil {
		return err
	}
	p.v.Root, p.v.Checkpoint = base64.StdEncoding.EncodeToString(p.head.Root[:]), p.checkpoint
	if err := p.records(); err != nil {
		return err
	}
	if err := p.about(); err != nil {
		return err
	}
	return p.cosigned(verifierKey != "")
}

// open parses a checkpoint. A key that is none is a fault of the pack, or of
// the caller.
func (p *packReader) open(signed string, given bool) (audit.Checkpoint, error) {
	cp, err := audit.ParseCheckpoint(signed, p.key)
	switch {
	case err == nil:
		return cp, nil
	case sallyport.KindOf(err) == sallyport.Damaged:
		return cp, bad(audit.SignatureWrong, "%v", err)
	case given && !validKey(p.key):
		return cp, err
	}
	return cp, bad(audit.Changed, "%v", err)
}

// validKey: parsing nothing with it complains of the nothing, not of the key.
func validKey(key string) bool {
	_, err := audit.ParseCheckpoint("", key)
	return err != nil && !strings.Contains(err.Error(), "verifier key:")
}

func (p *packReader) read(name string) ([]byte, error) {
	f := p.files[name]
	if f == nil {
		return nil, bad(audit.Removed, "%s is missing", name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, bad(audit.Unreadable, "%s: %v", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxPackFile+1))
	if err == nil && len(b) > maxPackFile {
		err = fmt.Errorf("larger than %d bytes", maxPackFile)
	}
	if err != nil {
		return nil, bad(audit.Unreadable, "%s: %v", name, err)
	}
	return b, nil
}

// sums holds all files but the proofs against SHA256SUMS.
func (p *packReader) sums() error {
	list, err := p.read(packSums)
	if err != nil {
		return err
	}
	listed := map[string]bool{packSums: true}
	for l := range strings.Lines(string(list)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(l, "\n"), "  ")
		f := p.files[name]
		switch {
		case !ok || listed[name]:
			return bad(audit.Changed, "%s has a line that is none", packSums)
		case f == nil:
			return bad(audit.Removed, "%s is missing", name)
		}
		listed[name] = true
		r, err := f.Open()
		if err != nil {
			return bad(audit.Unreadable, "%s: %v", name, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		r.Close()
		if err != nil {
			return bad(audit.Unreadable, "%s: %v", name, err)
		}
		if fmt.Sprintf("%x", h.Sum(nil)) != sum {
			return bad(audit.Changed, "%s was changed", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		if !listed[name] && !strings.HasPrefix(name, packProofs) {
			return bad(audit.Added, "%s was added", name)
		}
	}
	return nil
}

func (p *packReader) records() error {
	p.policies, p.data, p.seqs = map[sallyport.Digest]bool{}, map[sallyport.Digest]bool{}, map[uint64]bool{}
	f := p.files[packRecords]
	if f == nil {
		return bad(audit.Removed, "%s is missing", packRecords)
	}
	r, err := f.Open()
	if err != nil {
		return bad(audit.Unreadable, "%s: %v", packRecords, err)
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxPackLine)
	for lines.Scan() {
		if err := p.record(lines.Bytes()); err != nil {
			return err
		}
		p.v.Records++
	}
	if err := lines.Err(); err != nil {
		return bad(audit.Unreadable, "%s: %v", packRecords, err)
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		if n, ok := strings.CutPrefix(name, packProofs); ok {
			seq, err := strconv.ParseUint(strings.TrimSuffix(n, ".tlog-proof"), 10, 64)
			if err != nil || !p.seqs[seq] || proofName(seq) != name {
				return bad(audit.Removed, "%s is a proof of a record that is not here", name)
			}
		}
	}
	return nil
}

func (p *packReader) record(line []byte) error {
	var rec packRecord
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&rec); err != nil || d.More() {
		return bad(audit.Changed, "line %d of %s is no record", p.v.Records+1, packRecords)
	}
	if p.seqs[rec.Seq] {
		return badRecord(rec.Seq, audit.Added, "record %d is there twice", rec.Seq)
	}
	p.seqs[rec.Seq] = true
	if p.files[proofName(rec.Seq)] == nil {
		return badRecord(rec.Seq, audit.Removed, "the proof of record %d is missing", rec.Seq)
	}
	raw, err := p.read(proofName(rec.Seq))
	if err != nil {
		return err
	}
	proof, err := audit.ParseProof(raw)
	if err != nil {
		return badRecord(rec.Seq, audit.Changed, "the proof of record %d: %v", rec.Seq, err)
	}
	if proof.Index != rec.Seq || string(proof.Extra) != rec.Leaf {
		return badRecord(rec.Seq, audit.Reordered, "the proof of record %d is of another record", rec.Seq)
	}
	// The checkpoint's signature was checked once; each proof must be under it.
	if proof.Checkpoint != p.checkpoint {
		return badRecord(rec.Seq, audit.Changed, "the proof of record %d is under another checkpoint", rec.Seq)
	}
	if err := audit.CheckInclusion(proof.Path, proof.Extra, rec.Seq, p.head); err != nil {
		return badRecord(rec.Seq, audit.Changed, "%v", err)
	}
	switch {
	case rec.Erased != nil || rec.Sealed:
		if rec.Entry != nil || rec.Erased != nil && rec.Sealed {
			return badRecord(rec.Seq, audit.Changed, "record %d has a content and none", rec.Seq)
		}
		if rec.Sealed {
			p.v.Sealed++
		} else {
			p.v.Erased++
		}
		return nil
	case rec.Entry == nil:
		return badRecord(rec.Seq, audit.Removed, "the content of record %d is missing", rec.Seq)
	}
	if err := (audit.Opening{Seq: rec.Seq, Salt: rec.Salt, Entry: rec.Entry}).Check([]byte(rec.Leaf)); err != nil {
		return badRecord(rec.Seq, audit.Changed, "%v", err)
	}
	var e audit.Entry
	if err := json.Unmarshal(rec.Entry, &e); err != nil {
		return badRecord(rec.Seq, audit.Changed, "record %d is no entry: %v", rec.Seq, err)
	}
	note(p.policies, e.Policy)
	note(p.data, e.Data)
	return nil
}

// about holds export.json and the policies against the records.
func (p *packReader) about() error {
	js, err := p.read(packExport)
	if err != nil {
		return err
	}
	var x packExportFile
	if err := json.Unmarshal(js, &x); err != nil || x.Format != PackFormat {
		return bad(audit.Changed, "%s is not of format %s", packExport, PackFormat)
	}
	switch {
	case x.Size != p.head.Size || x.Root != p.v.Root || x.Origin != p.head.Origin:
		return bad(audit.Changed, "%s speaks of another checkpoint", packExport)
	case x.Counts.Records > p.v.Records:
		return bad(audit.Truncated, "%s counts %d records, there are %d", packExport, x.Counts.Records, p.v.Records)
	case x.Counts.Records != p.v.Records || x.Counts.Erased != p.v.Erased || x.Counts.Sealed != p.v.Sealed:
		return bad(audit.Added, "%s counts %d records, %d erased and %d sealed; there are %d, %d and %d", packExport,
			x.Counts.Records, x.Counts.Erased, x.Counts.Sealed, p.v.Records, p.v.Erased, p.v.Sealed)
	case !slices.Equal(x.Policies, sorted(p.policies)) || !slices.Equal(x.Data, sorted(p.data)):
		return bad(audit.Changed, "%s names other policies or data than the records", packExport)
	}
	bundles := map[sallyport.Digest]map[string][]byte{}
	for name := range p.files {
		rest, ok := strings.CutPrefix(name, packPolicies)
		if !ok {
			continue
		}
		digest, file, _ := strings.Cut(rest, "/")
		d := sallyport.Digest("sha256:" + digest)
		if !p.policies[d] {
			return bad(audit.Added, "no record names policy %s", d)
		}
		if bundles[d] == nil {
			bundles[d] = map[string][]byte{}
		}
		if bundles[d][file], err = p.read(name); err != nil {
			return err
		}
	}
	for d := range p.policies {
		switch files := bundles[d]; {
		case files == nil && !slices.Contains(x.Counts.Missing, d):
			return bad(audit.Removed, "policy %s is missing", d)
		case files != nil && rulesDigest(files) != d:
			return bad(audit.Changed, "policy %s has other rules", d)
		}
	}
	return nil
}

func (p *packReader) cosigned(given bool) error {
	if p.files[packCosigned] == nil {
		return nil
	}
	signed, err := p.read(packCosigned)
	if err != nil {
		return err
	}
	old, err := p.open(string(signed), given)
	if err != nil {
		return err
	}
	js, err := p.read(packConsistency)
	if err != nil {
		return err
	}
	var lines []string
	err = json.Unmarshal(js, &lines)
	if err == nil {
		path, perr := audit.ParseHashes(lines)
		if err = perr; err == nil {
			err = audit.CheckConsistency(path, old, p.head)
		}
	}
	if err != nil {
		return bad(audit.Forked, "the log does not continue what witnesses cosigned: %v", err)
	}
	return nil
}
