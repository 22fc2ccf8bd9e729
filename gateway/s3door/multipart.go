package s3door

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
)

// S3's limits of multipart uploads (Amazon S3 User Guide, "Amazon S3 multipart
// upload limits").
const (
	maxParts    = 10000
	minPartSize = 5 << 20 // bytes, of all but the last
)

// staged returns who stages parts, and the upload that the request names.
func (x *exchange) staged() (Multipart, Upload, error) {
	if x.multipart == nil {
		return nil, Upload{}, newFault(codeNotImplemented, "Multipart uploads are not implemented here; upload in one part.")
	}
	u := Upload{ID: x.target.query["uploadId"], Bucket: x.target.bucket, Key: x.target.key}
	if x.target.query.has("uploadId") && !validUploadID(u.ID) {
		return nil, Upload{}, newFault(codeNoSuchUpload, "The specified upload does not exist.")
	}
	return x.multipart, u, x.writable()
}

func validUploadID(s string) bool {
	if len(s) == 0 || len(s) > 256 || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}

func (x *exchange) createUpload() error {
	if err := x.empty(); err != nil {
		return err
	}
	m, _, err := x.staged()
	if err != nil {
		return err
	}
	if x.target.query["uploads"] != "" {
		return newFault(codeNotImplemented, "The parameter uploads has no value.")
	}
	id, err := m.CreateUpload(x.r.Context(), x.grant.who, x.target.bucket, x.target.key)
	if err != nil {
		return err
	}
	x.xml(http.StatusOK, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Xmlns    string   `xml:"xmlns,attr"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Xmlns: xmlns, Bucket: x.target.bucket, Key: x.target.key, UploadID: id})
	return nil
}

func (x *exchange) uploadPart() error {
	m, u, err := x.staged()
	if err != nil {
		return err
	}
	s := x.target.query["partNumber"]
	n, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(n) != s || n < 1 || n > maxParts {
		return newFault(codeInvalidArgument, "Part number must be an integer between 1 and %d, inclusive", maxParts)
	}
	b, err := x.body(x.maxObject)
	if err != nil {
		return err
	}
	part, err := m.PutPart(x.r.Context(), x.grant.who, u, n, b)
	if err := b.drained(err); err != nil {
		return err
	}
	x.stored(b, part.ETag)
	return nil
}

type completeBody struct {
	XMLName xml.Name      `xml:"CompleteMultipartUpload"`
	Parts   []claimedPart `xml:"Part"`
}

type claimedPart struct {
	PartNumber int
	ETag       string
}

func (x *exchange) completeUpload() error {
	m, u, err := x.staged()
	if err != nil {
		return err
	}
	var in completeBody
	x.wholeChecksum()
	if err := x.readXML(&in); err != nil {
		return err
	}
	ctx, who := x.r.Context(), x.grant.who
	stored, err := m.Parts(ctx, who, u)
	if err != nil {
		return err
	}
	parts, err := assemble(in.Parts, stored, x.maxObject)
	if err != nil {
		return err
	}
	info, err := m.CompleteUpload(ctx, who, u, parts)
	if err != nil {
		return err
	}
	x.xml(http.StatusOK, struct {
		XMLName  xml.Name `xml:"CompleteMultipartUploadResult"`
		Xmlns    string   `xml:"xmlns,attr"`
		Location string
		Bucket   string
		Key      string
		ETag     string
	}{Xmlns: xmlns, Location: escape(x.target.path, true), Bucket: u.Bucket, Key: u.Key, ETag: quote(info.ETag)})
	return nil
}

// assemble checks the list that a client wants its object made of against what
// is stored. It may leave stored parts out, as on S3, but name none that is not
// stored, or not as it is.
func assemble(claimed []claimedPart, stored []Part, most int64) ([]Part, error) {
	if len(claimed) == 0 || len(claimed) > maxParts {
		return nil, newFault(codeMalformedXML, "Name 1 to %d parts.", maxParts)
	}
	have := make(map[int]Part, len(stored))
	for _, p := range stored {
		have[p.Number] = p
	}
	for i := 1; i < len(claimed); i++ {
		if claimed[i].PartNumber <= claimed[i-1].PartNumber {
			return nil, newFault(codeInvalidPartOrder, "The list of parts was not in ascending order. The parts list must be specified in order by part number.")
		}
	}
	out := make([]Part, 0, len(claimed))
	var total int64
	for i, c := range claimed {
		p, ok := have[c.PartNumber]
		if !ok || strings.Trim(strings.TrimSpace(c.ETag), `"`) != p.ETag {
			return nil, newFault(codeInvalidPart, "Part %d could not be found, or its ETag is another: it was not uploaded, or replaced.", c.PartNumber)
		}
		if i < len(claimed)-1 && p.Size < minPartSize {
			return nil, newFault(codeEntityTooSmall, "Part %d is smaller than the %d bytes that all parts but the last must have.", p.Number, minPartSize)
		}
		total += p.Size
		if total > most {
			return nil, newFault(codeEntityTooLarge, "Your proposed upload exceeds the maximum allowed size of %d bytes.", most)
		}
		out = append(out, p)
	}
	return out, nil
}

func (x *exchange) abortUpload() error {
	if err := x.empty(); err != nil {
		return err
	}
	m, u, err := x.staged()
	if err != nil {
		return err
	}
	if err := m.AbortUpload(x.r.Context(), x.grant.who, u); err != nil {
		return err
	}
	x.header(http.StatusNoContent)
	return nil
}

// wholeChecksum takes the checksums of the whole object out of the headers, so
// that they are not taken for those of this request's body.
func (x *exchange) wholeChecksum() {
	for name := range x.r.Header {
		if strings.HasPrefix(strings.ToLower(name), checksumPrefix) {
			delete(x.r.Header, name)
		}
	}
}
