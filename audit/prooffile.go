package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// proofMagic is the first line of a C2SP tlog-proof.
const proofMagic = "c2sp.org/tlog-proof@v1"

// MaxProofFile is the largest proof file, in bytes.
const MaxProofFile = 256 << 10

// Proof shows offline that something is in a log: a C2SP tlog-proof
// (https://c2sp.org/tlog-proof), usually kept as NAME.tlog-proof.
type Proof struct {
	// Extra is not authenticated by the proof. Proofs of this log hold the
	// record's leaf there, and [Proof.Check] authenticates it.
	Extra      []byte
	Index      uint64
	Path       []tlog.Hash // RFC 6962, 2.1.1
	Checkpoint string      // signed, perhaps cosigned
}

// Format writes the file.
func (p Proof) Format() []byte {
	var b bytes.Buffer
	b.WriteString(proofMagic + "\n")
	if len(p.Extra) > 0 {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	b.WriteString("index " + strconv.FormatUint(p.Index, 10) + "\n")
	for _, h := range p.Path {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n" + p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads a proof file in the one form that Format writes. It checks
// nothing of what the file claims.
func ParseProof(file []byte) (Proof, error) {
	no := func(why string) (Proof, error) {
		return Proof{}, sallyport.Errorf("read proof", sallyport.Invalid, "`sallyport audit proof` writes one.", "%s", why)
	}
	if len(file) > MaxProofFile {
		return no("the file is too large for a proof")
	}
	head, checkpoint, ok := strings.Cut(string(file), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || lines[0] != proofMagic {
		return no("the file does not begin with " + proofMagic)
	}
	var p Proof
	lines = lines[1:]
	if len(lines) > 0 {
		if s, ok := strings.CutPrefix(lines[0], "extra "); ok {
			var err error
			if p.Extra, err = base64.StdEncoding.Strict().DecodeString(s); err != nil || len(p.Extra) == 0 {
				return no("the extra line is not in base64")
			}
			lines = lines[1:]
		}
	}
	if len(lines) == 0 {
		return no("there is no index line")
	}
	s, ok := strings.CutPrefix(lines[0], "index ")
	var err error
	if p.Index, err = strconv.ParseUint(s, 10, 64); !ok || err != nil || p.Index >= maxSize {
		return no("the index line holds no number of a record")
	}
	if p.Path, err = ParseHashes(lines[1:]); err != nil {
		return no(err.Error())
	}
	if p.Checkpoint = checkpoint; !strings.HasSuffix(checkpoint, "\n") {
		return no("the checkpoint is cut short")
	}
	if !bytes.Equal(p.Format(), file) {
		return no("it is not in canonical form")
	}
	return p, nil
}

// Prove returns the proof of a record in the tree of a signed checkpoint of
// this log; empty is its latest. One that witnesses have cosigned makes the
// better proof.
func (l *Log) Prove(seq uint64, checkpoint string) (Proof, error) {
	const op = "prove record"
	if checkpoint == "" {
		var err error
		if checkpoint, err = l.Checkpoint(); err != nil {
			return Proof{}, err
		}
	}
	cp, err := ParseCheckpoint(checkpoint, l.VerifierKey())
	if err != nil {
		return Proof{}, err
	}
	if seq >= cp.Size {
		return Proof{}, sallyport.Errorf(op, sallyport.NotFound, "", "there is no record %d among the %d that the checkpoint counts", seq, cp.Size)
	}
	path, err := l.Inclusion(seq, cp.Size)
	if err != nil {
		return Proof{}, err
	}
	leaves, err := l.Leaves(seq, 1)
	if err == nil && len(leaves) == 0 {
		err = damagedRecord(seq)
	}
	if err != nil {
		return Proof{}, err
	}
	// A proof that does not check must not leave: the checkpoint may be another history's.
	if err := CheckInclusion(path, leaves[0], seq, cp); err != nil {
		return Proof{}, err
	}
	return Proof{Extra: leaves[0], Index: seq, Path: path, Checkpoint: checkpoint}, nil
}

// Trust says whom a proof must convince: the key of the log, and how many of
// which witnesses.
type Trust struct {
	VerifierKey string
	Witnesses   []WitnessKey
	Quorum      int // of Witnesses; 0: none is needed
}

// Proved is what a proof shows.
type Proved struct {
	Seq          uint64
	Leaf         string // the canonical leaf
	Checkpoint   Checkpoint
	Cosignatures []Cosignature
}

// Check verifies a proof of this program's logs, whose Extra is the leaf.
// [sallyport.Damaged] says that it does not prove what it claims;
// [sallyport.Denied] that too few witnesses stand by it.
func (p Proof) Check(t Trust) (Proved, error) {
	l, err := parseLeaf(p.Extra)
	if err == nil && l.Seq != p.Index {
		err = errors.New("the leaf has another number than the proof")
	}
	if err != nil {
		return Proved{}, sallyport.E("check proof", sallyport.Damaged, err, "The extra line of a proof of this log holds the record's leaf.")
	}
	return p.CheckLeaf(p.Extra, t)
}

// CheckLeaf verifies that leaf is entry p.Index of the log, whatever Extra says.
func (p Proof) CheckLeaf(leaf []byte, t Trust) (Proved, error) {
	cp, cosigs, err := ParseCosigned(p.Checkpoint, t.VerifierKey, t.Witnesses)
	if err != nil {
		return Proved{}, err
	}
	if err := CheckInclusion(p.Path, leaf, p.Index, cp); err != nil {
		return Proved{}, err
	}
	if len(cosigs) < t.Quorum {
		return Proved{}, sallyport.Errorf("check proof", sallyport.Denied, "Ask for a proof under a checkpoint that the witnesses have cosigned.",
			"%d of the witnesses that you trust have cosigned, not %d", len(cosigs), t.Quorum)
	}
	return Proved{Seq: p.Index, Leaf: string(leaf), Checkpoint: cp, Cosignatures: cosigs}, nil
}
