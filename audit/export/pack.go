package export

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
	"sallyport/audit"
)

// PackFormat is the format that a pack's export.json names.
const PackFormat = "sallyport-evidence/1"

// MaxPack is the most records in a pack: a zip archive lists its files in
// memory, some hundred bytes a record. Who needs more exports tiles.
const MaxPack = 1_000_000

// maxPolicyFile is the largest file of a policy bundle that goes into a pack.
const maxPolicyFile = 16 << 20

// Names in a pack.
const (
	packReadme      = "README.md"
	packVerify      = "verify.py"
	packExport      = "export.json"
	packCheckpoint  = "checkpoint"
	packCosigned    = "cosigned"         // an older checkpoint that witnesses cosigned
	packConsistency = "consistency.json" // that the log of checkpoint continues that of cosigned
	packKey         = "key"
	packRecords     = "records.jsonl"
	packProofs      = "proofs/"
	packPolicies    = "policies/"
	packSums        = "SHA256SUMS"
)

//go:embed verify.py
var verifyScript []byte

//go:embed readme.txt
var packText string

// Pack is what an evidence pack is made from.
type Pack struct {
	Log    *audit.Log
	Filter audit.Filter
	// Records and Opening say what records hold; nil: the log does. They let
	// a gateway answer for a copy of its log, whose contents are sealed.
	Records func(context.Context, audit.Filter) iter.Seq2[audit.Record, error]
	Opening func(seq uint64) (audit.Opening, error)
	At      time.Time // of the export; it is all that makes two packs of the same state differ
	By      string    // who asked
	Version string    // of the program
	// Cosigned is a checkpoint that witnesses cosigned, "" if there is none.
	Cosigned string
	// Policy returns the files of a policy bundle by the digest of its rules;
	// nil, or [sallyport.NotFound], leaves it out, and the summary says so.
	Policy func(sallyport.Digest) (fs.FS, error)
	// Progress, if not nil, is told now and then how many records are done.
	Progress func(done uint64)
}

// packExportFile is export.json.
type packExportFile struct {
	About
	Counts   Summary            `json:"counts"`
	Policies []sallyport.Digest `json:"policies"` // rules that the records name; those that are missing are in counts
	Data     []sallyport.Digest `json:"data"`     // states of the policy's data that they name; no data is in the pack
}

// packRecord is a line of records.jsonl. Entry comes last, byte for byte as it
// was recorded: the commitment is over these bytes.
type packRecord struct {
	Seq    uint64          `json:"seq"`
	Leaf   string          `json:"leaf"`             // canonical text
	Erased *uint64         `json:"erased,omitempty"` // number of the tombstone
	Sealed bool            `json:"sealed,omitempty"`
	Salt   []byte          `json:"salt,omitempty"`
	Entry  json.RawMessage `json:"entry,omitempty"`
}

// Evidence writes an evidence pack: a zip archive with the records, what opens
// their commitments, and proofs of exactly these records under the log's signed
// checkpoint, for people who do not have this program. The same log, filter,
// time and person make the same bytes.
func Evidence(ctx context.Context, w io.Writer, p Pack) (Summary, error) {
	const op = "evidence pack"
	l := p.Log
	if p.Records == nil {
		p.Records = l.Records
	}
	if p.Opening == nil {
		p.Opening = l.Opening
	}
	signed, err := l.Checkpoint()
	if err != nil {
		return Summary{}, err
	}
	about, err := NewAbout(PackFormat, signed, l.VerifierKey(), p.Filter, p.At, p.By, p.Version)
	if err != nil {
		return Summary{}, err
	}
	z := &packer{z: zip.NewWriter(w), at: about.At}
	s, err := p.write(ctx, z, about)
	if err == nil {
		err = z.z.Close()
	}
	return s, writeError(op, err)
}

func (p Pack) write(ctx context.Context, z *packer, about About) (s Summary, err error) {
	checkpoint := about.Checkpoint
	cosigned, consistency, err := p.cosigned(about)
	if err != nil {
		return s, err
	}
	if cosigned != "" && consistency == nil { // it is of the same tree
		checkpoint, about.Checkpoint, cosigned = cosigned, cosigned, ""
	}
	// export.json comes last, since it counts; the records come first.
	seqs, policies, data, err := p.records(ctx, z, about, &s)
	if err != nil {
		return s, err
	}
	if err := p.proofs(ctx, z, about, seqs); err != nil {
		return s, err
	}
	if s.Missing, err = p.policies(z, policies); err != nil {
		return s, err
	}
	js, err := json.MarshalIndent(packExportFile{about, s, policies, data}, "", "  ")
	if err != nil {
		return s, err
	}
	files := []struct {
		name    string
		content []byte
	}{{packCheckpoint, []byte(checkpoint)}, {packKey, []byte(about.Key + "\n")}, {packExport, append(js, '\n')}, {packVerify, verifyScript}, {packReadme, readme(about, s)}}
	if cosigned != "" {
		proof, err := json.Marshal(audit.FormatHashes(consistency))
		if err != nil {
			return s, err
		}
		files = append(files, []struct {
			name    string
			content []byte
		}{{packCosigned, []byte(cosigned)}, {packConsistency, append(proof, '\n')}}...)
	}
	for _, f := range files {
		if err := z.file(f.name, f.content); err != nil {
			return s, err
		}
	}
	return s, z.sums()
}

// cosigned returns the cosigned checkpoint with the proof that the log
// continues it; no proof where it is of the same size.
func (p Pack) cosigned(about About) (string, []tlog.Hash, error) {
	if p.Cosigned == "" {
		return "", nil, nil
	}
	old, err := audit.ParseCheckpoint(p.Cosigned, about.Key)
	if err != nil {
		return "", nil, err
	}
	now, err := audit.ParseCheckpoint(about.Checkpoint, about.Key)
	if err != nil {
		return "", nil, err
	}
	if old.Size > now.Size || old.Size == now.Size && old.Root != now.Root {
		return "", nil, sallyport.Errorf("evidence pack", sallyport.Damaged, "Run `audit verify`: the log was rolled back or forked.", "the witnesses saw %d records, the log has %d", old.Size, now.Size)
	}
	if old.Size == now.Size {
		return p.Cosigned, nil, nil
	}
	path, err := p.Log.Consistency(old.Size, now.Size)
	if err == nil {
		err = audit.CheckConsistency(path, old, now)
	}
	if path == nil {
		path = []tlog.Hash{}
	}
	return p.Cosigned, path, err
}

// records writes records.jsonl.
func (p Pack) records(ctx context.Context, z *packer, about About, s *Summary) (seqs []uint64, policies, data []sallyport.Digest, err error) {
	f := p.Filter
	if f.Before == 0 || f.Before > about.Size {
		f.Before = about.Size // what is recorded meanwhile is not under the checkpoint
	}
	w, err := z.create(packRecords)
	if err != nil {
		return nil, nil, nil, err
	}
	havePolicy, haveData := map[sallyport.Digest]bool{}, map[sallyport.Digest]bool{}
	for r, err := range p.Records(ctx, f) {
		if about.Size == 0 {
			break // Before 0 is no bound
		}
		if err != nil {
			return nil, nil, nil, err
		}
		if len(seqs) == MaxPack {
			return nil, nil, nil, sallyport.Errorf("evidence pack", sallyport.Invalid, "Narrow the filter, or use `audit tiles` for the whole log.", "more than %d records match", MaxPack)
		}
		line, err := p.record(r)
		if err != nil {
			return nil, nil, nil, err
		}
		if _, err := w.Write(line); err != nil {
			return nil, nil, nil, err
		}
		s.Count(r)
		seqs = append(seqs, r.Seq)
		note(havePolicy, r.Entry.Policy)
		note(haveData, r.Entry.Data)
		if p.Progress != nil && len(seqs)%1000 == 0 {
			p.Progress(uint64(len(seqs)))
		}
	}
	return seqs, sorted(havePolicy), sorted(haveData), nil
}

func note(set map[sallyport.Digest]bool, d sallyport.Digest) {
	if d != "" {
		set[d] = true
	}
}

func sorted(set map[sallyport.Digest]bool) []sallyport.Digest {
	out := slices.Sorted(maps.Keys(set))
	if out == nil {
		out = []sallyport.Digest{}
	}
	return out
}

func (p Pack) record(r audit.Record) ([]byte, error) {
	leaves, err := p.Log.Leaves(r.Seq, 1)
	if err == nil && len(leaves) == 0 {
		err = sallyport.Errorf("evidence pack", sallyport.Damaged, "Run `audit verify`.", "the leaf of record %d is missing", r.Seq)
	}
	if err != nil {
		return nil, err
	}
	line := packRecord{Seq: r.Seq, Leaf: string(leaves[0]), Erased: r.Erased, Sealed: r.Sealed}
	if r.Erased != nil || r.Sealed {
		js, err := json.Marshal(line)
		return append(js, '\n'), err
	}
	o, err := p.Opening(r.Seq)
	if err == nil {
		err = o.Check(leaves[0])
	}
	if err != nil {
		return nil, err
	}
	line.Salt = o.Salt
	js, err := json.Marshal(line)
	if err != nil {
		return nil, err
	}
	js = append(js[:len(js)-1], `,"entry":`...)
	return append(append(js, o.Entry...), "}\n"...), nil
}

// proofs writes one proof a record, all under the same checkpoint.
func (p Pack) proofs(ctx context.Context, z *packer, about About, seqs []uint64) error {
	cp, err := audit.ParseCheckpoint(about.Checkpoint, about.Key)
	if err != nil {
		return err
	}
	for i, seq := range seqs {
		if ctx.Err() != nil {
			return sallyport.E("evidence pack", sallyport.Canceled, context.Cause(ctx), "")
		}
		hashes, err := p.Log.Inclusion(seq, cp.Size)
		if err != nil {
			return err
		}
		leaves, err := p.Log.Leaves(seq, 1)
		if err != nil {
			return err
		}
		if err := audit.CheckInclusion(hashes, leaves[0], seq, cp); err != nil {
			return err
		}
		proof := audit.Proof{Extra: leaves[0], Index: seq, Path: hashes, Checkpoint: about.Checkpoint}
		if err := z.put(proofName(seq), proof.Format()); err != nil {
			return err
		}
		if p.Progress != nil && i%1000 == 999 {
			p.Progress(uint64(len(seqs)))
		}
	}
	return nil
}

func proofName(seq uint64) string {
	return packProofs + strconv.FormatUint(seq, 10) + ".tlog-proof"
}

// policies writes bundles by digest and returns those that are not to be had.
func (p Pack) policies(z *packer, list []sallyport.Digest) (missing []sallyport.Digest, err error) {
	for _, d := range list {
		var files fs.FS
		if p.Policy != nil {
			if files, err = p.Policy(d); err != nil && sallyport.KindOf(err) != sallyport.NotFound {
				return nil, err
			}
		}
		if files == nil {
			missing = append(missing, d)
			continue
		}
		content := map[string][]byte{}
		err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			f, err := files.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
			if err == nil && len(b) > maxPolicyFile {
				err = fmt.Errorf("%s is larger than %d bytes", name, maxPolicyFile)
			}
			content[name] = b
			return err
		})
		if err == nil && rulesDigest(content) != d {
			err = sallyport.Errorf("evidence pack", sallyport.Damaged, "", "the bundle kept as %s has other rules", d.Short())
		}
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(content)) {
			if err := z.file(path.Join(packPolicies, hex64(d), name), content[name]); err != nil {
				return nil, err
			}
		}
	}
	return missing, nil
}

// rulesDigest is the digest that records name a bundle by: SHA-256 over the
// *.rego files by path, each as the length of its path (8 bytes, big-endian),
// path, length of its content, content.
func rulesDigest(files map[string][]byte) sallyport.Digest {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".rego" {
			continue
		}
		for _, part := range [][]byte{[]byte(name), files[name]} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			h.Write(part)
		}
	}
	return sallyport.DigestSum(h.Sum(nil))
}

// packer writes the archive, and remembers the digests of its files. Those of
// proofs it does not: each proves itself.
type packer struct {
	z     *zip.Writer
	at    time.Time
	lines []sumLine
}

type sumLine struct {
	name string
	sum  hash.Hash
}

func (z *packer) open(name string) (io.Writer, error) {
	return z.z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.at})
}

func (z *packer) create(name string) (io.Writer, error) {
	w, err := z.open(name)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	z.lines = append(z.lines, sumLine{name, h})
	return io.MultiWriter(w, h), nil
}

func (z *packer) file(name string, content []byte) error {
	w, err := z.create(name)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

func (z *packer) put(name string, content []byte) error {
	w, err := z.open(name)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

// sums writes SHA256SUMS, as sha256sum reads it.
func (z *packer) sums() error {
	var b bytes.Buffer
	for _, l := range z.lines {
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(l.sum.Sum(nil)), l.name)
	}
	return z.put(packSums, b.Bytes())
}

func readme(a About, s Summary) []byte {
	root, _ := base64.StdEncoding.DecodeString(a.Root)
	return []byte(strings.NewReplacer(
		"{{asked}}", a.Asked.String(), "{{at}}", stamp(a.At), "{{by}}", orUnknown(a.By), "{{origin}}", a.Origin,
		"{{size}}", strconv.FormatUint(a.Size, 10), "{{root}}", a.Root, "{{roothex}}", hex.EncodeToString(root), "{{key}}", a.Key,
		"{{version}}", a.Version, "{{records}}", strconv.FormatUint(s.Records, 10), "{{erased}}", strconv.FormatUint(s.Erased, 10),
		"{{sealed}}", strconv.FormatUint(s.Sealed, 10), "{{missing}}", strconv.Itoa(len(s.Missing)),
	).Replace(packText))
}
