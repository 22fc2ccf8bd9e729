package s3door

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/gateway"
)

const (
	xmlns       = "http://s3.amazonaws.com/doc/2006-03-01/"
	maxPage     = 1000
	maxBuckets  = 10000
	s3Time      = "2006-01-02T15:04:05.000Z" // ISO 8601, as S3 writes it
	noSuchToken = "The continuation token provided is incorrect."
)

type owner struct {
	ID          string
	DisplayName string
}

type bucketEntry struct {
	Name         string
	CreationDate string
}

type bucketsBody struct {
	XMLName           xml.Name      `xml:"ListAllMyBucketsResult"`
	Xmlns             string        `xml:"xmlns,attr"`
	Owner             owner         `xml:"Owner"`
	Buckets           []bucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string        `xml:",omitempty"`
	Prefix            string        `xml:",omitempty"`
}

func (x *exchange) listBuckets() error {
	if err := x.empty(); err != nil {
		return err
	}
	q := x.target.query
	most, err := number(q, "max-buckets", maxBuckets, maxBuckets)
	if err != nil {
		return err
	}
	after, err := token(q)
	if err != nil {
		return err
	}
	all, err := x.views.Datasets(x.r.Context(), x.grant.who)
	if err != nil {
		return err
	}
	all = slices.Clone(all)
	slices.Sort(all)
	id := x.grant.who.Subject.ID
	out := bucketsBody{Xmlns: xmlns, Owner: owner{id, id}, Prefix: q["prefix"]}
	for _, name := range slices.Compact(all) {
		if name <= after || !strings.HasPrefix(name, q["prefix"]) {
			continue
		}
		if len(out.Buckets) == most {
			if most > 0 {
				out.ContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(out.Buckets[most-1].Name))
			}
			break
		}
		// A dataset has no day of birth here; clients need one to print.
		out.Buckets = append(out.Buckets, bucketEntry{name, x.since.Format(s3Time)})
	}
	x.xml(http.StatusOK, out)
	return nil
}

func (x *exchange) headBucket() error {
	if err := x.empty(); err != nil {
		return err
	}
	if err := x.needBucket(); err != nil {
		return err
	}
	x.w.Header().Set("x-amz-bucket-region", x.region)
	x.header(http.StatusOK)
	return nil
}

func (x *exchange) bucketLocation() error {
	if err := x.empty(); err != nil {
		return err
	}
	if err := x.needBucket(); err != nil {
		return err
	}
	region := x.region
	if region == "us-east-1" {
		region = "" // so it is on S3
	}
	x.xml(http.StatusOK, struct {
		XMLName xml.Name `xml:"LocationConstraint"`
		Xmlns   string   `xml:"xmlns,attr"`
		Region  string   `xml:",chardata"`
	}{Xmlns: xmlns, Region: region})
	return nil
}

// listing is a page of a bucket: a pure function of the objects and the asking.
type listing struct {
	prefix    string
	delimiter string
	after     string // only keys after this
	whole     bool   // after may be a common prefix that was told already
	most      int
}

type page struct {
	objects   []gateway.ObjectInfo
	prefixes  []string
	last      string // entry of the page
	truncated bool
}

func (l listing) page(objects []gateway.ObjectInfo) page {
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(a, b gateway.ObjectInfo) int { return strings.Compare(a.Key, b.Key) })
	var p page
	told := ""
	if rest, ok := strings.CutPrefix(l.after, l.prefix); ok && l.whole && l.delimiter != "" {
		if i := strings.Index(rest, l.delimiter); i >= 0 && i+len(l.delimiter) == len(rest) {
			told = l.after
		}
	}
	for _, o := range objects {
		if !strings.HasPrefix(o.Key, l.prefix) || l.after != "" && o.Key <= l.after || told != "" && strings.HasPrefix(o.Key, told) {
			continue
		}
		common := ""
		if l.delimiter != "" {
			if i := strings.Index(o.Key[len(l.prefix):], l.delimiter); i >= 0 {
				common = o.Key[:len(l.prefix)+i+len(l.delimiter)]
			}
		}
		if common != "" && len(p.prefixes) > 0 && p.prefixes[len(p.prefixes)-1] == common {
			continue
		}
		if len(p.objects)+len(p.prefixes) >= l.most {
			p.truncated = l.most > 0
			return p
		}
		if common != "" {
			p.prefixes, p.last = append(p.prefixes, common), common
			continue
		}
		p.objects, p.last = append(p.objects, o), o.Key
	}
	return p
}

type contentEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
	Owner        *owner `xml:",omitempty"`
}

type prefixEntry struct{ Prefix string }

type listBody struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Xmlns                 string   `xml:"xmlns,attr"`
	Name                  string
	Prefix                string
	Marker                *string `xml:",omitempty"` // version 1
	NextMarker            string  `xml:",omitempty"`
	StartAfter            string  `xml:",omitempty"` // version 2
	ContinuationToken     string  `xml:",omitempty"`
	NextContinuationToken string  `xml:",omitempty"`
	KeyCount              *int    `xml:",omitempty"`
	MaxKeys               int
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []contentEntry
	CommonPrefixes        []prefixEntry
}

func (x *exchange) listObjectsV1() error { return x.listObjects(false) }

func (x *exchange) listObjectsV2() error {
	if x.target.query["list-type"] != "2" {
		return newFault(codeInvalidArgument, "list-type must be 2.")
	}
	return x.listObjects(true)
}

func (x *exchange) listObjects(v2 bool) error {
	if err := x.empty(); err != nil {
		return err
	}
	q := x.target.query
	most, err := number(q, "max-keys", maxPage, maxPage)
	if err != nil {
		return err
	}
	encode := func(s string) string { return s }
	switch q["encoding-type"] {
	case "":
	case "url":
		encode = func(s string) string { return escape(s, true) }
	default:
		return newFault(codeInvalidArgument, "Invalid Encoding Method specified in Request")
	}
	l := listing{prefix: q["prefix"], delimiter: q["delimiter"], most: most, after: q["marker"], whole: true}
	if v2 {
		if l.after, err = token(q); err != nil {
			return err
		}
		if l.after == "" {
			l.after, l.whole = q["start-after"], false
		}
	}
	objects, err := x.views.Objects(x.r.Context(), x.grant.who, x.target.bucket, askable(l.prefix))
	if err != nil {
		return err
	}
	p := l.page(objects)
	out := listBody{Xmlns: xmlns, Name: x.target.bucket, Prefix: encode(l.prefix), MaxKeys: most,
		Delimiter: encode(l.delimiter), EncodingType: q["encoding-type"], IsTruncated: p.truncated}
	var own *owner
	if !v2 || q["fetch-owner"] == "true" {
		own = &owner{x.target.bucket, x.target.bucket}
	}
	for _, o := range p.objects {
		out.Contents = append(out.Contents, contentEntry{Key: encode(o.Key), LastModified: o.Modified.UTC().Format(s3Time),
			ETag: quote(o.ETag), Size: o.Size, StorageClass: "STANDARD", Owner: own})
	}
	for _, c := range p.prefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, prefixEntry{encode(c)})
	}
	switch {
	case v2:
		count := len(p.objects) + len(p.prefixes)
		out.KeyCount, out.ContinuationToken, out.StartAfter = &count, q["continuation-token"], encode(q["start-after"])
		if p.truncated {
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(p.last))
		}
	default:
		marker := encode(q["marker"])
		out.Marker = &marker
		if p.truncated && l.delimiter != "" { // only then, as on S3
			out.NextMarker = encode(p.last)
		}
	}
	x.xml(http.StatusOK, out)
	return nil
}

// askable is the longest beginning of prefix that is a folder's or a key's: a
// view is not asked for anything that looks like a way out. The page is made of
// what has the whole prefix.
func askable(prefix string) string {
	if prefix == "" || checkKey(prefix) == nil {
		return prefix
	}
	if folder := prefix[:strings.LastIndexByte(prefix, '/')+1]; checkKey(folder) == nil {
		return folder
	}
	return ""
}

// number reads a count from the query: absent is most, more is most.
func number(q query, name string, absent, most int) (int, error) {
	s, ok := q[name]
	if !ok || s == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 || s[0] == '+' {
		return 0, newFault(codeInvalidArgument, "Argument %s must be an integer between 0 and 2147483647", name)
	}
	return min(int(n), most), nil
}

// token reads the continuation token. It only says where to go on, and grants
// nothing: it needs no secrecy.
func token(q query) (string, error) {
	s, ok := q["continuation-token"]
	if !ok {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > maxKey {
		return "", newFault(codeInvalidArgument, noSuchToken)
	}
	return string(b), nil
}

func quote(etag string) string { return `"` + etag + `"` }

// httpTime is a time as HTTP writes it, in whole seconds.
func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
