package s3door

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"

	"sallyport"
)

// maxXML bounds a body of XML: 10000 parts with checksums, or 1000 long keys.
const maxXML = 4 << 20

// putObject stores an object. What may be written where is the views' to say.
func (x *exchange) putObject() error {
	if err := x.writable(); err != nil {
		return err
	}
	b, err := x.body(x.maxObject)
	if err != nil {
		return err
	}
	info, err := x.views.Put(x.r.Context(), x.grant.who, x.target.bucket, x.target.key, b)
	if err := b.drained(err); err != nil {
		return err
	}
	x.stored(b, info.ETag)
	return nil
}

// writable refuses names and conditions that cannot be kept.
func (x *exchange) writable() error {
	if isFolder(x.target.key) {
		return newFault(codeInvalidArgument, "A key to write may not end in '/': there are no folders to make.")
	}
	// The views cannot compare and store in one step; to try would be a race.
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if len(x.r.Header[name]) > 0 {
			return newFault(codeNotImplemented, "A header you provided implies functionality that is not implemented: %s when writing.", name)
		}
	}
	return nil
}

// stored answers a PUT.
func (x *exchange) stored(b *body, etag string) {
	h := x.w.Header()
	h.Set("ETag", quote(etag))
	if b.echo[0] != "" {
		h.Set(b.echo[0], b.echo[1])
	}
	h.Set("Content-Length", "0")
	x.header(http.StatusOK)
}

// deleteObject removes an object. One that is not there is as good as removed,
// as on S3.
func (x *exchange) deleteObject() error {
	if err := x.empty(); err != nil {
		return err
	}
	if err := x.writable(); err != nil {
		return err
	}
	if err := x.remove(x.target.key); err != nil {
		return err
	}
	x.header(http.StatusNoContent)
	return nil
}

func (x *exchange) remove(key string) error {
	err := x.views.Remove(x.r.Context(), x.grant.who, x.target.bucket, key)
	if err != nil && sallyport.KindOf(err) == sallyport.NotFound {
		return x.needBucket()
	}
	return err
}

type deleteBody struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key       string
		VersionID string `xml:"VersionId"`
		ETag      string
	} `xml:"Object"`
}

type deletedEntry struct{ Key string }

type deleteErrorEntry struct {
	Key     string
	Code    string
	Message string
}

type deleteAnswer struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Xmlns   string   `xml:"xmlns,attr"`
	Deleted []deletedEntry
	Errors  []deleteErrorEntry `xml:"Error"`
}

// deleteObjects removes up to 1000 objects.
func (x *exchange) deleteObjects() error {
	if x.target.query["delete"] != "" {
		return newFault(codeNotImplemented, "The parameter delete has no value.")
	}
	var in deleteBody
	if err := x.readXML(&in); err != nil {
		return err
	}
	if len(in.Objects) == 0 || len(in.Objects) > 1000 {
		return newFault(codeMalformedXML, "Name 1 to 1000 objects.")
	}
	out := deleteAnswer{Xmlns: xmlns}
	for _, o := range in.Objects {
		err := checkKey(o.Key)
		switch {
		case err != nil:
		case o.Key == "" || isFolder(o.Key):
			err = newFault(codeInvalidArgument, "A key may not be empty or end in '/'.")
		case o.VersionID != "" || o.ETag != "":
			err = newFault(codeNotImplemented, "Versions and conditions are not implemented.")
		default:
			err = x.remove(o.Key)
		}
		if err != nil {
			f := x.faultOf(err)
			out.Errors = append(out.Errors, deleteErrorEntry{clip(o.Key), f.code, f.message})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, deletedEntry{o.Key})
		}
	}
	x.xml(http.StatusOK, out)
	return nil
}

// readXML reads the request's body, verified, into v.
func (x *exchange) readXML(v any) error {
	b, err := x.body(maxXML)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(b) // bounded by maxXML
	if err != nil {
		return err
	}
	return decodeXML(raw, v)
}

// decodeXML decodes one XML document without a document type.
func decodeXML(raw []byte, v any) error {
	malformed := newFault(codeMalformedXML, "The XML you provided was not well-formed or did not validate against our published schema.")
	if bytes.Contains(raw, []byte("<!")) {
		return malformed
	}
	d := xml.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(v); err != nil {
		return malformed
	}
	for { // nothing but blanks may follow
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		text, ok := t.(xml.CharData)
		if err != nil || !ok || strings.TrimSpace(string(text)) != "" {
			return malformed
		}
	}
}
