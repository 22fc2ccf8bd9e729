package s3door

import (
	"crypto/md5"  // #nosec G501 -- Content-MD5 is what S3 clients send; it guards against accidents only
	"crypto/sha1" // #nosec G505 -- likewise
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// checksumPrefix begins the names of the headers with a checksum.
const checksumPrefix = "x-amz-checksum-"

// newChecksum returns the hash of one of S3's checksum algorithms. Source:
// Amazon S3 User Guide, "Checking object integrity"; CRC-64/NVME is that of the
// NVM Express NVM Command Set Specification 1.0, section 5.2.1.3.4.
func newChecksum(name string) hash.Hash {
	switch name {
	case "crc32":
		return crc32.NewIEEE()
	case "crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "crc64nvme":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) // reversed 0xad93d23594c93659
	case "sha1":
		return sha1.New() // #nosec G401
	case "sha256":
		return sha256.New()
	}
	return nil
}

// checksum is one thing that a body must match.
type checksum struct {
	hash.Hash
	name string // of the header
	want []byte
	code string // of the fault
}

// matches reports whether the bytes hashed so far are the right ones.
func (c *checksum) matches() bool { return subtle.ConstantTimeCompare(c.Sum(nil), c.want) == 1 }

// wanted returns what the headers say a body must match, and the trailing
// checksum that is still to come, if one is announced.
func wanted(h http.Header, payload string) (list []*checksum, trailing *checksum, err error) {
	if v, ok := h["Content-Md5"]; ok {
		sum, err := base64.StdEncoding.DecodeString(v[0])
		if err != nil || len(sum) != md5.Size {
			return nil, nil, newFault(codeInvalidDigest, "The Content-MD5 you specified is not valid.")
		}
		list = append(list, &checksum{md5.New(), "Content-MD5", sum, codeBadDigest}) // #nosec G401
	}
	if sum, err := hex.DecodeString(payload); err == nil {
		list = append(list, &checksum{sha256.New(), "x-amz-content-sha256", sum, codeXAmzContentSHA256Invalid})
	}
	algorithms := 0
	for name, values := range h {
		a, ok := strings.CutPrefix(strings.ToLower(name), checksumPrefix)
		if !ok || a == "algorithm" || a == "type" || a == "mode" {
			continue
		}
		c := newChecksum(a)
		if c == nil {
			return nil, nil, newFault(codeNotImplemented, "The checksum %s is not supported.", clip(a))
		}
		sum, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil || len(values) > 1 || len(sum) != c.Size() {
			return nil, nil, newFault(codeInvalidRequest, "Value for %s%s header is invalid.", checksumPrefix, a)
		}
		algorithms++
		list = append(list, &checksum{c, checksumPrefix + a, sum, codeBadDigest})
	}
	announced := strings.ToLower(strings.TrimSpace(h.Get("X-Amz-Trailer")))
	if payload == signedTrailer || payload == unsignedTrailer {
		a, _ := strings.CutPrefix(announced, checksumPrefix)
		c := newChecksum(a)
		if c == nil || announced != checksumPrefix+a {
			return nil, nil, newFault(codeInvalidRequest, "x-amz-trailer must announce one checksum: crc32, crc32c, crc64nvme, sha1 or sha256.")
		}
		algorithms++
		trailing = &checksum{c, announced, nil, codeBadDigest}
	} else if announced != "" {
		return nil, nil, newFault(codeInvalidRequest, "x-amz-trailer goes only with a payload STREAMING-...-TRAILER.")
	}
	if algorithms > 1 {
		return nil, nil, newFault(codeInvalidRequest, "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.")
	}
	return list, trailing, nil
}
