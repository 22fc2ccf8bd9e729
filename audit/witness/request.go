// Package witness is both ends of the C2SP witness protocol
// (https://c2sp.org/tlog-witness). A [Server] remembers the largest checkpoint
// that it saw of each log, and cosigns one that continues it: run by another
// department or lab, it makes a rollback or a fork of the log visible to anyone
// who asks for its signature. A [Client] has a log's checkpoints cosigned, and
// keeps the newest one that was.
package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport/audit"
)

// maxRequest bounds a request: 63 hashes, and a checkpoint with many large
// signatures.
const maxRequest = 256 << 10

// sizeMedia is the media type of the size in a conflict.
const sizeMedia = "text/x.tlog.size"

// request is the body of add-checkpoint.
type request struct {
	old        uint64
	proof      []tlog.Hash
	checkpoint string // signed
}

func (r request) format() []byte {
	var b bytes.Buffer
	b.WriteString("old " + strconv.FormatUint(r.old, 10) + "\n")
	for _, h := range r.proof {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n" + r.checkpoint)
	return b.Bytes()
}

var errRequest = errors.New("the request is not: old size, proof, empty line, checkpoint")

func parseRequest(b []byte) (r request, err error) {
	head, checkpoint, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	s, ok2 := strings.CutPrefix(lines[0], "old ")
	if !ok || !ok2 {
		return r, errRequest
	}
	if r.old, err = parseSize(s); err != nil {
		return r, err
	}
	if r.proof, err = audit.ParseHashes(lines[1:]); err != nil {
		return r, err
	}
	r.checkpoint = checkpoint
	return r, nil
}

// parseSize reads a decimal without leading zeros.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("a size is not a number of records")
	}
	return n, nil
}

// parseHead reads the text of a checkpoint, of any log: the extension lines
// that ours do not have are part of what is signed, and no more.
func parseHead(text string) (audit.Checkpoint, error) {
	bad := errors.New("the checkpoint is not: origin, size, root")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 || lines[0] == "" {
		return audit.Checkpoint{}, bad
	}
	for _, l := range lines[3:] {
		if l == "" {
			return audit.Checkpoint{}, bad
		}
	}
	size, err := parseSize(lines[1])
	root, err2 := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || err2 != nil || len(root) != 32 || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return audit.Checkpoint{}, bad
	}
	return audit.Checkpoint{Origin: lines[0], Size: size, Root: [32]byte(root)}, nil
}
